//! Bad input for the pull consumer: what is wrong is named, nothing is lost, and nothing hangs.

use std::net::SocketAddr;
use std::time::Duration;

use futures::prelude::*;
use rocketmq_stream::embedded::Broker;
use rocketmq_stream::{
    BoxError, Checkpoint, CheckpointStore, Client, Error, ErrorKind, FileCheckpoints, Filter, MemoryCheckpoints,
    MessageQueue, Offset, OnOffsetGap, OutboundMessage, PullConsumerBuilder, SeekTo, StartFrom, StopAt,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{secs, within};

const TOPIC: &str = "trades";

/// Codes of the remoting protocol.
const LAST_OFFSET: i32 = 30;
const UNREGISTER: i32 = 35;
const ROUTE: i32 = 105;

#[track_caller]
fn assert_names(error: &Error, kind: ErrorKind, parts: &[&str]) {
    let text = format!("{error} {}", std::error::Error::source(error).map(ToString::to_string).unwrap_or_default());
    assert_eq!(error.kind(), kind, "{text}");
    for part in parts {
        assert!(text.contains(part), "`{part}` is not in: {text}");
    }
}

async fn started(messages: u64) -> (Broker, Client, MessageQueue) {
    let broker = Broker::builder().topic(TOPIC, 1).start().await.unwrap();
    let queue = broker.queues(TOPIC).remove(0);
    for n in 0..messages {
        broker.append(&queue, OutboundMessage::new(TOPIC, n.to_string())).unwrap();
    }
    let client = Client::builder().name_server(broker.name_server()).build().unwrap();
    (broker, client, queue)
}

fn etl(client: &Client) -> PullConsumerBuilder {
    client.pull_consumer("etl").subscribe(TOPIC, Filter::all()).start_from(StartFrom::Earliest).build_timeout(secs(2))
}

async fn refused(builder: PullConsumerBuilder) -> Error {
    within(secs(20), "an answer", builder.build()).await.expect_err("it is wrong")
}

#[tokio::test(start_paused = true)]
async fn wrong_queues_shares_and_topics_are_refused_by_name() {
    let (_broker, client, queue) = started(0).await;
    let twice = client.pull_consumer("etl").assign([queue.clone(), queue.clone()]).start_from(StartFrom::Earliest);
    assert_names(&refused(twice).await, ErrorKind::Config, &["assign", TOPIC]);
    assert_names(&refused(etl(&client).share(5, 3)).await, ErrorKind::Config, &["share", "5 of 3"]);
    let unknown = client.pull_consumer("etl").subscribe("nowhere", Filter::all()).start_from(StartFrom::Earliest);
    assert_names(&refused(unknown.build_timeout(secs(2))).await, ErrorKind::NotFound, &["nowhere", "etl"]);
    let stray = MessageQueue::new(TOPIC, queue.broker(), 77);
    let assigned = client.pull_consumer("etl").assign([stray]).start_from(StartFrom::Earliest).build_timeout(secs(2));
    assert_names(&refused(assigned).await, ErrorKind::NotFound, &["77"]);
    let bad = client.pull_consumer("no such group!").subscribe(TOPIC, Filter::all()).start_from(StartFrom::Earliest);
    assert_names(&refused(bad).await, ErrorKind::Config, &["group", "no such group!"]);
}

#[tokio::test(start_paused = true)]
async fn a_name_server_that_nobody_is_at_is_told_within_the_build_timeout() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let client = Client::builder().name_server(free.to_string()).build().unwrap();
    let error = refused(etl(&client)).await;
    assert!(error.kind().is_transient(), "{error}");
    assert!(format!("{error:?}").contains(&free.port().to_string()), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_group_that_nobody_has_heard_of_begins_where_it_is_told_to() {
    let (_broker, client, _) = started(3).await;
    let builder = client.pull_consumer("unheard-of").subscribe(TOPIC, Filter::all()).until(StopAt::Now);
    let mut consumer = builder.start_from(StartFrom::committed_or_earliest()).build().await.unwrap();
    let mut count = 0;
    while let Some(batch) = within(secs(30), "the next", consumer.try_next()).await.unwrap() {
        count += batch.len();
        batch.complete();
    }
    assert_eq!(count, 3);
}

#[tokio::test(start_paused = true)]
async fn offsets_that_cannot_be_or_are_not_there_are_errors_with_the_queue_and_the_rule() {
    let (broker, client, queue) = started(5).await;
    let from = |offset| StartFrom::Offsets([(queue.clone(), Offset::new(offset))].into());
    // What would be negative on the wire is refused before anybody is asked anything.
    let checkpoint = StartFrom::Checkpoint(Checkpoint::from_iter([(queue.clone(), Offset::new(1 << 63))]));
    for (start, value) in
        [(from(u64::MAX), u64::MAX), (StartFrom::Committed(Box::new(from(1 << 63))), 1 << 63), (checkpoint, 1 << 63)]
    {
        let impossible = refused(etl(&client).start_from(start)).await;
        assert_names(&impossible, ErrorKind::InvalidArgument, &["start_from", &value.to_string(), "2^63"]);
        assert_eq!(impossible.queue(), Some(&queue), "{impossible}");
        assert_eq!(broker.remoting_calls(ROUTE), 0, "{impossible}");
    }
    let last = etl(&client).start_from(from((1 << 63) - 1)).on_offset_gap(OnOffsetGap::Latest).build().await;
    last.expect("as far as an offset can be").control().shutdown(secs(5)).await.ignore();
    let mut beyond = etl(&client).start_from(from(50)).on_offset_gap(OnOffsetGap::Fail).build().await.unwrap();
    let error = within(secs(60), "an answer", beyond.try_next()).await.expect_err("there is no 50");
    assert_names(&error, ErrorKind::OffsetOutOfRange, &["50", &queue.to_string()]);
    assert!(within(secs(1), "the end", beyond.next()).await.is_none(), "it comes once");
    beyond.control().shutdown(secs(5)).await.ignore();
    let consumer = etl(&client).build().await.unwrap();
    let control = consumer.control();
    let sought = control.seek(&queue, SeekTo::Offset(Offset::new(u64::MAX))).await.expect_err("impossible");
    assert_names(&sought, ErrorKind::InvalidArgument, &["offset", "2^63"]);
    let ahead = Checkpoint::from_iter([(queue.clone(), Offset::new(4))]);
    let committed = control.commit(&ahead).await.expect_err("nothing was handed out");
    assert_names(&committed, ErrorKind::InvalidArgument, &["offset", "4", &queue.to_string()]);
}

/// A store that has something, and cannot read it.
struct Unreadable;

impl CheckpointStore for Unreadable {
    async fn load(&self, _: &str) -> Result<Checkpoint, BoxError> {
        Err("the disk is gone".into())
    }

    async fn save(&self, _: &str, _: &Checkpoint) -> Result<(), BoxError> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_build_that_fails_after_it_has_entered_the_group_has_left_it_when_the_error_is_told() {
    let broker = Broker::builder().topic(TOPIC, 2).brokers(2).start().await.unwrap();
    let client = Client::builder().name_server(broker.name_server()).build().unwrap();
    let members = || (0..2).flat_map(|at| broker.members("etl", at)).collect::<Vec<_>>();
    let no_right = |code| broker.faults().on_remoting(code).always().status(16, "no permission");
    let in_part = [(broker.queues(TOPIC).remove(0), Offset::new(0))];

    for (what, builder) in [
        ("a queue is left out", etl(&client).start_from(StartFrom::Offsets(in_part.into()))),
        ("no right to ask where a queue ends", etl(&client).start_from(StartFrom::Latest)),
        ("the store cannot be read", etl(&client).checkpoints(Unreadable)),
    ] {
        no_right(LAST_OFFSET);
        let began = tokio::time::Instant::now();
        let error = refused(builder).await;
        assert!(!error.kind().is_transient() || what.contains("store"), "{what}: {error:?}");
        assert_eq!(members(), [""; 0], "{what}: {error}");
        assert!(began.elapsed() < secs(3), "{what}: {:?}", began.elapsed());
        broker.faults().clear();
    }
    // Its brokers answer no goodbye: that is not waited for long.
    broker.faults().on_remoting(UNREGISTER).always().lose_reply();
    no_right(LAST_OFFSET);
    let (began, error) = (tokio::time::Instant::now(), refused(etl(&client).start_from(StartFrom::Latest)).await);
    assert!(began.elapsed() < secs(5), "{error}: {:?}", began.elapsed());
    broker.faults().clear();
    // Nor does one that is dropped while it asks stay.
    broker.faults().on_remoting(LAST_OFFSET).always().lose_reply();
    let builder = etl(&client).start_from(StartFrom::Latest);
    tokio::time::timeout(secs(1), builder.build()).await.expect_err("no answer");
    crate::support::eventually(secs(5), "it has left", || members().is_empty()).await;
}

async fn stored<const N: usize>(group: &str, positions: [(&str, u64); N]) -> MemoryCheckpoints {
    let store = MemoryCheckpoints::new();
    let positions = positions.map(|(topic, next)| (MessageQueue::new(topic, "broker-a", 0), Offset::new(next)));
    CheckpointStore::save(&store, group, &Checkpoint::from_iter(positions)).await.unwrap();
    store
}

#[tokio::test(start_paused = true)]
async fn a_store_with_positions_of_other_topics_only_is_not_taken_for_a_fresh_one() {
    let (broker, client, queue) = started(5).await;
    let mistaken = || stored("etl", [("orders", 3), ("payments", 4)]);
    let error = refused(etl(&client).checkpoints(mistaken().await)).await;
    assert_names(&error, ErrorKind::InvalidArgument, &["checkpoints", "2 positions", "orders", "etl", "start_from"]);
    assert_eq!(broker.remoting_calls(UNREGISTER), 0, "the group was not even entered");

    let restored = StartFrom::Offsets([(queue.clone(), Offset::new(1))].into());
    let matching = || etl(&client).subscribe_matching(|topic| topic == "payments", Filter::all());
    for (what, builder, begins) in [
        (
            "a topic that is not read any more",
            etl(&client).checkpoints(stored("etl", [("orders", 3), (TOPIC, 2)]).await),
            2,
        ),
        ("another group's", etl(&client).checkpoints(stored("other", [("orders", 3)]).await), 0),
        ("who says where to begin means it", etl(&client).start_from(restored).checkpoints(mistaken().await), 1),
        ("of a topic that matches", matching().checkpoints(mistaken().await), 0),
    ] {
        let mut consumer = within(secs(5), what, builder.build()).await.expect(what);
        let batch = within(secs(5), what, consumer.try_next()).await.unwrap().expect(what);
        assert_eq!(batch.range().start, Offset::new(begins), "{what}");
        consumer.control().shutdown(secs(0)).await.ignore();
    }
    let impossible = refused(etl(&client).checkpoints(stored("etl", [(TOPIC, 1 << 63)]).await)).await;
    assert_names(&impossible, ErrorKind::InvalidArgument, &["checkpoints", "2^63", &queue.to_string()]);
}

/// A store that never answers.
struct Silent;

impl CheckpointStore for Silent {
    async fn load(&self, _: &str) -> Result<Checkpoint, BoxError> {
        future::pending().await
    }

    async fn save(&self, _: &str, _: &Checkpoint) -> Result<(), BoxError> {
        future::pending().await
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_never_answers_holds_up_a_build_no_longer_than_its_timeout() {
    let (_broker, client, _) = started(0).await;
    let error = within(secs(5), "an answer", etl(&client).checkpoints(Silent).build()).await.expect_err("silence");
    assert_names(&error, ErrorKind::Timeout, &["checkpoint store", "load", "2000 ms", "etl"]);
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_of_another_topic_is_not_taken_for_ours() {
    let (_broker, client, queue) = started(5).await;
    let other = MessageQueue::new("orders", queue.broker(), queue.id());
    let checkpoint = Checkpoint::from_iter([(other.clone(), Offset::new(3))]);
    let told = checkpoint.check([TOPIC]).expect_err("it is of another topic");
    assert!(told.to_string().contains("orders"), "{told}");
    let consumer = etl(&client).build().await.unwrap();
    let error = consumer.control().commit(&checkpoint).await.expect_err("it is not ours");
    assert_names(&error, ErrorKind::Precondition, &["orders"]);
}

#[tokio::test]
async fn a_corrupt_or_newer_checkpoint_file_is_refused_with_its_path_and_left_as_it_is() {
    let folder = std::env::temp_dir().join(crate::support::unique("bad-checkpoints"));
    std::fs::create_dir_all(&folder).unwrap();
    for (name, text) in [
        ("empty", ""),
        ("torn", "{\"version\":1,\"groups\":{\"etl\":{"),
        ("binary", "\u{0}\u{1}\u{2}"),
        ("newer", "{\"version\":99,\"groups\":{}}"),
        (
            "negative",
            "{\"version\":1,\"groups\":{\"etl\":[{\"topic\":\"t\",\"broker\":\"b\",\"queue\":0,\"next\":-1}]}}",
        ),
    ] {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        let error = FileCheckpoints::open(&path).expect_err(name);
        assert_names(&error, ErrorKind::Config, &[name, "left as it is"]);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text, "{name} was overwritten");
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

/// What becomes of one answer with messages, on its way to the consumer.
#[derive(Debug, Clone, Copy)]
enum Spoilt {
    HalfAFrame,
    TwoGigabytes,
    GarbageHeader,
    AnswerToNobody,
    WithoutBody,
    CutChunk,
    HostileLength,
}

const SPOILT: [Spoilt; 7] = [
    Spoilt::HalfAFrame,
    Spoilt::TwoGigabytes,
    Spoilt::GarbageHeader,
    Spoilt::AnswerToNobody,
    Spoilt::WithoutBody,
    Spoilt::CutChunk,
    Spoilt::HostileLength,
];

/// A frame without its length, spoilt; and whether the connection ends behind it.
fn spoil(how: Spoilt, frame: &[u8]) -> (Vec<u8>, bool) {
    let header = (u32::from_be_bytes(frame[..4].try_into().unwrap()) & 0xff_ffff) as usize;
    let body = 4 + header;
    let whole = |frame: &[u8]| [&(frame.len() as u32).to_be_bytes()[..], frame].concat();
    match how {
        Spoilt::HalfAFrame => (whole(frame)[..frame.len() / 2].to_vec(), true),
        Spoilt::TwoGigabytes => ([&0x7fff_ffff_u32.to_be_bytes()[..], frame].concat(), false),
        Spoilt::GarbageHeader => {
            let mut frame = frame.to_vec();
            frame[4..body].fill(b'{');
            (whole(&frame), false)
        }
        Spoilt::AnswerToNobody => {
            let text = r#"{"code":0,"flag":1,"language":"JAVA","opaque":2000000000,"version":1}"#;
            let stray = [&(text.len() as u32).to_be_bytes()[..], text.as_bytes()].concat();
            ([whole(&stray), whole(frame)].concat(), false)
        }
        Spoilt::WithoutBody => (whole(&frame[..body]), false),
        Spoilt::CutChunk => (whole(&frame[..frame.len() - 7]), false),
        Spoilt::HostileLength => {
            let mut frame = frame.to_vec();
            frame[body..body + 4].copy_from_slice(&0x7fff_fff0_u32.to_be_bytes());
            (whole(&frame), false)
        }
    }
}

/// A relay before the broker that spoils its `nth` answer with messages, and a name server that names the relay.
async fn spoiling(broker: &Broker, how: Spoilt, nth: usize) -> SocketAddr {
    let target = broker.broker_addresses()[0];
    let name_server: SocketAddr = broker.name_server().parse().unwrap();
    let relay = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let names = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (from, to) = (target.to_string(), relay.local_addr().unwrap().to_string());
    assert_eq!(from.len(), to.len(), "five digits each");
    let address = names.local_addr().unwrap();
    tokio::spawn(serve(names, name_server, move |frame| {
        let text = String::from_utf8_lossy(frame).replace(&from, &to);
        ([&(frame.len() as u32).to_be_bytes()[..], text.as_bytes()].concat(), false)
    }));
    let seen = std::sync::atomic::AtomicUsize::new(0);
    tokio::spawn(serve(relay, target, move |frame| {
        let header = (u32::from_be_bytes(frame[..4].try_into().unwrap()) & 0xff_ffff) as usize;
        // Bodies of messages begin with their length and the magic number of the store.
        let is_messages = frame.get(header + 8..header + 12).is_some_and(|magic| magic[0] == 0xda || magic[0] == 0xaa);
        if is_messages && seen.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == nth {
            return spoil(how, frame);
        }
        ([&(frame.len() as u32).to_be_bytes()[..], frame].concat(), false)
    }));
    address
}

pub(crate) async fn serve(
    listener: TcpListener,
    target: SocketAddr,
    change: impl Fn(&[u8]) -> (Vec<u8>, bool) + Send + Sync + 'static,
) {
    let change = std::sync::Arc::new(change);
    while let Ok((client, _)) = listener.accept().await {
        let change = std::sync::Arc::clone(&change);
        tokio::spawn(async move {
            let Ok(server) = TcpStream::connect(target).await else { return };
            // On a paused clock 40 ms, for which one side waits for the other's acknowledgement, are hours.
            drop((client.set_nodelay(true), server.set_nodelay(true)));
            let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
                (client.into_split(), server.into_split());
            let forth = async { _ = tokio::io::copy(&mut from_client, &mut to_server).await };
            let back = async {
                while let Ok(length) = from_server.read_u32().await {
                    let mut frame = vec![0; length as usize];
                    if from_server.read_exact(&mut frame).await.is_err() {
                        return;
                    }
                    let (bytes, ends) = change(&frame);
                    if to_client.write_all(&bytes).await.is_err() || ends {
                        return;
                    }
                }
            };
            tokio::select! {
                () = forth => {}
                () = back => {}
            }
        });
    }
}

/// Reads until the end, or until an error ends it; the bodies.
async fn read(client: &Client) -> (Vec<u64>, Option<Error>) {
    let builder = client.pull_consumer("etl").subscribe(TOPIC, Filter::all()).max_messages(8).share(0, 1);
    let builder = builder.start_from(StartFrom::committed_or_earliest()).until(StopAt::Offsets(ends()));
    let mut consumer = builder.build().await.unwrap();
    let (mut bodies, mut failed) = (Vec::new(), None);
    loop {
        match consumer.try_next().await {
            Ok(Some(batch)) => {
                bodies.extend(
                    batch.messages().iter().map(|one| std::str::from_utf8(one.body()).unwrap().parse::<u64>().unwrap()),
                );
                batch.complete();
            }
            Ok(None) => break,
            Err(error) => {
                failed = Some(error);
                break;
            }
        }
    }
    consumer.control().shutdown(secs(5)).await.ignore();
    (bodies, failed)
}

fn ends() -> std::collections::BTreeMap<MessageQueue, Offset> {
    [(MessageQueue::new(TOPIC, "broker-a", 0), Offset::new(60))].into()
}

#[tokio::test]
async fn p17_what_a_hostile_broker_answers_is_an_error_or_is_asked_for_again_and_nothing_is_lost() {
    let runs = SPOILT.iter().flat_map(|how| [0, 2].map(|nth| (*how, nth)));
    let all = runs.map(|(how, nth)| async move {
        let (broker, _, _) = started(60).await;
        let name_server = spoiling(&broker, how, nth).await;
        let client = Client::builder().name_server(name_server.to_string()).request_timeout(Duration::from_secs(1));
        let client = client.build().unwrap();
        let reading = async {
            let (mut bodies, failed) = read(&client).await;
            if let Some(error) = &failed {
                assert_eq!(error.kind(), ErrorKind::Protocol, "{how:?}: {error}");
                assert!(error.to_string().contains(TOPIC), "{how:?}: {error}");
                bodies.extend(read(&client).await.0);
            }
            assert_eq!(bodies, (0..60).collect::<Vec<_>>(), "{how:?} at {nth}, after {failed:?}");
        };
        within(secs(60), format!("{how:?} at {nth}"), reading).await;
        broker.shutdown().await;
    });
    future::join_all(all).await;
}
