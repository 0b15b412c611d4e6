//! A sequence lock without waiting: writers are rare, may be signal handlers, and never block.
//!
//! The word is odd while somebody writes. A writer that finds it odd tries for a moment and then
//! gives up: it may be a signal handler on top of the very writer that it would wait for. All data
//! under the lock are atomics, so a torn read is a wrong value that the reader discards, not
//! undefined behaviour.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU32, fence};

const ATTEMPTS: u32 = 64;

/// A write under way; [`Guard::end`] publishes it.
#[must_use]
pub(super) struct Guard<'a> {
    seq: &'a AtomicU32,
    odd: u32,
}

/// Starts a write, or says that somebody else is at it.
pub(super) fn begin(seq: &AtomicU32) -> Option<Guard<'_>> {
    for _ in 0..ATTEMPTS {
        let now = seq.load(Relaxed);
        if now.is_multiple_of(2)
            && seq
                .compare_exchange(now, now.wrapping_add(1), Acquire, Relaxed)
                .is_ok()
        {
            // Orders the odd value before the data that follow.
            fence(Release);
            return Some(Guard {
                seq,
                odd: now.wrapping_add(1),
            });
        }
        std::hint::spin_loop();
    }
    None
}

/// Starts a write even if the word has been odd for long: whoever held it is gone (a cancelled
/// thread), or its data no longer matter.
pub(super) fn seize(seq: &AtomicU32) -> Guard<'_> {
    begin(seq).unwrap_or_else(|| {
        let odd = seq.load(Relaxed).wrapping_add(2) | 1;
        seq.store(odd, Relaxed);
        fence(Release);
        Guard { seq, odd }
    })
}

/// Whether what was read since `before` was loaded is one consistent state.
pub(super) fn unchanged(seq: &AtomicU32, before: u32) -> bool {
    fence(Acquire);
    before.is_multiple_of(2) && seq.load(Relaxed) == before
}

impl Guard<'_> {
    /// Publishes the write. Does nothing if somebody seized the lock in the meantime.
    pub(super) fn end(self) {
        let _ = self
            .seq
            .compare_exchange(self.odd, self.odd.wrapping_add(1), Release, Relaxed);
    }
}
