//! Two threads, random sizes, every byte checked.

use super::*;

/// Moves `total` bytes through a ring, with writes and reads of up to `max` bytes.
fn move_bytes(capacity: usize, total: u64, max: usize, seed: u64) {
    let arena = Arena::new(capacity);
    let over = Over::default();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let _raise = over.raise_at_the_end();
            let mut producer = arena.producer();
            let (mut random, mut pattern) = (Random(seed), Pattern(0));
            let mut buffer = vec![0; max];
            while pattern.0 < total {
                let len = random.size(max).min((total - pattern.0) as usize);
                let bytes = &mut buffer[..len];
                pattern.fill(bytes);
                let n = match random.next() % 4 {
                    0 => {
                        let spans = producer.reserve(len).unwrap();
                        let n = len.min(spans[0].len);
                        // SAFETY: reserved for us.
                        unsafe { spans[0].start.as_ptr().copy_from(bytes.as_ptr(), n) };
                        producer.commit(n).unwrap();
                        n
                    }
                    _ => producer.write(bytes).unwrap(),
                };
                pattern.0 += n as u64;
                if n == 0 {
                    assert!(!over.is_raised(), "the reader has failed, seed {seed:#x}");
                    std::thread::yield_now();
                    if random.next().is_multiple_of(64) {
                        producer.shrink().unwrap();
                    }
                }
            }
        });
        let _raise = over.raise_at_the_end();
        let mut consumer = arena.consumer();
        let (mut random, mut pattern) = (Random(!seed), Pattern(0));
        let mut buffer = vec![0; max];
        while pattern.0 < total {
            let len = 1 + random.size(max - 1);
            let writer_is_over = over.is_raised();
            let n = if random.next().is_multiple_of(4) {
                let spans = consumer.readable().unwrap();
                let n = len.min(spans[0].len);
                // SAFETY: unread bytes, and as many in the buffer.
                unsafe { spans[0].start.as_ptr().copy_to(buffer.as_mut_ptr(), n) };
                consumer.consume(n).unwrap();
                n
            } else {
                consumer.read(&mut buffer[..len]).unwrap()
            };
            pattern.check(&buffer[..n]);
            if n == 0 {
                assert!(!writer_is_over, "bytes are missing, seed {seed:#x}");
                std::thread::yield_now();
            }
        }
        assert_eq!(consumer.used(), Ok(0), "seed {seed:#x}");
    });
}

#[test]
fn small_messages_arrive_as_sent() {
    move_bytes(64 << 10, 4 << 20, 200, 0x1234_5678_9abc_def1);
}

#[test]
fn windows_grow_and_shrink_under_load() {
    for seed in 1..40 {
        move_bytes(128 << 10, 1 << 20, 20_000, seed * 0x9e37_79b9);
    }
}

#[test]
fn bulk_arrives_as_sent() {
    move_bytes(1 << 20, 64 << 20, 300_000, 0xdead_beef_1234_5678);
}

/// Several threads write records through one locked end, and several read the stream: no record is
/// torn, none is lost, none comes twice.
#[test]
fn an_end_shared_by_threads_keeps_records_whole() {
    use crate::session::lock::Identity;

    const WRITERS: u64 = 3;
    const RECORDS: u64 = 20_000;
    let arena = Arena::new(8 << 10);
    let seen = std::sync::Mutex::new(vec![0u64; WRITERS as usize]);
    let left = std::sync::atomic::AtomicU64::new(WRITERS * RECORDS);
    let over = Over::default();
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (arena, over) = (&arena, &over);
            scope.spawn(move || {
                let me = Identity::current().unwrap();
                let mut next = 0;
                while next < RECORDS {
                    // SAFETY: all writers lock these words.
                    let mut producer =
                        unsafe { Exclusive::producer(arena.ring(), arena.producer_words(), me) }
                            .unwrap();
                    if producer.free().unwrap() < 16 {
                        drop(producer);
                        assert!(!over.is_raised(), "a reader has ended early");
                        std::thread::yield_now();
                        continue;
                    }
                    let record = [writer.to_ne_bytes(), u64::to_ne_bytes(next)].concat();
                    assert_eq!(producer.write(&record), Ok(16));
                    next += 1;
                }
            });
        }
        for _ in 0..2 {
            scope.spawn(|| {
                let _raise = over.raise_at_the_end();
                let me = Identity::current().unwrap();
                while left.load(Relaxed) > 0 {
                    // SAFETY: all readers lock these words.
                    let mut consumer =
                        unsafe { Exclusive::consumer(arena.ring(), arena.consumer_words(), me) }
                            .unwrap();
                    let mut record = [0; 16];
                    if consumer.used().unwrap() < 16 {
                        drop(consumer);
                        std::thread::yield_now();
                        continue;
                    }
                    assert_eq!(consumer.read(&mut record), Ok(16));
                    let mut seen = seen.lock().unwrap();
                    let (writer, n) = record.split_at(8);
                    let writer = u64::from_ne_bytes(writer.try_into().unwrap()) as usize;
                    assert_eq!(u64::from_ne_bytes(n.try_into().unwrap()), seen[writer]);
                    seen[writer] += 1;
                    left.fetch_sub(1, Relaxed);
                }
            });
        }
    });
    assert_eq!(*seen.lock().unwrap(), [RECORDS; WRITERS as usize]);
}
