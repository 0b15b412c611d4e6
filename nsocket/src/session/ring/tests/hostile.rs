//! Whatever is written into the words, at whatever time: an error or garbage, never a panic, never an
//! access outside the ring's memory (the pages around it cannot be touched).

use super::*;
use crate::sync::AtomicU64;

/// All words of a ring and of both its ends, locks left out.
fn words(arena: &Arena) -> Vec<&AtomicU64> {
    let (own, other) = (arena.producer_words(), arena.consumer_words());
    let shared = arena.ring().words;
    vec![
        &shared.published.head,
        &shared.published.window,
        &shared.consumed.tail,
        &own.head,
        &own.tail,
        &own.window,
        &own.base,
        &other.tail,
        &other.head,
        &other.window,
    ]
}

/// A value that comes near what could be.
fn near(random: &mut Random, words: &[&AtomicU64]) -> u64 {
    let word = words[random.next() as usize % words.len()].load(Relaxed);
    match random.next() % 8 {
        0 => random.next(),
        1 => u64::MAX,
        2 => 0,
        3 => word.wrapping_add(random.next() % 9000).wrapping_sub(4500),
        4 => word ^ (1 << (random.next() % 64)),
        5 => (random.next() % 8) | (random.next() << 32),
        6 => random.next() % 8,
        _ => word,
    }
}

/// One of everything that an end does. Errors are fine.
fn produce(producer: &mut Producer<'_>, random: &mut Random, buffer: &[u8]) {
    let len = random.size(buffer.len());
    match random.next() % 6 {
        0 => {
            if let Ok(spans) = producer.reserve(len) {
                for span in spans {
                    // SAFETY: reserved for us: that it is within the ring is what is tested.
                    unsafe { span.start.as_ptr().write_bytes(1, span.len) };
                }
                let _ = producer.commit(len.min(spans[0].len + spans[1].len));
            }
        }
        1 => {
            let _ = producer.free();
        }
        2 => {
            let _ = producer.ask_space(len);
        }
        3 => {
            let _ = producer.shrink();
        }
        _ => {
            if let Ok(n) = producer.write(&buffer[..len]) {
                assert!(n <= len);
            }
        }
    }
}

fn consume(consumer: &mut Consumer<'_>, random: &mut Random, buffer: &mut [u8]) {
    let len = random.size(buffer.len());
    match random.next() % 6 {
        0 => {
            if let Ok(spans) = consumer.readable() {
                for span in spans {
                    // SAFETY: as for the producer.
                    unsafe { span.start.as_ptr().copy_to(buffer.as_mut_ptr(), span.len) };
                }
                let _ = consumer.consume(len.min(spans[0].len + spans[1].len));
            }
        }
        1 => {
            let _ = consumer.used();
        }
        2 => {
            let _ = consumer.peek(len, buffer);
        }
        3 => {
            let _ = consumer.consume(len);
        }
        _ => {
            if let Ok(n) = consumer.read(&mut buffer[..len]) {
                assert!(n <= len);
            }
        }
    }
}

#[test]
fn any_word_at_any_time_between_two_calls() {
    let mut random = Random(0xbad_5eed);
    for _ in 0..300 {
        let capacity = FIRST_WINDOW << (random.next() % 5);
        let arena = Arena::new(capacity);
        let (mut producer, mut consumer) = (arena.producer(), arena.consumer());
        let words = words(&arena);
        let mut buffer = vec![0; 2 * capacity];
        for _ in 0..300 {
            if random.next().is_multiple_of(8) {
                let value = near(&mut random, &words);
                words[random.next() as usize % words.len()].store(value, Relaxed);
            }
            if random.next().is_multiple_of(2) {
                produce(&mut producer, &mut random, &buffer);
            } else {
                consume(&mut consumer, &mut random, &mut buffer);
            }
        }
    }
}

#[test]
fn any_word_at_any_time_within_a_call() {
    const CAPACITY: usize = 32 << 10;
    let arena = Arena::new(CAPACITY);
    let over = Over::default();
    std::thread::scope(|scope| {
        let _raise = over.raise_at_the_end();
        scope.spawn(|| {
            let words = words(&arena);
            let mut random = Random(0xbad);
            while !over.is_raised() {
                let value = near(&mut random, &words);
                words[random.next() as usize % words.len()].store(value, Relaxed);
                if random.next().is_multiple_of(4) {
                    // Everything right again for a moment, so that calls get further.
                    words.iter().for_each(|word| word.store(0, Relaxed));
                }
            }
        });
        let end = scope.spawn(|| {
            let mut consumer = arena.consumer();
            let (mut random, mut buffer) = (Random(3), vec![0; 2 * CAPACITY]);
            for _ in 0..200_000 {
                consume(&mut consumer, &mut random, &mut buffer);
            }
        });
        let mut producer = arena.producer();
        let (mut random, buffer) = (Random(5), vec![0; 2 * CAPACITY]);
        for _ in 0..200_000 {
            produce(&mut producer, &mut random, &buffer);
        }
        end.join().unwrap();
    });
}

#[test]
fn each_impossible_word_is_named() {
    let arena = Arena::new(8 << 10);
    let words = arena.ring().words;
    let (producer, mut consumer) = (arena.producer(), arena.consumer());
    words.consumed.tail.store(5, Relaxed);
    assert_eq!(
        producer.used(),
        Err(Corrupt::Indexes {
            head: 0,
            tail: 5,
            window: 4096
        })
    );
    words.consumed.tail.store(0, Relaxed);
    words.published.head.store(4097, Relaxed);
    assert_eq!(
        consumer.used(),
        Err(Corrupt::Indexes {
            head: 4097,
            tail: 0,
            window: 4096
        })
    );
    words.published.head.store(4096, Relaxed);
    words.published.window.store(2, Relaxed);
    assert_eq!(
        consumer.read(&mut [0; 10]),
        Err(Corrupt::Window {
            shift: 14,
            capacity: 8192
        })
    );
    words.published.window.store(0, Relaxed);
    assert_eq!(consumer.read(&mut [0; 10]), Ok(10), "nothing bad was kept");
}
