//! What is handed out: messages, and the duty to say that they were processed.

use std::fmt;
use std::iter::FusedIterator;

use crate::checkpoint::Completion;
use crate::model::{Epoch, Message, MessageQueue, Offset, OffsetRange};

/// Messages of one queue, in order, and the contiguous range of offsets that they stand for.
///
/// The ranges of a queue follow each other without a gap and without an overlap, also where the broker filtered messages
/// away or they expired: then the range is longer than the messages are many. [`Message::queue_offset`] is each message's own.
///
/// [`complete`](Self::complete) it once its effects are safe. Dropping it unsettled stops what is committed for its queue;
/// see [`Completion`].
#[must_use = "what is committed for its queue stops here until it is completed"]
pub struct PullBatch {
    queue: MessageQueue,
    messages: Vec<Message>,
    range: OffsetRange,
    epoch: Epoch,
    completion: Completion,
}

impl PullBatch {
    pub(crate) fn new(
        queue: MessageQueue,
        messages: Vec<Message>,
        range: OffsetRange,
        epoch: Epoch,
        completion: Completion,
    ) -> Self {
        Self { queue, messages, range, epoch, completion }
    }

    /// The queue.
    #[must_use]
    pub fn queue(&self) -> &MessageQueue {
        &self.queue
    }

    /// The messages, at least one, in the order of their offsets.
    #[must_use]
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// How many messages there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Whether there is none; only a half of [`split_at`](Self::split_at) can be empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// From the end of the batch before to the next offset: what is committed once this and all before is completed.
    #[must_use]
    pub fn range(&self) -> OffsetRange {
        self.range.clone()
    }

    /// The first offset after this batch.
    #[must_use]
    pub fn next_offset(&self) -> Offset {
        self.range.end
    }

    /// How often the queue had begun when this was read: at a start, at each seek and reset, and when it was gained anew.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The batch was processed; see [`Completion::complete`].
    pub fn complete(self) {
        self.completion.complete();
    }

    /// The messages, and the completion that stands for all of them.
    pub fn into_parts(self) -> (Vec<Message>, Completion) {
        (self.messages, self.completion)
    }

    /// The completion alone, for a sink.
    pub fn into_completion(self) -> Completion {
        self.completion
    }

    /// The first `mid` messages and the rest, each with the part of the range and of the duty that is theirs. One half is
    /// empty when `mid` is 0, or not less than the number of messages; its completion changes nothing.
    pub fn split_at(mut self, mid: usize) -> (Self, Self) {
        let mid = mid.min(self.messages.len());
        let boundary = match self.messages.get(mid).and_then(Message::queue_offset) {
            _ if mid == 0 => self.range.start,
            Some(offset) => offset,
            None => self.range.end,
        };
        let rest = self.messages.split_off(mid);
        let first = self.completion.take_first(u32::try_from(mid).unwrap_or(u32::MAX), boundary);
        let Self { queue, messages, range, epoch, completion } = self;
        let head = Self::new(queue.clone(), messages, range.start..boundary, epoch, first);
        (head, Self::new(queue, rest, boundary..range.end, epoch, completion))
    }

    /// The messages one by one, each with a completion of its own.
    pub fn into_messages(self) -> BatchMessages {
        BatchMessages { queue: self.queue, messages: self.messages.into_iter(), completion: self.completion }
    }
}

impl fmt::Debug for PullBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PullBatch")
            .field("queue", &format_args!("{}", self.queue))
            .field("range", &format_args!("{}..{}", self.range.start, self.range.end))
            .field("messages", &self.messages.len())
            .field("epoch", &self.epoch.get())
            .finish_non_exhaustive()
    }
}

impl IntoIterator for PullBatch {
    type Item = PulledMessage;
    type IntoIter = BatchMessages;

    fn into_iter(self) -> BatchMessages {
        self.into_messages()
    }
}

/// The messages of a [`PullBatch`], one by one. Those that are not taken count as dropped.
#[must_use = "what is not taken counts as dropped"]
pub struct BatchMessages {
    queue: MessageQueue,
    messages: std::vec::IntoIter<Message>,
    completion: Completion,
}

impl BatchMessages {
    pub(crate) const fn queue(&self) -> &MessageQueue {
        &self.queue
    }

    /// The offset of the first message that was not taken.
    pub(crate) fn next_offset(&self) -> Option<Offset> {
        self.messages.as_slice().first()?.queue_offset()
    }

    /// Whether what is left may still be handed out: its queue was not set elsewhere, and is not being given up. At most once
    /// nobody else reads it, so then also of a queue that was given up.
    pub(crate) fn may_be_handed_out(&self) -> bool {
        self.completion.is_current() && (self.completion.is_settled() || !self.completion.is_revoking())
    }

    /// Whether it was committed before it was handed out: at most once.
    pub(crate) fn is_settled(&self) -> bool {
        self.completion.is_settled()
    }

    /// What is left is for the next owner of the queue.
    pub(crate) fn give_back(self) {
        let next = self.next_offset();
        self.completion.give_back(next);
    }
}

impl Iterator for BatchMessages {
    type Item = PulledMessage;

    fn next(&mut self) -> Option<PulledMessage> {
        let message = self.messages.next()?;
        let boundary = message.queue_offset().map_or(Offset::new(u64::MAX), |offset| Offset::new(offset.get() + 1));
        Some(PulledMessage { message, completion: self.completion.take_first(1, boundary) })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.messages.size_hint()
    }
}

impl ExactSizeIterator for BatchMessages {}
impl FusedIterator for BatchMessages {}

impl fmt::Debug for BatchMessages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchMessages").field("left", &self.messages.len()).finish_non_exhaustive()
    }
}

/// A message that was pulled, and the duty to say that it was processed.
#[derive(Debug)]
#[must_use = "what is committed for its queue stops here until it is completed"]
pub struct PulledMessage {
    message: Message,
    completion: Completion,
}

impl PulledMessage {
    /// The message.
    #[must_use]
    pub fn message(&self) -> &Message {
        &self.message
    }

    /// Message and completion apart.
    pub fn into_parts(self) -> (Message, Completion) {
        (self.message, self.completion)
    }

    /// Whether somebody who has gathered it should still hand it out.
    pub(crate) fn is_current(&self) -> bool {
        self.completion.is_current()
    }

    /// As [`Completion::is_revoking`].
    pub(crate) fn is_revoking(&self) -> bool {
        self.completion.is_revoking()
    }

    /// As [`Completion::is_beside`].
    pub(crate) fn is_beside(&self, other: &Self) -> bool {
        self.completion.is_beside(&other.completion)
    }

    /// The message was processed; see [`Completion::complete`].
    pub fn complete(self) {
        self.completion.complete();
    }

    /// The completion alone, for a sink.
    pub fn into_completion(self) -> Completion {
        self.completion
    }
}
