//! Waiting for room in a ring, without the one who makes room ever waiting.

use dmm_nsocket::session::waiter::fence;

use crate::sync::{AtomicBool, Ordering};
use crate::wake::door::Door;

/// Stands beside a ring: whether its producer waits for room.
///
/// The producer, which sleeps at its [`Door`], sets it before it lies down and looks for room once more
/// after it has said that it sleeps. The consumer, when it has made room, looks at the gate, and rings
/// if the producer sleeps. Model-checked in `mesh::models`.
#[derive(Debug)]
pub(crate) struct Gate {
    blocked: AtomicBool,
}

impl Gate {
    pub(crate) fn new() -> Self {
        Self {
            blocked: AtomicBool::new(false),
        }
    }

    /// The producer waits for room, or does not any more. To be called before it lies down.
    #[inline]
    pub(crate) fn set_blocked(&self, blocked: bool) {
        if self.blocked.load(Ordering::Relaxed) != blocked {
            self.blocked.store(blocked, Ordering::Release);
        }
    }

    /// The consumer has made room.
    #[inline]
    pub(crate) fn made_room<T>(&self, producer: &Door<T>, ring: impl FnOnce()) {
        fence::full();
        if self.blocked.load(Ordering::Acquire) {
            producer.ring_if_asleep(ring);
        }
    }
}
