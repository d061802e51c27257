//! The gRPC shell, asked by a raw client.

mod faults;
mod names;
mod parts;
mod pull;
mod raw;
mod receive;
mod register;
mod send;

use std::time::Duration;

use super::*;
use crate::proto::{self, Code};

const SECOND: Duration = Duration::from_secs(1);

/// Short enough for tests; the rules are the same.
fn builder() -> BrokerBuilder {
    Broker::builder()
        .topic("t", 2)
        .typed_topic("ordered", 1, TopicType::Fifo)
        .typed_topic("later", 1, TopicType::Delay)
        .typed_topic("paid", 1, TopicType::Transaction)
        .group(GroupOptions::new("in-order").fifo(true).max_attempts(2))
        .group(GroupOptions::new("twice").max_attempts(2))
        .invisible_duration(Duration::from_millis(50), Duration::from_secs(60))
        .polling(Duration::from_millis(100), Duration::from_secs(5))
}

async fn broker() -> Broker {
    builder().start().await.unwrap()
}

fn code(status: Option<proto::Status>) -> Code {
    status.expect("a status").code()
}
