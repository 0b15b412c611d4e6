//! Threads for what would block a shard: computations, system calls without an asynchronous form.
//!
//! One pool serves all shards of the process. A thread is started when there is work and none is idle, up
//! to [`THREADS`], and ends after [`KEEP`] without work.

use std::collections::VecDeque;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

/// Threads at most; work beyond waits.
const THREADS: usize = 64;
/// How long a thread waits for work.
const KEEP: Duration = Duration::from_secs(10);

/// Runs `work` on another thread, and gives its result. Dropping the future does not stop the work.
///
/// # Panics
///
/// With the panic of `work`.
pub fn offload<F, T>(work: F) -> Offloaded<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let shared = Arc::new(Mutex::new(Shared {
        result: None,
        waker: None,
    }));
    let there = Arc::clone(&shared);
    POOL.run(Box::new(move || {
        let result = catch_unwind(AssertUnwindSafe(work));
        let mut shared = lock(&there);
        shared.result = Some(result);
        let waker = shared.waker.take();
        drop(shared);
        waker.into_iter().for_each(Waker::wake);
    }));
    Offloaded { shared }
}

/// The result of what was [offloaded](offload).
#[must_use = "the work is done all the same, but its result is lost"]
pub struct Offloaded<T> {
    shared: Arc<Mutex<Shared<T>>>,
}

struct Shared<T> {
    result: Option<thread::Result<T>>,
    waker: Option<Waker>,
}

impl<T> Future for Offloaded<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let mut shared = lock(&self.shared);
        match shared.result.take() {
            Some(Ok(result)) => Poll::Ready(result),
            Some(Err(panic)) => {
                drop(shared);
                resume_unwind(panic)
            }
            None => {
                shared.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

type Work = Box<dyn FnOnce() + Send>;

static POOL: Pool = Pool {
    state: Mutex::new(State {
        work: VecDeque::new(),
        idle: 0,
        threads: 0,
    }),
    changed: Condvar::new(),
};

struct Pool {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    work: VecDeque<Work>,
    idle: usize,
    threads: usize,
}

impl Pool {
    fn run(&'static self, work: Work) {
        let mut state = lock(&self.state);
        state.work.push_back(work);
        if state.idle >= state.work.len() {
            self.changed.notify_one();
            return;
        }
        if state.threads == THREADS {
            return;
        }
        state.threads += 1;
        drop(state);
        let started = thread::Builder::new()
            .name("shards-offload".into())
            .spawn(|| self.serve());
        if started.is_err() {
            let mut state = lock(&self.state);
            state.threads -= 1;
            // Without any thread the work would wait for ever: it is done here, at the shard's cost.
            let here = if state.threads == 0 {
                state.work.pop_front()
            } else {
                None
            };
            drop(state);
            here.into_iter().for_each(|work| work());
        }
    }

    fn serve(&self) {
        let mut state = lock(&self.state);
        loop {
            if let Some(work) = state.work.pop_front() {
                drop(state);
                work();
                state = lock(&self.state);
                continue;
            }
            state.idle += 1;
            let (woken, waited) = self
                .changed
                .wait_timeout(state, KEEP)
                .unwrap_or_else(PoisonError::into_inner);
            state = woken;
            state.idle -= 1;
            if waited.timed_out() && state.work.is_empty() {
                state.threads -= 1;
                return;
            }
        }
    }
}

/// Nothing panics while it holds one of these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
