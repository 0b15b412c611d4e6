//! Generated operations, on the ring and on a `VecDeque`; and single properties, told apart.

use std::collections::VecDeque;
use std::io::{IoSlice, IoSliceMut};

use super::*;

#[derive(Clone, Copy, Debug, bolero::TypeGenerator)]
enum Operation {
    Write(u16, u8),
    WriteVectored(u16, u16, u16),
    Reserve(u16, u8),
    Read(u16, u8),
    ReadVectored(u16, u16),
    Peek(u16, u16),
    InPlace(u8),
    Consume(u8),
    AskSpace(u16),
    Shrink,
}

/// What is written next is told by its place in the stream; what is unread, by the queue.
struct Model {
    unread: VecDeque<u8>,
    written: u64,
}

impl Model {
    fn next(&self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        Pattern(self.written).fill(&mut bytes);
        bytes
    }

    fn wrote(&mut self, bytes: &[u8]) {
        self.unread.extend(bytes);
        self.written += bytes.len() as u64;
    }

    #[track_caller]
    fn read(&mut self, bytes: &[u8]) {
        let expected: Vec<u8> = self.unread.drain(..bytes.len()).collect();
        assert_eq!(bytes, expected);
    }
}

#[test]
fn does_what_a_queue_does() {
    bolero::check!()
        .with_type::<(u8, Vec<Operation>)>()
        .for_each(|(shift, operations)| {
            let arena = Arena::new(FIRST_WINDOW << (shift % 5));
            let mut model = Model {
                unread: VecDeque::new(),
                written: 0,
            };
            let (mut producer, mut consumer) = (arena.producer(), arena.consumer());
            for &operation in operations {
                step(operation, &arena, &mut producer, &mut consumer, &mut model);
                assert_eq!(consumer.used(), Ok(model.unread.len()));
                assert_eq!(producer.used(), Ok(model.unread.len()));
                assert_eq!(producer.position(), model.written);
            }
            let mut rest = vec![0; model.unread.len()];
            assert_eq!(consumer.read(&mut rest), Ok(rest.len()));
            model.read(&rest);
            assert_eq!(producer.free(), Ok(arena.capacity));
        });
}

fn step(
    operation: Operation,
    arena: &Arena,
    producer: &mut Producer<'_>,
    consumer: &mut Consumer<'_>,
    model: &mut Model,
) {
    match operation {
        Operation::Write(len, times) => {
            let bytes = model.next(usize::from(len) * usize::from(times % 4));
            let free = producer.free().unwrap();
            let n = producer.write(&bytes).unwrap();
            assert_eq!(n, bytes.len().min(free), "free() tells what a write takes");
            model.wrote(&bytes[..n]);
        }
        Operation::WriteVectored(a, b, c) => {
            let (a, b, c) = (usize::from(a), usize::from(b), usize::from(c));
            let bytes = model.next(a + b + c);
            let free = producer.free().unwrap();
            let (first, rest) = bytes.split_at(a);
            let (second, third) = rest.split_at(b);
            let slices = [first, second, &[], third].map(IoSlice::new);
            let n = producer.write_vectored(&slices).unwrap();
            assert_eq!(n, bytes.len().min(free));
            model.wrote(&bytes[..n]);
        }
        Operation::Reserve(min, part) => {
            let spans = producer.reserve(usize::from(min)).unwrap();
            let available = spans[0].len + spans[1].len;
            assert!(available >= usize::from(min).min(producer.free().unwrap()));
            let bytes = model.next(available * usize::from(part) / 255);
            let first = bytes.len().min(spans[0].len);
            // SAFETY: reserved for us, and as long as that.
            unsafe {
                spans[0].start.as_ptr().copy_from(bytes.as_ptr(), first);
                let rest = bytes.len() - first;
                spans[1]
                    .start
                    .as_ptr()
                    .copy_from(bytes[first..].as_ptr(), rest);
            }
            producer.commit(bytes.len()).unwrap();
            model.wrote(&bytes);
        }
        Operation::Read(len, times) => {
            let mut bytes = vec![0; usize::from(len) * usize::from(times % 4)];
            let n = consumer.read(&mut bytes).unwrap();
            assert_eq!(n, bytes.len().min(model.unread.len()));
            model.read(&bytes[..n]);
        }
        Operation::ReadVectored(a, b) => {
            let (mut first, mut second) = (vec![0; usize::from(a)], vec![0; usize::from(b)]);
            let mut slices = [&mut first[..], &mut [], &mut second].map(IoSliceMut::new);
            let n = consumer.read_vectored(&mut slices).unwrap();
            first.extend(second);
            assert_eq!(n, first.len().min(model.unread.len()));
            model.read(&first[..n]);
        }
        Operation::Peek(offset, len) => {
            let mut bytes = vec![0; usize::from(len)];
            let n = consumer.peek(usize::from(offset), &mut bytes).unwrap();
            let expected: Vec<u8> = model
                .unread
                .iter()
                .skip(usize::from(offset))
                .take(usize::from(len))
                .copied()
                .collect();
            assert_eq!(bytes[..n], expected);
        }
        Operation::InPlace(part) => {
            let spans = consumer.readable().unwrap();
            let mut bytes = Vec::new();
            for span in spans {
                // SAFETY: unread bytes, which stay until they are consumed.
                let part = unsafe { std::slice::from_raw_parts(span.start.as_ptr(), span.len) };
                bytes.extend_from_slice(part);
            }
            assert_eq!(bytes.len(), model.unread.len());
            bytes.truncate(bytes.len() * usize::from(part) / 255);
            consumer.consume(bytes.len()).unwrap();
            model.read(&bytes);
        }
        Operation::Consume(part) => {
            let n = model.unread.len() * usize::from(part) / 255;
            consumer.consume(n).unwrap();
            model.unread.drain(..n);
        }
        Operation::AskSpace(want) => ask_space(usize::from(want), arena, producer, consumer, model),
        Operation::Shrink => {
            assert_eq!(producer.shrink(), Ok(model.unread.is_empty()));
            assert!(!model.unread.is_empty() || arena.window() == FIRST_WINDOW);
        }
    }
}

