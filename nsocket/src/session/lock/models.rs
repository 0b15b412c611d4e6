//! The lock in all orders of its steps (loom).

use loom::cell::UnsafeCell;
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

use super::*;
use crate::sync::{AtomicU32, Ordering};

/// A kernel that has no timeouts: a sleeper that nobody wakes is a deadlock, which loom reports.
/// Threads with the ID [`DEAD`] have died; whoever waits for one is told at once, as by a timeout.
#[derive(Debug)]
struct Model {
    /// Sleepers, and how many of them have been woken.
    sleepers: Mutex<(u32, u32)>,
    woken: Condvar,
}

const DEAD: u32 = 99;

impl Model {
    fn new() -> Self {
        Self {
            sleepers: Mutex::new((0, 0)),
            woken: Condvar::new(),
        }
    }
}

impl Kernel for &Model {
    fn sleep(&self, word: &AtomicU64, seen: u64, _: u32) -> bool {
        let mut sleepers = self.sleepers.lock().unwrap();
        // As futex(2) does: the word is looked at and the sleep begun in one step.
        if word.load(Ordering::SeqCst) as u32 != seen as u32 || Identity::tid_of(seen) == DEAD {
            return true;
        }
        sleepers.0 += 1;
        while sleepers.1 == 0 {
            sleepers = self.woken.wait(sleepers).unwrap();
        }
        sleepers.0 -= 1;
        sleepers.1 -= 1;
        true
    }

    fn wake_one(&self, _: &AtomicU64) {
        let mut sleepers = self.sleepers.lock().unwrap();
        if sleepers.0 > sleepers.1 {
            sleepers.1 += 1;
            self.woken.notify_all();
        }
    }

    fn is_dead(&self, thread: Identity) -> bool {
        thread.tid() == DEAD
    }
}

struct Shared {
    lock: LockWords,
    kernel: Model,
    value: UnsafeCell<u32>,
    recovered: AtomicU32,
}

// SAFETY: whether the lock protects the value is what loom finds out.
unsafe impl Sync for Shared {}

impl Shared {
    fn new(owner: u64) -> Arc<Self> {
        Arc::new(Self {
            lock: LockWords {
                owner: AtomicU64::new(owner),
            },
            kernel: Model::new(),
            value: UnsafeCell::new(0),
            recovered: AtomicU32::new(0),
        })
    }

    fn count(&self, tid: u32) {
        let guard = self.lock.lock_on(thread_named(tid), &self.kernel).unwrap();
        // SAFETY: under the lock.
        self.value.with_mut(|value| unsafe { *value += 1 });
        if guard.is_recovered() {
            self.recovered.fetch_add(1, Relaxed);
        }
    }
}

fn thread_named(tid: u32) -> Identity {
    Identity::new(tid, 1, 1).unwrap()
}

fn explore(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}

/// `threads` count `times` each; returns how often the lock was recovered.
fn count(owner: u64, threads: u32, times: u32) -> u32 {
    let shared = Shared::new(owner);
    let others: Vec<_> = (2..=threads)
        .map(|tid| {
            let shared = shared.clone();
            thread::spawn(move || (0..times).for_each(|_| shared.count(tid)))
        })
        .collect();
    (0..times).for_each(|_| shared.count(1));
    for other in others {
        other.join().unwrap();
    }
    // SAFETY: all others have ended.
    assert_eq!(
        shared.value.with(|value| unsafe { *value }),
        threads * times
    );
    assert_eq!(shared.lock.owner.load(Relaxed), 0);
    shared.recovered.load(Relaxed)
}

#[test]
fn two_threads_exclude_each_other_and_none_sleeps_for_ever() {
    explore(4, || assert_eq!(count(0, 2, 2), 0));
}

#[test]
fn three_threads_exclude_each_other_and_none_sleeps_for_ever() {
    explore(2, || assert_eq!(count(0, 3, 1), 0));
}

#[test]
fn one_of_two_recovers_the_lock_of_a_dead_holder() {
    explore(3, || assert_eq!(count(thread_named(DEAD).word(), 2, 1), 1));
    explore(3, || {
        assert_eq!(count(thread_named(DEAD).word() | SLEEPERS, 2, 1), 1);
    });
}

/// Who publishes, releases and looks, and who announces, fences and looks: one sees the other.
#[test]
fn releasing_is_a_full_barrier() {
    explore(4, || {
        let shared = Shared::new(0);
        let words = Arc::new([AtomicU32::new(0), AtomicU32::new(0)]);
        let writer = {
            let (shared, words) = (shared.clone(), words.clone());
            thread::spawn(move || {
                let guard = shared.lock.try_lock_on(thread_named(1), &shared.kernel);
                words[0].store(1, Release);
                drop(guard.unwrap());
                words[1].load(Relaxed)
            })
        };
        words[1].store(1, Relaxed);
        fence::full();
        let published = words[0].load(Acquire);
        assert!(published == 1 || writer.join().unwrap() == 1);
    });
}
