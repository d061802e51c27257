//! The server of a comparison: the embedded broker in a process of its own, or a real one.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use rocketmq_stream::embedded;

use crate::admin::{Admin, Queue, Topic};
use crate::{Options, raw};

const QUEUES: u32 = 8;
/// What a process may have pulled beyond what it has counted: a buffer's worth, and uneven queues.
const SLACK: u64 = 16_384;

pub(crate) struct Server {
    pub(crate) name_server: SocketAddr,
    pub(crate) pids: Vec<(String, u32)>,
    /// Ends when its input does, which is when this is dropped, or this process ends in any way.
    _embedded: Option<Child>,
}

impl Server {
    pub(crate) fn open(options: &Options) -> Result<Self> {
        let needed = options.warm + options.messages + SLACK;
        match options.name_server {
            Some(name_server) => Self::real(name_server, options, needed),
            None => Self::embedded(options, needed),
        }
    }

    fn embedded(options: &Options, needed: u64) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["broker", "--topic", &options.topic]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("start the broker's process")?;
        let mut address = String::new();
        BufReader::new(child.stdout.take().context("its output")?).read_line(&mut address)?;
        let name_server = address.trim().parse().context("the broker's process did not tell its address")?;
        fill(name_server, options, needed)?;
        Ok(Self { name_server, pids: vec![("broker".into(), child.id())], _embedded: Some(child) })
    }

    fn real(name_server: SocketAddr, options: &Options, needed: u64) -> Result<Self> {
        let admin = Admin::new(name_server, options.broker.into_iter().collect(), None);
        if options.broker.is_some() {
            admin.create_topic(&Topic::new(&options.topic).queues(QUEUES))?;
        }
        fill(name_server, options, options.preload)?;
        let queues = admin.queues(&options.topic)?;
        let stored: i64 = queues.iter().map(|queue| admin.max_offset(&options.topic, queue)).sum::<Result<_, _>>()?;
        ensure!(
            stored.unsigned_abs() >= needed,
            "topic {} holds {stored} messages, and a round reads {needed}: add --preload N",
            options.topic
        );
        Ok(Self { name_server, pids: options.pids.clone(), _embedded: None })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self._embedded.take() {
            drop(child.stdin.take());
            drop(child.wait());
        }
    }
}

/// The raw loop has one connection, hence one broker.
pub(crate) fn pulling(queues: &[Queue], topic: &str, group: &str, max_messages: u32) -> Result<raw::Pulling> {
    let first = queues.first().with_context(|| format!("topic {topic} has no queue"))?;
    ensure!(queues.iter().all(|queue| queue.broker == first.broker), "the comparison is for one broker");
    Ok(raw::Pulling {
        broker: first.broker,
        broker_name: first.broker_name.clone(),
        group: group.into(),
        topic: topic.into(),
        queues: u32::try_from(queues.len())?,
        max_messages,
    })
}

fn fill(name_server: SocketAddr, options: &Options, messages: u64) -> Result<()> {
    if messages == 0 {
        return Ok(());
    }
    let queues = Admin::new(name_server, Vec::new(), None).queues(&options.topic)?;
    raw::fill(&pulling(&queues, &options.topic, "fill", 32)?, &body(options.size), messages).context("fill the topic")
}

/// Bytes that no compression makes smaller.
fn body(size: usize) -> Vec<u8> {
    std::iter::repeat_with(|| fastrand::u8(..)).take(size).collect()
}

/// The embedded broker; its name server's address is the first line of output.
pub(crate) fn serve(topic: &str) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let broker = runtime.block_on(embedded::Broker::builder().topic(topic, QUEUES).start())?;
    println!("{}", broker.name_server());
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
