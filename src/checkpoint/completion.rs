//! What users hold for what they have not finished.

use std::fmt;
use std::iter::FusedIterator;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::checkpoint::account::Account;
use crate::model::{MessageQueue, Offset, OffsetRange};

/// The duty to say that messages were processed, once.
///
/// [`complete`](Self::complete) it when their effects are safe. The position that is committed for a queue is the first
/// offset that is **not** completed: what was completed behind an open completion waits for it, in any order.
///
/// Dropping one while its stream is alive is a mistake of the program: it cannot be made good, and what is committed stops
/// there. It is reported as [`CheckpointEvent::Dropped`](crate::CheckpointEvent::Dropped), and once later messages of the
/// queue are completed, the stream ends with an error that names queue and offset. A pipeline that ends, and drops stream
/// and completions together, is nothing special: those messages are read again.
///
/// Completions work from any task or thread, and after the stream they came from was dropped.
///
/// One-to-many: [`split`](Self::split). Many-to-one: collect completions, also of several queues or consumers, into one.
#[must_use = "what is committed for its queue stops here until it is completed"]
pub struct Completion(Kind);

enum Kind {
    Pieces(Pieces),
    Joint(Box<Joint>),
}

enum Joint {
    Many(Vec<Completion>),
    Share(Share),
}

/// A row of pieces of one queue. `len` is 0 once they are settled.
pub(super) struct Pieces {
    account: Arc<Account>,
    first: u64,
    start: u64,
    len: u32,
    span: u32,
}

impl Completion {
    /// `range` is at most `u32::MAX` offsets wide, and `pieces` no longer.
    pub(super) fn new(account: Arc<Account>, pieces: &Range<u64>, range: &OffsetRange) -> Self {
        let (start, end) = (range.start.get(), range.end.get());
        let len = (pieces.end - pieces.start) as u32;
        Self(Kind::Pieces(Pieces { account, first: pieces.start, start, len, span: (end - start) as u32 }))
    }

    /// The messages were processed: what is committed may move past them.
    ///
    /// This only notes it, and neither blocks nor waits; the consumer saves positions at intervals, when a queue is given
    /// up, and when asked to flush. When the queue was given up meanwhile, it changes nothing, and
    /// [`CheckpointEvent::Late`](crate::CheckpointEvent::Late) reports it.
    pub fn complete(mut self) {
        self.complete_and_keep();
    }

    /// Splits it into `n` shares: it is completed when all of them are. With `n` = 0 it is completed at once.
    ///
    /// A share that is dropped counts as the whole dropped; so do those that are not taken from the iterator.
    pub fn split(self, n: usize) -> CompletionShares {
        if n == 0 {
            self.complete();
            return CompletionShares { whole: None, left: 0 };
        }
        let queue = self.queue().cloned();
        let range = self.range();
        let whole = Whole { queue, range, open: AtomicUsize::new(n), completion: Mutex::new(Some(self)) };
        CompletionShares { whole: Some(Arc::new(whole)), left: n }
    }

    /// The queue of the messages; `None` when they come from several, or there are none.
    #[must_use]
    pub fn queue(&self) -> Option<&MessageQueue> {
        match &self.0 {
            Kind::Pieces(pieces) => Some(pieces.account.queue()),
            Kind::Joint(joint) => joint.queue(),
        }
    }

    /// The offsets it stands for, from the first to before the last one's next; those of a merged completion may include
    /// some that belong to others. `None` when the messages come from several queues, or there are none.
    #[must_use]
    pub fn range(&self) -> Option<OffsetRange> {
        match &self.0 {
            Kind::Pieces(pieces) => Some(pieces.range()),
            Kind::Joint(joint) => joint.range(),
        }
    }

    /// Whether what it stands for may still be handed out by somebody who gathers: completing it counts; or, at most once,
    /// it is committed, so that nobody else reads it, and its queue was not set elsewhere.
    pub(crate) fn is_current(&self) -> bool {
        self.all(&|pieces| pieces.account.is_current(pieces.len == 0))
    }

    /// Whether all of its pieces are so.
    fn all(&self, are: &dyn Fn(&Pieces) -> bool) -> bool {
        match &self.0 {
            Kind::Pieces(pieces) => are(pieces),
            Kind::Joint(joint) => match &**joint {
                Joint::Many(parts) => parts.iter().all(|part| part.all(are)),
                Joint::Share(share) => {
                    let whole = share.0.as_ref().map(|whole| whole.completion());
                    whole.and_then(|whole| Some(whole.as_ref()?.all(are))).unwrap_or(true)
                }
            },
        }
    }

