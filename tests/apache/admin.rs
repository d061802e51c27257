//! Fixtures on a real RocketMQ: topics, groups and offsets, made with the remoting protocol alone.
//!
//! Blocking and without the crate's own code, so that a fault there cannot hide in the fixtures. For use in a test:
//! `#[path = "../apache/admin.rs"] mod admin;`
#![allow(dead_code, reason = "each test binary uses the part it needs")]

use std::{
    collections::BTreeMap,
    env, fmt,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    thread,
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Map, Value, json};
use sha1::Sha1;

const UPDATE_CONSUMER_OFFSET: i32 = 15;
const QUERY_CONSUMER_OFFSET: i32 = 14;
const CREATE_TOPIC: i32 = 17;
const UPDATE_BROKER_CONFIG: i32 = 25;
const GET_BROKER_RUNTIME_INFO: i32 = 28;
const GET_MAX_OFFSET: i32 = 30;
const GET_ROUTE: i32 = 105;
const CREATE_GROUP: i32 = 200;
const DELETE_GROUP: i32 = 207;
const DELETE_TOPIC_IN_BROKER: i32 = 215;
const DELETE_TOPIC_IN_NAME_SERVER: i32 = 216;
const RESET_OFFSET: i32 = 222;
const SEND_MESSAGE: i32 = 310;

const QUERY_NOT_FOUND: i32 = 22;
const TOPIC_NOT_EXIST: i32 = 17;
/// The request was not acted on.
const SYSTEM_BUSY: i32 = 2;

/// MQVersion of 5.5.0; from 401 on, servers write routes as standard JSON.
const VERSION: i32 = 513;
/// Far above what an administrative call takes; shorter than any test's patience.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
const POLL_PAUSE: Duration = Duration::from_millis(50);
/// 60 s: topics are seen within 2 s, a broker's restart within 10 s; a registration that a starved name server missed comes
/// again within 30 s.
const POLLS: u32 = 1200;

/// A fixture could not be made; the text says what was tried, where, and what the server said.
#[derive(Debug)]
pub(crate) struct AdminError(String);

impl fmt::Display for AdminError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for AdminError {}

type Result<T> = std::result::Result<T, AdminError>;

/// A topic to create; a NORMAL one with one queue on each broker unless told otherwise.
#[derive(Clone, Debug)]
pub(crate) struct Topic<'a> {
    name: &'a str,
    queues: u32,
    message_type: &'a str,
}

impl<'a> Topic<'a> {
    pub(crate) fn new(name: &'a str) -> Self {
        Self { name, queues: 1, message_type: "NORMAL" }
    }

    /// Queues on each broker.
    pub(crate) fn queues(self, queues: u32) -> Self {
        Self { queues, ..self }
    }

    /// NORMAL, FIFO, DELAY, TRANSACTION, PRIORITY, LITE or MIXED.
    pub(crate) fn message_type(self, message_type: &'a str) -> Self {
        Self { message_type, ..self }
    }
}

/// A consumer group to create, or to change: concurrent, 16 retries, unless told otherwise.
#[derive(Clone, Debug)]
pub(crate) struct Group<'a> {
    name: &'a str,
    orderly: bool,
    retry_max_times: u32,
    retry_after: Option<Duration>,
    lite_topic: Option<&'a str>,
}

impl<'a> Group<'a> {
    pub(crate) fn new(name: &'a str) -> Self {
        Self { name, orderly: false, retry_max_times: 16, retry_after: None, lite_topic: None }
    }

    /// Messages of one message group are handed out one after the other (FIFO).
    pub(crate) fn orderly(self) -> Self {
        Self { orderly: true, ..self }
    }

    /// Deliveries after the first one, before a message becomes a dead letter.
    pub(crate) fn retry_max_times(self, retry_max_times: u32) -> Self {
        Self { retry_max_times, ..self }
    }

    /// The pause before every retry, in place of the server's growing one.
    pub(crate) fn retry_after(self, pause: Duration) -> Self {
        Self { retry_after: Some(pause), ..self }
    }

