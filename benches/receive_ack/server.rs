//! The server of a comparison: the embedded broker in a process of its own, or a real one.

use anyhow::{Context as _, Result, ensure};

use crate::admin::{Admin, Group, Topic};
use crate::side_by_side::process::Broker;
use crate::{Options, raw};

const QUEUES: u32 = 8;
/// What a process may have received beyond what it has counted: two buffers' worth.
pub(crate) const SLACK: u64 = 4096;

pub(crate) struct Server {
    pub(crate) access_point: String,
    pub(crate) pids: Vec<(String, u32)>,
    admin: Option<Admin>,
    _embedded: Option<Broker>,
}

impl Server {
    /// `needed`: how many messages the topic must hold.
    pub(crate) fn open(options: &Options, needed: u64) -> Result<Self> {
        match &options.access_point {
            Some(access_point) => Self::real(access_point.clone(), options, needed),
            None => Self::embedded(options, needed),
        }
    }

    /// Whose CPU time is shown.
    pub(crate) fn processes(&self) -> Vec<String> {
        self.pids.iter().map(|(name, _)| name.clone()).collect()
    }

    fn embedded(options: &Options, needed: u64) -> Result<Self> {
        let (broker, access_point) = Broker::start::<String>(&options.topic, QUEUES)?;
        preload(&access_point, options, needed)?;
        let pids = vec![("broker".into(), broker.pid())];
        Ok(Self { access_point, pids, admin: None, _embedded: Some(broker) })
    }

    fn real(access_point: String, options: &Options, needed: u64) -> Result<Self> {
        let brokers = options.broker.into_iter().collect();
        let admin = options.name_server.map(|name_server| Admin::new(name_server, brokers, None));
        if let (Some(admin), true) = (&admin, options.broker.is_some()) {
            admin.create_topic(&Topic::new(&options.topic).queues(QUEUES))?;
        }
        preload(&access_point, options, options.preload)?;
        if needed > 0 {
            let admin = admin.as_ref().context("--name-server is needed to begin at a topic's first message")?;
            let queues = admin.queues(&options.topic)?;
            let stored: i64 =
                queues.iter().map(|queue| admin.max_offset(&options.topic, queue)).sum::<Result<_, _>>()?;
            ensure!(
                stored.unsigned_abs() >= needed,
                "topic {} holds {stored} messages, and a round reads {needed}: add --preload N",
                options.topic
            );
        }
        Ok(Self { access_point, pids: options.pids.clone(), admin, _embedded: None })
    }

    /// Lets a new group begin at the first message. On the embedded broker all do.
    pub(crate) fn prepare(&self, group: &str, topic: &str) -> Result<()> {
        if let Some(admin) = &self.admin {
            admin.create_group(&Group::new(group))?;
            admin.start_from_zero(group, topic)?;
        }
        Ok(())
    }
}

/// Lets a group of another program begin at the first message.
pub(crate) fn prepare(options: &Options, group: &str) -> Result<()> {
    let access_point = options.access_point.clone().context("--access-point is needed")?;
    Server::real(access_point, options, 1)?.prepare(group, &options.topic)
}

fn preload(access_point: &str, options: &Options, messages: u64) -> Result<()> {
    if messages == 0 {
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(raw::preload(access_point, &options.topic, options.size, messages)).context("fill the topic")
}
