use proptest::prelude::*;

use super::group::{
    CheckClient, ConnectionData, Connections, ConnectionsRequest, Members, MembersChanged, MembersRequest,
};
use super::heartbeat::{ConsumerData, Heartbeat, SubscriptionData, Unregister, java_hash};
use super::offset::{Boundary, Commit, CommittedRequest, MaxOffset, MinOffset, OffsetAnswer, QueueName, SearchOffset};
use super::pull::{PullAnswer, PullHeader, SUBSCRIPTION, SUSPEND};
use super::route::{BrokerData, QueueData, RouteData, RouteRequest};
use super::server::{QueueInfo, ResetOffset, RunningInfo, RunningInfoRequest, Status, StatusRequest};
use super::topics::{AllTopicsRequest, SystemTopicsRequest, TopicList};
use super::*;
use crate::model::{Filter, MessageQueue};
use crate::transport::remoting::frame::Intake;

fn encoded(command: &Command, form: HeaderForm) -> BytesMut {
    let mut out = BytesMut::new();
    command.encode_head(form, &mut out).unwrap();
    out.extend_from_slice(&command.body);
    out
}

fn decoded(bytes: &[u8]) -> Result<Command> {
    let mut intake = Intake::default();
    intake.room().extend_from_slice(bytes);
    Command::decode(intake.next().unwrap().expect("a whole frame"))
}

fn over_the_wire(command: &Command, form: HeaderForm) -> Command {
    decoded(&encoded(command, form)).unwrap()
}

/// A frame with this header in JSON.
fn framed(header: &str) -> Vec<u8> {
    let mut out = BytesMut::new();
    write_head(HeaderForm::Json, 0, &mut out, |out| out.extend_from_slice(header.as_bytes())).unwrap();
    out.to_vec()
}

fn binary(header: &[u8]) -> Result<Command> {
    let frame = Frame { form: HeaderForm::Binary, header: Bytes::copy_from_slice(header), body: Bytes::new() };
    Command::decode(frame)
}

/// Both forms, and as the answer to some request.
fn comes_back<P: Payload + PartialEq + std::fmt::Debug>(payload: &P) {
    let request = Command::bare(1, Kind::Request, 77);
    for form in [HeaderForm::Json, HeaderForm::Binary] {
        let command = over_the_wire(&request.answer(payload), form);
        assert_eq!((command.opaque, command.kind, command.code), (77, Kind::Answer, 0));
        assert_eq!(&P::read(&command).unwrap(), payload, "{form:?}");
    }
}

fn queue(id: u32) -> MessageQueue {
    MessageQueue::new("T", "broker-a", id)
}

fn subscription(filter: Filter) -> SubscriptionData {
    SubscriptionData { topic: "T".into(), filter, version: 1_700_000_000_123 }
}

#[test]
fn a_request_is_written_as_the_protocol_page_says() {
    let mut command = Command::request(&RouteRequest { topic: "T".into() });
    command.opaque = 1;
    let bytes = encoded(&command, HeaderForm::Json);
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..]).unwrap();
    assert_eq!(
        header,
        serde_json::json!({
            "code": 105, "flag": 0, "language": "RUST", "opaque": 1, "version": 479, "serializeTypeCurrentRPC": "JSON",
            "extFields": {"topic": "T", "acceptStandardJsonOnly": "true"}
        })
    );
}

#[test]
fn a_binary_header_is_written_as_the_protocol_page_says() {
    let mut command = Command::one_way(&MembersChanged { group: "G".into() });
    command.opaque = 258;
    let bytes = encoded(&command, HeaderForm::Binary);
    let mut expected = vec![0, 0, 0, 45, 1, 0, 0, 41];
    expected.extend([0, 40, 12, 0x01, 0xdf, 0, 0, 1, 2, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 20, 0, 13]);
    expected.extend(b"consumerGroup");
    expected.extend([0, 0, 0, 1, b'G']);
    assert_eq!(bytes, expected);
    assert_eq!(over_the_wire(&command, HeaderForm::Binary), command);
}

#[test]
fn a_code_that_the_binary_form_would_cut_off_is_written_in_json() {
    let mut command = Command::request(&RouteRequest { topic: "T".into() });
    command.code = 200_050;
    assert_eq!(encoded(&command, HeaderForm::Binary)[4], 0);
    assert_eq!(over_the_wire(&command, HeaderForm::Binary).code, 200_050);
}

