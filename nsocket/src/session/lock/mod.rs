//! Who may touch one end of a ring: a lock among the threads and processes that share the end.
//!
//! | file | subject |
//! |---|---|
//! | `identity` | what a holder is known by, all over the machine |
//! | `kernel` | sleeping, waking, and finding out whether a holder is dead |
//!
//! What it guarantees:
//!
//! - Without contention it costs one compare-and-swap and one swap. The swap is the full barrier that
//!   whoever has published something needs anyway before it looks who sleeps.
//! - **A dead holder is recovered.** The word names the holder (thread, time, PID namespace). A waiter
//!   that has slept for a while checks that it lives, and takes the lock over if not;
//!   [`Guard::is_recovered`] then tells.
//! - **Nobody waits for itself.** A signal handler on top of the holder gets [`Busy::Own`]; a child
//!   after `fork` has another identity than the thread that it is a copy of.
//! - No waiter is forgotten: one that sleeps has marked the word, and every release of a marked word
//!   wakes one. Model-checked with loom.
//!
//! What it leaves to others: not to sleep while holding it. What it protects must be consistent at
//! every store, as the holder may die at any.
//!
//! **Trust.** Whoever can write the word can lock others out. [`LockWords::lock`] therefore waits for a
//! limited time. It is best placed in memory that only the processes that share the end have mapped.

mod identity;
#[cfg_attr(loom, path = "kernel/none.rs")]
mod kernel;
#[cfg(not(loom))]
mod process;

#[cfg(all(test, loom))]
mod models;
#[cfg(all(test, not(loom)))]
mod tests;

use crate::session::waiter::fence;
use crate::sync::Ordering::{Acquire, Relaxed, Release};
use crate::sync::{AtomicU64, spin_loop};

pub use identity::Identity;
pub use kernel::Linux;

/// A holder that is running needs less time than this for most of what it does: some 2 us. To sleep
/// and be woken costs several times that.
const SPINS: u32 = if cfg!(loom) { 0 } else { 64 };

/// Set in the word when somebody sleeps.
const SLEEPERS: u64 = 1 << 31;

/// The word of a lock: zero when it is free, else an [`Identity`] and perhaps `SLEEPERS`.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct LockWords {
    owner: AtomicU64,
}

/// Why the lock was not to be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Busy {
    /// The calling thread holds it: this is a signal handler that has interrupted it.
    #[error("this thread holds the lock already, below a signal handler")]
    Own,
    /// Somebody else does.
    #[error("thread {tid} holds the lock")]
    Other {
        /// By the word, which somebody may have made up.
        tid: u32,
    },
}

/// What the lock needs of an operating system.
pub trait Kernel {
    /// Sleeps until woken, if the lower half of the word is still that of `seen`. May return early, for
    /// any reason; returns after a while in any case. `slept` is how often the caller has slept.
    ///
    /// Returns false if the caller has slept for so long that it should give up.
    fn sleep(&self, word: &AtomicU64, seen: u64, slept: u32) -> bool;

    /// Wakes one sleeper.
    fn wake_one(&self, word: &AtomicU64);

    /// Whether that thread is known to have ended.
    fn is_dead(&self, thread: Identity) -> bool;
}

/// The lock, held; released when dropped.
#[derive(Debug)]
#[must_use = "dropped at once, it protects nothing"]
pub struct Guard<'a, K: Kernel = Linux> {
    owner: &'a AtomicU64,
    kernel: K,
    recovered: bool,
}

#[cfg(not(loom))]
impl LockWords {
    /// Takes the lock, if nobody holds it. For signal handlers, and whoever may not wait.
    ///
    /// # Errors
    ///
    /// [`Busy`]: somebody does.
    #[inline]
    pub fn try_lock(&self, who: Identity) -> Result<Guard<'_>, Busy> {
        self.try_lock_on(who, Linux)
    }

    /// Takes the lock, and waits for whoever holds it: spins for a moment, then sleeps. Takes it over
    /// from a holder that has died.
    ///
    /// # Errors
    ///
    /// [`Busy::Own`]; [`Busy::Other`] after ten seconds, which no honest holder needs unless it is
    /// stopped (SIGSTOP, a debugger).
    #[inline]
    pub fn lock(&self, who: Identity) -> Result<Guard<'_>, Busy> {
        self.lock_on(who, Linux)
    }
}