/// Whoever waits for the tail that it is told has space then, and not a byte before.
fn ask_space(
    want: usize,
    arena: &Arena,
    producer: &mut Producer<'_>,
    consumer: &mut Consumer<'_>,
    model: &mut Model,
) {
    let words = arena.ring().words;
    let Some(at) = producer.ask_space(want).unwrap() else {
        assert!(producer.free().unwrap() >= want.min(arena.window() / 2));
        return;
    };
    let missing = (at - consumer.position()) as usize;
    assert!(missing > 0 && missing <= model.unread.len());
    let mut bytes = vec![0; missing];
    assert_eq!(consumer.read(&mut bytes[1..]), Ok(missing - 1));
    assert!(!words.tail_has_reached(at) && !words.space_is_awaited());
    assert!(producer.ask_space(want).unwrap().is_some());
    assert_eq!(consumer.read(&mut bytes[..1]), Ok(1));
    bytes.rotate_left(1);
    model.read(&bytes);
    assert!(words.tail_has_reached(at) && words.space_is_awaited());
    assert_eq!(producer.ask_space(want), Ok(None));
}

#[test]
fn small_messages_touch_one_page() {
    let arena = Arena::new(1 << 20);
    let (mut producer, mut consumer) = (arena.producer(), arena.consumer());
    for _ in 0..1000 {
        assert_eq!(producer.write(&[7; 100]), Ok(100));
        assert_eq!(consumer.read(&mut [0; 4096]), Ok(100));
    }
    assert_eq!(arena.window(), FIRST_WINDOW);
}

#[test]
fn with_nobody_reading_at_least_half_of_the_capacity_is_taken() {
    const CAPACITY: usize = 64 << 10;
    let mut random = Random(0x5eed);
    for before in [0, 1, 4095, 4096, 5000, 12_288, 100_000] {
        let arena = Arena::new(CAPACITY);
        let (mut producer, mut consumer) = (arena.producer(), arena.consumer());
        let mut buffer = vec![0; CAPACITY];
        for _ in 0..before {
            assert_eq!(producer.write(&[0]), Ok(1));
            assert_eq!(consumer.read(&mut buffer), Ok(1));
        }
        let mut taken = 0;
        loop {
            let n = producer.write(&buffer[..1 + random.size(2000)]).unwrap();
            taken += n;
            if n == 0 {
                break;
            }
        }
        assert!(taken >= CAPACITY / 2, "{taken} bytes after {before}");
        assert_eq!(consumer.read(&mut buffer), Ok(taken));
    }
}

#[test]
fn a_write_that_does_not_fit_enlarges_the_window_at_once() {
    let arena = Arena::new(1 << 20);
    assert_eq!(arena.producer().write(&[1; 100_000]), Ok(100_000));
    assert_eq!(arena.window(), 128 << 10);
}

#[test]
fn without_memory_the_ring_stays_small() {
    let arena = Arena::new(1 << 20);
    let ring = arena.ring_populated_by(|_| false);
    // SAFETY: the only one.
    let mut producer = unsafe { Producer::new(ring, arena.producer_words()) };
    assert_eq!(producer.write(&[1; 100_000]), Ok(FIRST_WINDOW));
    assert_eq!(producer.write(&[1]), Ok(0));
    let mut consumer = arena.consumer();
    assert_eq!(consumer.read(&mut [0; 100_000]), Ok(FIRST_WINDOW));
}

#[test]
fn more_than_there_is_cannot_be_committed_or_consumed() {
    let arena = Arena::new(FIRST_WINDOW);
    let (mut producer, mut consumer) = (arena.producer(), arena.consumer());
    producer.reserve(10).unwrap();
    assert_eq!(
        producer.commit(FIRST_WINDOW + 1),
        Err(Corrupt::Overrun {
            asked: FIRST_WINDOW + 1,
            available: FIRST_WINDOW
        })
    );
    producer.commit(10).unwrap();
    assert_eq!(
        consumer.consume(11),
        Err(Corrupt::Overrun {
            asked: 11,
            available: 10
        })
    );
}

#[test]
fn of_two_writers_the_one_that_needs_least_decides_when_the_reader_wakes() {
    let arena = Arena::new(FIRST_WINDOW);
    let (mut producer, mut consumer) = (arena.producer(), arena.consumer());
    let words = arena.ring().words;
    assert_eq!(producer.write(&[0; FIRST_WINDOW]), Ok(FIRST_WINDOW));
    assert_eq!(producer.ask_space(1000), Ok(Some(1000)));
    assert_eq!(producer.ask_space(10), Ok(Some(10)));
    assert_eq!(producer.ask_space(500), Ok(Some(500)));
    consumer.consume(10).unwrap();
    assert!(words.space_is_awaited());
    assert_eq!(
        producer.ask_space(500),
        Ok(Some(500)),
        "asks again when woken"
    );
    assert!(!words.space_is_awaited());
}

#[test]
fn a_memory_of_no_power_of_two_is_refused() {
    let arena = Arena::new(1 << 20);
    for capacity in [0, 1, 2048, 4097, 12_288] {
        // SAFETY: less than the arena has.
        assert!(unsafe { Memory::new(arena.map, capacity, populate) }.is_none());
    }
}