    /// Binds the group to a LITE topic.
    pub(crate) fn lite_topic(self, topic: &'a str) -> Self {
        Self { lite_topic: Some(topic), ..self }
    }

    fn config(&self) -> Value {
        let mut config = json!({
            "groupName": self.name, "consumeEnable": true, "consumeFromMinEnable": true, "consumeBroadcastEnable": true,
            "consumeMessageOrderly": self.orderly, "retryQueueNums": 1, "retryMaxTimes": self.retry_max_times,
            "brokerId": 0, "whichBrokerWhenConsumeSlowly": 1, "notifyConsumerIdsChangedEnable": true,
            "groupSysFlag": 0, "consumeTimeoutMinute": 15, "attributes": {},
        });
        if let Some(pause) = self.retry_after {
            let next = json!([u64::try_from(pause.as_millis()).unwrap_or(u64::MAX)]);
            config["groupRetryPolicy"] = json!({ "type": "CUSTOMIZED", "customizedRetryPolicy": { "next": next } });
        }
        if let Some(topic) = self.lite_topic {
            config["attributes"] = json!({ "+lite.bind.topic": topic });
        }
        config
    }
}

/// A message for one queue, as it travels.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outgoing {
    pub(crate) body: Vec<u8>,
    /// `TAGS`, `KEYS` and `UNIQ_KEY` are RocketMQ's own.
    pub(crate) properties: Vec<(String, String)>,
    /// 1: the body is compressed; 0x100, 0x200, 0x300 beside it: by lz4, zstd, zlib.
    pub(crate) sys_flag: i32,
}

impl Outgoing {
    fn fields(&self, topic: &str, queue: u32) -> BTreeMap<&'static str, String> {
        let properties = self.properties.iter().map(|(name, value)| format!("{name}\u{1}{value}\u{2}"));
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        BTreeMap::from([
            ("a", "fixtures".to_owned()),
            ("b", topic.to_owned()),
            ("c", "TBW102".to_owned()),
            ("d", "4".to_owned()),
            ("e", queue.to_string()),
            ("f", self.sys_flag.to_string()),
            ("g", now.as_millis().to_string()),
            ("h", "0".to_owned()),
            ("i", properties.collect()),
            ("j", "0".to_owned()),
            ("k", "false".to_owned()),
            ("m", "false".to_owned()),
        ])
    }
}

/// One queue of a topic, and the address of the broker that holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Queue {
    pub(crate) broker_name: String,
    pub(crate) broker: SocketAddr,
    pub(crate) id: u32,
}

/// The administrator of one server. Each call opens its own connection: fixtures are few, and brokers are restarted.
#[derive(Clone, Debug)]
pub(crate) struct Admin {
    name_server: SocketAddr,
    brokers: Vec<SocketAddr>,
    proxy: Option<SocketAddr>,
}

impl Admin {
    /// `proxy` is its remoting address; with it, a topic counts as created when the proxy shows it too.
    pub(crate) fn new(name_server: SocketAddr, brokers: Vec<SocketAddr>, proxy: Option<SocketAddr>) -> Self {
        Self { name_server, brokers, proxy }
    }

    /// Takes the addresses that `cluster.sh` puts into the environment.
    pub(crate) fn from_env() -> Result<Self> {
        let mut brokers = vec![address_from_env("BROKER")?];
        if env::var_os("BROKER_B").is_some() {
            brokers.push(address_from_env("BROKER_B")?);
        }
        Ok(Self::new(address_from_env("NAME_SERVER")?, brokers, Some(address_from_env("PROXY_REMOTING")?)))
    }

