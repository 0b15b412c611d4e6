//! Sessions that a process shares with its children.
//!
//! Before a fork all sessions are made fit to be shared: what this end keeps of each moves to memory
//! that the child has, too (see `Endpoint::share`). The sessions of one fork lie in one mapping, a
//! *batch*, which a process unmaps when it has closed the last of them; the kernel frees it with the
//! last process.
//!
//! A session that cannot be shared (no memory; the fork comes out of a signal handler that has
//! interrupted the very call) is the parent's alone: calls on it in the child fail with ECONNRESET, and
//! closing it there says nothing to the peer. The same holds for a child that was made by a system call
//! out of our sight.
//!
//! The parent goes on to be told as before: most children use none of the sessions. One that does asks
//! to be told in its own way, which is by tokens.

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicU32, Ordering};

use dmm_nsocket::session::endpoint::Shared;
use dmm_nsocket::stats::Counter;

use super::pool::{SESSIONS, Using};
use super::{epoll, listener};
use crate::track;

/// Batches that a process can have: forks with sessions open that were not shared before, and of
/// which one still is.
const BATCHES: usize = 4096;

static PLACES: [Batch; BATCHES] = [const { Batch::new() }; BATCHES];

struct Batch {
    /// 0 if it is free; else one more than the sessions in it that are open in this process, and
    /// whoever is just making it; or `ENDING`.
    open: AtomicU32,
    memory: UnsafeCell<Option<Shared>>,
}

const ENDING: u32 = u32::MAX;

// SAFETY: `memory` is written by whoever has moved `open` from 0, before it tells anybody, and taken
// away by whoever has moved it to ENDING.
unsafe impl Sync for Batch {}

impl Batch {
    const fn new() -> Self {
        Self {
            open: AtomicU32::new(0),
            memory: UnsafeCell::new(None),
        }
    }
}

/// A child is about to be made: shares all sessions with it.
pub(crate) fn before_fork() {
    listener::before_fork();
    let count = SESSIONS.count() as usize;
    if count == 0 {
        return;
    }
    epoll::before_fork();
    // More may be opened meanwhile, by other threads: a few places to spare.
    let mut batch = NewBatch::of(count + 16);
    for using in SESSIONS.each() {
        if batch.share(&using) {
            using.endpoint().join();
        } else {
            track::count(Counter::SharingFailed);
        }
    }
}

/// No child has come of it.
pub(crate) fn fork_failed() {
    each_leaves();
}

/// An exec has failed, before which this process had left.
pub(crate) fn staying() {
    for using in SESSIONS.each() {
        using.endpoint().join();
    }
}

/// This process is about to end, or one that stood between the caller and its parent has.
pub(crate) fn leaving() {
    each_leaves();
}

fn each_leaves() {
    if SESSIONS.count() == 0 {
        return;
    }
    for using in SESSIONS.each() {
        let _ = using.endpoint().leave();
    }
}

/// Makes one session fit to be used by a process that is about to be made. False if it cannot be.
pub(super) fn share(using: &Using) -> bool {
    NewBatch::of(1).share(using)
}

/// A batch that sessions are being put into; it is made when the first is.
struct NewBatch {
    room: usize,
    used: usize,
    made: Option<u32>,
}

impl NewBatch {
    const fn of(room: usize) -> Self {
        Self {
            room,
            used: 0,
            made: None,
        }
    }

    fn share(&mut self, using: &Using) -> bool {
        let endpoint = using.endpoint();
        if endpoint.is_shared() {
            return true;
        }
        let Some(at) = self.made.or_else(|| self.make()) else {
            return false;
        };
        let batch = &PLACES[at as usize];
        // SAFETY: it was made, and stays as long as this value or a session is counted.
        let Some(memory) = (unsafe { &*batch.memory.get() }) else {
            return false;
        };
        batch.open.fetch_add(1, Ordering::AcqRel);
        // SAFETY: the batch counts the session until it is closed.
        if !unsafe { endpoint.share(memory, self.used) } {
            leave_batch(at);
            return false;
        }
        using.session().batch.store(at + 1, Ordering::Release);
        self.used += 1;
        true
    }

    #[cold]
    fn make(&mut self) -> Option<u32> {
        let (at, batch) = PLACES.iter().enumerate().find(|(_, batch)| {
            batch
                .open
                .compare_exchange(0, 2, Ordering::Acquire, Ordering::Relaxed)
                .is_ok()
        })?;
        let memory = Shared::new(self.room);
        if memory.is_none() {
            batch.open.store(0, Ordering::Release);
            return None;
        }
        // SAFETY: `open` made this thread the only one to touch it.
        unsafe { *batch.memory.get() = memory };
        self.made = Some(at as u32);
        self.made
    }
}

impl Drop for NewBatch {
    fn drop(&mut self) {
        if let Some(at) = self.made {
            leave_batch(at);
        }
    }
}

/// A session of the batch is closed in this process.
pub(super) fn leave_batch(at: u32) {
    let Some(batch) = PLACES.get(at as usize) else {
        return;
    };
    let last = batch.open.fetch_sub(1, Ordering::AcqRel) == 2
        && batch
            .open
            .compare_exchange(1, ENDING, Ordering::Acquire, Ordering::Relaxed)
            .is_ok();
    if last {
        // SAFETY: ENDING makes this thread the only one to touch it.
        drop(unsafe { (*batch.memory.get()).take() });
        batch.open.store(0, Ordering::Release);
    }
}
