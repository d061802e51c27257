//! The parts of a running cluster, and making them go away: proxies, brokers, name servers.

use std::net::SocketAddr;
use std::sync::Arc;

use super::builder::BrokerBuilder;
use super::cluster::Cluster;
use super::remoting::door::Door;
use super::remoting::{Part, Server};
use super::{Broker, STOP, cannot_listen, listen, nth, reachable};
use crate::error::{Error, Result};
use crate::task::TaskGroup;

/// Ports of the remoting protocol, open and not yet served.
pub(super) struct Doors {
    name_servers: Vec<Door>,
    brokers: Vec<Door>,
}

impl Doors {
    /// `None`: the cluster does not speak it.
    pub(super) fn open(builder: &BrokerBuilder) -> Result<Option<Self>> {
        let Some(first) = builder.remoting else { return Ok(None) };
        let open = |index| {
            let address = nth("remoting", first, index)?;
            Door::open(address).map_err(|error| cannot_listen("remoting", address, error))
        };
        let (name_servers, brokers) = (builder.name_servers, builder.config.brokers);
        Ok(Some(Self {
            name_servers: (0..name_servers).map(open).collect::<Result<_>>()?,
            brokers: (name_servers..name_servers + brokers).map(open).collect::<Result<_>>()?,
        }))
    }

    pub(super) fn broker_addresses(&self) -> Vec<SocketAddr> {
        self.brokers.iter().map(|door| reachable(door.address())).collect()
    }
}

/// The servers of the remoting protocol.
#[derive(Debug)]
pub(super) struct Remoting {
    name_servers: Vec<Arc<Server>>,
    brokers: Vec<Arc<Server>>,
}

impl Remoting {
    pub(super) fn start(doors: Doors, cluster: &Arc<Cluster>, tasks: &TaskGroup) -> Self {
        let start = |part, door| {
            let server = Arc::new(Server::new(Arc::clone(cluster), part, door));
            tasks.spawn("embedded broker: remoting", Arc::clone(&server).run());
            server
        };
        let brokers = doors.brokers.into_iter().enumerate();
        Self {
            name_servers: doors.name_servers.into_iter().map(|door| start(Part::NameServer, door)).collect(),
            brokers: brokers.map(|(index, door)| start(Part::Broker(index), door)).collect(),
        }
    }

    pub(super) fn name_servers(&self) -> impl Iterator<Item = SocketAddr> {
        self.name_servers.iter().map(|server| reachable(server.address()))
    }

    pub(super) fn members(&self, group: &str, broker: usize) -> Vec<String> {
        self.brokers.get(broker).map(|server| server.members(group)).unwrap_or_default()
    }

    pub(super) fn stop(&self) {
        self.name_servers.iter().chain(&self.brokers).for_each(|server| server.stop());
    }
}

/// The port was kept, so this fails only when it could not be; then the server stays away.
fn reopen(server: &Arc<Server>) {
    if let Err(error) = server.start() {
        tracing::error!(address = %server.address(), %error, "the embedded broker cannot listen there again");
    }
}

impl Broker {
    /// Cuts every connection to a proxy, counted from 0. It listens on, and remembers its clients.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) when there is no such proxy.
    pub fn cut_connections(&self, proxy: usize) -> Result<()> {
        self.check_proxy(proxy)?;
        self.slot(proxy).iter().for_each(|running| running.connections.cut());
        Ok(())
    }

    /// Stops a proxy, counted from 0: its port closes, its connections are cut, the settings of its clients are forgotten, and
    /// what it renewed by itself comes back at once. Receipt handles stay good. Stopping it twice does nothing.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) when there is no such proxy.
    pub async fn stop_proxy(&self, proxy: usize) -> Result<()> {
        self.check_proxy(proxy)?;
        self.close(proxy).await;
        self.cluster.clients[proxy].forget_all();
        self.cluster.with(|engine, now| engine.release(proxy, None, now));
        Ok(())
    }

    /// Starts a stopped proxy again on its old port. Starting one that runs does nothing.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) when there is no such proxy, [`Config`](crate::ErrorKind::Config) when another
    /// process has taken the port.
    pub async fn start_proxy(&self, proxy: usize) -> Result<()> {
        self.check_proxy(proxy)?;
        if self.slot(proxy).is_some() {
            return Ok(());
        }
        let listener = listen(self.addresses[proxy]).await?;
        self.run(proxy, listener);
        Ok(())
    }

    pub(super) async fn close(&self, proxy: usize) {
        let running = self.slot(proxy).take();
        if let Some(running) = running {
            let ended = running.tasks.shutdown(STOP).await;
            running.connections.cut();
            if !ended {
                tracing::warn!(proxy, "a proxy of the embedded broker did not end within {STOP:?}");
            }
        }
    }

    fn check_proxy(&self, proxy: usize) -> Result<()> {
        if proxy < self.addresses.len() {
            return Ok(());
        }
        let rule = format!("there are {}, counted from 0", self.addresses.len());
        Err(Error::argument("proxy", proxy, &rule))
    }

    /// Stops a broker, counted from 0: its remoting port closes and its connections are cut. Over gRPC, waiting receives end at once with 50001; requests answer 50001 "connect to … failed",
    /// and once the broker is out of the routes ([`route_expiry`](BrokerBuilder::route_expiry)) TOPIC_NOT_FOUND, or
    /// INVALID_RECEIPT_HANDLE "cannot find broker …". Its messages and leases stay. An unknown broker is ignored.
    pub fn stop_broker(&self, broker: usize) {
        self.cluster.with(|engine, now| engine.stop_broker(broker, now));
        self.remoting.iter().filter_map(|remoting| remoting.brokers.get(broker)).for_each(|server| server.stop());
    }

    /// Starts a stopped broker again, on its old port.
    pub fn start_broker(&self, broker: usize) {
        self.cluster.with(|engine, now| engine.start_broker(broker, now));
        self.remoting.iter().filter_map(|remoting| remoting.brokers.get(broker)).for_each(reopen);
    }

    /// Stops a name server, counted from 0: its port closes and its connections are cut. An unknown one is ignored.
    pub fn stop_name_server(&self, name_server: usize) {
        self.remoting
            .iter()
            .filter_map(|remoting| remoting.name_servers.get(name_server))
            .for_each(|server| server.stop());
    }

    /// Starts a stopped name server again, on its old port.
    pub fn start_name_server(&self, name_server: usize) {
        self.remoting.iter().filter_map(|remoting| remoting.name_servers.get(name_server)).for_each(reopen);
    }

    /// Cuts every remoting connection to a broker, counted from 0. It listens on. An unknown broker is ignored.
    pub fn cut_broker_connections(&self, broker: usize) {
        self.remoting.iter().filter_map(|remoting| remoting.brokers.get(broker)).for_each(|server| server.cut());
    }
}
