//! Two processes over a memfd, and the death of one of those that share an end.

use std::os::fd::OwnedFd;

use rustix::fs::MemfdFlags;

use super::*;
use crate::session::lock::{Busy, Identity};
use crate::session::test_process::Child;

const CAPACITY: usize = 64 << 10;

/// A ring in a memfd, mapped by whoever asks.
fn map(file: &OwnedFd) -> Arena {
    let len = CAPACITY + 3 * PAGE;
    // SAFETY: a new mapping overlaps nothing.
    let map = unsafe {
        rustix::mm::mmap(
            null_mut(),
            len,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::SHARED,
            file,
            0,
        )
    }
    .unwrap();
    Arena {
        map: NonNull::new(map.cast()).unwrap(),
        capacity: CAPACITY,
    }
}

fn memfd() -> OwnedFd {
    let file = rustix::fs::memfd_create(c"ring", MemfdFlags::CLOEXEC).unwrap();
    rustix::fs::ftruncate(&file, (CAPACITY + 3 * PAGE) as u64).unwrap();
    file
}

#[test]
fn bytes_pass_between_processes() {
    const TOTAL: u64 = 8 << 20;
    let file = memfd();
    let child = Child::fork(|| {
        // Another mapping, at another address.
        let arena = map(&file);
        let mut producer = arena.producer();
        let (mut random, mut pattern) = (Random(77), Pattern(0));
        let mut buffer = [0; 20_000];
        while pattern.0 < TOTAL {
            let len = random.size(buffer.len()).min((TOTAL - pattern.0) as usize);
            pattern.fill(&mut buffer[..len]);
            let n = producer.write(&buffer[..len]).unwrap();
            pattern.0 += n as u64;
            if n == 0 {
                std::thread::yield_now();
            }
        }
    });
    let arena = map(&file);
    let mut consumer = arena.consumer();
    let (mut random, mut pattern) = (Random(99), Pattern(0));
    let mut buffer = vec![0; 20_000];
    while pattern.0 < TOTAL {
        let len = 1 + random.size(buffer.len() - 1);
        let n = consumer.read(&mut buffer[..len]).unwrap();
        pattern.check(&buffer[..n]);
        if n == 0 {
            std::thread::yield_now();
        }
    }
    child.succeeds();
}

/// Parent and child write through one end; the child is killed at some moment, again and again. What
/// it had completed arrives, whole and in order, and the parent goes on.
#[test]
fn an_end_outlives_a_process_that_is_killed_in_the_middle() {
    for round in 0..30 {
        let file = memfd();
        let arena = map(&file);
        let mut consumer = arena.consumer();
        let child = Child::fork(|| {
            let mut n = 0u64;
            let me = Identity::current().unwrap();
            loop {
                // SAFETY: all writers lock these words.
                let mut producer =
                    unsafe { Exclusive::producer(arena.ring(), arena.producer_words(), me) }
                        .unwrap();
                if producer.free().unwrap() >= 5008 {
                    let mut record = [0; 5008];
                    record[..8].copy_from_slice(&n.to_ne_bytes());
                    Pattern(n).fill(&mut record[8..]);
                    assert_eq!(producer.write(&record), Ok(5008));
                    n += 1;
                }
            }
        });
        let mut record = vec![0; 5008];
        let mut expected = 0u64;
        let mut check = |consumer: &mut Consumer<'_>| {
            while consumer.used().unwrap() >= 5008 {
                assert_eq!(consumer.read(&mut record), Ok(5008));
                assert_eq!(record[..8], expected.to_ne_bytes());
                Pattern(expected).check(&record[8..]);
                expected += 1;
            }
            expected
        };
        while check(&mut consumer) < 20 + 7 * round {
            std::hint::spin_loop();
        }
        child.kill();
        let me = Identity::current().unwrap();
        // SAFETY: all writers lock these words.
        let mut producer =
            unsafe { Exclusive::producer(arena.ring(), arena.producer_words(), me) }.unwrap();
        let completed = check(&mut consumer);
        assert_eq!(consumer.used(), Ok(0), "nothing half");
        let mut record = [0; 5008];
        record[..8].copy_from_slice(&completed.to_ne_bytes());
        Pattern(completed).fill(&mut record[8..]);
        assert_eq!(producer.write(&record), Ok(5008));
        drop(producer);
        assert_eq!(check(&mut consumer), completed + 1);
    }
}

#[test]
fn a_child_is_not_its_parent() {
    let arena = Arena::new(FIRST_WINDOW);
    let me = Identity::current().unwrap();
    // SAFETY: all lock these words.
    let end = unsafe { Exclusive::producer(arena.ring(), arena.producer_words(), me) }.unwrap();
    // SAFETY: as above.
    let again = unsafe { Exclusive::try_producer(arena.ring(), arena.producer_words(), me) };
    assert_eq!(again.err(), Some(Busy::Own));
    let child = Child::fork(|| {
        let child = Identity::current().unwrap();
        // SAFETY: as above.
        let tried = unsafe { Exclusive::try_producer(arena.ring(), arena.producer_words(), child) };
        assert_eq!(tried.err(), Some(Busy::Other { tid: me.tid() }));
    });
    child.succeeds();
    drop(end);
}

/// The moment between the private store and the shared one, made by hand: the holder has ended, what it
/// had completed is in the private words only.
#[test]
fn what_a_dead_holder_had_completed_is_published() {
    let arena = Arena::new(CAPACITY);
    let words = arena.ring().words;
    let in_a_thread_that_ends = |body: &(dyn Fn(Identity) + Sync)| {
        std::thread::scope(|scope| {
            scope.spawn(|| body(Identity::current().unwrap()));
        });
    };
    let me = Identity::current().unwrap();
    in_a_thread_that_ends(&|thread| {
        // SAFETY: all lock these words.
        let mut end =
            unsafe { Exclusive::producer(arena.ring(), arena.producer_words(), thread) }.unwrap();
        assert_eq!(end.write(&[7; 10_000]), Ok(10_000));
        words.published.head.store(0, Relaxed);
        words.published.window.store(0, Relaxed);
        std::mem::forget(end);
    });
    assert_eq!(arena.consumer().used(), Ok(0));
    // SAFETY: as above.
    let end = unsafe { Exclusive::producer(arena.ring(), arena.producer_words(), me) }.unwrap();
    assert!(end.is_recovered());
    drop(end);
    assert_eq!(arena.consumer().used(), Ok(10_000));

    in_a_thread_that_ends(&|thread| {
        // SAFETY: as above.
        let mut end =
            unsafe { Exclusive::consumer(arena.ring(), arena.consumer_words(), thread) }.unwrap();
        let mut bytes = [0; 4000];
        assert_eq!(end.read(&mut bytes), Ok(4000));
        assert_eq!(bytes, [7; 4000]);
        words.consumed.tail.store(0, Relaxed);
        std::mem::forget(end);
    });
    assert_eq!(arena.producer().used(), Ok(10_000));
    // SAFETY: as above.
    let end = unsafe { Exclusive::consumer(arena.ring(), arena.consumer_words(), me) }.unwrap();
    assert!(end.is_recovered());
    drop(end);
    assert_eq!(arena.producer().used(), Ok(6000));
}
