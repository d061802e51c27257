//! The remoting shell, asked by a raw client.

mod admin;
mod groups;
mod pull;
mod raw;
mod servers;

use std::time::Duration;

use raw::Raw;

use crate::embedded::{Broker, BrokerBuilder, TopicType};
use crate::transport::remoting::command::offset::QueueName;
use crate::{MessageQueue, OutboundMessage};

const SECOND: Duration = Duration::from_secs(1);

fn builder() -> BrokerBuilder {
    Broker::builder().topic("t", 2)
}

async fn broker() -> Broker {
    builder().start().await.unwrap()
}

fn place(topic: &str, queue: i32) -> QueueName {
    QueueName { topic: topic.into(), queue }
}

fn first() -> MessageQueue {
    MessageQueue::new("t", "broker-a", 0)
}

/// Messages in the first queue of `t`, tagged `paid`.
fn put(broker: &Broker, bodies: &[&str]) {
    for body in bodies {
        broker.append(&first(), OutboundMessage::new("t", body.to_string()).tag("paid").key("k")).unwrap();
    }
}

fn topic_type(broker: &Broker, topic: &str) -> Option<(TopicType, u32)> {
    broker.cluster().with(|engine, _| engine.topic(topic))
}
