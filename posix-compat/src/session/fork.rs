//! Sessions that a process shares with its children.
//!
//! Before a fork all sessions are made fit to be shared: what this end keeps of each moves to memory
//! that the child has, too (see `Endpoint::share`). The sessions of one fork lie in one mapping, a
//! *batch*, which a process unmaps when it has closed the last of them; the kernel frees it with the
//! last process.

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicU32, Ordering};

use dmm_nsocket::session::endpoint::Shared;

use super::pool::SESSIONS;

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
    let count = SESSIONS.count() as usize;
    if count == 0 {
        return;
    }
    // More may be opened meanwhile, by other threads: a few places to spare.
    let room = count + 16;
    let Some((at, batch)) = PLACES.iter().enumerate().find(|(_, batch)| {
        batch
            .open
            .compare_exchange(0, 2, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
    }) else {
        return;
    };
    // SAFETY: `open` made this thread the only one to touch it.
    let memory = unsafe { &mut *batch.memory.get() };
    *memory = Shared::new(room);
    let Some(memory) = memory else {
        leave_batch(at as u32);
        return;
    };
    let mut next = 0;
    for using in SESSIONS.each() {
        let endpoint = using.endpoint();
        let known = endpoint.is_shared();
        batch.open.fetch_add(1, Ordering::AcqRel);
        // SAFETY: the batch counts the session until it is closed.
        let shared = unsafe { endpoint.share(memory, next) };
        if shared && !known {
            using
                .session()
                .batch
                .store(at as u32 + 1, Ordering::Release);
            next += 1;
        } else {
            leave_batch(at as u32);
        }
        // Who waits for it in which process nobody can tell the peer.
        endpoint.unlist();
        endpoint.ring_always(true);
    }
    leave_batch(at as u32);
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
