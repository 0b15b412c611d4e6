//! Task queues: who runs next, and for how long.
//!
//! Each queue has *shares*. Of the queues that have something to run, the one runs that has had the least
//! time for its shares (its virtual time is the least). A queue that wakes up is put level with the others,
//! so that sleeping is no way to save time up. A queue that *latency matters* for, when it
//! becomes ready, ends the slice of one that it does not matter for, and runs as soon as its share allows.
//!
//! With one queue in use, as in most programs, no clock is read.

use std::collections::VecDeque;
use std::time::Duration;

use crate::shard::current;

use super::Runnable;
use super::preempt::SLICE;

/// Names a queue of its shard.
pub(crate) type QueueId = u16;

/// The shares of the queue that every shard has.
const DEFAULT_SHARES: u32 = 1000;

/// Whether it matters how soon the tasks of a queue run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Latency {
    /// They should run within this time of becoming ready: slices of other queues are that short while
    /// this queue is in use, and end early when it becomes ready.
    Matters(Duration),
    /// Throughput counts.
    DoesNotMatter,
}

/// A queue of tasks on one shard. Copies are the same queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskQueue {
    id: QueueId,
    /// Of its shard only.
    _not_send: std::marker::PhantomData<*const ()>,
}

/// A queue could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QueueError {
    /// Without shares it would never run.
    #[error("a task queue needs shares above zero")]
    NoShares,
    /// There are 65536 already.
    #[error("the shard has as many task queues as it can")]
    TooMany,
}

/// What a queue has done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskQueueStats {
    /// Its name.
    pub name: &'static str,
    /// How often a task of it was polled.
    pub polls: u64,
    /// How long it has run, while it was not the only one in use.
    pub run_time: Duration,
    /// How many tasks are ready.
    pub ready: usize,
}

impl TaskQueue {
    /// Makes a queue on the current shard, for the shard's life.
    ///
    /// # Errors
    ///
    /// Without shares, or with too many queues.
    ///
    /// # Panics
    ///
    /// Outside of a shard.
    pub fn new(name: &'static str, shares: u32, latency: Latency) -> Result<Self, QueueError> {
        if shares == 0 {
            return Err(QueueError::NoShares);
        }
        let local = current();
        let mut queues = local.executor().queues().borrow_mut();
        let id = queues.add(name, shares, latency)?;
        Ok(Self {
            id,
            _not_send: std::marker::PhantomData,
        })
    }

    /// What it has done.
    ///
    /// # Panics
    ///
    /// Outside of its shard.
    pub fn stats(self) -> TaskQueueStats {
        current().executor().queues().borrow().stats(self.id)
    }

    pub(crate) fn id(self) -> QueueId {
        self.id
    }
}

/// All queues of a shard. The first is everybody's.
pub(crate) struct Queues {
    queues: Vec<Queue>,
    /// Queues with something ready.
    ready: Vec<QueueId>,
    /// The virtual time of the queue that ran last.
    virtual_now: u64,
    /// How long a slice is while queues that latency matters for are in use.
    shortest: Duration,
}

struct Queue {
    name: &'static str,
    tasks: VecDeque<Runnable>,
    /// Those that let others go first: ready when the reactor has had its turn.
    later: VecDeque<Runnable>,
    shares: u32,
    urgent: bool,
    virtual_time: u64,
    is_ready: bool,
    polls: u64,
    run_time: Duration,
}

/// What is to run.
pub(super) struct Chosen {
    pub(super) queue: QueueId,
    /// `None` for a queue that latency matters for.
    pub(super) length: Option<Duration>,
    /// Others wait: its time is to be measured.
    pub(super) timed: bool,
}

impl Queues {
    pub(super) fn new() -> Self {
        let mut queues = Self {
            queues: Vec::new(),
            ready: Vec::new(),
            virtual_now: 0,
            shortest: SLICE,
        };
        let _ = queues.add("default", DEFAULT_SHARES, Latency::DoesNotMatter);
        queues
    }

