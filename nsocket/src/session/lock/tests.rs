//! The lock among real threads and processes, some of which die.

use std::cell::UnsafeCell;
use std::ptr::null_mut;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use rustix::mm::{MapFlags, ProtFlags};

use super::*;
use crate::session::test_process::Child;

/// A lock in memory that children share, and a word for whatever a test needs.
struct Shared {
    lock: LockWords,
    word: AtomicU64,
    /// Only under the lock.
    count: UnsafeCell<u64>,
}

// SAFETY: the cell is accessed under the lock.
unsafe impl Sync for Shared {}

/// A new one. Stays mapped: a page.
fn shared() -> &'static Shared {
    // SAFETY: a new mapping overlaps nothing; all zero is valid.
    unsafe {
        let map = rustix::mm::mmap_anonymous(
            null_mut(),
            size_of::<Shared>(),
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::SHARED,
        );
        &*map.unwrap().cast()
    }
}

fn me() -> Identity {
    Identity::current().unwrap()
}

fn count(shared: &Shared, times: u64) {
    for _ in 0..times {
        let _guard = shared.lock.lock(me()).unwrap();
        // SAFETY: under the lock.
        unsafe { *shared.count.get() += 1 };
    }
}

#[test]
fn a_free_lock_is_taken_and_released() {
    let lock = LockWords::default();
    let guard = lock.try_lock(me()).unwrap();
    assert!(!guard.is_recovered());
    assert_eq!(lock.owner.load(Relaxed), me().word());
    drop(guard);
    assert_eq!(lock.owner.load(Relaxed), 0);
    assert!(lock.lock(me()).is_ok());
}

#[test]
fn the_holder_is_told_that_it_is_itself() {
    let lock = LockWords::default();
    let _guard = lock.try_lock(me()).unwrap();
    assert_eq!(lock.try_lock(me()).err(), Some(Busy::Own));
    assert_eq!(lock.lock(me()).err(), Some(Busy::Own));
    // Also when somebody sleeps.
    lock.owner.fetch_or(SLEEPERS, Relaxed);
    assert_eq!(lock.lock(me()).err(), Some(Busy::Own));
}

#[test]
fn threads_and_processes_exclude_each_other() {
    const TIMES: u64 = 20_000;
    let shared = shared();
    let children = [0, 1].map(|_| Child::fork(|| count(shared, TIMES)));
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| count(shared, TIMES));
        }
    });
    for child in children {
        child.succeeds();
    }
    // SAFETY: nobody else is left.
    assert_eq!(unsafe { *shared.count.get() }, 5 * TIMES);
}

/// A sleeper is woken at once, not only when its time is up.
#[test]
fn a_sleeper_is_woken_by_the_release() {
    let shared = shared();
    let mut waits = Vec::new();
    for _ in 0..50 {
        let guard = shared.lock.lock(me()).unwrap();
        let got = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| {
                let guard = shared.lock.lock(me()).unwrap();
                let at = Instant::now();
                got.store(true, Relaxed);
                drop(guard);
                at
            });
            while shared.lock.owner.load(Relaxed) & SLEEPERS == 0 {
                std::thread::yield_now();
            }
            std::thread::sleep(Duration::from_millis(1));
            assert!(!got.load(Relaxed));
            let released = Instant::now();
            drop(guard);
            waits.push(waiter.join().unwrap() - released);
        });
    }
    waits.sort();
    // Without the wake-up it would be nine milliseconds.
    assert!(waits[25] < Duration::from_millis(5), "{waits:?}");
}

#[test]
fn a_killed_holder_is_recovered_from_even_while_it_is_a_zombie() {
    for zombie in [false, true] {
        let shared = shared();
        let child = Child::fork(|| {
            std::mem::forget(shared.lock.lock(me()).unwrap());
            shared.word.store(1, Release);
            loop {
                std::thread::park();
            }
        });
        while shared.word.load(Acquire) == 0 {
            std::thread::yield_now();
        }
        assert!(matches!(
            shared.lock.try_lock(me()),
            Err(Busy::Other { .. })
        ));
        child.kill_unwaited();
        let child = zombie.then_some(child);
        let began = Instant::now();
        assert!(shared.lock.lock(me()).unwrap().is_recovered());
        assert!(began.elapsed() < Duration::from_secs(5));
        assert!(!shared.lock.lock(me()).unwrap().is_recovered(), "once");
        drop(child);
    }
}

#[test]
fn a_thread_that_ended_with_the_lock_is_recovered_from() {
    let lock = LockWords::default();
    std::thread::scope(|scope| {
        scope.spawn(|| std::mem::forget(lock.lock(me()).unwrap()));
    });
    assert!(lock.lock(me()).unwrap().is_recovered());
}

#[test]
fn a_stopped_holder_keeps_the_lock() {
    let shared = shared();
    let child = Child::fork(|| {
        let _guard = shared.lock.lock(me()).unwrap();
        shared.word.store(1, Release);
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::STOP)
            .unwrap();
    });
    while shared.word.load(Acquire) == 0 {
        std::thread::yield_now();
    }
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(move || sender.send(shared.lock.lock(me()).unwrap().is_recovered()));
        assert!(
            receiver.recv_timeout(Duration::from_millis(300)).is_err(),
            "stolen"
        );
        child.resume();
        assert_eq!(receiver.recv_timeout(Duration::from_secs(5)), Ok(false));
    });
    child.succeeds();
}

#[test]
fn an_impossible_holder_is_not_waited_for() {
    for word in [SLEEPERS, 1 << 63, 1 << 22] {
        let lock = LockWords {
            owner: AtomicU64::new(word),
        };
        assert!(lock.lock(me()).unwrap().is_recovered(), "{word:#x}");
    }
}

#[test]
fn a_thread_has_one_identity_and_a_child_another() {
    let (parent, again) = (me(), me());
    assert_eq!(parent, again);
    assert_eq!(
        parent.tid(),
        rustix::thread::gettid().as_raw_nonzero().get() as u32
    );
    let thread = std::thread::spawn(me).join().unwrap();
    assert_ne!(thread, parent);
    Child::fork(|| {
        let child = me();
        assert!(child != parent && child == me());
        assert_eq!(
            child.tid(),
            rustix::thread::gettid().as_raw_nonzero().get() as u32
        );
        // And its own child's again.
        Child::fork(|| assert!(me() != child && me() != parent)).succeeds();
    })
    .succeeds();
    assert_eq!(me(), parent);
}
