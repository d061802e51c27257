//! Who waits for the answers to all messages accepted so far.

use crate::error::Error;

/// Flushes under way. `W` is what is told when one is over.
#[derive(Debug)]
pub(crate) struct Flushes<W>(Vec<Flush<W>>);

#[derive(Debug)]
struct Flush<W> {
    waiter: W,
    /// It waits for messages before this position in the order of acceptance.
    before: u64,
    /// How many of them are not answered. Never 0.
    unanswered: usize,
    first_error: Option<Error>,
}

/// A flush that is over, and what went wrong first.
pub(crate) type Over<W> = (W, Result<(), Error>);

impl<W> Flushes<W> {
    pub(crate) fn new() -> Self {
        Self(Vec::new())
    }

    /// No flush is under way: then nobody needs a copy of an error.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Starts to wait for the `unanswered` messages before position `before`.
    pub(crate) fn start(&mut self, waiter: W, before: u64, unanswered: usize) -> Option<Over<W>> {
        if unanswered == 0 {
            return Some((waiter, Ok(())));
        }
        self.0.push(Flush { waiter, before, unanswered, first_error: None });
        None
    }

    /// The message at a position was answered. `error` makes a copy of what went wrong, if something did.
    pub(crate) fn on_answer(&mut self, sequence: u64, error: impl Fn() -> Option<Error>) -> Vec<Over<W>> {
        for flush in self.0.iter_mut().filter(|flush| sequence < flush.before) {
            flush.unanswered -= 1;
            if flush.first_error.is_none() {
                flush.first_error = error();
            }
        }
        let over = self.0.extract_if(.., |flush| flush.unanswered == 0);
        over.map(|flush| (flush.waiter, flush.first_error.map_or(Ok(()), Err))).collect()
    }

    /// Those that will not see their answers.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = W> {
        self.0.drain(..).map(|flush| flush.waiter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn none() -> Option<Error> {
        None
    }

    fn told(over: &[Over<u8>]) -> Vec<(u8, Option<String>)> {
        over.iter().map(|(waiter, result)| (*waiter, result.as_ref().err().map(ToString::to_string))).collect()
    }

    #[test]
    fn with_nothing_unanswered_a_flush_is_over_at_once() {
        let mut flushes = Flushes::new();
        assert_eq!(told(&Vec::from_iter(flushes.start(1, 7, 0))), [(1, None)]);
        assert!(flushes.is_empty());
    }

    #[test]
    fn s4_a_flush_waits_for_what_was_accepted_before_it_and_for_nothing_else() {
        let mut flushes = Flushes::new();
        assert!(flushes.start(1, 2, 2).is_none());
        assert!(flushes.start(2, 3, 3).is_none());
        assert!(told(&flushes.on_answer(3, none)).is_empty(), "accepted later");
        assert!(told(&flushes.on_answer(1, none)).is_empty());
        assert_eq!(told(&flushes.on_answer(0, none)), [(1, None)]);
        assert!(!flushes.is_empty());
        assert!(told(&flushes.on_answer(3, none)).is_empty(), "the first that was accepted later");
        assert_eq!(told(&flushes.on_answer(2, none)), [(2, None)]);
        assert!(flushes.is_empty());
    }

    #[test]
    fn a_flush_tells_the_first_error_of_its_messages() {
        let mut flushes = Flushes::new();
        flushes.start(1, 3, 3);
        let error = |text: &'static str| move || Some(Error::new(ErrorKind::Server, text));
        flushes.on_answer(9, error("later message"));
        flushes.on_answer(2, error("first"));
        flushes.on_answer(0, error("second"));
        assert_eq!(told(&flushes.on_answer(1, none)), [(1, Some("first".into()))]);
    }

    #[test]
    fn those_that_cannot_end_are_given_back() {
        let mut flushes = Flushes::new();
        flushes.start(1, 1, 1);
        assert_eq!(flushes.drain().collect::<Vec<_>>(), [1]);
        assert!(flushes.is_empty());
    }
}
