use super::*;
use crate::model::Offset;
use crate::transport::remoting::command::json::Json;
use crate::transport::remoting::command::offset::Commit;
use crate::transport::remoting::command::server::{RunningInfo, RunningInfoRequest, Status, StatusRequest};
use crate::transport::remoting::command::{Command, Payload};

fn text(answer: &Command) -> String {
    String::from_utf8(answer.body.to_vec()).unwrap()
}

/// The table of an answer: queue number to one of its numbers.
fn column(answer: &Command, name: &str) -> Vec<(u32, i64)> {
    let body = text(answer);
    let json = Json::read(&body).unwrap();
    let table = json.get("offsetTable").unwrap().members().iter();
    let number = |value: &Json<'_>| value.get(name).unwrap_or(value).as_number().unwrap();
    table.map(|(queue, value)| (queue.get("queueId").unwrap().as_number().unwrap(), number(value))).collect()
}

#[tokio::test]
async fn p20_an_administrator_sees_how_far_a_group_is() {
    let broker = broker().await;
    put(&broker, &["0", "1", "2"]);
    let mut client = Raw::to_broker(&broker, 0).await;
    client.heartbeat("c", "g", "t").await;
    let commit = Commit { group: "g".into(), at: place("t", 0), offset: 2 };
    client.ask(&commit).await.unwrap();
    client.ask(&raw::pull(0, Duration::ZERO)).await.unwrap();
    for topic in ["", "t"] {
        let stats = client.plain(208, &[("consumerGroup", "g"), ("topic", topic)], "").await;
        assert_eq!(column(&stats, "brokerOffset"), [(0, 3), (1, 0)]);
        assert_eq!(column(&stats, "consumerOffset"), [(0, 2), (1, 0)]);
        assert_eq!(column(&stats, "pullOffset"), [(0, 3), (1, 0)]);
        assert!(column(&stats, "lastTimestamp")[0].1 > 0);
    }
    let stats = client.plain(202, &[("topic", "t")], "").await;
    assert_eq!(
        (column(&stats, "minOffset"), column(&stats, "maxOffset")),
        (vec![(0, 0), (1, 0)], vec![(0, 3), (1, 0)])
    );
    assert_eq!(client.plain(202, &[("topic", "nowhere")], "").await.code, 17);
}

#[tokio::test]
async fn p18_an_administrator_resets_a_group_by_time_or_one_queue_by_offset() {
    let broker = broker().await;
    put(&broker, &["0", "1", "2"]);
    let mut client = Raw::to_broker(&broker, 0).await;
    let fields = [("topic", "t"), ("group", "g"), ("timestamp", "0"), ("isForce", "true")];
    assert_eq!(client.plain(222, &fields, "").await.code, 26, "no such group");
    client.heartbeat("c", "g", "t").await;
    let reset = client.plain(222, &fields, "").await;
    assert_eq!(column(&reset, ""), [(0, 0), (1, 0)]);
    let (answer, next) = {
        let answer = client.exchange(Command::request(&raw::pull(3, SECOND))).await;
        let next = answer.fields.number::<i64>("nextBeginOffset").unwrap();
        (answer, next)
    };
    assert_eq!((answer.code, answer.remark(), next), (21, "OFFSET_RESET", 0));
    let to_end = [("topic", "t"), ("group", "g"), ("timestamp", "-1")];
    assert_eq!(column(&client.plain(222, &to_end, "").await, ""), [(0, 3), (1, 0)]);
    let one = |offset| [("topic", "t"), ("group", "g"), ("timestamp", "-1"), ("queueId", "0"), ("offset", offset)];
    assert_eq!(column(&client.plain(222, &one("1"), "").await, ""), [(0, 1)]);
    assert_eq!(broker.committed("g", &first()), Some(Offset::new(1)));
    assert_eq!(client.plain(222, &one("77"), "").await.code, 1);
}

/// A client that answers what it is asked by way of its broker.
async fn answering(mut client: Raw, answer: impl Fn(&Command) -> Command) -> Raw {
    loop {
        let asked = client.request().await.expect("a question");
        if asked.code == 40 {
            continue;
        }
        let answer = answer(&asked);
        client.write(answer).await;
        return client;
    }
}

#[tokio::test]
async fn questions_to_a_client_are_passed_on_and_so_are_its_answers() {
    let broker = broker().await;
    let mut client = Raw::to_broker(&broker, 0).await;
    client.heartbeat("c", "g", "t").await;
    let mut admin = Raw::to_broker(&broker, 0).await;
    let ask = RunningInfoRequest { group: "g".into(), client_id: "c".into(), with_stacks: false };
    let info =
        RunningInfo { properties: vec![("PROP_CONSUMER_START_TIMESTAMP".into(), "1".into())], ..Default::default() };
    let (client, answer) = tokio::join!(
        answering(client, |asked| {
            assert_eq!(RunningInfoRequest::read(asked).unwrap().client_id, "c".into());
            asked.answer(&info)
        }),
        admin.ask(&ask)
    );
    assert_eq!(answer.unwrap(), info);

    let ask = StatusRequest { group: "g".into(), topic: "t".into() };
    let status = Status { offsets: vec![(first(), 7)] };
    let fields = [("group", "g"), ("topic", "t"), ("clientAddr", "")];
    let (client, answer) = tokio::join!(
        answering(client, |asked| {
            assert_eq!(StatusRequest::read(asked).unwrap(), ask);
            asked.answer(&status)
        }),
        admin.plain(223, &fields, "")
    );
    let expected =
        r#"{"consumerTable":{"c":{{"brokerName":"broker-a","queueId":0,"topic":"t"}:7}},"messageQueueTable":{}}"#;
    assert_eq!(text(&answer), expected);
    drop(client);
    let nobody = admin.plain(223, &[("group", "h"), ("topic", "t")], "").await;
    assert_eq!(nobody.code, 1);
    let stranger = RunningInfoRequest {
        client_id: "x".into(),
        ..RunningInfoRequest { group: "g".into(), client_id: "".into(), with_stacks: false }
    };
    assert_eq!(admin.ask(&stranger).await.unwrap_err().0, 1);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_answer_is_waited_for_in_bounds() {
    let broker = broker().await;
    let mut client = Raw::to_broker(&broker, 0).await;
    client.heartbeat("c", "g", "t").await;
    let mut admin = Raw::to_broker(&broker, 0).await;
    let ask = RunningInfoRequest { group: "g".into(), client_id: "c".into(), with_stacks: false };
    assert_eq!(admin.ask(&ask).await.unwrap_err().0, 207);
}
