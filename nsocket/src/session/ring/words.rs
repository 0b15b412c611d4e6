//! The words of a ring. All zero is an empty ring with the first window.

#[cfg(not(loom))]
use std::ptr::NonNull;

use crate::session::lock::LockWords;
use crate::sync::{AtomicU64, Ordering};

/// What both ends see: 384 bytes. Processors fetch cache lines in pairs, so each party's words are
/// 128 bytes apart from the other's.
#[derive(Debug, Default)]
#[repr(C)]
pub struct RingWords {
    pub(super) published: Published,
    pub(super) consumed: Consumed,
    pub(super) wanted: Wanted,
}

/// Written by the producer.
#[derive(Debug, Default)]
#[repr(C, align(128))]
pub(super) struct Published {
    pub(super) head: AtomicU64,
    /// A [`Window`](super::window::Window); valid for all unread bytes up to a head that was loaded
    /// before.
    pub(super) window: AtomicU64,
    /// See `stamp`: a head, and when it was published.
    pub(super) stamped: AtomicU64,
    pub(super) stamp_time: AtomicU64,
}

/// Written by the consumer.
#[derive(Debug, Default)]
#[repr(C, align(128))]
pub(super) struct Consumed {
    pub(super) tail: AtomicU64,
}

/// Written by the producer, but rarely: it must not share a line with what changes at every write,
/// because the consumer reads it at every read.
#[derive(Debug, Default)]
#[repr(C, align(128))]
pub(super) struct Wanted {
    /// The tail that a writer waits for; 0 if none has ever waited.
    at: AtomicU64,
    /// Where the urgent byte is (send(2), `MSG_OOB`), plus one; 0 if there was none. Written before the
    /// byte is published.
    pub(super) urgent: AtomicU64,
}

/// What the processes that share the producing end keep there: 128 bytes.
///
/// Best in memory that the peer does not map. Where it does, it can stall or confuse this end only as
/// far as it could by the ring's own words, except for the lock: see [`LockWords`].
#[derive(Debug, Default)]
#[repr(C, align(128))]
pub struct ProducerWords {
    pub(super) lock: LockWords,
    pub(super) head: AtomicU64,
    /// The tail when it was last looked at.
    pub(super) tail: AtomicU64,
    pub(super) window: AtomicU64,
    /// The head when the window was changed last. Until the tail gets there, only memory that was in
    /// no window before may be written.
    pub(super) base: AtomicU64,
    /// Publications until the next one that is stamped.
    pub(super) unstamped: AtomicU64,
}

/// What the processes that share the consuming end keep there: 128 bytes. See [`ProducerWords`].
#[derive(Debug, Default)]
#[repr(C, align(128))]
pub struct ConsumerWords {
    pub(super) lock: LockWords,
    pub(super) tail: AtomicU64,
    /// The head when it was last looked at, and the window as it was then.
    pub(super) head: AtomicU64,
    pub(super) window: AtomicU64,
    /// The stamped head as it was then.
    pub(super) stamped: AtomicU64,
    /// How long the last stamped byte that was read has waited, in nanoseconds, until that is taken.
    pub(super) waited: AtomicU64,
    /// The last urgent mark that reading has gone beyond, and the last whose byte was taken out of band.
    pub(super) passed: AtomicU64,
    pub(super) taken: AtomicU64,
}

#[cfg(not(loom))]
const _: () = {
    assert!(size_of::<RingWords>() == 384 && align_of::<RingWords>() == 128);
    assert!(size_of::<ProducerWords>() == 128 && size_of::<ConsumerWords>() == 128);
};

impl RingWords {
    /// Whether a writer waits for space, and the reader has got far enough for it. To be asked by the
    /// reader after it has published its tail and made a full barrier.
    ///
    /// Stays true after the writer has got what it wanted, until it waits again: what it costs is a
    /// look at the writer's sleep word.
    #[inline]
    pub fn space_is_awaited(&self) -> bool {
        let at = self.wanted.at.load(Ordering::Relaxed);
        at != 0 && self.tail_has_reached(at)
    }

    /// Whether the reader has got there: what a writer looks at last before it sleeps, and first when
    /// it is woken, with the value from [`Producer::ask_space`](super::Producer::ask_space).
    ///
    /// The two words are not checked here. The peer decides anyway when it reads.
    #[inline]
    pub fn tail_has_reached(&self, at: u64) -> bool {
        self.consumed.tail.load(Ordering::Acquire) >= at
    }

    /// Whether there are bytes behind `tail`, without touching the consumer's own words: what a reader
    /// looks at last before it sleeps, with [`Consumer::position`](super::Consumer::position).
    #[inline]
    pub fn head_is_beyond(&self, tail: u64) -> bool {
        self.published.head.load(Ordering::Acquire) != tail
    }

    /// Whether there ever was an urgent byte.
    #[inline]
    pub fn has_had_urgent(&self) -> bool {
        self.wanted.urgent.load(Ordering::Relaxed) != 0
    }

    /// Asks to be told when the tail is at `at`. Of several writers that wait, the one that needs
    /// least decides: the others look, and ask again.
    pub(super) fn want_tail_at(&self, at: u64, tail: u64) {
        let asked = self.wanted.at.load(Ordering::Relaxed);
        if asked <= tail || at < asked {
            self.wanted.at.store(at, Ordering::Relaxed);
        }
    }
}

impl ProducerWords {
    /// Takes over what is said elsewhere, but for the lock. By who holds the lock there.
    pub fn copy_from(&self, other: &Self) {
        for (to, from) in [
            (&self.head, &other.head),
            (&self.tail, &other.tail),
            (&self.window, &other.window),
            (&self.base, &other.base),
            (&self.unstamped, &other.unstamped),
        ] {
            to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    /// How many bytes have ever been written.
    pub fn position(&self) -> u64 {
        self.head.load(Ordering::Relaxed)
    }
}

impl ConsumerWords {
    /// Takes over what is said elsewhere, but for the lock. By who holds the lock there.
    pub fn copy_from(&self, other: &Self) {
        for (to, from) in [
            (&self.tail, &other.tail),
            (&self.head, &other.head),
            (&self.window, &other.window),
            (&self.stamped, &other.stamped),
            (&self.waited, &other.waited),
            (&self.passed, &other.passed),
            (&self.taken, &other.taken),
        ] {
            to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    /// How many bytes have ever been read.
    pub fn position(&self) -> u64 {
        self.tail.load(Ordering::Relaxed)
    }
}

#[cfg(not(loom))]
macro_rules! in_shared_memory {
    ($($words:ty),*) => {$(
        impl $words {
            /// The words at this address.
            ///
            /// # Safety
            ///
            /// There must be as many bytes as the type is large, aligned as the type is, mapped
            /// readable and writable for all of `'a`, and accessed by atomic operations only.
            #[inline]
            pub const unsafe fn at<'a>(address: NonNull<u8>) -> &'a Self {
                // SAFETY: passed on to the caller; the type is made of atomics, for which every bit
                // pattern is valid and which others may change at any time.
                unsafe { address.cast::<Self>().as_ref() }
            }
        }
    )*};
}

#[cfg(not(loom))]
in_shared_memory!(RingWords, ProducerWords, ConsumerWords);
