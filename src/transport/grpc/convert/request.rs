//! Requests of this client.

use std::sync::Arc;

use crate::model::{ClientKind, ClientSettings, Endpoint, Filter, Held, Subscription};
use crate::proto::{self, Language};
use crate::transport::grpc::convert::route::proto_endpoints;
use crate::transport::grpc::convert::value::{client_type, filter_type, proto_duration};
use crate::transport::{DeliveryAttempts, InvisibleChange, ReceiveRequest, Scope};

/// Writes the requests of one client identity.
#[derive(Debug, Clone)]
pub(crate) struct Requests {
    namespace: Arc<str>,
    access_point: proto::Endpoints,
    user_agent: proto::Ua,
}

impl Requests {
    /// `version` is that of the headers; the server shows it to administrators.
    pub(crate) fn new(namespace: Arc<str>, access_point: &[Endpoint], client_id: &str, version: &str) -> Self {
        let user_agent = proto::Ua {
            language: Language::Rust as i32,
            version: version.to_owned(),
            platform: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            // Client ids begin with the host.
            hostname: client_id.split('@').next().unwrap_or_default().to_owned(),
        };
        Self { namespace, access_point: proto_endpoints(access_point), user_agent }
    }

    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    pub(super) fn resource(&self, name: &str) -> Option<proto::Resource> {
        Some(proto::Resource { resource_namespace: (*self.namespace).to_owned(), name: name.to_owned() })
    }

    pub(crate) fn query_route(&self, topic: &str) -> proto::QueryRouteRequest {
        proto::QueryRouteRequest { topic: self.resource(topic), endpoints: Some(self.access_point.clone()) }
    }

    pub(crate) fn heartbeat(&self, group: Option<&Arc<str>>, kind: ClientKind) -> proto::HeartbeatRequest {
        let group = group.and_then(|group| self.resource(group));
        proto::HeartbeatRequest { group, client_type: client_type(kind) as i32 }
    }

    pub(crate) fn goodbye(&self, group: Option<&Arc<str>>) -> proto::NotifyClientTerminationRequest {
        proto::NotifyClientTerminationRequest { group: group.and_then(|group| self.resource(group)) }
    }

    pub(crate) fn settings(&self, settings: &ClientSettings) -> proto::Settings {
        use proto::settings::PubSub;
        let pub_sub = match settings.kind {
            ClientKind::Producer => PubSub::Publishing(proto::Publishing {
                topics: settings.topics.iter().filter_map(|topic| self.resource(topic)).collect(),
                max_body_size: 0,
                validate_message_type: true,
            }),
            ClientKind::SimpleConsumer | ClientKind::PullConsumer => PubSub::Subscription(proto::Subscription {
                group: settings.group.as_ref().and_then(|group| self.resource(group)),
                subscriptions: settings.subscriptions.iter().map(|entry| self.subscription(entry)).collect(),
                long_polling_timeout: settings.await_duration.map(proto_duration),
                ..proto::Subscription::default()
            }),
        };
        // No back-off policy: the server merges what it is given into its own, and repeated fields add up (A.6).
        proto::Settings {
            client_type: Some(client_type(settings.kind) as i32),
            access_point: Some(self.access_point.clone()),
            request_timeout: Some(proto_duration(settings.request_timeout)),
            user_agent: Some(self.user_agent.clone()),
            pub_sub: Some(pub_sub),
            ..proto::Settings::default()
        }
    }

    fn subscription(&self, subscription: &Subscription) -> proto::SubscriptionEntry {
        proto::SubscriptionEntry {
            topic: self.resource(&subscription.topic),
            expression: Some(filter_expression(&subscription.filter)),
        }
    }

    pub(crate) fn receive(&self, request: &ReceiveRequest) -> proto::ReceiveMessageRequest {
        let broker = proto::Broker { name: (*request.broker).to_owned(), id: 0, endpoints: None };
        proto::ReceiveMessageRequest {
            group: self.resource(&request.scope.group),
            message_queue: Some(proto::MessageQueue {
                topic: self.resource(&request.scope.topic),
                // All queues of the broker; it is the only thing Apache's proxy does (protocol.md B.1).
                id: -1,
                permission: proto::Permission::Read as i32,
                broker: Some(broker),
                accept_message_types: Vec::new(),
            }),
            filter_expression: Some(filter_expression(&request.filter)),
            batch_size: i32::try_from(request.max_messages).unwrap_or(i32::MAX),
            invisible_duration: request.invisible.map(proto_duration),
            auto_renew: request.invisible.is_none(),
            long_polling_timeout: Some(proto_duration(request.await_duration)),
            attempt_id: request.attempt_id.as_deref().map(str::to_owned),
        }
    }

