//! A RocketMQ cluster in this process.

pub(crate) mod engine;

pub use engine::TopicType;
