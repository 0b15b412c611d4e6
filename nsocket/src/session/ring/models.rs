//! The ring in all orders of its steps (loom): windows of 2, 4 and 8 bytes.
//!
//! Loom watches every byte: two accesses to one of them, one of which writes, that the indexes do not
//! order are reported, whatever values were seen.

use loom::sync::Arc;
use loom::thread;

use super::*;
use crate::session::waiter::fence;

const CAPACITY: usize = 8;

#[derive(Default)]
struct Shared {
    words: RingWords,
    producer: ProducerWords,
    consumer: ConsumerWords,
    bytes: [memory::Byte; CAPACITY],
}

impl Shared {
    fn ring(&self) -> Ring<'_> {
        Ring::new(&self.words, Memory::new(&self.bytes))
    }

    fn producer(&self) -> Producer<'_> {
        // SAFETY: one thread has it.
        unsafe { Producer::new(self.ring(), &self.producer) }
    }

    fn consumer(&self) -> Consumer<'_> {
        // SAFETY: one thread has it.
        unsafe { Consumer::new(self.ring(), &self.consumer) }
    }
}

/// One call of either end.
#[derive(Clone, Copy)]
enum Call {
    /// Writes or reads up to so many bytes.
    Move(usize),
    /// Looks at so many bytes.
    Peek(usize),
    /// Back to the first window.
    Shrink,
}
use Call::{Move, Peek, Shrink};

/// Byte `n` of the stream is `n + 1`.
fn write(producer: &mut Producer<'_>, len: usize) -> usize {
    let bytes = [0; 8].map({
        let mut next = producer.position() as u8;
        move |_: u8| {
            next += 1;
            next
        }
    });
    producer.write(&bytes[..len]).unwrap()
}

fn check(bytes: &[u8], position: u64) {
    for (&byte, n) in bytes.iter().zip(position..) {
        assert_eq!(byte, n as u8 + 1);
    }
}

fn read(consumer: &mut Consumer<'_>, len: usize) -> usize {
    let (mut bytes, position) = ([0; 16], consumer.position());
    let n = consumer.read(&mut bytes[..len]).unwrap();
    check(&bytes[..n], position);
    n
}

fn peek(consumer: &mut Consumer<'_>, len: usize) {
    let (mut bytes, position) = ([0; 16], consumer.position());
    let n = consumer.peek(0, &mut bytes[..len]).unwrap();
    check(&bytes[..n], position);
}

/// The producer's and the consumer's calls at the same time, after `before` bytes have gone through
/// and `unread` have been written; then everything is read.
fn explore(
    preemptions: usize,
    (before, unread): (usize, usize),
    producing: &'static [Call],
    consuming: &'static [Call],
) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(move || {
        let shared = Arc::new(Shared::default());
        for _ in 0..before {
            assert_eq!(write(&mut shared.producer(), 1), 1);
            assert_eq!(read(&mut shared.consumer(), 1), 1);
        }
        assert_eq!(write(&mut shared.producer(), unread), unread);
        let thread = {
            let shared = shared.clone();
            thread::spawn(move || {
                let mut producer = shared.producer();
                for call in producing {
                    match *call {
                        Move(len) | Peek(len) => _ = write(&mut producer, len),
                        Shrink => _ = producer.shrink().unwrap(),
                    }
                }
                producer.position()
            })
        };
        let mut consumer = shared.consumer();
        for call in consuming {
            match *call {
                Move(len) => _ = read(&mut consumer, len),
                Peek(len) => peek(&mut consumer, len),
                Shrink => unreachable!("only a producer does"),
            }
        }
        let written = thread.join().unwrap();
        read(&mut consumer, 16);
        assert_eq!(consumer.position(), written);
    });
}

#[test]
fn bytes_are_published_and_space_is_given_back() {
    explore(
        4,
        (0, 0),
        &[Move(1), Move(1), Move(1)],
        &[Move(1), Move(2), Move(1)],
    );
    explore(3, (1, 1), &[Move(2), Move(1)], &[Move(1), Move(1), Move(1)]);
}

/// Byte 1 lies at the end of the first window, byte 2 has wrapped; the window grows to 4, then to 8.
#[test]
fn a_window_grows_around_unread_bytes_that_have_wrapped() {
    explore(
        3,
        (1, 2),
        &[Move(1), Move(3), Move(3)],
        &[Move(1), Move(1), Move(4)],
    );
    explore(3, (1, 2), &[Move(5), Move(2)], &[Move(2), Move(3)]);
    explore(
        3,
        (3, 2),
        &[Move(1), Move(2), Move(2)],
        &[Peek(2), Move(2), Move(3)],
    );
}

#[test]
fn a_window_grows_twice_before_the_reader_looks() {
    explore(
        3,
        (1, 2),
        &[Move(1), Move(2), Move(1)],
        &[Peek(1), Move(1), Peek(4), Move(1)],
    );
    explore(
        3,
        (0, 1),
        &[Move(2), Move(3), Move(4)],
        &[Move(1), Move(2), Move(8)],
    );
}

#[test]
fn a_window_shrinks_only_when_all_is_read() {
    explore(
        3,
        (0, 3),
        &[Shrink, Move(2), Move(1)],
        &[Move(3), Move(2), Move(1)],
    );
    explore(3, (0, 5), &[Move(1), Shrink, Move(3)], &[Move(6), Move(2)]);
}

/// The writer asks for space, fences and looks; the reader gives it, fences and looks: the writer sees
/// the space, or the reader sees the writer.
#[test]
fn a_wish_for_space_is_seen_or_already_granted() {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(4);
    builder.check(|| {
        let shared = Arc::new(Shared::default());
        assert_eq!(write(&mut shared.producer(), 8), 8);
        let reader = {
            let shared = shared.clone();
            thread::spawn(move || {
                let mut rings = false;
                for _ in 0..2 {
                    assert_eq!(read(&mut shared.consumer(), 2), 2);
                    fence::full();
                    rings |= shared.words.space_is_awaited();
                }
                rings
            })
        };
        let Some(at) = shared.producer().ask_space(4).unwrap() else {
            return;
        };
        fence::full();
        let granted = shared.words.tail_has_reached(at);
        let rings = reader.join().unwrap();
        assert!(granted || rings);
    });
}
