//! What other threads know of a shard.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::executor::Runnable;
use crate::reactor::Reactor;
use crate::reactor::bell::Bell;
use crate::wake::door::Door;

/// How a shard is reached from other threads. It outlives the shard, in wakers that are still about.
pub(crate) struct Beacon {
    door: Door<Runnable>,
    /// There since before the shard's first sleep.
    bell: OnceLock<Bell>,
    ended: AtomicBool,
    turns: AtomicU64,
    running: AtomicBool,
    /// The core that it is pinned to.
    core: Option<u32>,
}

impl Beacon {
    pub(crate) fn new(core: Option<usize>) -> Self {
        Self {
            door: Door::new(),
            bell: OnceLock::new(),
            ended: AtomicBool::new(false),
            turns: AtomicU64::new(0),
            running: AtomicBool::new(false),
            core: core.and_then(|core| u32::try_from(core).ok()),
        }
    }

    pub(super) fn set_bell(&self, bell: Bell) {
        let _ = self.bell.set(bell);
    }

    #[inline]
    pub(crate) fn door(&self) -> &Door<Runnable> {
        &self.door
    }

    /// A task of the shard's was woken on another thread.
    #[cold]
    pub(crate) fn send(&self, task: Runnable) {
        if let Err(task) = self.door.send(task, || self.ring()) {
            // The shard has ended, and has dropped the futures of all its tasks. This one is an empty shell
            // whose release is the shard's business, which is no more.
            std::mem::forget(task);
        }
    }

    /// Ends the shard's sleep, with a system call.
    pub(crate) fn ring(&self) {
        if let Some(bell) = self.bell.get() {
            // See `Bell::ring`: it cannot fail.
            let _ = bell.ring();
        }
    }

    /// Ends the shard's sleep, at the end of the turn of the shard that calls.
    pub(crate) fn ring_from(&self, reactor: &Reactor) {
        if let Some(bell) = self.bell.get() {
            reactor.ring(bell);
        }
    }

    /// The core that the shard is pinned to.
    pub(crate) fn core(&self) -> Option<u32> {
        self.core
    }

    /// The shard runs no messages any more.
    pub(super) fn set_ended(&self) {
        self.ended.store(true, Ordering::Release);
    }

    #[inline]
    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// A turn begins, or the shard goes to sleep.
    #[inline]
    pub(super) fn beat(&self, running: bool) {
        let turns = self.turns.load(Ordering::Relaxed);
        self.turns.store(turns.wrapping_add(1), Ordering::Relaxed);
        self.running.store(running, Ordering::Relaxed);
    }

    /// Whether it runs, that is: it does not sleep.
    pub(crate) fn is_running(&self) -> bool {
        self.running.load(Ordering::Relaxed)
    }

    /// Counts the shard's turns.
    pub(crate) fn turns(&self) -> u64 {
        self.turns.load(Ordering::Relaxed)
    }
}