impl LockWords {
    /// As `try_lock`, on any kernel.
    ///
    /// # Errors
    ///
    /// [`Busy`]: somebody holds it.
    #[inline]
    pub fn try_lock_on<K: Kernel>(&self, who: Identity, kernel: K) -> Result<Guard<'_, K>, Busy> {
        match self.exchange(0, who.word()) {
            Ok(()) => Ok(self.guard(kernel, false)),
            Err(seen) => Err(busy(seen, who)),
        }
    }

    /// As `lock`, on any kernel.
    ///
    /// # Errors
    ///
    /// [`Busy`]: the caller holds it, or the kernel has lost patience.
    #[inline]
    pub fn lock_on<K: Kernel>(&self, who: Identity, kernel: K) -> Result<Guard<'_, K>, Busy> {
        match self.exchange(0, who.word()) {
            Ok(()) => Ok(self.guard(kernel, false)),
            Err(_) => self.wait(who, kernel),
        }
    }

    #[cold]
    fn wait<K: Kernel>(&self, who: Identity, kernel: K) -> Result<Guard<'_, K>, Busy> {
        for _ in 0..SPINS {
            let seen = self.owner.load(Relaxed);
            if seen == 0 && self.exchange(0, who.word()).is_ok() {
                return Ok(self.guard(kernel, false));
            }
            if busy(seen, who) == Busy::Own {
                return Err(Busy::Own);
            }
            spin_loop();
        }
        // From here on the word is taken with the mark set: others may sleep, too.
        let mine = who.word() | SLEEPERS;
        let mut slept = 0;
        loop {
            let seen = self.owner.load(Relaxed);
            if seen == 0 {
                if self.exchange(0, mine).is_ok() {
                    return Ok(self.guard(kernel, false));
                }
                continue;
            }
            if busy(seen, who) == Busy::Own {
                return Err(Busy::Own);
            }
            // A holder that is alive is gone after the first sleep, as a rule.
            if slept > 0 && Identity::of(seen).is_none_or(|holder| kernel.is_dead(holder)) {
                if self.exchange(seen, mine).is_ok() {
                    return Ok(self.guard(kernel, true));
                }
                continue;
            }
            let marked = seen | SLEEPERS;
            if seen != marked && self.exchange(seen, marked).is_err() {
                continue;
            }
            if !kernel.sleep(&self.owner, marked, slept) {
                return Err(busy(marked, who));
            }
            slept += 1;
        }
    }

    #[inline]
    fn exchange(&self, from: u64, to: u64) -> Result<(), u64> {
        self.owner
            .compare_exchange(from, to, Acquire, Relaxed)
            .map(|_| ())
    }

    const fn guard<K: Kernel>(&self, kernel: K, recovered: bool) -> Guard<'_, K> {
        Guard {
            owner: &self.owner,
            kernel,
            recovered,
        }
    }
}

fn busy(seen: u64, who: Identity) -> Busy {
    if seen & !SLEEPERS == who.word() {
        Busy::Own
    } else {
        Busy::Other {
            tid: Identity::tid_of(seen),
        }
    }
}

impl<K: Kernel> Guard<'_, K> {
    /// Whether the holder before has died with it.
    pub const fn is_recovered(&self) -> bool {
        self.recovered
    }
}

impl<K: Kernel> Drop for Guard<'_, K> {
    #[inline]
    fn drop(&mut self) {
        let word = self.owner.swap(0, Release);
        fence::after_update();
        if word & SLEEPERS != 0 {
            self.kernel.wake_one(self.owner);
        }
    }
}
