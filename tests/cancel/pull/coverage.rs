//! Whether the futures of a test were truly dropped while they waited, and truly came to their end: a test whose futures
//! are all done at their first poll, or never, shows nothing.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::ops::Range;
use std::panic::Location;
use std::pin::Pin;

/// Where in the tests a future is polled.
type Place = &'static Location<'static>;

/// How often futures made at one place were dropped while they waited, and how often they were done.
#[derive(Debug, Default)]
struct Ends {
    waited: usize,
    done: usize,
}

thread_local! {
    /// A test has a thread of its own.
    static SEEN: RefCell<BTreeMap<(&'static str, u32, u32), Ends>> = RefCell::default();
}

fn note(place: Place, change: impl FnOnce(&mut Ends)) {
    let key = (place.file(), place.line(), place.column());
    SEEN.with_borrow_mut(|seen| change(seen.entry(key).or_default()));
}

/// As [`poll_times`](crate::poll_times), and counts how it ended for the place that called.
#[track_caller]
pub(super) fn poll_times<'a, F: Future>(
    future: Pin<&'a mut F>,
    times: usize,
) -> impl Future<Output = Option<F::Output>> + use<'a, F> {
    poll_times_at(Location::caller(), future, times)
}

/// The same, for a place further up.
pub(super) async fn poll_times_at<F: Future>(place: Place, future: Pin<&mut F>, times: usize) -> Option<F::Output> {
    let output = crate::poll_times(future, times).await;
    match &output {
        Some(_) => note(place, |ends| ends.done += 1),
        // One that was never polled was not interrupted.
        None => note(place, |ends| ends.waited += usize::from(times > 0)),
    }
    output
}

/// The numbers of polls that a test tries. After the last it looks whether at each place some futures were dropped while
/// they waited, and some were done.
pub(super) fn times(range: Range<usize>) -> Times {
    SEEN.with_borrow_mut(BTreeMap::clear);
    Times { range }
}

pub(super) struct Times {
    range: Range<usize>,
}

impl Iterator for Times {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let next = self.range.next();
        if next.is_none() {
            SEEN.with_borrow(|seen| {
                assert!(!seen.is_empty(), "nothing was polled");
                for ((file, line, _), ends) in seen {
                    assert!(ends.waited > 0 && ends.done > 0, "{file}:{line} shows little: {ends:?}");
                }
            });
        }
        next
    }
}
