use super::raw::pull;
use super::*;
use crate::model::{Filter, Message, Offset};
use crate::transport::remoting::command::Command;
use crate::transport::remoting::command::offset::{
    Boundary, Commit, CommittedRequest, MaxOffset, MinOffset, SearchOffset,
};
use crate::transport::remoting::command::pull::{PullAnswer, PullHeader};
use crate::transport::remoting::command::{Payload, Request};
use crate::transport::remoting::frame::HeaderForm;
use crate::transport::remoting::stored::{Reading, decode};

fn messages(answer: &Command) -> Vec<Message> {
    let reading = Reading {
        queue: &first(),
        from: Offset::new(0),
        offset_delta: 0,
        max_decompressed_size: 1 << 20,
        check_digest: true,
        tags: &[],
    };
    decode(answer.body.clone(), &reading).unwrap().messages
}

fn bodies(answer: &Command) -> Vec<String> {
    messages(answer).iter().map(|message| String::from_utf8(message.body().to_vec()).unwrap()).collect()
}

async fn pulled(client: &mut Raw, header: &PullHeader) -> (Command, i64) {
    let answer = client.exchange(Command::request(header)).await;
    let next = PullAnswer::read(&answer).map_or(-1, |answer| answer.next_offset);
    (answer, next)
}

#[tokio::test]
async fn a_pull_finds_stored_messages_with_all_their_fields() {
    let broker = broker().await;
    put(&broker, &["0", "größe", "2"]);
    let mut client = Raw::to_broker(&broker, 0).await;
    let (answer, next) = pulled(&mut client, &pull(1, Duration::ZERO)).await;
    assert_eq!((answer.code, answer.remark(), next), (0, "FOUND", 3));
    let found = messages(&answer);
    assert_eq!(bodies(&answer), ["größe", "2"]);
    let message = &found[0];
    assert_eq!(
        (message.tag(), message.keys(), message.queue_offset()),
        (Some("paid"), &["k".into()][..], Some(Offset::new(1)))
    );
    assert_eq!(message.id(), broker.messages("t")[1].id);
    assert!(message.corrupted().is_none() && message.store_timestamp().is_some());
    assert_eq!(message.store_host(), broker.broker_addresses()[0].to_string());
    let limits = PullAnswer::read(&answer).unwrap();
    assert_eq!((limits.min_offset, limits.max_offset, limits.suggested_replica), (Some(0), Some(3), Some(0)));
}

#[tokio::test]
async fn the_answer_to_a_binary_header_is_json() {
    let broker = broker().await;
    put(&broker, &["0"]);
    let mut client = Raw::to_broker(&broker, 0).await;
    client.form = HeaderForm::Binary;
    assert_eq!(bodies(&pulled(&mut client, &pull(0, Duration::ZERO)).await.0), ["0"]);
}

#[tokio::test]
async fn p5_each_way_to_find_nothing_has_its_code_and_next_offset() {
    let broker = broker().await;
    let mut client = Raw::to_broker(&broker, 0).await;
    for (offset, code) in [(0, 19), (5, 21)] {
        let (answer, next) = pulled(&mut client, &pull(offset, Duration::ZERO)).await;
        assert_eq!((answer.code, answer.remark(), next), (code, "NO_MESSAGE_IN_QUEUE", 0));
    }
    put(&broker, &["0", "1", "2", "3"]);
    broker.expire(&first(), Offset::new(2)).unwrap();
    let open = PullHeader { filter: Some(Filter::tag("open")), ..pull(2, Duration::ZERO) };
    for (header, code, remark, expected) in [
        (pull(-1, Duration::ZERO), 21, "OFFSET_TOO_SMALL", 2),
        (pull(1, SECOND), 21, "OFFSET_TOO_SMALL", 2),
        (pull(4, Duration::ZERO), 19, "OFFSET_OVERFLOW_ONE", 4),
        (pull(9, SECOND), 21, "OFFSET_OVERFLOW_BADLY", 4),
        (open, 20, "NO_MATCHED_MESSAGE", 4),
    ] {
        let (answer, next) = pulled(&mut client, &header).await;
        assert_eq!((answer.code, answer.remark(), next), (code, remark, expected), "{header:?}");
    }
    broker.reset_offset("g", &first(), Offset::new(3)).unwrap();
    let (answer, next) = pulled(&mut client, &pull(4, SECOND)).await;
    assert_eq!((answer.code, answer.remark(), next), (21, "OFFSET_RESET", 3));
}

#[tokio::test]
async fn what_cannot_be_pulled_is_refused() {
    let broker = broker().await;
    let mut client = Raw::to_broker(&broker, 0).await;
    let pull = pull(0, Duration::ZERO);
    for (header, code) in [
        (PullHeader { topic: "nowhere".into(), ..pull.clone() }, 17),
        (PullHeader { queue: 2, ..pull.clone() }, 29),
        (PullHeader { queue: -1, ..pull.clone() }, 29),
        (PullHeader { flags: 0, ..pull.clone() }, 24),
    ] {
        assert_eq!(pulled(&mut client, &header).await.0.code, code, "{header:?}");
    }
    client.heartbeat("c", "g", "t").await;
    let by_heartbeat = PullHeader { flags: 0, filter: None, filter_version: 1, ..pull.clone() };
    assert_eq!(pulled(&mut client, &by_heartbeat).await.0.code, 19, "the subscription of the heartbeat counts");
    let newer = PullHeader { filter_version: 2, ..by_heartbeat };
    assert_eq!(pulled(&mut client, &newer).await.0.code, 25);
}

