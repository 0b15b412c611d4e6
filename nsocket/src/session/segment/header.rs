//! The first page of a segment: words in shared memory, each party's on lines of its own.
//!
//! Processors fetch cache lines in pairs, so "a line" is 128 bytes here.

use std::ptr::NonNull;

use crate::session::ring::{ConsumerWords, ProducerWords, RingWords};
use crate::sync::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use super::layout::{Direction, Layout, PAGE, Side};
use super::status::Status;
use super::{SegmentError, Stale};

const MAGIC: u64 = u64::from_le_bytes(*b"DMMSESS\0");
const VERSION: u32 = 1;

/// How often a segment can be used. The last number means that it is used up.
const GENERATIONS: u32 = 1 << 24;

/// Bytes for what one end keeps to itself: [`ProducerWords`], [`ConsumerWords`], 256 to spare.
const ENDPOINT: usize = 512;

const USED: usize = 4 * 128 + 2 * ENDPOINT + 2 * size_of::<RingWords>();

/// Longest name of the two addresses that is kept, in bytes.
const ADDRESSES: usize = 112;

/// Which use of a segment: the first is 1. Words of an earlier use do not count in a later one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Generation(u32);

impl Generation {
    /// The first use.
    pub const FIRST: Self = Self(1);

    /// From a number that a peer tells; 24 bits, not 0.
    pub const fn from_bits(bits: u32) -> Option<Self> {
        if bits == 0 || bits >= GENERATIONS {
            None
        } else {
            Some(Self(bits))
        }
    }

    /// As a number.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// The use after this one; `None` when the segment has been used up.
    pub const fn next(self) -> Option<Self> {
        Self::from_bits(self.0 + 1)
    }
}

/// The header page. Both sides write it at any time; nothing in it is to be trusted.
#[derive(Debug)]
#[repr(C, align(128))]
pub struct Header {
    format: Format,
    session: Session,
    connecting: Own,
    accepting: Own,
    endpoints: [Region<{ ENDPOINT / 8 }>; 2],
    rings: [Region<{ size_of::<RingWords>() / 8 }>; 2],
    _unused: Region<{ (PAGE - USED) / 8 }>,
}

const _: () = {
    assert!(size_of::<Header>() == PAGE && align_of::<Header>() <= PAGE);
    assert!(size_of::<ProducerWords>() + size_of::<ConsumerWords>() + 32 * 8 == ENDPOINT);
    assert!(align_of::<Region<1>>() >= align_of::<RingWords>());
    assert!(align_of::<Region<1>>() >= align_of::<ProducerWords>());
    assert!(align_of::<Region<1>>() >= align_of::<ConsumerWords>());
};

/// Written once, by whoever made the segment.
#[derive(Debug)]
#[repr(C, align(128))]
struct Format {
    magic: AtomicU64,
    version: AtomicU32,
    shifts: [AtomicU8; 2],
}

/// Written for each use, by whoever made the segment, before it is offered.
#[derive(Debug)]
#[repr(C, align(128))]
struct Session {
    generation: AtomicU32,
    /// Set when a process shares its end with another one: never to be reused.
    shared: AtomicU32,
    /// The offer's addresses, for a process that takes an end over.
    addresses: [AtomicU64; ADDRESSES / 8],
}

/// What one end says and the other reads.
#[derive(Debug)]
#[repr(C, align(128))]
struct Own {
    status: Status,
    core: AtomicU32,
    interest: AtomicU64,
    board: AtomicU64,
}

/// Memory for words that others define: types made of atomics, all zero at the start of a session.
#[derive(Debug)]
#[repr(C, align(128))]
struct Region<const WORDS: usize>([AtomicU64; WORDS]);

impl Header {
    /// What one end says of itself.
    #[inline]
    pub const fn status(&self, side: Side) -> &Status {
        match side {
            Side::Connecting => &self.connecting.status,
            Side::Accepting => &self.accepting.status,
        }
    }

    /// What wakes that end, when there are bytes or space for it: written by itself, read by the other
    /// after it has published. The format is the stack's.
    #[inline]
    pub const fn interest(&self, side: Side) -> &AtomicU64 {
        match side {
            Side::Connecting => &self.connecting.interest,
            Side::Accepting => &self.accepting.interest,
        }
    }

    /// The name of the board (see [`board`](crate::session::board)) that the places in that end's
    /// interest are on; 0 if it has none.
    #[inline]
    pub const fn board(&self, side: Side) -> &AtomicU64 {
        match side {
            Side::Connecting => &self.connecting.board,
            Side::Accepting => &self.accepting.board,
        }
    }

    /// The core that the end was used on last, plus one; 0 if it has not told.
    #[inline]
    pub const fn core(&self, side: Side) -> &AtomicU32 {
        match side {
            Side::Connecting => &self.connecting.core,
            Side::Accepting => &self.accepting.core,
        }
    }

    /// The shared words of a ring.
    #[inline]
    pub fn ring(&self, direction: Direction) -> &RingWords {
        let region = &self.rings[direction as usize];
        // SAFETY: the region is of that size, aligned, and made of atomics.
        unsafe { RingWords::at(NonNull::from(region).cast()) }
    }

    /// What the processes that share one end keep there for sending.
    #[inline]
    pub fn producer(&self, side: Side) -> &ProducerWords {
        // SAFETY: the first 128 bytes of a larger region that is aligned and made of atomics.
        unsafe { ProducerWords::at(self.endpoint(side)) }
    }

