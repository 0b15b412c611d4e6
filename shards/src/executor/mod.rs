//! Runs the tasks of one shard.
//!
//! | module | what it holds |
//! |---|---|
//! | [`queue`] | task queues: shares, latency, and whose turn it is |
//! | [`spawn`] | how a future becomes a task, and finds its way back to its shard |
//! | [`join`] | waiting for a task's end |
//! | [`preempt`] | when a task should let others run |
//!
//! A task is a future on the heap (`async-task`) that is polled by its shard's thread only, so it need not
//! be `Send`. Its waker may go anywhere: woken on its own shard, a task goes into a queue, without an
//! atomic operation of ours; woken elsewhere, it goes through the shard's [door](crate::wake::door).

mod join;
mod preempt;
mod queue;
mod spawn;

use std::cell::{Cell, RefCell};
use std::task::Waker;
use std::time::Instant;

use crate::reactor::table::{Key, Table};

use queue::Queues;

pub use join::JoinHandle;
pub use preempt::{need_preempt, yield_if_needed, yield_now};
pub(crate) use queue::QueueId;
pub use queue::{Latency, QueueError, TaskQueue, TaskQueueStats};
pub(crate) use spawn::{Runnable, spawn_on};
pub use spawn::{spawn, spawn_into};

/// Polls between two looks at the clock, of the only queue.
const POLLS_A_LOOK: u32 = 32;
/// Polls in one turn, after which the reactor has its turn.
const POLLS_A_TURN: u32 = 1024;

/// The tasks of one shard.
pub(crate) struct Executor {
    queues: RefCell<Queues>,
    /// A waker of each task that has waited, by which those that are left in the end are found.
    waiting: RefCell<Table<Waker>>,
    slice: preempt::Slice,
    polls: Cell<u64>,
    panics: Cell<u64>,
}

impl Executor {
    pub(crate) fn new() -> Self {
        Self {
            queues: RefCell::new(Queues::new()),
            waiting: RefCell::new(Table::new()),
            slice: preempt::Slice::new(),
            polls: Cell::new(0),
            panics: Cell::new(0),
        }
    }

    /// A task is ready. `while_running`: it has woken itself.
    #[inline]
    pub(crate) fn push(&self, task: Runnable, while_running: bool) {
        let mut queues = self.queues.borrow_mut();
        if queues.push(task, while_running) {
            self.slice.interrupt();
        }
    }

    /// Runs what is ready, until nothing is, or others should have their turn.
    pub(crate) fn run(&self) {
        let mut left = POLLS_A_TURN;
        while left != 0 {
            let Some(slice) = self.queues.borrow_mut().choose() else {
                break;
            };
            let began = slice.timed.then(Instant::now);
            self.slice.begin(slice.length);
            let look_every = if slice.timed { 1 } else { POLLS_A_LOOK };
            let (polls, over) = self.run_queue(slice.queue, left, look_every);
            left -= polls.min(left);
            let time = began.map(|began| began.elapsed());
            let only_later = self.queues.borrow_mut().account(slice.queue, polls, time);
            if only_later || over {
                break;
            }
        }
        self.polls
            .set(self.polls.get() + u64::from(POLLS_A_TURN - left));
        self.slice.end();
    }

    /// Whether there is something to run.
    #[inline]
    pub(crate) fn is_ready(&self) -> bool {
        self.queues.borrow().is_ready()
    }

    pub(crate) fn polls(&self) -> u64 {
        self.polls.get()
    }

    pub(crate) fn panics(&self) -> u64 {
        self.panics.get()
    }

    /// How many tasks wait for something.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.borrow().len()
    }

    pub(crate) fn queues(&self) -> &RefCell<Queues> {
        &self.queues
    }

    pub(crate) fn count_panic(&self) {
        self.panics.set(self.panics.get() + 1);
    }

    /// Drops every task, ready or waiting; those that their destructors spawn too.
    pub(crate) fn clear(&self) {
        loop {
            // A waiting task that is woken becomes ready, and a ready one can be dropped.
            let wakers: Vec<_> = {
                let waiting = self.waiting.borrow();
                waiting
                    .keys()
                    .filter_map(|key| waiting.find(key).cloned())
                    .collect()
            };
            wakers.into_iter().for_each(Waker::wake);
            let ready = self.queues.borrow_mut().take_all();
            if ready.is_empty() {
                return;
            }
            drop(ready);
        }
    }

    pub(crate) fn slice(&self) -> &preempt::Slice {
        &self.slice
    }

    /// Runs tasks of one queue. Tells how many polls that were, and whether its time was over.
    fn run_queue(&self, queue: QueueId, limit: u32, look_every: u32) -> (u32, bool) {
        for polls in 0..limit {
            if polls % look_every == look_every - 1 && self.slice.is_over() {
                return (polls, true);
            }
            let Some(task) = self.queues.borrow_mut().pop(queue) else {
                return (polls, false);
            };
            task.run();
            if self.slice.is_interrupted() {
                return (polls + 1, false);
            }
        }
        (limit, true)
    }

    /// A task waits for the first time.
    fn enter_waiting(&self, waker: &Waker) -> Key {
        self.waiting.borrow_mut().insert(waker.clone())
    }

    fn leave_waiting(&self, key: Key) {
        let waker = self.waiting.borrow_mut().remove(key);
        drop(waker);
    }
}