#[test]
fn headers_of_old_and_other_servers_are_read() {
    let bytes = framed(
        r#"{code:"19","opaque":7,"flag":"1","language":12,"remark":"","extFields":{nextBeginOffset:5,"new":true,"none":null,"minOffset":"0"},"x":[]}"#,
    );
    let command = decoded(&bytes).unwrap();
    assert_eq!((command.code, command.opaque, command.kind, command.version), (19, 7, Kind::Answer, 0));
    assert_eq!((command.language, command.remark()), (Language::RUST, ""));
    let answer = PullAnswer::read(&command).unwrap();
    assert_eq!((answer.next_offset, answer.min_offset, answer.max_offset), (5, Some(0), None));
    assert_eq!(command.fields.flag("new"), Some(true));
    assert_eq!(Language::named("COBOL").name(), "OTHER");
}

#[test]
fn every_language_comes_back_by_its_number_and_one_that_is_unknown_is_other() {
    let names = [
        "JAVA", "CPP", "DOTNET", "PYTHON", "DELPHI", "ERLANG", "RUBY", "OTHER", "HTTP", "GO", "PHP", "OMS", "RUST",
        "NODE_JS", "OTHER", "OTHER",
    ];
    for (number, name) in names.into_iter().enumerate() {
        let header = [0, 11, number as u8, 1, 0xdf, 0, 0, 0, 1, 0, 0, 0, 0];
        assert_eq!(binary(&header).unwrap().language.name(), name, "{number} in the binary form");
        for json in [format!("{number}"), format!("\"{number}\""), format!("\"{name}\"")] {
            let command = decoded(&framed(&format!(r#"{{"code":1,"opaque":1,"language":{json}}}"#))).unwrap();
            assert_eq!(command.language.name(), name, "{json} in JSON");
        }
    }
}

#[test]
fn the_language_of_the_other_end_is_kept() {
    for name in ["JAVA", "GO", "RUST"] {
        let command = Command { language: Language::named(name), ..Command::bare(1, Kind::Request, 1) };
        for form in [HeaderForm::Json, HeaderForm::Binary] {
            assert_eq!(over_the_wire(&command, form).language.name(), name, "{form:?}");
        }
    }
}

#[test]
fn a_refusal_has_its_reason_and_the_number_of_its_request() {
    let request = Command::bare(11, Kind::Request, 42);
    for form in [HeaderForm::Json, HeaderForm::Binary] {
        let refusal = over_the_wire(&request.refusal(code::NO_PERMISSION, "the topic is not readable"), form);
        assert_eq!((refusal.code, refusal.kind, refusal.opaque), (16, Kind::Answer, 42));
        assert_eq!(refusal.remark(), "the topic is not readable");
    }
}

#[test]
fn the_flag_tells_the_direction() {
    for (flag, kind) in [(0, Kind::Request), (1, Kind::Answer), (2, Kind::OneWay), (3, Kind::Answer)] {
        let command = decoded(&framed(&format!(r#"{{"code":1,"opaque":1,"flag":{flag}}}"#))).unwrap();
        assert_eq!(command.kind, kind);
    }
}

#[test]
fn a_header_that_cannot_be_read_is_told() {
    for (header, says) in [
        ("", "the header cannot be read: the text ends where a value must be at byte 0 of the JSON"),
        ("{", "the header cannot be read"),
        ("[]", "the header has no `code`"),
        (r#"{"code":1}"#, "the header has no `opaque`"),
        (r#"{"code":"x","opaque":1}"#, "the header has no `code`"),
    ] {
        let error = decoded(&framed(header)).expect_err(header);
        assert_eq!(error.kind(), ErrorKind::Protocol);
        assert!(error.to_string().contains(says), "{error}");
    }
}

#[test]
fn a_binary_header_that_lies_about_lengths_is_told() {
    let fixed = [0, 11, 12, 1, 0xdf, 0, 0, 0, 1, 0, 0, 0, 0];
    let with = |rest: &[u8]| [&fixed[..], rest].concat();
    for (header, says) in [
        (fixed[..12].to_vec(), "a binary header of 12 bytes"),
        (with(&[0, 0, 0, 9]), "the remark in a binary header is said to have 9 bytes; 0 are left"),
        (with(&[0xff, 0xff, 0xff, 0xff]), "the remark in a binary header is said to have -1 bytes"),
        (with(&[0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff]), "the map of fields"),
        (with(&[0, 0, 0, 0, 0, 0, 0, 1, 9]), "ends within a field"),
        (with(&[0, 0, 0, 0, 0, 0, 0, 2, 0xff, 0xff]), "the name of a field"),
        (with(&[0, 0, 0, 0, 0, 0, 0, 3, 0, 1, b'a']), "ends within a field"),
        (with(&[0, 0, 0, 0, 0, 0, 0, 7, 0, 1, b'a', 0, 0, 0, 1]), "the value of a field"),
    ] {
        let error = binary(&header).expect_err(says);
        assert!(error.to_string().contains(says), "{error}");
    }
    assert_eq!(binary(&fixed).unwrap().code, 11, "remark and fields may be missing altogether");
}

#[test]
fn a_field_that_is_missing_or_no_number_is_named() {
    let command = decoded(&framed(r#"{"code":0,"opaque":1,"flag":1,"extFields":{"offset":"many"}}"#)).unwrap();
    let error = OffsetAnswer::read(&command).unwrap_err().to_string();
    assert_eq!(error, "the field `offset` has the value `many`: not a number of its kind");
    let error = PullAnswer::read(&command).unwrap_err().to_string();
    assert_eq!(error, "the field `nextBeginOffset` is missing");
}

#[test]
fn a_field_that_stands_twice_counts_with_its_last_value() {
    let mut fields = Fields::default();
    fields.push("a".into(), "1");
    fields.push("a".into(), "2");
    assert_eq!(fields.get("a"), Some("2"));
    let mut fields = Fields::default();
    fields.set("a", 1);
    fields.set("a", 2);
    assert_eq!(fields.iter().collect::<Vec<_>>(), [("a", "2")]);
    let mut once = Fields::default();
    once.set("a", 2);
    assert_eq!(fields, once, "what was there before does not count");
    once.set("b", 3);
    assert_ne!(fields, once);
}

#[test]
fn requests_and_answers_come_back() {
    let at = QueueName { topic: "T".into(), queue: 3 };
    comes_back(&RouteRequest { topic: "T".into() });
    comes_back(&RouteData {
        queues: vec![QueueData { broker: "broker-a".into(), read: 8, write: 4, permission: 6 }],
        brokers: vec![BrokerData {
            cluster: "C".into(),
            name: "broker-a".into(),
            addresses: vec![(0, "10.0.0.1:10911".into()), (1, "10.0.0.2:10911".into())],
        }],
    });
    comes_back(&Unregister { client_id: "me".into(), producer_group: None, consumer_group: Some("G".into()) });
    comes_back(&MembersRequest { group: "G".into() });
    comes_back(&Members(vec!["a".into(), "b".into(), "a".into()]));
    comes_back(&ConnectionsRequest { group: "G".into() });
    comes_back(&MembersChanged { group: "G".into() });
    comes_back(&CheckClient {
        client_id: "me".into(),
        group: "G".into(),
        subscription: subscription(Filter::sql92("a > 1")),
    });
    comes_back(&CommittedRequest { group: "G".into(), at: at.clone(), zero_if_absent: false });
    comes_back(&Commit { group: "G".into(), at: at.clone(), offset: 17 });
    comes_back(&MaxOffset(at.clone()));
    comes_back(&MinOffset(at.clone()));
    for boundary in [Boundary::Lower, Boundary::Upper] {
        comes_back(&SearchOffset { at: at.clone(), timestamp: 1_700_000_000_000, boundary });
    }
    comes_back(&OffsetAnswer(i64::MAX));
    comes_back(&AllTopicsRequest);
    comes_back(&SystemTopicsRequest);
    comes_back(&TopicList(["T".into(), "%RETRY%G".into()].into()));
    comes_back(&TopicList::default());
}

#[test]
fn what_members_say_of_themselves_comes_back() {
    let subscriptions = vec![subscription(Filter::tag("TagA || TagB"))];
    comes_back(&Heartbeat {
        client_id: "me".into(),
        producers: vec!["P".into()],
        consumers: vec![ConsumerData {
            group: "G".into(),
            consume_type: heartbeat::CONSUME_ACTIVELY.into(),
            message_model: heartbeat::CLUSTERING.into(),
            consume_from: heartbeat::CONSUME_FROM_LAST_OFFSET.into(),
            subscriptions: subscriptions.clone(),
        }],
    });
    comes_back(&Connections {
        connections: vec![ConnectionData {
            client_id: "me".into(),
            address: "127.0.0.1:4711".into(),
            language: "RUST".into(),
            version: 479,
        }],
        subscriptions,
        consume_type: heartbeat::CONSUME_ACTIVELY.into(),
        message_model: heartbeat::CLUSTERING.into(),
        consume_from: heartbeat::CONSUME_FROM_LAST_OFFSET.into(),
    });
}

#[test]
fn pulls_and_what_an_administrator_asks_come_back() {
    let pull = PullHeader {
        group: "G".into(),
        topic: "T".into(),
        queue: 0,
        offset: 40,
        max_messages: 32,
        flags: SUSPEND | SUBSCRIPTION,
        commit_offset: 0,
        suspend_ms: 15_000,
        filter: Some(Filter::tag("a||b")),
        filter_version: 0,
        max_bytes: None,
    };
    comes_back(&pull);
    comes_back(&PullHeader { flags: SUSPEND, filter: None, max_bytes: Some(1 << 20), ..pull });
    comes_back(&PullAnswer {
        next_offset: 41,
        min_offset: Some(0),
        max_offset: Some(99),
        suggested_replica: Some(1),
        offset_delta: None,
    });
    comes_back(&StatusRequest { group: "G".into(), topic: "T".into() });
    comes_back(&Status { offsets: vec![(queue(0), 17), (queue(1), 0)] });
    comes_back(&RunningInfoRequest { group: "G".into(), client_id: "me".into(), with_stacks: true });
    let offsets = vec![(queue(0), 17), (queue(1), 18)];
    comes_back(&ResetOffset { group: "G".into(), topic: "T".into(), timestamp: 5, force: true, offsets });
    let info = QueueInfo { commit_offset: 7, cached_messages: 3, last_pull: 1_700_000_000_000, ..QueueInfo::default() };
    comes_back(&RunningInfo {
        properties: vec![("PROP_CONSUMER_START_TIMESTAMP".into(), "1700000000000".into())],
        subscriptions: vec![subscription(Filter::all())],
        queues: vec![(queue(2), info)],
    });
}

fn with_body(body: &str, fields: &[(&'static str, &str)]) -> Command {
    let mut command = Command::bare(0, Kind::Answer, 1);
    command.body = Bytes::copy_from_slice(body.as_bytes());
    fields.iter().for_each(|(name, value)| command.fields.set(*name, value));
    command
}

#[test]
fn a_route_of_an_old_name_server_is_read() {
    let body = r#"{"brokerDatas":[{"brokerAddrs":{1:"b:1",0:"a:1",-1:"c:1"},"brokerName":"x","cluster":"C"}],"filterServerTable":{},"queueDatas":[{"brokerName":"x","perm":"6","readQueueNums":4,"topicSynFlag":0,"writeQueueNums":4}]}"#;
    let route = RouteData::read(&with_body(body, &[])).unwrap();
    assert_eq!(route.brokers[0].addresses, [(0, "a:1".into()), (1, "b:1".into())]);
    assert_eq!(route.queues[0].permission, 6);
    assert_eq!(RouteData::read(&with_body("{}", &[])).unwrap(), RouteData::default());
    for (body, says) in [
        ("", "the body is not JSON"),
        ("\u{0}", "the body is not JSON"),
        ("[1,2,3]", "no JSON object"),
        ("7", "no JSON object"),
        (r#"{"queueDatas":7}"#, "`queueDatas` of the route is no list"),
        (r#"{"brokerDatas":"broker-a"}"#, "`brokerDatas` of the route is no list"),
        (r#"{"queueDatas":[{"perm":6}]}"#, "no `brokerName`"),
        (r#"{"queueDatas":[{"brokerName":"b","readQueueNums":-4}]}"#, "`readQueueNums` of a queue"),
    ] {
        let error = RouteData::read(&with_body(body, &[])).unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
    }
}

#[test]
fn a_reset_is_read_as_java_and_as_cpp_get_it() {
    let fields = [("topic", "T"), ("group", "G"), ("timestamp", "5"), ("isForce", "true")];
    let java = r#"{"offsetTable":{{"brokerName":"broker-a","queueId":1,"topic":"T"}:18}}"#;
    let cpp = r#"{"offsetTable":[{"brokerName":"broker-a","queueId":1,"topic":"T","offset":18}]}"#;
    for body in [java, cpp] {
        let reset = ResetOffset::read(&with_body(body, &fields)).unwrap();
        assert_eq!(reset.offsets, [(queue(1), 18)], "{body}");
        assert!(reset.force);
    }
    let error = ResetOffset::read(&with_body(r#"{"offsetTable":{{"queueId":-1}:18}}"#, &fields)).unwrap_err();
    assert!(error.to_string().contains("`queueId`"), "{error}");
}

#[test]
fn the_answer_to_an_administrator_has_queues_for_keys() {
    let status = Command::bare(0, Kind::Request, 1).answer(&Status { offsets: vec![(queue(0), 17)] });
    assert_eq!(
        std::str::from_utf8(&status.body).unwrap(),
        r#"{"messageQueueTable":{{"brokerName":"broker-a","queueId":0,"topic":"T"}:17}}"#
    );
}

#[test]
fn tags_are_hashed_as_java_does() {
    for (tag, hash) in
        [("TagA", 2_598_919), ("TagB", 2_598_920), ("Aa", 2_112), ("BB", 2_112), ("", 0), ("😀", 1_772_899)]
    {
        assert_eq!(java_hash(tag), hash, "{tag}");
    }
}

#[test]
fn a_filter_means_in_a_heartbeat_what_it_means_to_us() {
    for (json, filter) in [
        (r#"{"topic":"T"}"#, Filter::all()),
        (r#"{"topic":"T","subString":""}"#, Filter::all()),
        (r#"{"topic":"T","subString":"*","expressionType":"TAG"}"#, Filter::all()),
        (r#"{"topic":"T","subString":"a || b","expressionType":"TAG"}"#, Filter::tag("a || b")),
        (r#"{"topic":"T","subString":"a > 1","expressionType":"SQL92"}"#, Filter::sql92("a > 1")),
    ] {
        assert_eq!(SubscriptionData::read(&json::Json::read(json).unwrap()).unwrap().filter, filter, "{json}");
    }
}

proptest! {
    #[test]
    fn commands_come_back_in_both_forms(
        // Of most numbers the binary form would cut something off.
        code in prop_oneof![any::<i16>().prop_map(i32::from), any::<i32>()],
        version in any::<i16>(),
        opaque in any::<i32>(),
        kind in prop_oneof![Just(Kind::Request), Just(Kind::OneWay), Just(Kind::Answer)],
        remark in prop::option::of(".+"),
        fields in prop::collection::btree_map("\\PC{1,8}", ".{0,20}", 0..6),
        body in prop::collection::vec(any::<u8>(), 0..50),
        binary in any::<bool>(),
    ) {
        let mut command = Command::bare(code, kind, opaque);
        command.version = i32::from(version);
        command.remark = remark.map(Into::into);
        fields.iter().for_each(|(name, value)| command.fields.set(name.clone(), value));
        command.body = body.into();
        let form = if binary { HeaderForm::Binary } else { HeaderForm::Json };
        prop_assert_eq!(over_the_wire(&command, form), command);
    }

    #[test]
    fn no_header_and_no_body_makes_a_reader_panic(
        header in prop::collection::vec(any::<u8>(), 0..120),
        text in "[\\[\\]{}:,\"a-zA-Z0-9-]{0,80}",
    ) {
        let _ = binary(&header);
        let _ = header::read_json(&header);
        let command = with_body(&text, &[("topic", "T"), ("group", "G")]);
        let _ = (RouteData::read(&command), Heartbeat::read(&command), Members::read(&command));
        let _ = (Connections::read(&command), CheckClient::read(&command), ResetOffset::read(&command));
        let _ = (Status::read(&command), RunningInfo::read(&command));
    }
}
