//! Ending gracefully: what goes on is told that the end has come, and is waited for.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use crate::timer::{Elapsed, timeout};

/// Counts what goes on, on one shard, and ends it together. Clones are the same.
///
/// A server gives every connection a [guard](Self::guard), and accepts while
/// [`until_started`](Self::until_started) has not said stop; when asked to end, it calls
/// [`start`](Self::start), and waits for [`done`](Self::done).
#[derive(Clone, Default)]
pub struct Drain {
    state: Rc<State>,
}

#[derive(Default)]
struct State {
    started: Cell<bool>,
    guards: Cell<usize>,
    waiting: RefCell<Vec<Waker>>,
}

/// Something that goes on. The drain waits for its drop.
pub struct DrainGuard {
    drain: Drain,
}

impl Drain {
    /// A drain that has not started.
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts something that goes on.
    pub fn guard(&self) -> DrainGuard {
        self.state.guards.set(self.state.guards.get() + 1);
        DrainGuard {
            drain: self.clone(),
        }
    }

    /// The end has come.
    pub fn start(&self) {
        self.state.started.set(true);
        self.wake();
    }

    /// Whether the end has come.
    pub fn has_started(&self) -> bool {
        self.state.started.get()
    }

    /// Runs `future` until it is ready, or the end comes: then `None`.
    pub async fn until_started<F: Future>(&self, future: F) -> Option<F::Output> {
        let mut future = std::pin::pin!(future);
        poll_fn(|cx| {
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                return Poll::Ready(Some(output));
            }
            if self.state.started.get() {
                return Poll::Ready(None);
            }
            self.wait(cx.waker());
            Poll::Pending
        })
        .await
    }

    /// Starts it, and waits until nothing goes on, for `limit` at most.
    ///
    /// # Errors
    ///
    /// If something goes on after `limit`.
    ///
    /// # Panics
    ///
    /// Outside of a shard.
    pub async fn done(&self, limit: Duration) -> Result<(), Elapsed> {
        self.start();
        let nothing = poll_fn(|cx| {
            if self.state.guards.get() == 0 {
                return Poll::Ready(());
            }
            self.wait(cx.waker());
            Poll::Pending
        });
        timeout(limit, nothing).await
    }

    fn wait(&self, waker: &Waker) {
        let mut waiting = self.state.waiting.borrow_mut();
        if !waiting.iter().any(|known| known.will_wake(waker)) {
            waiting.push(waker.clone());
        }
    }

    fn wake(&self) {
        self.state.waiting.take().into_iter().for_each(Waker::wake);
    }
}

impl DrainGuard {
    /// The drain that it belongs to.
    pub fn drain(&self) -> &Drain {
        &self.drain
    }
}

impl Drop for DrainGuard {
    fn drop(&mut self) {
        let state = &self.drain.state;
        state.guards.set(state.guards.get() - 1);
        if state.guards.get() == 0 && state.started.get() {
            self.drain.wake();
        }
    }
}
