#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests may"))]

mod assignment;
mod checkpoint;
mod client;
mod clock;
mod consumer;
#[cfg(feature = "embedded")]
pub mod embedded;
mod error;
#[doc = include_str!("guide.md")]
pub mod guide {}
mod lease;
mod model;
mod producer;
mod proto;
mod retry;
mod session;
mod task;
mod transport;

pub use assignment::{Assignment, AssignmentStrategy, Average, Circle, ConsistentHash};
pub use checkpoint::{
    CheckpointEvent, CheckpointStore, CommitMode, Completion, CompletionShares, FileCheckpoints, MemoryCheckpoints,
};
pub use client::{Client, ClientBuilder};
pub use consumer::hub::EventStream;
pub use consumer::pull::{
    AssignmentWatch, BatchMessages, Batches, CommitSink, FilterSettled, LagWatch, MessageBatch, PullBatch,
    PullConsumer, PullConsumerBuilder, PullControl, PullEvent, PullEvents, PullShutdownReport, PullStreamExt,
    PulledMessage, PulledMessages, QueueLag, QueueStream, QueueStreams, SeekTo,
};
pub use consumer::simple::{
    AckSink, Delivery, Event, Events, OnMalformed, ShutdownReport, SimpleConsumer, SimpleConsumerBuilder,
    SimpleControl, SimpleReceiver, SimpleStats,
};
pub use error::{AckError, BoxError, Error, ErrorKind, Operation, Result, SendError};
pub use lease::{LeaseEvent, LeaseLost, LeaseStats, Receipt, Renewal, Settled};
pub use model::{
    BodyDigest, BodyEncoding, Checkpoint, ConsumerGroup, Corruption, Credentials, DeadLetterOrigin, DigestAlgorithm,
    Endpoint, Epoch, Filter, Limits, Message, MessageQueue, MessageType, Offset, OffsetRange, OnOffsetGap,
    OutboundMessage, Properties, StartFrom, StopAt,
};
pub use producer::{Producer, ProducerBuilder, ProducerReport, ProducerSink, SendReceipt, SendStreamExt, SendWith};
pub use session::{Health, HealthWatch, RouteEndpoints};
#[doc(hidden)]
pub use task::panicked_tasks;
