//! One direction of a session: a ring of bytes in shared memory, with one producer and one consumer.
//!
//! | file | subject |
//! |---|---|
//! | `words` | the indexes: what is shared with the peer, and what an end keeps to itself |
//! | `window` | which part of the memory is in use, and how that part grows |
//! | `memory` | the bytes: raw copies, and nothing else |
//! | `producer`, `consumer` | the two ends |
//! | `stamp` | how long bytes lie in the ring, sampled |
//! | `exclusive` | an end together with its [lock](super::lock) |
//!
//! `head` (bytes ever written) and `tail` (bytes ever read) count up and never wrap in practice. Each
//! is on a cache line of its own. Each end works on private copies and looks at the other's index
//! only when its copy says that there is not enough.
//!
//! **The window.** A session of small messages should stay in the nearest cache and cost a page. So a
//! ring begins with a window of 4 KiB, and the producer doubles it, up to the capacity, when a write
//! does not fit. It does so at once and even if the reader does not read: a program may rely on a
//! socket to take some hundred KiB before anybody reads them (both sides write, then both read). With
//! nobody reading, a ring of capacity C takes at least C / 2. How bytes stay where they are meanwhile
//! is the story of `window`.
//!
//! **Order of shutdown.** The word that says that no more bytes will come is not here. Who finds the
//! ring empty and then that word set must look at the ring once more before it reports the end: bytes
//! were published before the word.
//!
//! **To wait for space** a writer publishes the tail that would give it a useful amount
//! ([`Producer::ask_space`]), and the reader looks after each read whether it has got there
//! ([`RingWords::space_is_awaited`]). Who sleeps, and how it is woken, is
//! [`waiter`](super::waiter)'s subject.
//!
//! **Trust.** Every value read from memory that somebody else may write is checked each time: the two
//! indexes must be no further apart than the window is large, and the window no larger than the
//! capacity. A bad one is [`Corrupt`]. Positions are masked by a window that was checked, so no value
//! leads outside the ring's memory. Bytes are copied through raw pointers; no reference to them is
//! ever made, because the peer may write them at any time.
//!
//! **Death of a holder.** An end may be in several processes (after `fork`), one of which dies in the
//! middle of a call. Private words are stored before shared ones, so the survivor finds in the private
//! words what had been completed, and publishes it again ([`Exclusive`]).

mod consumer;
#[cfg(not(loom))]
mod exclusive;
#[cfg_attr(loom, path = "memory/tracked.rs")]
mod memory;
mod producer;
mod stamp;
mod urgent;
mod window;
mod words;

#[cfg(all(test, loom))]
mod models;
#[cfg(all(test, not(loom)))]
mod tests;

pub use consumer::Consumer;
#[cfg(not(loom))]
pub use exclusive::Exclusive;
pub use memory::Memory;
#[cfg(not(loom))]
pub use memory::Span;
#[cfg(not(loom))]
pub use memory::populate;
pub use producer::Producer;
pub use window::FIRST_WINDOW;
pub use words::{ConsumerWords, ProducerWords, RingWords};

/// What a ring's words say cannot be: whoever can write them has, and the session is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Corrupt {
    /// The indexes are further apart than the ring is large.
    #[error("a ring of {window} bytes cannot hold those from {tail} to {head}")]
    Indexes {
        /// Bytes ever written.
        head: u64,
        /// Bytes ever read.
        tail: u64,
        /// Size of the window.
        window: u64,
    },
    /// The window is larger than the ring.
    #[error("a window of 2^{shift} bytes in a ring of {capacity}")]
    Window {
        /// Binary logarithm of its size.
        shift: u32,
        /// Size of the ring's memory.
        capacity: u64,
    },
    /// More bytes were committed or consumed than there are.
    #[error("{asked} bytes committed or consumed of {available}")]
    Overrun {
        /// How many.
        asked: usize,
        /// How many there were.
        available: usize,
    },
}

/// A ring: its words and its bytes.
#[derive(Clone, Copy, Debug)]
pub struct Ring<'a> {
    words: &'a RingWords,
    memory: Memory<'a>,
}

impl<'a> Ring<'a> {
    /// A ring of these words and this memory.
    pub const fn new(words: &'a RingWords, memory: Memory<'a>) -> Self {
        Self { words, memory }
    }

    /// The shared words.
    pub const fn words(&self) -> &'a RingWords {
        self.words
    }
}

/// After how many bytes of a large copy the index is published, so that the other end can begin. In a
/// ring of 64 KiB, writes of 64 KiB pass at 14 GB/s so, and at 10 if they are published as a whole.
const PUBLISH_EVERY: usize = 32 << 10;