#[tokio::test]
async fn p22_an_sql_filter_that_does_not_parse_returns_everything_and_46_refuses_it() {
    use crate::transport::remoting::command::group::CheckClient;
    use crate::transport::remoting::command::heartbeat::SubscriptionData;

    let broker = broker().await;
    put(&broker, &["0", "1"]);
    let mut client = Raw::to_broker(&broker, 0).await;
    for (expression, found, checked) in [("a >", 2, Some(23)), ("TAGS = 'paid'", 2, None), ("TAGS = 'open'", 0, None)] {
        let filter = Filter::sql92(expression);
        let header = PullHeader { filter: Some(filter.clone()), ..pull(0, Duration::ZERO) };
        assert_eq!(bodies(&pulled(&mut client, &header).await.0).len(), found, "{expression}");
        let subscription = SubscriptionData { topic: "t".into(), filter, version: 1 };
        let check = CheckClient { client_id: "c".into(), group: "g".into(), subscription };
        assert_eq!(client.ask(&check).await.err().map(|(code, _)| code), checked, "{expression}");
    }
}

#[tokio::test]
async fn tags_of_the_same_hash_code_get_through() {
    let broker = broker().await;
    broker.append(&first(), OutboundMessage::new("t", "collides").tag("BB")).unwrap();
    let mut client = Raw::to_broker(&broker, 0).await;
    let header = PullHeader { filter: Some(Filter::tag("Aa")), ..pull(0, Duration::ZERO) };
    assert_eq!(bodies(&pulled(&mut client, &header).await.0), ["collides"]);
}

#[tokio::test(start_paused = true)]
async fn parked_pulls_are_woken_each_by_its_own_queue_and_other_requests_pass_them() {
    let broker = broker().await;
    let mut client = Raw::to_broker(&broker, 0).await;
    let parked = client.write(Command::request(&pull(0, 20 * SECOND))).await;
    let max = client.ask_beside(parked, &MaxOffset(place("t", 0))).await;
    assert_eq!(max.0, 0);
    let (answer, ()) = tokio::join!(client.answer(parked), async { put(&broker, &["new"]) });
    assert_eq!(bodies(&answer.unwrap()), ["new"]);
    let (answer, next) = pulled(&mut client, &pull(1, 3 * SECOND)).await;
    assert_eq!((answer.code, next), (19, 1), "its time is over");
}

impl Raw {
    /// Asks while a pull is parked: its answer must not come first.
    async fn ask_beside<R: Request + Sync>(&mut self, parked: i32, request: &R) -> R::Answer {
        let opaque = self.write(Command::request(request)).await;
        assert_ne!(opaque, parked);
        R::Answer::read(&self.answer(opaque).await.unwrap()).unwrap()
    }
}

#[tokio::test]
async fn p1_offsets_are_committed_and_read_back_by_the_rules_of_the_broker() {
    let broker = broker().await;
    let mut client = Raw::to_broker(&broker, 0).await;
    let read = |zero_if_absent| CommittedRequest { group: "g".into(), at: place("t", 0), zero_if_absent };
    assert_eq!(client.ask(&read(true)).await.unwrap_err().0, 22, "an empty queue");
    put(&broker, &["0", "1"]);
    assert_eq!(client.ask(&read(true)).await.unwrap().0, 0, "a young one");
    assert_eq!(client.ask(&read(false)).await.unwrap_err().0, 22);
    let commit = |group: &str, topic, queue, offset| Commit { group: group.into(), at: place(topic, queue), offset };
    assert_eq!(client.ask(&commit("g", "t", 0, 1)).await.unwrap_err().0, 26);
    client.heartbeat("c", "g", "t").await;
    assert_eq!(client.ask(&commit("g", "nowhere", 0, 1)).await.unwrap_err().0, 17);
    for (queue, offset) in [(0, 2), (0, 1), (99, 5)] {
        client.ask(&commit("g", "t", queue, offset)).await.unwrap();
    }
    assert_eq!(client.ask(&read(false)).await.unwrap().0, 1);
    assert_eq!(broker.committed("g", &first()), Some(Offset::new(1)));
    client.write(Command::one_way(&commit("g", "t", 0, 2))).await;
    assert_eq!(client.ask(&read(false)).await.unwrap().0, 2, "also one-way, and in order");
}

