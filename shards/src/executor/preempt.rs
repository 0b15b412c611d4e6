//! When a task should let others run.

use std::cell::Cell;
use std::future::poll_fn;
use std::task::Poll;
use std::time::{Duration, Instant};

use crate::shard::with_current;

/// Whether the current task has run long enough: its time is over, a task that latency matters for is
/// ready, or the kernel has completions. Long computations ask now and then, and
/// [yield](yield_if_needed).
///
/// Costs a few ns, and a look at the clock. `false` outside of a shard.
pub fn need_preempt() -> bool {
    with_current(|local| {
        local.is_some_and(|local| local.executor().slice().is_over() || local.reactor().has_work())
    })
}

/// Lets other tasks and the reactor have a turn.
pub async fn yield_now() {
    let mut yielded = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// [Yields](yield_now) if there [is need](need_preempt).
pub async fn yield_if_needed() {
    if need_preempt() {
        yield_now().await;
    }
}

/// The time that the running queue has.
pub(crate) struct Slice {
    length: Cell<Duration>,
    /// Set at the first look: a slice that nobody looks at needs no clock.
    end: Cell<Option<Instant>>,
    interrupted: Cell<bool>,
    /// The running queue is one of those that latency matters for: nothing interrupts it.
    urgent: Cell<bool>,
}

/// How long a queue runs before others have their turn.
pub(super) const SLICE: Duration = Duration::from_micros(500);

impl Slice {
    pub(super) fn new() -> Self {
        Self {
            length: Cell::new(SLICE),
            end: Cell::new(None),
            interrupted: Cell::new(false),
            urgent: Cell::new(false),
        }
    }

    /// A slice begins. `None`: of a queue that latency matters for.
    pub(super) fn begin(&self, length: Option<Duration>) {
        self.urgent.set(length.is_none());
        self.length.set(length.unwrap_or(SLICE));
        self.end.set(None);
        self.interrupted.set(false);
    }

    /// No task runs any more.
    pub(super) fn end(&self) {
        self.interrupted.set(false);
    }

    /// Something more urgent is ready.
    pub(super) fn interrupt(&self) {
        self.interrupted.set(!self.urgent.get());
    }

    #[inline]
    pub(super) fn is_interrupted(&self) -> bool {
        self.interrupted.get()
    }

    /// Whether the time is over, counted from the first look.
    pub(crate) fn is_over(&self) -> bool {
        if self.interrupted.get() {
            return true;
        }
        let now = Instant::now();
        match self.end.get() {
            Some(end) => now >= end,
            None => {
                self.end.set(Some(now + self.length.get()));
                false
            }
        }
    }
}