    /// Creates the topic on every broker, and returns when name server and proxy show all its queues.
    pub(crate) fn create_topic(&self, topic: &Topic<'_>) -> Result<()> {
        let queues = topic.queues.to_string();
        let attributes = format!("+message.type={}", topic.message_type);
        let fields = [
            ("topic", topic.name),
            ("defaultTopic", "TBW102"),
            ("readQueueNums", &queues),
            ("writeQueueNums", &queues),
            ("perm", "6"),
            ("topicFilterType", "SINGLE_TAG"),
            ("topicSysFlag", "0"),
            ("order", "false"),
            ("attributes", &attributes),
        ];
        let what = format!("create topic {}", topic.name);
        for broker in &self.brokers {
            call(*broker, CREATE_TOPIC, &fields, b"").and_then(Answer::ok).map_err(|e| e.while_trying(&what))?;
        }
        let expected = self.brokers.len() * topic.queues as usize;
        self.await_queues(topic.name, expected).map_err(|e| e.while_trying(&what))
    }

    /// Deletes the topic from every broker and from the name server. A topic that is not there is no error.
    pub(crate) fn delete_topic(&self, topic: &str) -> Result<()> {
        let what = format!("delete topic {topic}");
        let everywhere = self.brokers.iter().map(|broker| (*broker, DELETE_TOPIC_IN_BROKER));
        for (address, code) in everywhere.chain([(self.name_server, DELETE_TOPIC_IN_NAME_SERVER)]) {
            let answer = call(address, code, &[("topic", topic)], b"");
            answer.and_then(Answer::ok).map_err(|e| e.while_trying(&what))?;
        }
        Ok(())
    }

    /// Creates the group on every broker. A change to an existing group reaches the proxy up to two seconds later.
    pub(crate) fn create_group(&self, group: &Group<'_>) -> Result<()> {
        let body = group.config().to_string();
        self.on_every_broker(&format!("create group {}", group.name), CREATE_GROUP, &[], body.as_bytes())
    }

    /// Deletes the group, and its offsets, from every broker.
    pub(crate) fn delete_group(&self, group: &str) -> Result<()> {
        let fields = [("groupName", group), ("cleanOffset", "true")];
        self.on_every_broker(&format!("delete group {group}"), DELETE_GROUP, &fields, b"")
    }

    /// Makes the group begin at the first message of every queue, whatever the broker's rule for new groups.
    pub(crate) fn start_from_zero(&self, group: &str, topic: &str) -> Result<()> {
        self.queues(topic)?.iter().try_for_each(|queue| self.set_offset(group, topic, queue, 0))
    }

    /// Sets the offset of the next message that the group consumes from one queue.
    pub(crate) fn set_offset(&self, group: &str, topic: &str, queue: &Queue, next_offset: i64) -> Result<()> {
        let (id, offset) = (queue.id.to_string(), next_offset.to_string());
        let fields = [("consumerGroup", group), ("topic", topic), ("queueId", &id), ("commitOffset", &offset)];
        let answer = call(queue.broker, UPDATE_CONSUMER_OFFSET, &fields, b"").and_then(Answer::ok);
        answer.map(drop).map_err(|e| e.while_trying(&format!("set the offset of group {group} on {topic}:{id}")))
    }

    /// The offset that the group committed on one queue; `None` where it has committed none.
    pub(crate) fn committed_offset(&self, group: &str, topic: &str, queue: &Queue) -> Result<Option<i64>> {
        let id = queue.id.to_string();
        let fields = [("consumerGroup", group), ("topic", topic), ("queueId", &id), ("setZeroIfNotFound", "false")];
        let what = format!("read the offset of group {group} on {topic}:{id}");
        let answer = call(queue.broker, QUERY_CONSUMER_OFFSET, &fields, b"").map_err(|e| e.while_trying(&what))?;
        if answer.code == QUERY_NOT_FOUND {
            return Ok(None);
        }
        answer.ok().and_then(|answer| answer.number("offset")).map(Some).map_err(|e| e.while_trying(&what))
    }

    /// The offset that the next message sent to the queue will get.
    pub(crate) fn max_offset(&self, topic: &str, queue: &Queue) -> Result<i64> {
        let id = queue.id.to_string();
        let answer = call(queue.broker, GET_MAX_OFFSET, &[("topic", topic), ("queueId", &id)], b"");
        let offset = answer.and_then(Answer::ok).and_then(|answer| answer.number("offset"));
        offset.map_err(|e| e.while_trying(&format!("read the maximum offset of {topic}:{id}")))
    }

