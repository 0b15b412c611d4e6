//! What can be sent without a copy.

use bytes::Bytes;

use crate::reactor::Lent;

/// Bytes that a stream can own until they are sent, without copying them: made of [`Bytes`], vectors,
/// static data, or what was [received](Lent).
///
/// Few bytes are copied all the same, as that is cheaper, and lets them go together with others.
pub struct Payload(pub(in crate::net) Chunk);

impl From<Vec<u8>> for Payload {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Chunk::Vec(bytes))
    }
}

impl From<Bytes> for Payload {
    fn from(bytes: Bytes) -> Self {
        Self(Chunk::Bytes(bytes))
    }
}

impl From<&'static [u8]> for Payload {
    fn from(bytes: &'static [u8]) -> Self {
        Self(Chunk::Static(bytes))
    }
}

impl From<&'static str> for Payload {
    fn from(text: &'static str) -> Self {
        Self(Chunk::Static(text.as_bytes()))
    }
}

impl From<Lent> for Payload {
    fn from(bytes: Lent) -> Self {
        Self(Chunk::Lent(bytes))
    }
}

/// At most so many bytes are copied.
pub(super) const COPIED: usize = 1024;

/// Bytes on their way out.
pub(in crate::net) enum Chunk {
    /// Collected from writes; more may be added while it is not on its way.
    Collected(Vec<u8>),
    Vec(Vec<u8>),
    Bytes(Bytes),
    Static(&'static [u8]),
    Lent(Lent),
}

impl Chunk {
    #[inline]
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Collected(bytes) | Self::Vec(bytes) => bytes,
            Self::Bytes(bytes) => bytes,
            Self::Static(bytes) => bytes,
            Self::Lent(bytes) => bytes,
        }
    }
}
