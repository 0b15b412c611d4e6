//! Which of many sessions have something to tell: a two-level bitmap in shared memory.
//!
//! A writer of a ring sets the bit of the reader's session; the owner of the set takes bits. Above
//! 1,024 leaf words of 64 sessions lies one word with a bit for each group of 16 leaves. So an empty
//! set is known by one load, and an event is found by looking at one word and at most 16 more,
//! however many sessions there are.
//!
//! The top word and the first seven leaves share a cache line on purpose: a set of up to 448 sessions
//! moves one line between the cores for an event instead of two (measured with `benches/wake.rs`: 130
//! instead of 150 ns there and back).
//!
//! | who | does | in this order |
//! |---|---|---|
//! | writer | [`ReadyWords::set`] | (publish data, [`full`](super::waiter::fence::full) fence,) leaf bit, barrier, top bit, barrier, (look who sleeps) |
//! | owner | [`Taker::take`] | top bit cleared, barrier, leaf bits cleared, barrier, (look at the sessions) |
//!
//! Each pair is Dekker's pattern, so that no bit is lost when both meet; a bit that is already set
//! costs the writer two loads. Model-checked with loom, together with the sleep protocol.
//!
//! What it leaves to others: a set tells *that* a session may have something, never what. The owner
//! looks at each session it takes and must expect that there is nothing. It puts back
//! ([`ReadyWords::set`]) what it has not dealt with.
//!
//! **Trust.** Peers may write any content at any time. The owner reads nothing from the memory but
//! bits, masks them with the number of sessions that it has handed out, and does at most one pass
//! over the set a call. A hostile peer causes looks in vain, for itself and for those whom it shares
//! the set with: so peers of another user get a set of their own, and every constructor takes memory
//! given by the caller.

use crate::sync::{AtomicU64, Ordering};

use super::waiter::fence;

mod take;

#[cfg(all(test, loom))]
mod models;
#[cfg(all(test, not(loom)))]
mod tests;

pub use take::Taker;

const BITS: usize = u64::BITS as usize;

/// Sessions in one set, at most: as many as a `u16` can number.
pub const SESSIONS: usize = GROUPS * SPAN * BITS;

/// Groups of a set in production: the bits of the top word.
const GROUPS: usize = 64;
/// Leaf words in a group.
const SPAN: usize = 16;

/// The shared words of a set. All zero is an empty one. Models use smaller ones.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct ReadyWords<const G: usize = GROUPS, const S: usize = SPAN> {
    /// Bit `g`: some leaf of group `g` is not empty, or was a moment ago.
    top: AtomicU64,
    leaves: [[AtomicU64; S]; G],
}

#[cfg(not(loom))]
const _: () = assert!(SESSIONS == 1 << 16 && size_of::<ReadyWords>() == ReadyWords::BYTES);

#[cfg(not(loom))]
impl ReadyWords {
    /// The length of the shared memory of a set. Of these, a set of `n` sessions touches the first
    /// `8 + n / 8`.
    pub const BYTES: usize = 8 + SESSIONS / 8 + 56;

    /// The set in `memory`, or `None` if the memory is too short or not aligned to 64 bytes.
    ///
    /// # Safety
    ///
    /// `memory` must be readable and writable, backed (a hole of a file may be a SIGBUS), and stay
    /// so for `'a`; and all that touches it must do so atomically. Its content may be anything.
    pub unsafe fn at<'a>(memory: core::ptr::NonNull<[u8]>) -> Option<&'a Self> {
        let words = memory.cast::<Self>();
        if memory.len() < Self::BYTES || !words.is_aligned() {
            return None;
        }
        // SAFETY: long enough and aligned as just checked, valid and shared only atomically for `'a`
        // as the caller promises; every bit pattern is a valid set of atomics.
        Some(unsafe { words.as_ref() })
    }
}

impl<const G: usize, const S: usize> ReadyWords<G, S> {
    /// An empty set.
    pub fn new() -> Self {
        const { assert!(G <= BITS) };
        Self {
            top: AtomicU64::new(0),
            leaves: core::array::from_fn(|_| core::array::from_fn(|_| AtomicU64::new(0))),
        }
    }

    /// Sets the bit of a session; true if that has changed anything. Between publishing what there
    /// is to tell and this call a [`fence::full`] must stand. A barrier follows, so the caller may
    /// go on and look who sleeps.
    ///
    /// A session that the set has no room for (cannot be in production) is ignored.
    #[inline]
    pub fn set(&self, session: u16) -> bool {
        let place = Place::<S>::of(session);
        let Some(leaf) = self.leaves.get(place.group).and_then(|g| g.get(place.leaf)) else {
            return false;
        };
        let mut news = false;
        if leaf.load(Ordering::Acquire) & place.bit == 0 {
            leaf.fetch_or(place.bit, Ordering::AcqRel);
            news = true;
        }
        fence::after_update();
        // Looked at in any case: whoever has set the leaf bit may have been killed before this.
        let group = 1 << place.group;
        if self.top.load(Ordering::Acquire) & group == 0 {
            self.top.fetch_or(group, Ordering::AcqRel);
            news = true;
        }
        fence::after_update();
        news
    }

    /// Clears the bit of a session whose number is given away anew. A bit of the old session that
    /// comes later is a look in vain.
    pub fn clear(&self, session: u16) {
        let place = Place::<S>::of(session);
        if let Some(leaf) = self.leaves.get(place.group).and_then(|g| g.get(place.leaf)) {
            leaf.fetch_and(!place.bit, Ordering::AcqRel);
        }
    }
}

impl<const G: usize, const S: usize> Default for ReadyWords<G, S> {
    fn default() -> Self {
        Self::new()
    }
}

/// Where a session's bit is.
struct Place<const S: usize> {
    group: usize,
    leaf: usize,
    bit: u64,
}

impl<const S: usize> Place<S> {
    #[inline]
    fn of(session: u16) -> Self {
        let session = usize::from(session);
        Self {
            group: session / (BITS * S),
            leaf: session / BITS % S,
            bit: 1 << (session % BITS),
        }
    }
}
