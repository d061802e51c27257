use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::clock;
use crate::error::{Error, Result, millis};
use crate::model::{ClientKind, ClientSettings, check_topic};
use crate::producer::accumulator::Patience;
use crate::producer::attempt::Way;
use crate::producer::courier::Post;
use crate::producer::{LONGEST, Producer, ProducerConfig};
use crate::session::Connector;

/// Builds a [`Producer`].
#[must_use = "a builder does nothing before build()"]
pub struct ProducerBuilder {
    connector: Arc<Connector>,
    topics: Vec<String>,
    max_in_flight: usize,
    max_in_flight_bytes: usize,
    max_attempts: u32,
    request_timeout: Option<Duration>,
    send_timeout: Duration,
    build_timeout: Duration,
}

impl ProducerBuilder {
    pub(crate) fn new(connector: Arc<Connector>) -> Self {
        Self {
            connector,
            topics: Vec::new(),
            max_in_flight: 1024,
            max_in_flight_bytes: 64 << 20,
            max_attempts: 3,
            request_timeout: None,
            send_timeout: Duration::from_secs(120),
            build_timeout: Duration::from_secs(30),
        }
    }

    /// Adds a topic that will be sent to. [`build`](Self::build) then finds out whether it exists, and the first message need
    /// not wait for its route. Other topics may be sent to as well. Defaults to none.
    pub fn topic(mut self, topic: impl Into<String>) -> Self {
        self.topics.push(topic.into());
        self
    }

    /// Adds several topics, as [`topic`](Self::topic) does.
    pub fn topics(mut self, topics: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.topics.extend(topics.into_iter().map(Into::into));
        self
    }

    /// How many messages may be accepted and not answered; then sends wait and sinks are not ready. Defaults to 1024.
    pub fn max_in_flight(mut self, messages: usize) -> Self {
        self.max_in_flight = messages;
        self
    }

    /// How many bytes these messages may hold, bodies and properties. A larger message is sent alone. Defaults to 64 MiB, at
    /// most 4 GiB − 1.
    pub fn max_in_flight_bytes(mut self, bytes: usize) -> Self {
        self.max_in_flight_bytes = bytes;
        self
    }

    /// After how many attempts that may have stored the message (no answer in time, a connection cut in the middle, or an inner error of the server) it is given
    /// up. Each repeat may store a copy, with the same message id. 1: never repeat such a send. Defaults to 3.
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.max_attempts = attempts;
        self
    }

    /// How long one attempt may take. Defaults to the client's request timeout.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = Some(timeout);
        self
    }

    /// How long after it was accepted a message is tried again while a part of the cluster is away or throttles. The last
    /// attempt may begin at its end. Defaults to 120 s: Apache RocketMQ refuses messages for up to 52 s after a broker was
    /// started again, and 20 s pass easily before that.
    pub fn send_timeout(mut self, timeout: Duration) -> Self {
        self.send_timeout = timeout;
        self
    }

    /// How long [`build`](Self::build) may try to reach the servers and to find the topics. Defaults to 30 s.
    pub fn build_timeout(mut self, timeout: Duration) -> Self {
        self.build_timeout = timeout;
        self
    }

    /// Connects, shakes hands and finds the topics.
    ///
    /// # Errors
    /// `Config` for a setting that breaks a rule, `NotFound` for a topic that does not exist, `Unauthenticated` and
    /// `PermissionDenied`, and `Unavailable` or `Timeout` when no server could be reached within
    /// [`build_timeout`](Self::build_timeout).
    pub async fn build(self) -> Result<Producer> {
        let config = self.config()?;
        let connector = self.connector.with_request_timeout(self.request_timeout);
        let topics: Vec<Arc<str>> = self.topics.iter().map(|topic| topic.as_str().into()).collect();
        let settings = ClientSettings {
            kind: ClientKind::Producer,
            request_timeout: connector.request_timeout(),
            group: None,
            subscriptions: Vec::new(),
            await_duration: None,
            topics: topics.clone(),
        };
        let until = clock::now() + self.build_timeout;
        let (session, wire) = connector.open(settings, self.build_timeout).await?;
        let way = Way::new(Arc::new(Post { session: session.clone(), wire }));
        for topic in &topics {
            // On failure the session is dropped, which says goodbye.
            session.route_within(topic, until.saturating_duration_since(clock::now())).await?;
            way.learn(topic);
        }
        Ok(Producer::start(Arc::new(way), config))
    }

    fn config(&self) -> Result<ProducerConfig> {
        let limits = self.connector.limits();
        self.topics.iter().try_for_each(|topic| check_topic(topic, limits))?;
        let count = |field, value: usize, max: usize| {
            let rule = format!("must be from 1 to {max}");
            if (1..=max).contains(&value) { Ok(()) } else { Err(Error::config(field, value, &rule)) }
        };
        count("max_in_flight", self.max_in_flight, 1 << 20)?;
        count("max_in_flight_bytes", self.max_in_flight_bytes, u32::MAX as usize)?;
        count("max_attempts", self.max_attempts as usize, u32::MAX as usize)?;
        for (field, value) in [
            ("request_timeout", self.request_timeout.unwrap_or(LONGEST)),
            ("send_timeout", self.send_timeout),
            ("build_timeout", self.build_timeout),
        ] {
            if value < Duration::from_millis(1) || value > LONGEST {
                return Err(Error::config(field, millis(value), "must be from 1 ms to 1 day"));
            }
        }
        Ok(ProducerConfig {
            max_in_flight: self.max_in_flight,
            max_in_flight_bytes: u32::try_from(self.max_in_flight_bytes).unwrap_or(u32::MAX),
            patience: Patience { max_attempts: self.max_attempts, send_timeout: self.send_timeout },
            limits: limits.clone(),
            born_host: host_name(),
        })
    }
}