    /// Stores messages in one queue, one after the other over one connection; their offsets.
    pub(crate) fn send(&self, topic: &str, queue: &Queue, messages: &[Outgoing]) -> Result<Vec<i64>> {
        let what = format!("send to {topic}:{}", queue.id);
        let failed = |e: io::Error| AdminError(format!("{what}: {}: {e}", queue.broker));
        let mut stream = connect(queue.broker).map_err(failed)?;
        let mut offsets = Vec::with_capacity(messages.len());
        for message in messages {
            let fields = message.fields(topic, queue.id);
            let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let answer = loop {
                let answer = ask(&mut stream, queue.broker, SEND_MESSAGE, &fields, &message.body).map_err(failed)?;
                if answer.code != SYSTEM_BUSY {
                    break answer;
                }
                thread::sleep(POLL_PAUSE);
            };
            let offset = answer.ok().and_then(|answer| answer.number("queueOffset"));
            offsets.push(offset.map_err(|e| e.while_trying(&what))?);
        }
        Ok(offsets)
    }

    /// Resets the group in one queue, as `mqadmin resetOffsetByTime` does in all: its next pull is told.
    pub(crate) fn reset_offset(&self, group: &str, topic: &str, queue: &Queue, to: i64) -> Result<()> {
        let (id, to) = (queue.id.to_string(), to.to_string());
        let fields = [
            ("group", group),
            ("topic", topic),
            ("queueId", &id),
            ("offset", &to),
            ("timestamp", "0"),
            ("isForce", "true"),
        ];
        let answer = call(queue.broker, RESET_OFFSET, &fields, b"").and_then(Answer::ok);
        answer.map(drop).map_err(|e| e.while_trying(&format!("reset group {group} on {topic}:{id}")))
    }

    /// Pulls from the start of a queue with one code of the protocol, signed; the code of the answer, and how many bytes of
    /// messages came with it.
    pub(crate) fn pull_as(
        &self,
        keys: (&str, &str),
        code: i32,
        group: &str,
        topic: &str,
        queue: &Queue,
    ) -> Result<(i32, usize)> {
        let id = queue.id.to_string();
        let mut fields = BTreeMap::from([
            ("consumerGroup", group),
            ("topic", topic),
            ("queueId", &id),
            ("queueOffset", "0"),
            ("maxMsgNums", "32"),
            ("sysFlag", "4"), // a subscription comes with it
            ("commitOffset", "0"),
            ("suspendTimeoutMillis", "0"),
            ("subscription", "*"),
            ("subVersion", "0"),
            ("AccessKey", keys.0),
        ]);
        let mut mac = Hmac::<Sha1>::new_from_slice(keys.1.as_bytes()).expect("a key of any length");
        fields.values().for_each(|value| mac.update(value.as_bytes()));
        let signature = BASE64.encode(mac.finalize().into_bytes());
        fields.insert("Signature", &signature);
        let fields: Vec<_> = fields.into_iter().collect();
        call(queue.broker, code, &fields, b"").map(|answer| (answer.code, answer.body.len()))
    }

    /// Changes one broker's settings while it runs: lines of `name=value`. They go with its next start.
    pub(crate) fn configure(&self, broker: SocketAddr, settings: &str) -> Result<()> {
        let answer = call(broker, UPDATE_BROKER_CONFIG, &[], settings.as_bytes()).and_then(Answer::ok);
        answer.map(drop).map_err(|e| e.while_trying(&format!("configure {broker}")))
    }

    /// How many messages one broker has handed out since its start, whoever asked.
    pub(crate) fn handed_out(&self, broker: SocketAddr) -> Result<u64> {
        let what = format!("ask {broker} how much it has handed out");
        let answer = call(broker, GET_BROKER_RUNTIME_INFO, &[], b"").and_then(Answer::ok);
        let body = answer.map_err(|e| e.while_trying(&what))?.body;
        let info: Value = serde_json::from_slice(&body).map_err(|e| AdminError(format!("{what}: {e}")))?;
        let count = info["table"]["msgGetTotalTodayNow"].as_str().and_then(|text| text.parse().ok());
        count.ok_or_else(|| AdminError(format!("{what}: there is no msgGetTotalTodayNow in {info}")))
    }

