//! Frames of streamed answers.

use std::fmt;
use std::marker::PhantomData;

use bytes::{Buf, Bytes};
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder};
use tonic_prost::ProstEncoder;

/// Gives each frame as a slice of what arrived; a body becomes a slice of that, without a copy.
///
/// It does not decode them: one that does not decode is an item and not the end of the stream, which would take its
/// neighbours with it (trap R12).
pub(crate) struct FrameCodec<Q>(PhantomData<fn(Q)>);

impl<Q> FrameCodec<Q> {
    pub(crate) const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<Q> fmt::Debug for FrameCodec<Q> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FrameCodec")
    }
}

impl<Q: prost::Message + 'static> Codec for FrameCodec<Q> {
    type Encode = Q;
    type Decode = Bytes;
    type Encoder = ProstEncoder<Q>;
    type Decoder = Self;

    fn encoder(&mut self) -> Self::Encoder {
        // A request is some hundred bytes, and it may hold its buffer for a whole poll.
        ProstEncoder::new(BufferSettings::new(1 << 10, 32 << 10))
    }

    fn decoder(&mut self) -> Self::Decoder {
        Self::new()
    }
}

impl<Q> Decoder for FrameCodec<Q> {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, source: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(source.copy_to_bytes(source.remaining())))
    }
}
