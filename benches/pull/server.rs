//! The server of a comparison: the embedded broker in a process of its own, or a real one.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};

use crate::admin::{Admin, Topic};
use crate::side_by_side::process::Broker;
use crate::{Options, raw};

pub(crate) struct Server {
    pub(crate) name_server: SocketAddr,
    pub(crate) pids: Vec<(String, u32)>,
    _embedded: Option<Broker>,
}

impl Server {
    /// `needed`: how many messages the topic must hold.
    pub(crate) fn open(options: &Options, needed: u64) -> Result<Self> {
        match options.name_server {
            Some(name_server) => Self::real(name_server, options, needed),
            None => Self::embedded(options, needed),
        }
    }

    /// Whose CPU time is shown.
    pub(crate) fn processes(&self) -> Vec<String> {
        self.pids.iter().map(|(name, _)| name.clone()).collect()
    }

    fn embedded(options: &Options, needed: u64) -> Result<Self> {
        let (broker, name_server) = Broker::start(&options.topic, options.queues)?;
        fill(name_server, options, needed)?;
        Ok(Self { name_server, pids: vec![("broker".into(), broker.pid())], _embedded: Some(broker) })
    }

    fn real(name_server: SocketAddr, options: &Options, needed: u64) -> Result<Self> {
        let admin = Admin::new(name_server, options.broker.into_iter().collect(), None);
        if options.broker.is_some() {
            admin.create_topic(&Topic::new(&options.topic).queues(options.queues))?;
        }
        fill(name_server, options, options.preload)?;
        let stored: u64 = pulling(name_server, &options.topic, "fill", 32)?.ends.iter().sum();
        ensure!(
            stored >= needed,
            "topic {} holds {stored} messages, and a round reads {needed}: add --preload N",
            options.topic
        );
        Ok(Self { name_server, pids: options.pids.clone(), _embedded: None })
    }
}

/// What the raw loop reads. It has one connection, hence one broker.
pub(crate) fn pulling(name_server: SocketAddr, topic: &str, group: &str, max_messages: u32) -> Result<raw::Pulling> {
    let admin = Admin::new(name_server, Vec::new(), None);
    let queues = admin.queues(topic)?;
    let first = queues.first().with_context(|| format!("topic {topic} has no queue"))?;
    ensure!(queues.iter().all(|queue| queue.broker == first.broker), "the comparison is for one broker");
    let ends = queues.iter().map(|queue| Ok(admin.max_offset(topic, queue)?.unsigned_abs())).collect::<Result<_>>()?;
    Ok(raw::Pulling {
        broker: first.broker,
        broker_name: first.broker_name.clone(),
        group: group.into(),
        topic: topic.into(),
        ends,
        max_messages,
        live: false,
    })
}

fn fill(name_server: SocketAddr, options: &Options, messages: u64) -> Result<()> {
    if messages == 0 {
        return Ok(());
    }
    let topic = pulling(name_server, &options.topic, "fill", 32)?;
    raw::fill(&topic, &body(options.size), messages).context("fill the topic")
}

/// Bytes that no compression makes smaller.
pub(crate) fn body(size: usize) -> Vec<u8> {
    std::iter::repeat_with(|| fastrand::u8(..)).take(size).collect()
}
