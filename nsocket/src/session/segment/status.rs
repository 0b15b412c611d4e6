//! How far one end of a session has come, in one word: what it alone writes and the other reads.
//!
//! The word holds the generation of the segment's use in its upper 24 bits, below it the reason of a
//! reset (4 bits; without a reset: whether the end is deaf) and four flags. A thread that comes late,
//! after its session has ended and the segment has been put to another use, finds another generation
//! there and changes nothing.

use crate::sync::{AtomicU32, Ordering};

use super::Generation;

const ANSWERED: u32 = 1;
const FINISHED: u32 = 2;
const RESET: u32 = 4;
const CLOSED: u32 = 8;
const REASON_SHIFT: u32 = 4;
const REASON: u32 = 0xf << REASON_SHIFT;
/// In the place of a reason, as long as there is none.
const DEAF: u32 = REASON;

/// What one end says of itself.
///
/// It is also a futex word (futex(2), without `FUTEX_PRIVATE_FLAG`): [`Status::as_futex`].
#[derive(Debug)]
#[repr(transparent)]
pub struct Status(AtomicU32);

/// Why an end has given a session up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[repr(u8)]
pub enum ResetReason {
    /// A peer of a newer build says why, or one that scribbles.
    Unknown = 0,
    /// The program closed with a linger time of zero, or with unread data.
    Aborted = 1,
    /// The other end's words in the segment are impossible.
    Corrupt = 2,
    /// There is no memory for it.
    NoMemory = 3,
    /// The offer was not acceptable.
    BadOffer = 4,
    /// The session is with a stack host, and the remote host refused: `ECONNREFUSED`.
    Refused = 5,
    /// As before, but it does not answer: `ETIMEDOUT`.
    TimedOut = 6,
    /// As before, but there is no way there: `EHOSTUNREACH`.
    Unreachable = 7,
    /// As before, and the remote host sent a reset: `ECONNRESET`.
    Remote = 8,
}

impl ResetReason {
    const fn from_bits(bits: u32) -> Self {
        match bits {
            1 => Self::Aborted,
            2 => Self::Corrupt,
            3 => Self::NoMemory,
            4 => Self::BadOffer,
            5 => Self::Refused,
            6 => Self::TimedOut,
            7 => Self::Unreachable,
            8 => Self::Remote,
            _ => Self::Unknown,
        }
    }
}

/// What was found in a [`Status`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct State(u32);

/// The segment has been put to another use since.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the segment serves another session by now")]
pub struct Stale;

impl Status {
    /// For the model checker and tests: in production the word lies in a segment.
    pub fn new(generation: Generation) -> Self {
        Self(AtomicU32::new(generation.bits() << 8))
    }

    /// What it says now. What the peer did before it said so has happened (acquire).
    ///
    /// # Errors
    ///
    /// [`Stale`] if it speaks of another use of the segment: somebody scribbles, or we are late.
    #[inline]
    pub fn load(&self, generation: Generation) -> Result<State, Stale> {
        let word = self.0.load(Ordering::Acquire);
        if word >> 8 == generation.bits() {
            Ok(State(word))
        } else {
            Err(Stale)
        }
    }

    /// The accepting side has taken the session.
    ///
    /// # Errors
    ///
    /// [`Stale`], as for all that follow.
    pub fn answer(&self, generation: Generation) -> Result<(), Stale> {
        self.raise(generation, ANSWERED)
    }

    /// No more bytes will come from this end: FIN, as by shutdown(2). After all bytes are published.
    ///
    /// # Errors
    ///
    /// [`Stale`].
    pub fn finish(&self, generation: Generation) -> Result<(), Stale> {
        self.raise(generation, FINISHED)
    }

    /// This end neither sends nor reads any more: bytes that still come are answered by a reset, as of a
    /// socket that is shut down both ways.
    ///
    /// # Errors
    ///
    /// [`Stale`].
    pub fn deafen(&self, generation: Generation) -> Result<(), Stale> {
        self.update(generation, |word| {
            if word & RESET == 0 { word | DEAF } else { word }
        })
    }

    /// This end has given the session up: RST. The first reason stays.
    ///
    /// # Errors
    ///
    /// [`Stale`].
    pub fn reset(&self, generation: Generation, reason: ResetReason) -> Result<(), Stale> {
        self.update(generation, |word| {
            if word & RESET == 0 {
                word & !REASON | RESET | (reason as u32) << REASON_SHIFT
            } else {
                word
            }
        })
    }

    /// This end will not touch the segment any more. The last thing that it says: whoever made the
    /// segment may then use it for another session.
    ///
    /// # Errors
    ///
    /// [`Stale`].
    pub fn close(&self, generation: Generation) -> Result<(), Stale> {
        self.raise(generation, CLOSED)
    }

    /// The word, to wait at until it changes from [`State::word`].
    pub const fn as_futex(&self) -> &AtomicU32 {
        &self.0
    }

    /// For the next use of the segment. Only by whoever has made it, when both ends have closed.
    pub(super) fn begin(&self, generation: Generation) {
        self.0.store(generation.bits() << 8, Ordering::Relaxed);
    }

    fn raise(&self, generation: Generation, flag: u32) -> Result<(), Stale> {
        self.update(generation, |word| word | flag)
    }

    /// Changes the lower bits. What was done before is visible to who sees the change (release).
    fn update(&self, generation: Generation, change: impl Fn(u32) -> u32) -> Result<(), Stale> {
        self.0
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |word| {
                (word >> 8 == generation.bits()).then(|| change(word))
            })
            .map(drop)
            .map_err(|_| Stale)
    }
}

impl State {
    /// Accepted (on the accepting side's word).
    pub const fn is_answered(self) -> bool {
        self.0 & ANSWERED != 0
    }

    /// No more bytes will come from that end.
    pub const fn is_finished(self) -> bool {
        self.0 & FINISHED != 0
    }

    /// That end has given the session up.
    pub const fn is_reset(self) -> bool {
        self.0 & RESET != 0
    }

    /// Bytes for that end are answered by a reset.
    pub const fn is_deaf(self) -> bool {
        self.0 & (RESET | REASON) == DEAF
    }

    /// Why, if it has.
    pub const fn reset_reason(self) -> Option<ResetReason> {
        if self.is_reset() {
            Some(ResetReason::from_bits((self.0 & REASON) >> REASON_SHIFT))
        } else {
            None
        }
    }

    /// That end does not touch the segment any more.
    pub const fn is_closed(self) -> bool {
        self.0 & CLOSED != 0
    }

    /// As it is in the futex.
    pub const fn word(self) -> u32 {
        self.0
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("generation", &(self.0 >> 8))
            .field("answered", &self.is_answered())
            .field("finished", &self.is_finished())
            .field("reset", &self.reset_reason())
            .field("closed", &self.is_closed())
            .finish()
    }
}
