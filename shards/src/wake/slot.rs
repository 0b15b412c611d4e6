//! Who is to be woken: a place for one waker.

use std::cell::Cell;
use std::task::{Context, Waker};

/// A place for the waker of the one task that waits for something.
///
/// The waker stays when it was used: the same task usually waits again, and cloning one costs two
/// atomic operations.
#[derive(Default)]
pub(crate) struct WakerSlot {
    waker: Cell<Option<Waker>>,
    waiting: Cell<bool>,
}

impl WakerSlot {
    pub(crate) const fn new() -> Self {
        Self {
            waker: Cell::new(None),
            waiting: Cell::new(false),
        }
    }

    /// The task of `cx` is to be woken, and no other.
    #[inline]
    pub(crate) fn register(&self, cx: &Context<'_>) {
        let waker = match self.waker.take() {
            Some(waker) if waker.will_wake(cx.waker()) => waker,
            _ => cx.waker().clone(),
        };
        self.waker.set(Some(waker));
        self.waiting.set(true);
    }

    /// Wakes the task, if one waits.
    #[inline]
    pub(crate) fn wake(&self) {
        if !self.waiting.replace(false) {
            return;
        }
        let waker = self.waker.take();
        if let Some(waker) = &waker {
            waker.wake_by_ref();
        }
        self.waker.set(waker);
    }

    /// Whether a task waits.
    pub(crate) fn is_waiting(&self) -> bool {
        self.waiting.get()
    }

    /// Nobody is to be woken any more; the task may go.
    pub(crate) fn clear(&self) {
        self.waker.set(None);
        self.waiting.set(false);
    }
}