    /// The readable queues of the topic as the name server knows them; none for an unknown topic.
    pub(crate) fn queues(&self, topic: &str) -> Result<Vec<Queue>> {
        queues_at(self.name_server, topic).map_err(|e| e.while_trying(&format!("look up topic {topic}")))
    }

    /// Waits until name server and proxy show that many queues; also of use after a restart.
    pub(crate) fn await_queues(&self, topic: &str, expected: usize) -> Result<()> {
        // The proxy is asked last: it remembers for a second that a topic was unknown.
        for server in [Some(self.name_server), self.proxy].into_iter().flatten() {
            await_queues_at(server, topic, expected)?;
        }
        Ok(())
    }

    fn on_every_broker(&self, what: &str, code: i32, fields: &[(&str, &str)], body: &[u8]) -> Result<()> {
        self.brokers.iter().try_for_each(|broker| {
            call(*broker, code, fields, body).and_then(Answer::ok).map(drop).map_err(|e| e.while_trying(what))
        })
    }
}

impl AdminError {
    fn while_trying(self, what: &str) -> Self {
        Self(format!("{what}: {}", self.0))
    }
}

fn address_from_env(name: &str) -> Result<SocketAddr> {
    let text = env::var(name).map_err(|_| {
        AdminError(format!("the environment variable {name} is not set: run the test under tests/apache/cluster.sh"))
    })?;
    text.parse().map_err(|_| AdminError(format!("{name}={text} is not an address of the form 127.0.0.1:9876")))
}

fn await_queues_at(server: SocketAddr, topic: &str, expected: usize) -> Result<()> {
    let mut last = String::from("not asked");
    for _ in 0..POLLS {
        match queues_at(server, topic) {
            Ok(queues) if queues.len() == expected => return Ok(()),
            Ok(queues) => last = format!("it shows {}", queues.len()),
            Err(e) => last = e.0,
        }
        thread::sleep(POLL_PAUSE);
    }
    let waited = POLL_PAUSE * POLLS;
    Err(AdminError(format!("{server} did not show {expected} queues of topic {topic} within {waited:?}: {last}")))
}

fn queues_at(server: SocketAddr, topic: &str) -> Result<Vec<Queue>> {
    let answer = call(server, GET_ROUTE, &[("topic", topic), ("acceptStandardJsonOnly", "true")], b"")?;
    if answer.code == TOPIC_NOT_EXIST {
        return Ok(Vec::new());
    }
    let body = answer.ok()?.body;
    let route: Value = serde_json::from_slice(&body).map_err(|e| AdminError(format!("route from {server}: {e}")))?;
    queues_of(&route).ok_or_else(|| AdminError(format!("route from {server} is not understood: {route}")))
}

fn queues_of(route: &Value) -> Option<Vec<Queue>> {
    const READABLE: u64 = 4;
    let mut masters = BTreeMap::new();
    for broker in route["brokerDatas"].as_array()? {
        // "0" is the master; a broker without one has nothing to say about offsets.
        if let Some(address) = broker["brokerAddrs"]["0"].as_str() {
            masters.insert(broker["brokerName"].as_str()?, address.parse::<SocketAddr>().ok()?);
        }
    }
    let mut queues = Vec::new();
    for data in route["queueDatas"].as_array()? {
        let name = data["brokerName"].as_str()?;
        let readable = data["perm"].as_u64()? & READABLE != 0;
        if let Some(broker) = masters.get(name).filter(|_| readable) {
            let ids = 0..u32::try_from(data["readQueueNums"].as_u64()?).ok()?;
            queues.extend(ids.map(|id| Queue { broker_name: name.to_owned(), broker: *broker, id }));
        }
    }
    Some(queues)
}

struct Answer {
    server: SocketAddr,
    request_code: i32,
    code: i32,
    remark: String,
    fields: Map<String, Value>,
    body: Vec<u8>,
}

