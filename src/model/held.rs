//! How the server names a message that is held under a lease.

use std::fmt;

use bytes::Bytes;

/// A place in a frame, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Place {
    start: u32,
    end: u32,
}

impl Place {
    /// `None` when a frame cannot be that long.
    pub(crate) fn new(start: usize, end: usize) -> Option<Self> {
        Some(Self {
            start: u32::try_from(start).ok()?,
            end: u32::try_from(end).ok().filter(|end| *end as usize >= start)?,
        })
    }

    pub(crate) fn of(self, frame: &[u8]) -> &[u8] {
        frame.get(self.start as usize..self.end as usize).unwrap_or_default()
    }

    pub(crate) fn is_empty(self) -> bool {
        self.start == self.end
    }

    pub(crate) fn range(self) -> std::ops::Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// A receipt may outlive its message by hours, and must not keep a large body in memory: of a frame longer than this, the
/// two names are copied.
const SHARED_FRAME: usize = 4 << 10;

/// A message held under a lease: its id and its receipt handle, in one buffer. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Held {
    names: Bytes,
    message_id: Place,
    handle: Place,
}

impl Held {
    pub(crate) fn new(message_id: &str, handle: &str) -> Self {
        let (middle, end) = (message_id.len(), message_id.len() + handle.len());
        let spans = Place::new(0, middle).zip(Place::new(middle, end));
        // No frame brings names of 4 GiB.
        let Some((id_span, handle_span)) = spans else { return Self::new("", "") };
        Self { names: [message_id, handle].concat().into(), message_id: id_span, handle: handle_span }
    }

    /// The names as they lie in the frame that brought the message; both must be UTF-8.
    pub(crate) fn within(frame: &Bytes, message_id: Place, handle: Place) -> Self {
        let held = Self { names: frame.clone(), message_id, handle };
        if frame.len() <= SHARED_FRAME { held } else { Self::new(held.message_id(), held.handle()) }
    }

    pub(crate) fn message_id(&self) -> &str {
        text(self.message_id_bytes())
    }

    pub(crate) fn handle(&self) -> &str {
        text(self.handle_bytes())
    }

    pub(crate) fn message_id_bytes(&self) -> &[u8] {
        self.message_id.of(&self.names)
    }

    pub(crate) fn handle_bytes(&self) -> &[u8] {
        self.handle.of(&self.names)
    }

    /// The same message by its new handle.
    pub(crate) fn renewed(&self, handle: &str) -> Self {
        Self::new(self.message_id(), handle)
    }
}

/// It was UTF-8 when it was taken in.
fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

impl PartialEq for Held {
    fn eq(&self, other: &Self) -> bool {
        self.message_id_bytes() == other.message_id_bytes() && self.handle_bytes() == other.handle_bytes()
    }
}

impl Eq for Held {}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").field("message_id", &self.message_id()).field("handle", &self.handle()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn within(frame: &Bytes) -> Held {
        Held::within(frame, Place::new(1, 3).unwrap(), Place::new(4, 7).unwrap())
    }

    #[test]
    fn the_names_lie_where_they_arrived() {
        let frame = Bytes::from_static(b".id.abc.");
        let held = within(&frame);
        assert_eq!((held.message_id(), held.handle()), ("id", "abc"));
        assert_eq!(held.handle_bytes().as_ptr(), frame[4..].as_ptr(), "shared");
        assert_eq!(held, Held::new("id", "abc"));
        assert_ne!(held, Held::new("id", "abd"));
        assert_ne!(held, Held::new("ie", "abc"));
        let renewed = held.renewed("newer");
        assert_eq!((renewed.message_id(), renewed.handle()), ("id", "newer"));
    }

    #[test]
    fn a_receipt_does_not_keep_a_large_body_in_memory() {
        let frame = Bytes::from([b".id.abc.".as_slice(), &vec![0; SHARED_FRAME]].concat());
        let held = within(&frame);
        assert_eq!((held.message_id(), held.handle()), ("id", "abc"));
        assert!(frame.is_unique(), "nothing else holds the frame");
    }

    #[test]
    fn places_outside_a_frame_are_empty() {
        assert_eq!(Place::new(3, 2), None);
        assert_eq!(Place::new(3, 9).unwrap().of(b"short"), b"");
        assert!(Place::new(3, 3).unwrap().is_empty() && !Place::new(3, 4).unwrap().is_empty());
    }
}