/// The name of this host, which the server stores with each message; it means nothing to the protocol.
fn host_name() -> Arc<str> {
    std::env::var("HOSTNAME").map_or_else(|_| "localhost".into(), Into::into)
}

impl fmt::Debug for ProducerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProducerBuilder")
            .field("topics", &self.topics)
            .field("max_in_flight", &self.max_in_flight)
            .field("max_in_flight_bytes", &self.max_in_flight_bytes)
            .field("max_attempts", &self.max_attempts)
            .field("request_timeout", &self.request_timeout)
            .field("send_timeout", &self.send_timeout)
            .field("build_timeout", &self.build_timeout)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use futures_util::FutureExt;

    fn builder() -> ProducerBuilder {
        crate::Client::builder().access_point("localhost:1").build().expect("a good client").producer()
    }

    fn refused(builder: ProducerBuilder) -> Error {
        builder.build().now_or_never().expect("nothing to wait for").expect_err("must be refused")
    }

    #[test]
    fn a_setting_that_breaks_a_rule_is_refused_before_anything_is_opened() {
        for (builder, field) in [
            (builder().topic("no topic!"), "topic `no topic!`"),
            (builder().topics(["good", ""]), "topic ``"),
            (builder().max_in_flight(0), "max_in_flight `0`"),
            (builder().max_in_flight(usize::MAX), "max_in_flight"),
            (builder().max_in_flight_bytes(0), "max_in_flight_bytes `0`"),
            (builder().max_in_flight_bytes(usize::MAX), "max_in_flight_bytes"),
            (builder().max_attempts(0), "max_attempts `0`"),
            (builder().request_timeout(Duration::ZERO), "request_timeout `0 ms`"),
            (builder().send_timeout(Duration::MAX), "send_timeout"),
            (builder().build_timeout(Duration::MAX), "build_timeout"),
        ] {
            let error = refused(builder);
            assert_eq!(error.kind(), ErrorKind::Config, "{field}");
            assert!(error.to_string().contains(field), "{field}: {error}");
        }
    }

    #[test]
    fn the_settings_reach_the_producer() {
        let config = builder().max_in_flight(7).max_in_flight_bytes(8).max_attempts(9).config().unwrap();
        assert_eq!((config.max_in_flight, config.max_in_flight_bytes, config.patience.max_attempts), (7, 8, 9));
        let defaults = builder().config().unwrap();
        assert_eq!((defaults.max_in_flight, defaults.max_in_flight_bytes), (1024, 64 << 20));
        assert_eq!(defaults.patience, Patience { max_attempts: 3, send_timeout: Duration::from_secs(120) });
    }
}
