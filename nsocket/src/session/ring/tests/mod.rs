//! The ring against a model, among threads and processes, and against whoever scribbles over it.

mod hostile;
mod model;
mod processes;
mod threads;

use std::ptr::{NonNull, null_mut};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use rustix::mm::{MapFlags, MprotectFlags, ProtFlags};

use super::*;

const PAGE: usize = 4096;

/// A ring of its own, in memory that a child would share, between two pages that nobody may touch.
struct Arena {
    map: NonNull<u8>,
    capacity: usize,
}

// SAFETY: a mapping, and numbers.
unsafe impl Send for Arena {}
// SAFETY: as above.
unsafe impl Sync for Arena {}

impl Arena {
    fn new(capacity: usize) -> Self {
        let len = capacity + 3 * PAGE;
        // SAFETY: a new mapping overlaps nothing.
        let map = unsafe {
            rustix::mm::mmap_anonymous(
                null_mut(),
                len,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
            )
        }
        .unwrap();
        for guard in [PAGE, len - PAGE] {
            // SAFETY: within the mapping, of which nobody knows yet.
            unsafe { rustix::mm::mprotect(map.byte_add(guard), PAGE, MprotectFlags::empty()) }
                .unwrap();
        }
        Self {
            map: NonNull::new(map.cast()).unwrap(),
            capacity,
        }
    }

    fn ring(&self) -> Ring<'_> {
        self.ring_populated_by(populate)
    }

    fn ring_populated_by(&self, populate: fn(Span) -> bool) -> Ring<'_> {
        // SAFETY: the words are at the start of the first page, the bytes between the guards.
        unsafe {
            let memory = Memory::new(self.map.add(2 * PAGE), self.capacity, populate).unwrap();
            Ring::new(RingWords::at(self.map), memory)
        }
    }

    fn producer_words(&self) -> &ProducerWords {
        // SAFETY: behind the ring's words, in the first page.
        unsafe { ProducerWords::at(self.map.add(1024)) }
    }

    fn consumer_words(&self) -> &ConsumerWords {
        // SAFETY: behind the producer's, in the first page.
        unsafe { ConsumerWords::at(self.map.add(2048)) }
    }

    /// Only one at a time.
    fn producer(&self) -> Producer<'_> {
        // SAFETY: each test makes one.
        unsafe { Producer::new(self.ring(), self.producer_words()) }
    }

    /// Only one at a time.
    fn consumer(&self) -> Consumer<'_> {
        // SAFETY: each test makes one.
        unsafe { Consumer::new(self.ring(), self.consumer_words()) }
    }

    fn window(&self) -> usize {
        let word = self.ring().words.published.window.load(Relaxed);
        FIRST_WINDOW << (word & 0xff)
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // SAFETY: it is ours, and nothing that borrows it is left.
        unsafe { rustix::mm::munmap(self.map.as_ptr().cast(), self.capacity + 3 * PAGE) }.unwrap();
    }
}

/// Raised when it is dropped, so that a thread does not wait for one that has failed.
#[derive(Default)]
struct Over(AtomicBool);

impl Over {
    fn is_raised(&self) -> bool {
        self.0.load(Relaxed)
    }

    fn raise_at_the_end(&self) -> impl Drop + '_ {
        struct Raise<'a>(&'a AtomicBool);
        impl Drop for Raise<'_> {
            fn drop(&mut self) {
                self.0.store(true, Relaxed);
            }
        }
        Raise(&self.0)
    }
}

/// Bytes of a stream of which each position has its own.
struct Pattern(u64);

impl Pattern {
    fn at(n: u64) -> u8 {
        // The upper bits of a multiplicative hash: no period that a ring's size could hide.
        (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8
    }

    fn fill(&mut self, buffer: &mut [u8]) {
        for (byte, n) in buffer.iter_mut().zip(self.0..) {
            *byte = Self::at(n);
        }
    }

    #[track_caller]
    fn check(&mut self, bytes: &[u8]) {
        for (&byte, n) in bytes.iter().zip(self.0..) {
            assert_eq!(byte, Self::at(n), "byte {n}");
        }
        self.0 += bytes.len() as u64;
    }
}

/// A small generator of sizes, seeded, so that a failure can be repeated.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Small ones mostly, large ones now and then.
    fn size(&mut self, max: usize) -> usize {
        let bits = self.next() % (max.ilog2() as u64 + 1);
        (self.next() % (1 << (bits + 1))).min(max as u64) as usize
    }
}