    fn add(
        &mut self,
        name: &'static str,
        shares: u32,
        latency: Latency,
    ) -> Result<QueueId, QueueError> {
        let id = QueueId::try_from(self.queues.len()).map_err(|_| QueueError::TooMany)?;
        if let Latency::Matters(within) = latency {
            self.shortest = self.shortest.min(within / 2);
        }
        self.queues.push(Queue {
            name,
            tasks: VecDeque::new(),
            later: VecDeque::new(),
            shares,
            urgent: latency != Latency::DoesNotMatter,
            virtual_time: self.virtual_now,
            is_ready: false,
            polls: 0,
            run_time: Duration::ZERO,
        });
        Ok(id)
    }

    /// A task is ready: now, or `later`, after the reactor's turn. Tells whether latency matters for it.
    #[inline]
    pub(super) fn push(&mut self, task: Runnable, later: bool) -> bool {
        let id = *task.metadata();
        let queue = &mut self.queues[usize::from(id)];
        if later {
            queue.later.push_back(task);
        } else {
            queue.tasks.push_back(task);
        }
        if !queue.is_ready {
            queue.is_ready = true;
            queue.virtual_time = queue.virtual_time.max(self.virtual_now);
            self.ready.push(id);
        }
        queue.urgent
    }

    #[inline]
    pub(super) fn pop(&mut self, id: QueueId) -> Option<Runnable> {
        self.queues[usize::from(id)].tasks.pop_front()
    }

    #[inline]
    pub(super) fn is_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Whose turn it is.
    #[inline]
    pub(super) fn choose(&mut self) -> Option<Chosen> {
        let queue = match *self.ready {
            [] => return None,
            [only] => only,
            [first, ..] => {
                let order = |id: &QueueId| {
                    let queue = &self.queues[usize::from(*id)];
                    (queue.virtual_time, !queue.urgent)
                };
                self.ready
                    .iter()
                    .min_by_key(|id| order(id))
                    .copied()
                    .unwrap_or(first)
            }
        };
        let chosen = &self.queues[usize::from(queue)];
        self.virtual_now = self.virtual_now.max(chosen.virtual_time);
        Some(Chosen {
            queue,
            length: (!chosen.urgent).then_some(self.shortest),
            timed: self.queues.len() > 1,
        })
    }

    /// A queue has run. Tells whether nothing is left of it but what is for later.
    pub(super) fn account(&mut self, id: QueueId, polls: u32, time: Option<Duration>) -> bool {
        let queue = &mut self.queues[usize::from(id)];
        queue.polls += u64::from(polls);
        if let Some(time) = time {
            queue.run_time += time;
            let ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
            let cost = ns.saturating_mul(u64::from(DEFAULT_SHARES)) / u64::from(queue.shares);
            queue.virtual_time = queue.virtual_time.saturating_add(cost);
        }
        if !queue.tasks.is_empty() {
            return false;
        }
        if queue.later.is_empty() {
            queue.is_ready = false;
            self.ready.retain(|ready| *ready != id);
            return false;
        }
        std::mem::swap(&mut queue.tasks, &mut queue.later);
        true
    }

    /// Takes every ready task out.
    pub(super) fn take_all(&mut self) -> Vec<Runnable> {
        for id in self.ready.drain(..) {
            self.queues[usize::from(id)].is_ready = false;
        }
        self.queues
            .iter_mut()
            .flat_map(|queue| queue.tasks.drain(..).chain(queue.later.drain(..)))
            .collect()
    }

    fn stats(&self, id: QueueId) -> TaskQueueStats {
        let queue = &self.queues[usize::from(id)];
        TaskQueueStats {
            name: queue.name,
            polls: queue.polls,
            run_time: queue.run_time,
            ready: queue.tasks.len() + queue.later.len(),
        }
    }
}