    pub(crate) fn change_invisible(
        &self,
        scope: &Scope,
        held: &Held,
        change: InvisibleChange,
    ) -> proto::ChangeInvisibleDurationRequest {
        proto::ChangeInvisibleDurationRequest {
            group: self.resource(&scope.group),
            topic: self.resource(&scope.topic),
            receipt_handle: held.handle().to_owned(),
            invisible_duration: Some(proto_duration(change.duration)),
            message_id: held.message_id().to_owned(),
            lite_topic: None,
            suspend: change.suspend.then_some(true),
        }
    }

    pub(crate) fn dead_letter(
        &self,
        scope: &Scope,
        held: &Held,
        attempts: DeliveryAttempts,
    ) -> proto::ForwardMessageToDeadLetterQueueRequest {
        proto::ForwardMessageToDeadLetterQueueRequest {
            group: self.resource(&scope.group),
            topic: self.resource(&scope.topic),
            receipt_handle: held.handle().to_owned(),
            message_id: held.message_id().to_owned(),
            delivery_attempt: i32::try_from(attempts.now).unwrap_or(i32::MAX),
            max_delivery_attempts: i32::try_from(attempts.max).unwrap_or(i32::MAX),
            lite_topic: None,
        }
    }
}

pub(super) fn filter_expression(filter: &Filter) -> proto::FilterExpression {
    proto::FilterExpression { r#type: filter_type(filter.kind()) as i32, expression: filter.expression().to_owned() }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use bytes::Bytes;
    use prost::Message as _;

    use super::*;
    use crate::model::OutboundMessage;
    use crate::transport::Stamped;
    use crate::transport::grpc::convert::message::{Reading, read};
    use crate::transport::grpc::convert::written::Written;

    fn requests() -> Requests {
        Requests::new("ns".into(), &[Endpoint::new("proxy", 8081)], "host@1@2@3", "5.5.0")
    }

    fn read_back(written: &Written) -> proto::SendMessageRequest {
        proto::SendMessageRequest::decode(Bytes::from([&written.head[..], &written.tail[..]].concat())).unwrap()
    }

    fn scope() -> Scope {
        Scope { group: "billing".into(), topic: "%DLQ%other".into() }
    }

    fn held() -> Held {
        Held::new("id", "handle")
    }

    fn resource(name: &str) -> Option<proto::Resource> {
        Some(proto::Resource { resource_namespace: "ns".into(), name: name.into() })
    }

    fn consumer() -> ClientSettings {
        ClientSettings {
            kind: ClientKind::SimpleConsumer,
            request_timeout: Duration::from_secs(3),
            group: Some("billing".into()),
            subscriptions: vec![Subscription { topic: "orders".into(), filter: Filter::sql92("a > 1") }],
            await_duration: Some(Duration::from_secs(15)),
            topics: vec![],
        }
    }

    #[test]
    fn a_consumer_tells_its_group_and_subscriptions() {
        let settings = requests().settings(&consumer());
        assert_eq!(settings.client_type, Some(3));
        assert_eq!(settings.user_agent.as_ref().map(|agent| (agent.language, &*agent.hostname)), Some((5, "host")));
        assert_eq!(settings.access_point.as_ref().unwrap().addresses[0].port, 8081);
        assert_eq!(settings.request_timeout.unwrap().seconds, 3);
        assert!(settings.backoff_policy.is_none(), "the server would add it to its own");
        let Some(proto::settings::PubSub::Subscription(subscription)) = settings.pub_sub else {
            panic!("{settings:?}")
        };
        assert_eq!(subscription.group, resource("billing"));
        assert_eq!(subscription.subscriptions[0].topic, resource("orders"));
        assert_eq!(subscription.long_polling_timeout.unwrap().seconds, 15);
        let expression = subscription.subscriptions[0].expression.as_ref().unwrap();
        assert_eq!((expression.r#type, &*expression.expression), (2, "a > 1"));
    }

    #[test]
    fn a_client_says_who_it_is_where_it_connects_and_in_which_namespace() {
        let requests = requests();
        assert_eq!(requests.namespace(), "ns");
        let route = requests.query_route("orders");
        assert_eq!((route.topic, route.endpoints.unwrap().addresses[0].port), (resource("orders"), 8081));
        let beat = requests.heartbeat(Some(&"billing".into()), ClientKind::PullConsumer);
        assert_eq!((beat.group, beat.client_type), (resource("billing"), proto::ClientType::PullConsumer as i32));
        assert_eq!(requests.heartbeat(None, ClientKind::Producer).group, None, "a producer has no group");
        assert_eq!(requests.goodbye(Some(&"billing".into())).group, resource("billing"));
    }

    #[test]
    fn a_producer_names_its_topics_without_which_no_transaction_check_reaches_it() {
        let kind = ClientKind::Producer;
        let topics = vec!["orders".into()];
        let settings = requests().settings(&ClientSettings { kind, topics, group: None, ..consumer() });
        let Some(proto::settings::PubSub::Publishing(publishing)) = settings.pub_sub else { panic!("{settings:?}") };
        assert_eq!(publishing.topics, [resource("orders").unwrap()]);
    }

    #[test]
    fn a_receive_without_an_invisible_duration_leaves_the_renewal_to_the_server() {
        let request = ReceiveRequest {
            scope: scope(),
            broker: "broker-a".into(),
            filter: Filter::all(),
            max_messages: 16,
            invisible: None,
            await_duration: Duration::from_secs(1),
            attempt_id: Some("attempt".into()),
        };
        let wire = requests().receive(&request);
        assert!(wire.auto_renew && wire.invisible_duration.is_none());
        let queue = wire.message_queue.unwrap();
        assert_eq!(queue.id, -1, "all queues of the broker");
        assert_eq!((queue.topic, queue.broker.unwrap().name.as_str()), (resource("%DLQ%other"), "broker-a"));
        assert_eq!((wire.batch_size, wire.attempt_id.as_deref()), (16, Some("attempt")));
        let own = requests().receive(&ReceiveRequest { invisible: Some(Duration::from_secs(30)), ..request });
        assert_eq!((own.auto_renew, own.invisible_duration.unwrap().seconds), (false, 30));
    }

    #[test]
    fn r9_a_settlement_names_the_topic_that_was_asked_for() {
        let (scope, held) = (scope(), held());
        let change = InvisibleChange { duration: Duration::ZERO, suspend: true };
        let change = requests().change_invisible(&scope, &held, change);
        assert_eq!((change.topic, change.suspend), (resource("%DLQ%other"), Some(true)));
        let dead = requests().dead_letter(&scope, &held, DeliveryAttempts { now: 3, max: 16 });
        assert_eq!((dead.topic, dead.delivery_attempt), (resource("%DLQ%other"), 3));
    }

    #[test]
    fn what_is_sent_is_what_is_received() {
        let message = OutboundMessage::new("orders", "body")
            .tag("paid")
            .keys(["1", "2"])
            .property("region", "EU")
            .message_group("g")
            .trace_context("00-1");
        let body = message.body().as_ptr();
        let stamped = Stamped {
            message,
            id: "01".into(),
            born: UNIX_EPOCH + Duration::from_millis(1_700_000_000_123),
            born_host: "here".into(),
            transactional: false,
        };
        let wire = read_back(&requests().send(&stamped)).messages.remove(0);
        assert_eq!(requests().send(&stamped).tail.as_ptr(), body, "shared, not copied");
        let reading = Reading {
            topic: "orders".into(),
            broker: None,
            max_decompressed_size: 0,
            check_digest: true,
            is_delivery: false,
        };
        let read = read(wire, &reading).0;
        assert_eq!((&*read.id, &read.body[..], read.tag.as_deref()), ("01", b"body".as_ref(), Some("paid")));
        assert_eq!(
            (read.keys.as_slice(), read.properties.get("region")),
            (["1", "2"].map(String::from).as_slice(), Some("EU"))
        );
        assert_eq!((read.message_group.as_deref(), read.trace_context.as_deref()), (Some("g"), Some("00-1")));
        assert_eq!((read.born_timestamp, &*read.born_host), (Some(stamped.born), "here"));
        assert_eq!((read.message_type, read.corrupted), (crate::model::MessageType::Fifo, None));
    }

    #[test]
    fn a_half_message_is_of_type_transaction() {
        let stamped = Stamped {
            message: OutboundMessage::new("orders", "body"),
            id: "01".into(),
            born: UNIX_EPOCH,
            born_host: "here".into(),
            transactional: true,
        };
        let wire = read_back(&requests().send(&stamped)).messages.remove(0);
        assert_eq!(wire.system_properties.unwrap().message_type, proto::MessageType::Transaction as i32);
    }
}
