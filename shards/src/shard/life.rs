//! The loop of a shard, and its end.
//!
//! There is one place where a shard waits, for all that it waits for: completions, timers, tasks that
//! were woken elsewhere, messages, room in a ring. A turn:
//!
//! 1. take tasks that other threads have woken, run messages from other shards
//! 2. run tasks until none is ready or others should have their turn
//! 3. look whom to wake for what was sent
//! 4. one call into the driver: submits, and waits if there is nothing else to do
//! 5. wake the tasks whose timers are due

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use dmm_nsocket::session::waiter::spin::{Outcome, Spin};

use crate::executor::{JoinHandle, spawn_on};
use crate::reactor::driver::Wait;

use super::{Local, enter};

/// What a shard does without work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Idle {
    /// Looks for a while if the mesh was in use, as long as that has proved worth it, and then sleeps.
    #[default]
    Adaptive,
    /// Sleeps at once.
    Sleep,
    /// Never sleeps: it looks for work all the time, at the cost of its core.
    Poll,
}

/// A shard, from its first task to its end.
pub(crate) struct Life {
    local: Rc<Local>,
    idle: Idle,
    spin: Spin,
    /// Where those are that it waits for when it spins.
    other_core: Option<u32>,
}

impl Life {
    pub(crate) fn new(local: Rc<Local>, idle: Idle) -> Self {
        Self {
            other_core: local.mesh.other_core(local.beacon.core()),
            local,
            idle,
            spin: Spin::new(),
        }
    }

    /// Runs `main` to its end, tells `done` whether it has ended as it should, then serves others until `is_over`; and ends the
    /// shard.
    ///
    /// # Panics
    ///
    /// With the panic of `main`, after the shard has ended.
    pub(crate) fn run<F: Future + 'static>(
        self,
        main: F,
        done: impl FnOnce(bool),
        is_over: impl Fn() -> bool,
    ) -> Option<F::Output> {
        let local = Rc::clone(&self.local);
        enter(&local, || {
            let output = catch_unwind(AssertUnwindSafe(|| {
                let mut task = spawn_on(&self.local, 0, main);
                let has_ended = || task.is_finished() || is_over();
                while !has_ended() {
                    self.turn(&has_ended);
                }
                let output = take(&mut task);
                if output.is_none() {
                    task.abort();
                }
                output
            }));
            done(output.is_ok());
            let served = catch_unwind(AssertUnwindSafe(|| {
                while !is_over() {
                    self.turn(&is_over);
                }
            }));
            self.end();
            match (output, served) {
                (Err(panic), _) | (_, Err(panic)) => resume_unwind(panic),
                (Ok(output), Ok(())) => output,
            }
        })
    }

    /// One turn, which does not wait if what it is for `has_ended`.
    fn turn(&self, has_ended: &dyn Fn() -> bool) {
        let local = &self.local;
        local.beacon.beat(true);
        for task in local.beacon.door().take() {
            local.executor.push(task, false);
        }
        local.mesh.receive(local);
        local.executor.run();
        local.mesh.flush(local);
        if local.executor.is_ready() || self.idle == Idle::Poll {
            self.drive(Wait::Not);
        } else {
            self.wait(has_ended);
        }
        local.timers.fire();
    }

    /// Waits for whatever comes first.
    fn wait(&self, has_ended: &dyn Fn() -> bool) {
        let local = &self.local;
        let has_work = || local.mesh.has_work() || !local.beacon.door().is_empty() || has_ended();
        let mut began = None;
        if self.idle == Idle::Adaptive && local.count > 1 && local.mesh.expects_soon() {
            // What was put off or submitted goes first: it may be what others wait for.
            self.drive(Wait::Not);
            if local.executor.is_ready() {
                return;
            }
            match self
                .spin
                .wait(self.other_core, || has_work() || local.reactor.has_work())
            {
                Outcome::Ready => return,
                Outcome::Sleep(since) => began = Some(since),
            }
        }
        local.mesh.prepare_sleep();
        let limit = local.timers.until_next();
        let Some(asleep) = local.beacon.door().lie_down(has_work) else {
            return self.drive(Wait::Not);
        };
        local.sleeps.set(local.sleeps.get() + 1);
        local.beacon.beat(false);
        self.drive(limit.map_or(Wait::Forever, Wait::AtMost));
        local.beacon.beat(true);
        drop(asleep);
        if let Some(began) = began {
            self.spin.slept(began);
        }
    }

    fn drive(&self, wait: Wait) {
        if let Err(error) = self.local.reactor.turn(wait) {
            // Without a driver nothing will ever happen again here.
            panic!("the driver of shard {} failed: {error}", self.local.index);
        }
    }

    /// Ends the shard: tasks first, which cancels what they wait for; then what is in flight.
    fn end(&self) {
        let local = &self.local;
        let mut tidy = || {
            local.executor.clear();
            local.services.borrow_mut().clear();
            local.reactor.close();
            // Destructors of operations may have woken or spawned tasks.
            local.executor.clear();
        };
        // A destructor that panics must not keep the others from knowing.
        let tidied = catch_unwind(AssertUnwindSafe(&mut tidy));
        local.beacon.set_ended();
        drop(local.beacon.door().close());
        local.mesh.say_goodbye();
        if let Err(panic) = tidied {
            resume_unwind(panic);
        }
    }
}

/// The output of a task that has ended.
fn take<T>(task: &mut JoinHandle<T>) -> Option<T> {
    if !task.is_finished() {
        return None;
    }
    match pin!(task).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}