    /// Whether what it stands for was committed before it was handed out.
    pub(crate) fn is_settled(&self) -> bool {
        self.all(&|pieces| pieces.len == 0)
    }

    /// Whether its queue, or one of them, is being given up: what was handed out may finish, if it does so soon.
    pub(crate) fn is_revoking(&self) -> bool {
        !self.all(&|pieces| !pieces.account.is_revoking())
    }

    /// Whether both are of one queue, in one epoch. Only for what was handed out as it is: joined ones are beside none.
    pub(crate) fn is_beside(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Kind::Pieces(one), Kind::Pieces(other)) => one.account.is_of_queue_of(&other.account),
            _ => false,
        }
    }

    /// Nobody has seen what it stands for: it is for the next owner of the queue, of which nothing more is handed out here.
    /// Only for what was handed out last; `first` is the offset of its first message.
    pub(crate) fn give_back(self, first: Option<Offset>) {
        match self.0 {
            Kind::Pieces(mut pieces) => pieces.give_back(first),
            // Some of it may have been seen: then it is for the next owner too.
            Kind::Joint(joint) => match *joint {
                Joint::Many(parts) => parts.into_iter().for_each(|part| part.give_back(None)),
                Joint::Share(mut share) => {
                    if let Some(whole) = share.0.take().and_then(|whole| whole.take()) {
                        whole.give_back(None);
                    }
                }
            },
        }
    }

    /// Completes it, and keeps it for what it says.
    pub(super) fn complete_and_keep(&mut self) {
        match &mut self.0 {
            Kind::Pieces(pieces) => pieces.complete(),
            Kind::Joint(joint) => match &mut **joint {
                Joint::Many(parts) => parts.iter_mut().for_each(Self::complete_and_keep),
                Joint::Share(share) => share.complete(),
            },
        }
    }

    /// Takes the first `pieces` off, which end before `boundary`.
    pub(crate) fn take_first(&mut self, pieces: u32, boundary: Offset) -> Self {
        match &mut self.0 {
            Kind::Pieces(whole) => Self(Kind::Pieces(whole.take_first(pieces, boundary))),
            // Its pieces lie elsewhere: both halves together complete it.
            Kind::Joint(_) => {
                let whole = std::mem::replace(self, Self::from_parts(Vec::new()));
                let mut shares = whole.split(2);
                let first = shares.next();
                *self = shares.collect();
                first.into_iter().collect()
            }
        }
    }

    fn from_parts(mut parts: Vec<Self>) -> Self {
        match parts.pop() {
            Some(only) if parts.is_empty() => only,
            last => {
                parts.extend(last);
                Self(Kind::Joint(Box::new(Joint::Many(parts))))
            }
        }
    }

    /// Adds it to `parts`, as one with the last of them if it follows on it.
    fn append_to(self, parts: &mut Vec<Self>) {
        match self.0 {
            Kind::Joint(joint) => match *joint {
                Joint::Many(many) => many.into_iter().for_each(|part| part.append_to(parts)),
                share @ Joint::Share(_) => parts.push(Self(Kind::Joint(Box::new(share)))),
            },
            Kind::Pieces(pieces) => match parts.last_mut() {
                Some(Self(Kind::Pieces(last))) => {
                    if let Some(apart) = last.join(pieces) {
                        parts.push(Self(Kind::Pieces(apart)));
                    }
                }
                _ => parts.push(Self(Kind::Pieces(pieces))),
            },
        }
    }
}

/// Many to one: it stands for all of them, and completing it completes each.
impl FromIterator<Self> for Completion {
    fn from_iter<I: IntoIterator<Item = Self>>(completions: I) -> Self {
        let mut parts = Vec::new();
        completions.into_iter().for_each(|part| part.append_to(&mut parts));
        Self::from_parts(parts)
    }
}

impl fmt::Debug for Completion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Completion");
        match (self.queue(), self.range()) {
            (Some(queue), Some(range)) => {
                debug.field("queue", &format_args!("{queue}"));
                debug.field("range", &format_args!("{}..{}", range.start, range.end));
            }
            _ => _ = debug.field("queue", &"several"),
        }
        debug.finish()
    }
}