impl Answer {
    /// The code decides, never the remark: some good answers carry "not set any response code".
    fn ok(self) -> Result<Self> {
        let Self { server, request_code, code, remark, .. } = &self;
        match code {
            0 => Ok(self),
            _ => Err(AdminError(format!("{server} answered request {request_code} with code {code}: {remark}"))),
        }
    }

    fn number(&self, field: &str) -> Result<i64> {
        let value = self.fields.get(field).and_then(Value::as_str).and_then(|text| text.parse().ok());
        value.ok_or_else(|| AdminError(format!("{} sent no number '{field}': {:?}", self.server, self.fields)))
    }
}

fn call(server: SocketAddr, code: i32, fields: &[(&str, &str)], body: &[u8]) -> Result<Answer> {
    exchange(server, code, fields, body).map_err(|e| AdminError(format!("request {code} to {server}: {e}")))
}

fn connect(server: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&server, ANSWER_TIMEOUT)?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn exchange(server: SocketAddr, code: i32, fields: &[(&str, &str)], body: &[u8]) -> io::Result<Answer> {
    ask(&mut connect(server)?, server, code, fields, body)
}

/// One request at a time on a connection, so the next answer is its own.
fn ask(
    stream: &mut TcpStream,
    server: SocketAddr,
    code: i32,
    fields: &[(&str, &str)],
    body: &[u8],
) -> io::Result<Answer> {
    stream.write_all(&request(code, fields, body)?)?;
    loop {
        let (header, body) = read_frame(stream)?;
        // Servers send requests of their own over any connection; nobody here has an answer for them.
        let is_response = header["flag"].as_i64().is_some_and(|flag| flag & 1 == 1);
        if is_response {
            let code_received = header["code"].as_i64().and_then(|code| i32::try_from(code).ok());
            return Ok(Answer {
                server,
                request_code: code,
                code: code_received.ok_or_else(|| io::Error::other(format!("an answer without a code: {header}")))?,
                remark: header["remark"].as_str().unwrap_or_default().to_owned(),
                fields: header["extFields"].as_object().cloned().unwrap_or_default(),
                body,
            });
        }
    }
}

/// Frame: length of what follows, length of the header (its top byte 0 says JSON), header, body; big endian.
fn request(code: i32, fields: &[(&str, &str)], body: &[u8]) -> io::Result<Vec<u8>> {
    let fields: BTreeMap<_, _> = fields.iter().copied().collect();
    let header = json!({
        "code": code, "language": "RUST", "version": VERSION, "opaque": 1, "flag": 0,
        "serializeTypeCurrentRPC": "JSON", "extFields": fields,
    })
    .to_string();
    let length = |bytes: usize| u32::try_from(bytes).map(u32::to_be_bytes).map_err(io::Error::other);
    let mut frame = Vec::with_capacity(8 + header.len() + body.len());
    frame.extend(length(4 + header.len() + body.len())?);
    frame.extend(length(header.len())?);
    frame.extend(header.as_bytes());
    frame.extend(body);
    Ok(frame)
}

fn read_frame(stream: &mut impl Read) -> io::Result<(Value, Vec<u8>)> {
    /// What the servers themselves allow.
    const MAX_FRAME: usize = 16 << 20;
    let mut number = [0; 4];
    stream.read_exact(&mut number)?;
    let length = u32::from_be_bytes(number) as usize;
    if !(4..=MAX_FRAME).contains(&length) {
        return Err(io::Error::other(format!("a frame of {length} bytes: this is not the remoting protocol")));
    }
    let mut frame = vec![0; length];
    stream.read_exact(&mut frame)?;
    let header_length = frame.get(..4).map_or(0, |n| u32::from_be_bytes([0, n[1], n[2], n[3]]) as usize);
    let header = frame.get(4..4 + header_length).ok_or_else(|| io::Error::other("the header ends after its frame"))?;
    let header = serde_json::from_slice(header).map_err(io::Error::other)?;
    Ok((header, frame.split_off(4 + header_length)))
}
