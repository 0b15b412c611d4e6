//! Sleeping, and time limits for futures.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::shard::{Local, current};

use super::wheel::TimerKey;

/// Waits for `duration`, on the current shard.
///
/// # Panics
///
/// If polled outside of a shard.
pub fn sleep(duration: Duration) -> Sleep {
    sleep_until(after(duration))
}

/// Waits until `deadline`, on the current shard.
///
/// # Panics
///
/// If polled outside of a shard.
pub fn sleep_until(deadline: Instant) -> Sleep {
    Sleep {
        deadline,
        armed: None,
    }
}

/// Gives `future` so much time; a timer is only made if it has to wait.
pub fn timeout<F: Future>(limit: Duration, future: F) -> Timeout<F> {
    Timeout {
        future,
        sleep: sleep(limit),
    }
}

/// The time limit has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the time limit has passed")]
pub struct Elapsed;

impl From<Elapsed> for std::io::Error {
    fn from(elapsed: Elapsed) -> Self {
        Self::new(std::io::ErrorKind::TimedOut, elapsed)
    }
}

/// A wait for a time: see [`sleep`].
#[must_use = "does nothing unless awaited"]
pub struct Sleep {
    deadline: Instant,
    armed: Option<(Rc<Local>, TimerKey)>,
}

impl Sleep {
    /// When it ends.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Moves the end.
    pub fn reset(&mut self, deadline: Instant) {
        self.disarm();
        self.deadline = deadline;
    }

    fn disarm(&mut self) {
        if let Some((local, key)) = self.armed.take() {
            local.timers().disarm(key);
        }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match &self.armed {
            Some((local, key)) => {
                if local.timers().update(*key, cx.waker()) {
                    return Poll::Pending;
                }
                self.armed = None;
                Poll::Ready(())
            }
            None if Instant::now() >= self.deadline => Poll::Ready(()),
            None => {
                let local = current();
                let key = local.timers().arm(self.deadline, cx.waker().clone());
                self.armed = Some((local, key));
                Poll::Pending
            }
        }
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.disarm();
    }
}

/// A future with a time limit: see [`timeout`].
#[must_use = "does nothing unless awaited"]
pub struct Timeout<F> {
    future: F,
    sleep: Sleep,
}

impl<F: Future> Future for Timeout<F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // SAFETY: `future` is pinned with this value: it is not moved, and there is no `Drop` here.
        // `sleep` is `Unpin`.
        let (future, sleep) = unsafe {
            let this = self.get_unchecked_mut();
            (Pin::new_unchecked(&mut this.future), &mut this.sleep)
        };
        if let Poll::Ready(output) = future.poll(cx) {
            return Poll::Ready(Ok(output));
        }
        Pin::new(sleep).poll(cx).map(|()| Err(Elapsed))
    }
}

/// A time so far away that it does not matter stands for one that cannot be told.
fn after(duration: Duration) -> Instant {
    const FAR: Duration = Duration::from_secs(86_400 * 365 * 30);
    let now = Instant::now();
    now.checked_add(duration).unwrap_or_else(|| now + FAR)
}
