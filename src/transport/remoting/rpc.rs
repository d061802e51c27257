//! Calls: the connection of an endpoint, the signature, the deadline, and what the code of the answer means.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::error::{Error, ErrorKind, Operation, Result};
use crate::model::{Credentials, Endpoint, Scheme};
use crate::task::TaskGroup;
use crate::transport::auth;
use crate::transport::dial::Dialer;
use crate::transport::remoting::RemotingConfig;
use crate::transport::remoting::command::{Command, Payload, Request, code};
use crate::transport::remoting::connection::Connection;
use crate::transport::tls::Tls;

/// What is being done, and where: what an error says beside its text.
#[derive(Debug, Clone)]
pub(crate) struct Place<'a> {
    pub(crate) operation: Operation,
    pub(crate) at: &'a Endpoint,
    pub(crate) topic: Option<&'a Arc<str>>,
    pub(crate) group: Option<&'a Arc<str>>,
    /// The broker that is meant. A proxy passes the request on to it, and refuses one without.
    pub(crate) broker: Option<&'a str>,
}

impl<'a> Place<'a> {
    pub(crate) const fn new(operation: Operation, at: &'a Endpoint) -> Self {
        Self { operation, at, topic: None, group: None, broker: None }
    }

    pub(crate) const fn topic(self, topic: &'a Arc<str>) -> Self {
        Self { topic: Some(topic), ..self }
    }

    pub(crate) const fn group(self, group: &'a Arc<str>) -> Self {
        Self { group: Some(group), ..self }
    }

    pub(crate) const fn broker(self, broker: &'a str) -> Self {
        Self { broker: Some(broker), ..self }
    }

    pub(crate) fn error(&self, kind: ErrorKind, text: impl Into<String>) -> Error {
        self.dress(Error::new(kind, text))
    }

    /// A failed connection keeps its own operation.
    pub(crate) fn dress(&self, error: Error) -> Error {
        let operation = error.operation().unwrap_or(self.operation);
        let mut error = error.during(operation).at(self.at);
        if let Some(topic) = self.topic {
            error = error.on_topic(Arc::clone(topic));
        }
        if let Some(group) = self.group {
            error = error.in_group(Arc::clone(group));
        }
        error
    }

    /// What an answer other than success means.
    pub(crate) fn refused(&self, answer: &Command) -> Error {
        let text = match answer.remark().trim() {
            "" => "the server gave no reason",
            text => text,
        };
        let kind = code::kind_of(answer.code, text);
        self.error(kind, auth::explained(self.operation, kind, text)).with_code(answer.code)
    }
}

/// The calls of one client identity.
pub(crate) struct Rpc {
    tls: Option<Tls>,
    credentials: Option<Credentials>,
    namespace: Arc<str>,
    pub(crate) request_timeout: Duration,
    connect_timeout: Duration,
    /// Never locked across an await.
    connections: Mutex<HashMap<Endpoint, Connection>>,
    tasks: TaskGroup,
}

impl Rpc {
    pub(crate) fn new(config: &RemotingConfig) -> Result<Self> {
        Ok(Self {
            tls: match config.scheme {
                Scheme::Plaintext => None,
                Scheme::Tls => Some(Tls::new(&config.tls, None)?),
            },
            credentials: config.credentials.clone(),
            namespace: Arc::clone(&config.namespace),
            request_timeout: config.request_timeout,
            connect_timeout: config.connect_timeout,
            connections: Mutex::default(),
            tasks: TaskGroup::new(),
        })
    }

    /// A request and the payload of its answer.
    pub(crate) async fn call<R: Request>(&self, place: &Place<'_>, request: &R) -> Result<R::Answer> {
        let answer = self.exchange(place, Command::request(request), self.request_timeout).await?;
        match answer.code {
            code::SUCCESS => R::Answer::read(&answer).map_err(|error| place.dress(error)),
            _ => Err(place.refused(&answer)),
        }
    }

    /// A request and its answer, whatever its code. A server that is about to stop is left, and the request goes once more.
    pub(crate) async fn exchange(&self, place: &Place<'_>, request: Command, deadline: Duration) -> Result<Command> {
        let request = self.complete(place, request);
        let connection = self.connection(place.at);
        let mut answer = connection.call(request.clone(), deadline).await.map_err(|error| place.dress(error))?;
        if answer.code == code::GO_AWAY {
            self.forget_this(place.at, &connection);
            let again = self.connection(place.at);
            answer = again.call(request, deadline).await.map_err(|error| place.dress(error))?;
        }
        Ok(answer)
    }

    /// The connection to an endpoint; a new one when there is none, or when it is broken.
    pub(crate) fn connection(&self, at: &Endpoint) -> Connection {
        let mut connections = self.connections();
        match connections.get(at) {
            Some(connection) if !connection.is_broken() => connection.clone(),
            _ => {
                let dialer =
                    Dialer { endpoint: at.clone(), tls: self.tls.clone(), connect_timeout: self.connect_timeout };
                let connection = Connection::open(&self.tasks, dialer);
                connections.insert(at.clone(), connection.clone());
                connection
            }
        }
    }

    /// The next call connects anew. Calls under way keep the old connection until they end.
    pub(crate) fn forget(&self, at: &Endpoint) {
        let forgotten = self.connections().remove(at);
        drop(forgotten);
    }

    /// Forgets this connection, unless another has taken its place.
    fn forget_this(&self, at: &Endpoint, connection: &Connection) {
        let mut connections = self.connections();
        let forgotten = match connections.get(at) {
            Some(known) if known.is_same(connection) => connections.remove(at),
            _ => None,
        };
        drop(connections);
        drop(forgotten);
    }

    /// Adds what every request carries, and signs it; so nothing may be added afterwards.
    fn complete(&self, place: &Place<'_>, mut command: Command) -> Command {
        let fields = &mut command.fields;
        fields.set_if("bname", place.broker);
        if !self.namespace.is_empty() {
            fields.set("nsd", true);
            fields.set("ns", &self.namespace);
        }
        if let Some(credentials) = &self.credentials {
            fields.set(auth::ACCESS_KEY, credentials.access_key());
            fields.set_if(auth::SECURITY_TOKEN, credentials.token());
            let signature = auth::remoting_signature(credentials.secret_key(), fields.iter(), &command.body);
            fields.set(auth::SIGNATURE, signature);
        }
        command
    }

    fn connections(&self) -> MutexGuard<'_, HashMap<Endpoint, Connection>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Rpc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rpc").field("connections", &*self.connections()).finish_non_exhaustive()
    }
}
