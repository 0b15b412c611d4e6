//! Who sleeps: one word that waiters write and writers read.
//!
//! ```text
//! bits  0..20  how many sleep
//! bits 20..64  epoch: how often somebody has lain down
//! ```
//!
//! So no two sleeps show the same value, which lets many writers make one system call: a writer keeps
//! the value for which it has rung (in memory of its own, where nobody else can forge it) and does
//! not ring for that value again. One wake-up is under way, and whoever it wakes changes the word
//! *before* it looks for work.
//!
//! What the protocol guarantees, by whoever writes what the other side reads:
//!
//! - **No wake-up is lost**: if a writer publishes and does not ring, then either somebody who looks
//!   for work after that sees what was published, or a ring for the same sleep has been made.
//! - A count that is too high (a sleeper was killed, or left by `longjmp` out of a signal handler)
//!   costs one ring an epoch, never a wake-up.
//! - A word with any content (a peer may write it where it lies in a session's segment) is harmless
//!   to the memory of the reader: it is only counted and compared.
//!
//! The doorbell must be drained *before* one looks for work: who drains a ring then sees what the
//! ring has announced. A waiter that leaves work behind passes the wake-up on with
//! [`Ringer::ring_if_asleep`], so that one ring a sleep is enough.

use crate::sync::{AtomicU64, Ordering};

use super::fence;

const SLEEPER: u64 = 1;
const EPOCH: u64 = 1 << 20;
const SLEEPERS: u64 = EPOCH - 1;

/// The word that tells who sleeps. All zero is the state of a new one: nobody does.
#[derive(Debug)]
#[repr(transparent)]
pub struct SleepWord(AtomicU64);

impl SleepWord {
    /// A word that says that nobody sleeps.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// A word that says that nobody sleeps.
    #[cfg(loom)]
    pub fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Announces that the caller is about to sleep, and looks once more: `ready` tells whether there
    /// is work. `None` if there is (nothing is announced any more); else the caller sleeps, and drops
    /// the value as soon as it is back from the kernel, before it drains a doorbell or looks for work.
    ///
    /// `ready` must look at everything that writers ring for.
    #[inline]
    #[must_use = "dropped at once, it announces that nobody sleeps"]
    pub fn prepare(&self, ready: impl FnOnce() -> bool) -> Option<Asleep<'_>> {
        self.0.fetch_add(EPOCH + SLEEPER, Ordering::AcqRel);
        let asleep = Asleep { word: self };
        fence::after_update();
        if ready() { None } else { Some(asleep) }
    }

    /// Ends a sleep whose [`Asleep`] was forgotten on purpose: by whoever makes a call in between that
    /// unwinds through him when the thread is cancelled (pthread_cancel(3)), and so may keep nothing
    /// that has to be dropped.
    #[inline]
    pub fn rise(&self) {
        drop(Asleep { word: self });
    }

    /// How many sleep, or are about to.
    pub fn sleepers(&self) -> u32 {
        (self.0.load(Ordering::Relaxed) & SLEEPERS) as u32
    }
}

impl Default for SleepWord {
    fn default() -> Self {
        Self::new()
    }
}

/// An announced sleep. Ends when dropped.
#[derive(Debug)]
#[must_use = "dropped at once, it announces that nobody sleeps"]
pub struct Asleep<'a> {
    word: &'a SleepWord,
}

impl Asleep<'_> {
    /// Gives the sleep up, or ends it: what dropping does, by name.
    pub fn cancel(self) {}
}

impl Drop for Asleep<'_> {
    #[inline]
    fn drop(&mut self) {
        self.word.0.fetch_sub(SLEEPER, Ordering::AcqRel);
        // The one who gets up looks for work next: writers that have rung for the old value rely on
        // its seeing what they publish.
        fence::after_update();
    }
}

/// The ringing side, one for each (process, word): what it has last rung for. It must lie in memory
/// that no peer can write.
#[derive(Debug)]
pub struct Ringer {
    last: AtomicU64,
}

impl Ringer {
    /// A ringer that has not rung yet.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self {
            last: AtomicU64::new(0),
        }
    }

    /// A ringer that has not rung yet.
    #[cfg(loom)]
    pub fn new() -> Self {
        Self {
            last: AtomicU64::new(0),
        }
    }

    /// Calls `ring` if somebody sleeps and has not been rung for; tells whether it has. To be called
    /// after publishing and a barrier ([`fence::full`], or the one in
    /// [`ReadyWords::set`](crate::session::ready::ReadyWords::set)).
    ///
    /// The ring is made first and noted afterwards: a signal handler or a fork in between, or another
    /// thread, rings once too often rather than waiting for a ring that is not made.
    ///
    /// # Errors
    ///
    /// Those of `ring`; the next call tries again.
    #[inline]
    pub fn ring_if_asleep<E>(
        &self,
        word: &SleepWord,
        ring: impl FnOnce() -> Result<(), E>,
    ) -> Result<bool, E> {
        let seen = word.0.load(Ordering::Acquire);
        if seen & SLEEPERS == 0 || seen == self.last.load(Ordering::Relaxed) {
            return Ok(false);
        }
        ring()?;
        self.last.store(seen, Ordering::Relaxed);
        Ok(true)
    }
}

impl Default for Ringer {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::convert::Infallible;

    use super::*;

    fn rings(ringer: &Ringer, word: &SleepWord) -> bool {
        ringer
            .ring_if_asleep(word, || Ok::<_, Infallible>(()))
            .unwrap()
    }

    #[test]
    fn one_ring_for_one_sleep() {
        let (word, ringer) = (SleepWord::new(), Ringer::new());
        assert!(!rings(&ringer, &word), "nobody sleeps");
        let asleep = word.prepare(|| false).unwrap();
        assert_eq!(word.sleepers(), 1);
        assert!(rings(&ringer, &word));
        assert!(!rings(&ringer, &word), "the same sleep");
        drop(asleep);
        assert!(!rings(&ringer, &word), "awake");
        let asleep = word.prepare(|| false).unwrap();
        assert!(rings(&ringer, &word), "the next sleep");
        asleep.cancel();
        assert_eq!(word.sleepers(), 0);
    }

    #[test]
    fn work_found_in_time_cancels_the_sleep() {
        let word = SleepWord::new();
        assert!(word.prepare(|| true).is_none());
        assert_eq!(word.sleepers(), 0);
    }

    #[test]
    fn the_second_sleeper_is_rung_for_when_the_first_is_up() {
        let (word, ringer) = (SleepWord::new(), Ringer::new());
        let first = word.prepare(|| false).unwrap();
        let second = word.prepare(|| false).unwrap();
        assert!(rings(&ringer, &word));
        assert!(!rings(&ringer, &word), "one wake-up is under way");
        drop(first);
        assert!(rings(&ringer, &word));
        drop(second);
    }

    #[test]
    fn a_failed_ring_is_tried_again() {
        let (word, ringer) = (SleepWord::new(), Ringer::new());
        let _asleep = word.prepare(|| false).unwrap();
        assert_eq!(ringer.ring_if_asleep(&word, || Err(())), Err(()));
        assert!(rings(&ringer, &word));
    }

    #[test]
    fn a_word_full_of_anything_is_only_counted() {
        for value in [u64::MAX, SLEEPERS, EPOCH, 1 << 63] {
            let word = SleepWord(AtomicU64::new(value));
            let ringer = Ringer::new();
            let _ = rings(&ringer, &word);
            drop(word.prepare(|| false));
            assert_eq!(word.0.load(Ordering::Relaxed), value.wrapping_add(EPOCH));
        }
    }
}
