//! What every public type is: `Send`, `Sync`, `Unpin`, `Debug`; and how large an error is.
#![allow(
    clippy::disallowed_methods,
    clippy::future_not_send,
    reason = "the rules on time, tasks and threads are for the library; tests are its users"
)]

use std::error::Error as StdError;
use std::fmt::Debug;
use std::hash::Hash;

use futures::stream::FusedStream;
use futures::{Sink, Stream};
use rocketmq_stream::*;

fn common<T: Send + Sync + Unpin + Debug + 'static>() {}
/// Streams that hold what is under way can be moved to another thread, but not be shared.
fn movable<T: Send + Unpin + Debug + 'static>() {}
fn cheap_to_clone<T: Clone>() {}
fn named<T: Clone + Eq + Hash + Debug>() {}
fn is_error<T: StdError + Send + Sync + 'static>() {}
fn is_stream<T: FusedStream<Item = I>, I>() {}
fn is_sink<T: Sink<I, Error = Error> + Send + Unpin, I>() {}
fn is_future<T: futures::future::FusedFuture<Output = O> + Send + Unpin + 'static, O>() {}

type Source = futures::stream::Pending<Result<(OutboundMessage, u8)>>;

#[test]
fn what_pulls_can_be_moved_and_all_but_its_streams_shared() {
    common::<PullConsumerBuilder>();
    common::<PullControl>();
    common::<PullEvents>();
    common::<PullEvent>();
    common::<QueueLag>();
    common::<LagWatch>();
    common::<AssignmentWatch>();
    common::<PullBatch>();
    common::<PulledMessage>();
    common::<MessageBatch>();
    movable::<CommitSink>();
    movable::<PullConsumer>();
    movable::<PulledMessages>();
    movable::<QueueStreams>();
    movable::<QueueStream>();
    movable::<Batches<PulledMessages>>();
}

#[test]
fn every_public_type_is_send_sync_unpin_and_debug() {
    common::<Checkpoint>();
    common::<CheckpointEvent>();
    common::<CommitMode>();
    common::<Completion>();
    common::<CompletionShares>();
    common::<FileCheckpoints>();
    common::<MemoryCheckpoints>();
    common::<Client>();
    common::<ClientBuilder>();
    common::<SimpleConsumerBuilder>();
    common::<SimpleConsumer>();
    common::<SimpleReceiver>();
    common::<SimpleControl>();
    common::<SimpleStats>();
    common::<ShutdownReport>();
    common::<HealthWatch>();
    common::<Health>();
    common::<Events>();
    common::<Event>();
    common::<AckSink>();
    common::<Delivery>();
    common::<Receipt>();
    common::<Settled>();
    common::<LeaseLost>();
    common::<LeaseStats>();
    common::<LeaseEvent>();
    common::<Renewal>();
    common::<OnMalformed>();
    common::<RouteEndpoints>();
    common::<Producer>();
    common::<ProducerBuilder>();
    common::<ProducerSink>();
    common::<ProducerReport>();
    common::<SendReceipt>();
    common::<SendWith<Source, u8>>();
    common::<Message>();
    common::<OutboundMessage>();
    common::<Properties>();
    common::<MessageType>();
    common::<MessageQueue>();
    common::<Offset>();
    common::<ConsumerGroup>();
    common::<Filter>();
    common::<Limits>();
    common::<Endpoint>();
    common::<Credentials>();
    common::<Corruption>();
    common::<DeadLetterOrigin>();
    common::<Error>();
    common::<ErrorKind>();
    common::<Operation>();
    common::<AckError>();
    common::<SendError>();
}

#[test]
fn every_type_of_the_embedded_broker_is_too() {
    use rocketmq_stream::embedded::*;
    common::<Broker>();
    common::<BrokerBuilder>();
    common::<GroupOptions>();
    common::<TopicType>();
    common::<Faults>();
    common::<Fault>();
    common::<FaultBuilder>();
    common::<Rpc>();
    common::<Stats>();
    common::<StoredMessage>();
}