impl Joint {
    fn queue(&self) -> Option<&MessageQueue> {
        match self {
            Self::Share(share) => share.0.as_ref()?.queue.as_ref(),
            Self::Many(parts) => {
                let (first, rest) = parts.split_first()?;
                let queue = first.queue()?;
                rest.iter().all(|part| part.queue() == Some(queue)).then_some(queue)
            }
        }
    }

    fn range(&self) -> Option<OffsetRange> {
        match self {
            Self::Share(share) => share.0.as_ref()?.range.clone(),
            Self::Many(parts) => {
                self.queue()?;
                let ranges = parts.iter().filter_map(Completion::range);
                ranges.reduce(|all, range| all.start.min(range.start)..all.end.max(range.end))
            }
        }
    }
}

impl Pieces {
    fn range(&self) -> OffsetRange {
        Offset::new(self.start)..Offset::new(self.start + u64::from(self.span))
    }

    /// The numbers it still stands for; it stands for none afterwards.
    fn settle(&mut self) -> Range<u64> {
        let end = self.first + u64::from(self.len);
        let pieces = self.first..end;
        self.len = 0;
        pieces
    }

    fn complete(&mut self) {
        let pieces = self.settle();
        if !pieces.is_empty() {
            self.account.complete(pieces, &self.range());
        }
    }

    fn give_back(&mut self, first: Option<Offset>) {
        let pieces = self.settle();
        if !pieces.is_empty() {
            self.account.give_back(pieces.start, first);
        }
    }

    fn take_first(&mut self, pieces: u32, boundary: Offset) -> Self {
        let len = pieces.min(self.len);
        let span = boundary.get().saturating_sub(self.start).min(u64::from(self.span)) as u32;
        let first = Self { account: Arc::clone(&self.account), first: self.first, start: self.start, len, span };
        self.first += u64::from(len);
        self.len -= len;
        self.start += u64::from(span);
        self.span -= span;
        first
    }

    /// Takes what follows on it; gives back what does not, or is too much for one.
    fn join(&mut self, mut next: Self) -> Option<Self> {
        let follows = self.first + u64::from(self.len) == next.first && self.range().end == next.range().start;
        if !follows || !Arc::ptr_eq(&self.account, &next.account) {
            return Some(next);
        }
        let Some((len, span)) = self.len.checked_add(next.len).zip(self.span.checked_add(next.span)) else {
            return Some(next);
        };
        (self.len, self.span) = (len, span);
        next.settle();
        None
    }
}

impl Drop for Pieces {
    fn drop(&mut self) {
        let pieces = self.settle();
        if !pieces.is_empty() {
            self.account.dropped(pieces, &self.range());
        }
    }
}

/// What several shares complete together.
struct Whole {
    queue: Option<MessageQueue>,
    range: Option<OffsetRange>,
    /// Shares that are not completed.
    open: AtomicUsize,
    /// `None` when it is completed, or a share was dropped.
    completion: Mutex<Option<Completion>>,
}

impl Whole {
    fn completion(&self) -> MutexGuard<'_, Option<Completion>> {
        self.completion.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Option<Completion> {
        self.completion().take()
    }
}

/// Holds `None` once it is completed.
struct Share(Option<Arc<Whole>>);

impl Share {
    fn complete(&mut self) {
        if let Some(whole) = self.0.take()
            && whole.open.fetch_sub(1, Ordering::AcqRel) == 1
            && let Some(completion) = whole.take()
        {
            completion.complete();
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        drop(self.0.take().and_then(|whole| whole.take()));
    }
}

/// The shares of a [`Completion`]; made by [`Completion::split`].
#[must_use = "shares that are not taken count as dropped"]
pub struct CompletionShares {
    /// `None` when all are taken.
    whole: Option<Arc<Whole>>,
    left: usize,
}

impl Iterator for CompletionShares {
    type Item = Completion;

    fn next(&mut self) -> Option<Completion> {
        let whole = self.whole.as_ref().map(Arc::clone)?;
        self.left -= 1;
        if self.left == 0 {
            self.whole = None;
        }
        Some(Completion(Kind::Joint(Box::new(Joint::Share(Share(Some(whole)))))))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for CompletionShares {}
impl FusedIterator for CompletionShares {}

impl Drop for CompletionShares {
    fn drop(&mut self) {
        drop(self.whole.take().and_then(|whole| whole.take()));
    }
}

impl fmt::Debug for CompletionShares {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CompletionShares").field("left", &self.left).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
