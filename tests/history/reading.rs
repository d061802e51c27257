//! The forms of the stream, read in one way.

use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::prelude::*;
use rocketmq_stream::{
    Batches, Checkpoint, Completion, Message, MessageBatch, MessageQueue, PullBatch, PullConsumer, PullStreamExt,
    PulledMessage, PulledMessages, QueueStream, QueueStreams, Result,
};

use crate::plan::Form;

/// How long messages are gathered.
const LINGER: Duration = Duration::from_millis(300);

pub(crate) enum Reading {
    Batches(PullConsumer),
    Messages(PulledMessages),
    Gathered(Batches<PulledMessages>),
    Queues { streams: QueueStreams, open: Vec<QueueStream>, turn: usize },
}

/// What was handed out: of one queue, but when it was gathered.
pub(crate) struct Item {
    pub(crate) parts: Vec<Part>,
    pub(crate) completion: Completion,
}

pub(crate) struct Part {
    pub(crate) queue: MessageQueue,
    pub(crate) epoch: Option<u64>,
    pub(crate) range: Range<u64>,
    /// Offsets and values.
    pub(crate) messages: Vec<(u64, u64)>,
    pub(crate) gathered: bool,
}

impl Reading {
    pub(crate) fn new(consumer: PullConsumer, form: Form) -> Self {
        match form {
            Form::Batches => Self::Batches(consumer),
            Form::Messages => Self::Messages(consumer.per_message()),
            Form::Gathered(count) => Self::Gathered(consumer.per_message().batches(count, LINGER)),
            Form::Queues => Self::Queues { streams: consumer.per_queue(), open: Vec::new(), turn: 0 },
        }
    }

    /// For each queue what is handed out next, where that can be asked.
    pub(crate) fn position(&self) -> Checkpoint {
        match self {
            Self::Batches(consumer) => consumer.position(),
            Self::Messages(messages) => messages.position(),
            Self::Gathered(_) => Checkpoint::new(),
            Self::Queues { open, .. } => {
                open.iter().map(|stream| (stream.queue().clone(), stream.position())).collect()
            }
        }
    }

    /// Drops the stream of a queue. `None`: there is none.
    pub(crate) fn give_back(&mut self, number: usize) -> Option<MessageQueue> {
        let Self::Queues { open, .. } = self else { return None };
        let at = number.checked_rem(open.len())?;
        Some(open.swap_remove(at).queue().clone())
    }
}

impl Stream for Reading {
    type Item = Result<Item>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match self.get_mut() {
            Self::Batches(consumer) => consumer.poll_next_unpin(cx).map(|item| item.map(|item| item.map(of_batch))),
            Self::Messages(messages) => messages.poll_next_unpin(cx).map(|item| item.map(|item| item.map(of_message))),
            Self::Gathered(batches) => batches.poll_next_unpin(cx).map(|item| item.map(|item| item.map(of_gathered))),
            Self::Queues { streams, open, turn } => poll_queues(streams, open, turn, cx),
        }
    }
}

fn poll_queues(
    streams: &mut QueueStreams,
    open: &mut Vec<QueueStream>,
    turn: &mut usize,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Item>>> {
    let is_over = loop {
        match streams.poll_next_unpin(cx) {
            Poll::Ready(Some(Ok(stream))) => open.push(stream),
            Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
            Poll::Ready(None) => break true,
            Poll::Pending => break false,
        }
    };
    *turn = turn.wrapping_add(1);
    let mut left = open.len();
    while left > 0 {
        let at = (*turn + left) % open.len();
        match open[at].poll_next_unpin(cx) {
            Poll::Ready(Some(item)) => return Poll::Ready(Some(item.map(of_batch))),
            Poll::Ready(None) => drop(open.swap_remove(at)),
            Poll::Pending => {}
        }
        left -= 1;
    }
    if is_over && open.is_empty() { Poll::Ready(None) } else { Poll::Pending }
}

fn of_batch(batch: PullBatch) -> Item {
    let (queue, epoch, range) = (batch.queue().clone(), batch.epoch().get(), batch.range());
    let messages = batch.messages().iter().map(offset_and_value).collect();
    let range = range.start.get()..range.end.get();
    let part = Part { queue, epoch: Some(epoch), range, messages, gathered: false };
    Item { parts: vec![part], completion: batch.into_completion() }
}

fn of_message(message: PulledMessage) -> Item {
    let messages = vec![offset_and_value(message.message())];
    let completion = message.into_completion();
    let range = completion.range().unwrap();
    let queue = completion.queue().unwrap().clone();
    let range = range.start.get()..range.end.get();
    Item { parts: vec![Part { queue, epoch: None, range, messages, gathered: false }], completion }
}

/// Each row of messages of one queue is a part.
fn of_gathered(batch: MessageBatch) -> Item {
    let (messages, completion) = batch.into_parts();
    let rows = messages.chunk_by(|one, next| queue_of(one) == queue_of(next));
    let parts = rows.map(|row| {
        let messages: Vec<_> = row.iter().map(offset_and_value).collect();
        let range = messages[0].0..messages[messages.len() - 1].0 + 1;
        Part { queue: queue_of(&row[0]), epoch: None, range, messages, gathered: true }
    });
    Item { parts: parts.collect(), completion }
}

fn queue_of(message: &Message) -> MessageQueue {
    MessageQueue::new(message.topic(), message.broker().unwrap(), message.queue_id().unsigned_abs())
}

fn offset_and_value(message: &Message) -> (u64, u64) {
    let value = std::str::from_utf8(message.body()).unwrap().parse().unwrap();
    (message.queue_offset().unwrap().get(), value)
}