    /// What the processes that share one end keep there for receiving.
    #[inline]
    pub fn consumer(&self, side: Side) -> &ConsumerWords {
        // SAFETY: the next 128 bytes of the same.
        unsafe { ConsumerWords::at(self.endpoint(side).add(size_of::<ProducerWords>())) }
    }

    /// More memory for what the processes that share one end keep there: 32 words on lines of their
    /// own, zero at the start of a session.
    #[inline]
    pub const fn spare(&self, side: Side) -> &[AtomicU64; 32] {
        let (_, spare) = self.endpoints[side as usize].0.split_at(32);
        match spare.first_chunk() {
            Some(spare) => spare,
            None => unreachable!(),
        }
    }

    /// The use that the header tells of.
    pub fn generation(&self) -> Option<Generation> {
        Generation::from_bits(self.session.generation.load(Ordering::Acquire))
    }

    /// Takes the segment out of reuse, because its end is in more than one process. Before `fork`
    /// returns in the child, or the descriptor is passed on.
    pub fn mark_shared(&self) {
        self.session.shared.store(1, Ordering::Release);
    }

    /// Whether either side has marked it.
    pub fn is_shared(&self) -> bool {
        self.session.shared.load(Ordering::Acquire) != 0
    }

    /// Both ends have closed: the memory is at the disposal of whoever made it.
    pub fn is_over(&self, generation: Generation) -> bool {
        [Side::Connecting, Side::Accepting].into_iter().all(|side| {
            match self.status(side).load(generation) {
                Ok(state) => state.is_closed(),
                Err(Stale) => false,
            }
        })
    }

    /// Prepares the next use: everything zero but the format, the generation one up. By whoever made
    /// the segment, when [`Header::is_over`] (or nobody has seen it yet).
    ///
    /// `None` if the segment has been used up.
    pub(in crate::session) fn begin_next(&self, last: Generation) -> Option<Generation> {
        let generation = last.next()?;
        self.begin(generation);
        Some(generation)
    }

    /// Keeps the offer's addresses for a process that takes the end over; those that do not fit are
    /// cut off.
    pub fn keep_addresses(&self, bytes: &[u8]) {
        for (word, chunk) in self.session.addresses.iter().zip(bytes.chunks(8)) {
            let mut value = [0; 8];
            value[..chunk.len()].copy_from_slice(chunk);
            word.store(u64::from_ne_bytes(value), Ordering::Relaxed);
        }
    }

    /// What [`Header::keep_addresses`] has kept, or whatever a peer has made of it.
    pub fn kept_addresses(&self) -> [u8; ADDRESSES] {
        let mut bytes = [0; ADDRESSES];
        for (word, chunk) in self.session.addresses.iter().zip(bytes.chunks_mut(8)) {
            chunk.copy_from_slice(&word.load(Ordering::Relaxed).to_ne_bytes());
        }
        bytes
    }

    /// Writes the format and prepares the first use, in memory that is all zero.
    pub(super) fn format(&self, layout: Layout) {
        self.format.magic.store(MAGIC, Ordering::Relaxed);
        self.format.version.store(VERSION, Ordering::Relaxed);
        for (word, shift) in self.format.shifts.iter().zip(layout.shifts()) {
            word.store(shift, Ordering::Relaxed);
        }
        self.set_generation(Generation::FIRST);
    }

    pub(super) fn check_format(&self, layout: Layout) -> Result<(), SegmentError> {
        let Format {
            magic,
            version,
            shifts,
        } = &self.format;
        if magic.load(Ordering::Relaxed) != MAGIC || version.load(Ordering::Relaxed) != VERSION {
            return Err(SegmentError::Header);
        }
        let shifts = [0, 1].map(|i: usize| shifts[i].load(Ordering::Relaxed));
        if shifts != layout.shifts() {
            return Err(SegmentError::Contradiction);
        }
        Ok(())
    }

    /// Whether the header has been prepared for that use. The connecting side may have gone further
    /// by now (sent, finished, even closed); the accepting one has not begun.
    pub(in crate::session) fn check_use(&self, generation: Generation) -> Result<(), SegmentError> {
        let fresh = match self.status(Side::Accepting).load(generation) {
            Ok(state) => state.word() == generation.bits() << 8,
            Err(Stale) => false,
        };
        if fresh && self.generation() == Some(generation) {
            Ok(())
        } else {
            Err(SegmentError::Contradiction)
        }
    }

    fn endpoint(&self, side: Side) -> NonNull<u8> {
        NonNull::from(&self.endpoints[side as usize]).cast()
    }

    fn begin(&self, generation: Generation) {
        let endpoints = self.endpoints.iter().flat_map(|lines| &lines.0);
        let rings = self.rings.iter().flat_map(|region| &region.0);
        for word in endpoints.chain(rings) {
            word.store(0, Ordering::Relaxed);
        }
        for own in [&self.connecting, &self.accepting] {
            own.core.store(0, Ordering::Relaxed);
            own.interest.store(0, Ordering::Relaxed);
            own.board.store(0, Ordering::Relaxed);
        }
        self.session.shared.store(0, Ordering::Relaxed);
        self.set_generation(generation);
    }

    /// The offer, which is sent by system call, publishes all of it.
    fn set_generation(&self, generation: Generation) {
        self.connecting.status.begin(generation);
        self.accepting.status.begin(generation);
        self.session
            .generation
            .store(generation.bits(), Ordering::Release);
    }
}
