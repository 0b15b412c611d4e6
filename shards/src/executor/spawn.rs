//! How a future becomes a task, and finds its way back to its shard.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use async_task::{Builder, ScheduleInfo, WithInfo};

use crate::reactor::table::Key;
use crate::shard::{Beacon, Local, current, with_current};
use crate::sync::Arc;

use super::{JoinHandle, QueueId, TaskQueue};

/// A task that is ready, with the queue that it belongs to.
pub(crate) type Runnable = async_task::Runnable<QueueId>;

/// Starts a task on the current shard.
///
/// It begins when the current one waits. A panic in it ends it alone; it comes up again in who
/// [joins](JoinHandle) it, and is counted.
///
/// # Panics
///
/// Outside of a shard.
#[inline]
pub fn spawn<F: Future + 'static>(future: F) -> JoinHandle<F::Output> {
    with_current(|local| {
        let local = local.expect("tasks are spawned on a shard");
        spawn_on(local, 0, future)
    })
}

/// Starts a task in one of the current shard's queues.
///
/// # Panics
///
/// Outside of a shard.
pub fn spawn_into<F: Future + 'static>(queue: TaskQueue, future: F) -> JoinHandle<F::Output> {
    spawn_on(&current(), queue.id(), future)
}

#[inline]
pub(crate) fn spawn_on<F: Future + 'static>(
    local: &Rc<Local>,
    queue: QueueId,
    future: F,
) -> JoinHandle<F::Output> {
    let task = Task {
        future,
        waiting: None,
    };
    let beacon = Arc::clone(local.beacon());
    let schedule = move |task: Runnable, info: ScheduleInfo| schedule(&beacon, task, info);
    // SAFETY: the future need not be `Send`, as the shard's thread alone runs and drops it: `schedule`
    // leads to the shard's queues from wherever it is called, and when the shard has ended, it has
    // dropped all futures before. The future and what it borrows are `'static`. The schedule function is
    // `Send`, `Sync` and `'static`.
    let (runnable, task) = unsafe {
        Builder::new()
            .metadata(queue)
            .propagate_panic(true)
            .spawn_unchecked(|_| task, WithInfo(schedule))
    };
    local.executor().push(runnable, false);
    JoinHandle::new(task)
}

/// A task is ready: called by its wakers, on any thread.
#[inline]
fn schedule(beacon: &Arc<Beacon>, task: Runnable, info: ScheduleInfo) {
    let mut task = Some(task);
    with_current(|local| match local {
        Some(local) if Arc::ptr_eq(local.beacon(), beacon) => {
            if let Some(task) = task.take() {
                local.executor().push(task, info.woken_while_running);
            }
        }
        _ => {}
    });
    if let Some(task) = task {
        beacon.send(task);
    }
}

/// The future of a task. It leaves a waker with the executor when it waits for the first time, so that
/// tasks that never wait do not pay for that.
struct Task<F> {
    future: F,
    waiting: Option<(Rc<Local>, Key)>,
}

impl<F: Future> Future for Task<F> {
    type Output = F::Output;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        // SAFETY: `future` is pinned with this value: it is never moved out of it, and dropped in place.
        // The other field is `Unpin`.
        let (future, waiting) = unsafe {
            let this = self.get_unchecked_mut();
            (Pin::new_unchecked(&mut this.future), &mut this.waiting)
        };
        let polled = match catch_unwind(AssertUnwindSafe(|| future.poll(cx))) {
            Ok(polled) => polled,
            Err(panic) => {
                with_current(|local| {
                    if let Some(local) = local {
                        local.executor().count_panic();
                    }
                });
                resume_unwind(panic)
            }
        };
        if polled.is_pending() && waiting.is_none() {
            let local = current();
            let key = local.executor().enter_waiting(cx.waker());
            *waiting = Some((local, key));
        }
        polled
    }
}

impl<F> Drop for Task<F> {
    #[inline]
    fn drop(&mut self) {
        if let Some((local, key)) = self.waiting.take() {
            local.executor().leave_waiting(key);
        }
    }
}