#[tokio::test]
async fn p24_offsets_of_what_does_not_exist_are_0() {
    let broker = broker().await;
    put(&broker, &["0", "1", "2"]);
    broker.expire(&first(), Offset::new(1)).unwrap();
    let mut client = Raw::to_broker(&broker, 0).await;
    for (topic, queue, min, max) in [("t", 0, 1, 3), ("t", 9, 0, 0), ("nowhere", 0, 0, 0)] {
        assert_eq!(client.ask(&MinOffset(place(topic, queue))).await.unwrap().0, min, "{topic} {queue}");
        assert_eq!(client.ask(&MaxOffset(place(topic, queue))).await.unwrap().0, max, "{topic} {queue}");
        for (boundary, expected) in [(Boundary::Lower, max), (Boundary::Upper, (max - 1).max(0))] {
            let search = SearchOffset { at: place(topic, queue), timestamp: i64::MAX, boundary };
            assert_eq!(client.ask(&search).await.unwrap().0, expected, "{topic} {queue} {boundary:?}");
        }
    }
    let earliest = client.plain(32, &[("topic", "t"), ("queueId", "0")], "").await;
    assert!(earliest.fields.number::<i64>("timestamp").unwrap() > 0);
}

#[tokio::test]
async fn a_pull_may_bring_an_offset_to_commit() {
    let broker = broker().await;
    put(&broker, &["0", "1"]);
    let mut client = Raw::to_broker(&broker, 0).await;
    client.heartbeat("c", "g", "t").await;
    let header = pull(2, Duration::ZERO);
    pulled(&mut client, &PullHeader { flags: header.flags | 1, commit_offset: 2, ..header }).await;
    assert_eq!(broker.committed("g", &first()), Some(Offset::new(2)));
}

#[tokio::test]
async fn what_a_producer_sends_is_pulled_and_received_alike() {
    let broker = broker().await;
    let mut client = Raw::to_broker(&broker, 0).await;
    let properties = "UNIQ_KEY\u{1}0A0B\u{2}TAGS\u{1}paid\u{2}WAIT\u{1}true\u{2}amount\u{1}12\u{2}";
    let fields = [
        ("a", "p"),
        ("b", "t"),
        ("c", "TBW102"),
        ("d", "4"),
        ("e", "1"),
        ("f", "0"),
        ("g", "1700000000123"),
        ("h", "0"),
        ("i", properties),
        ("j", "0"),
        ("k", "false"),
        ("m", "false"),
    ];
    let sent = client.plain(310, &fields, "by short names").await;
    assert_eq!((sent.code, sent.fields.get("msgId"), sent.fields.get("queueId")), (0, Some("0A0B"), Some("1")));
    let long = [
        ("producerGroup", "p"),
        ("topic", "t"),
        ("defaultTopic", "TBW102"),
        ("defaultTopicQueueNums", "4"),
        ("queueId", "1"),
        ("sysFlag", "0"),
        ("bornTimestamp", "1700000000123"),
        ("flag", "0"),
        ("properties", properties),
    ];
    let sent = client.plain(10, &long, "by long names").await;
    assert_eq!(sent.fields.get("queueOffset"), Some("1"));
    let stored = broker.messages("t");
    assert_eq!((stored[0].queue, stored[0].id.as_str(), stored[0].tag.as_deref()), (1, "0A0B", Some("paid")));
    assert_eq!(stored[0].properties, [("amount".to_owned(), "12".to_owned())], "WAIT is not the user's");
    let header = PullHeader { queue: 1, ..pull(0, Duration::ZERO) };
    let (answer, _) = pulled(&mut client, &header).await;
    assert_eq!(bodies(&answer), ["by short names", "by long names"]);
    let message = &messages(&answer)[0];
    assert_eq!((message.property("amount"), message.property("WAIT")), (Some("12"), None));

    for (queue, topic, code) in [("7", "t", 29), ("0", "nowhere", 17)] {
        let mut fields = fields;
        (fields[1].1, fields[4].1) = (topic, queue);
        assert_eq!(client.plain(310, &fields, "x").await.code, code);
    }
}

#[tokio::test]
async fn a_batch_is_stored_as_its_messages() {
    use crate::transport::remoting::stored::encode_entry;

    let broker = broker().await;
    let mut client = Raw::to_broker(&broker, 0).await;
    let mut body = Vec::new();
    for name in ["one", "two"] {
        encode_entry(0, name.as_bytes(), &format!("UNIQ_KEY\u{1}{name}\u{2}"), &mut body).unwrap();
    }
    let fields = [("b", "t"), ("e", "0"), ("f", "0"), ("g", "0"), ("h", "0"), ("m", "true")];
    let mut command = raw::plain(320, &fields, "");
    command.body = body.into();
    let sent = client.exchange(command).await;
    assert_eq!((sent.code, sent.fields.get("msgId"), sent.fields.get("queueOffset")), (0, Some("one,two"), Some("0")));
    let stored: Vec<_> = broker.messages("t").into_iter().map(|message| (message.id, message.queue)).collect();
    assert_eq!(stored, [("one".into(), 0), ("two".into(), 0)]);
    let torn = raw::plain(320, &fields, "no batch");
    assert_eq!(client.exchange(torn).await.code, 13);
}