#[test]
fn handles_can_be_cloned() {
    cheap_to_clone::<Client>();
    cheap_to_clone::<SimpleControl>();
    cheap_to_clone::<SimpleConsumerBuilder>();
    cheap_to_clone::<Producer>();
    cheap_to_clone::<HealthWatch>();
    cheap_to_clone::<LeaseLost>();
    cheap_to_clone::<FileCheckpoints>();
    cheap_to_clone::<MemoryCheckpoints>();
    cheap_to_clone::<Message>();
    cheap_to_clone::<OutboundMessage>();
    cheap_to_clone::<Error>();
    cheap_to_clone::<AckError>();
}

#[test]
fn names_can_be_keys() {
    named::<MessageQueue>();
    named::<Offset>();
    named::<ConsumerGroup>();
    named::<Filter>();
    named::<ErrorKind>();
    named::<Operation>();
}

#[test]
fn an_error_is_one_word_and_results_are_small() {
    assert_eq!(size_of::<Error>(), size_of::<usize>());
    assert_eq!(size_of::<Result<()>>(), size_of::<usize>());
    assert!(size_of::<SendError>() <= 4 * size_of::<usize>());
    assert!(size_of::<AckError>() <= 4 * size_of::<usize>());
    assert!(size_of::<Completion>() <= 4 * size_of::<usize>());
    assert!(size_of::<Message>() <= 2 * size_of::<usize>(), "a pulled one is a place in the chunk of its response");
}

#[test]
fn errors_are_errors_and_convert_into_the_one_of_the_crate() {
    is_error::<Error>();
    is_error::<AckError>();
    is_error::<SendError>();
    let error = Error::from(AckError::LeaseExpired);
    assert!(error.source().is_some_and(|cause| cause.is::<AckError>()), "the typed cause is there to be asked for");
}

#[test]
fn streams_are_fused_and_named() {
    is_stream::<SimpleConsumer, Result<Delivery>>();
    is_stream::<SendWith<Source, u8>, Result<(SendReceipt, u8)>>();
    is_stream::<Events, Event>();
    is_stream::<PullConsumer, Result<PullBatch>>();
    is_stream::<PulledMessages, Result<PulledMessage>>();
    is_stream::<QueueStreams, Result<QueueStream>>();
    is_stream::<QueueStream, Result<PullBatch>>();
    is_stream::<PullEvents, PullEvent>();
    is_stream::<Batches<PulledMessages>, Result<MessageBatch>>();
}

#[test]
fn sinks_have_one_item_and_the_error_of_the_crate() {
    is_sink::<AckSink, Receipt>();
    is_sink::<ProducerSink, OutboundMessage>();
}

#[test]
fn futures_are_named_and_live_by_themselves() {
    is_future::<Settled, Result<(), AckError>>();
    is_future::<LeaseLost, ()>();
}

/// The futures of every public `async fn` can be spawned; this only has to compile.
#[test]
fn async_functions_can_be_spawned() {
    fn send<F: Future + Send>(_: F) {}
    fn check(
        consumer: SimpleConsumerBuilder,
        producing: ProducerBuilder,
        producer: &Producer,
        control: &SimpleControl,
        receiver: &SimpleReceiver,
        health: &mut HealthWatch,
    ) {
        let limit = std::time::Duration::ZERO;
        send(consumer.clone().build());
        send(consumer.build_receiver());
        send(producing.build());
        send(producer.send(OutboundMessage::new("t", "b")));
        send(producer.flush());
        send(producer.shutdown(limit));
        send(control.subscribe("t", Filter::all()));
        send(control.shutdown(limit));
        send(receiver.receive(1, limit));
        send(receiver.shutdown(limit));
        send(health.changed());
        send(embedded::Broker::start());
    }
    let _: fn(SimpleConsumerBuilder, ProducerBuilder, &Producer, &SimpleControl, &SimpleReceiver, &mut HealthWatch) =
        check;
}

/// No inherent method shadows one of the extension traits: these resolve to `StreamExt`.
#[test]
fn extension_methods_are_not_shadowed() {
    use futures::StreamExt;
    fn check(consumer: SimpleConsumer) -> impl Stream<Item = Result<Delivery>> {
        consumer.take(1).filter(|_| std::future::ready(true)).skip(1).fuse()
    }
    let _: fn(SimpleConsumer) -> _ = check;
}
