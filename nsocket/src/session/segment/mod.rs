//! The memory of a session: one sealed memfd with a header page and two byte rings.
//!
//! ```text
//! page 0          header: who made it, states, ring words, each party's lines   (`header`)
//! then            ring of the bytes to the accepting side                        (`layout`)
//! then            ring of the bytes to the connecting side
//! ```
//!
//! The connecting side creates a segment and hands its descriptor over; the accepting side adopts it.
//! What is guaranteed after either: the file can neither shrink nor grow, its length is what the
//! layout says, the layout is a private copy that is never read from the memory again, and the header
//! page and the first page of each ring are backed with memory.
//!
//! What no seal prevents: whoever has the descriptor may punch holes into the file. The other side
//! then reads zeros, which is no worse than anything else that it could write there, and the kernel
//! fills the holes again. Only under `vm.overcommit_memory = 2` with nothing left to commit is that
//! filling refused, with a SIGBUS; everywhere else running out of memory is what it always is.
//!
//! Both sides' ends of the rings are to be had with their locks ([`Segment::producer`],
//! [`Segment::consumer`]), so that nobody uses them without.
//!
//! Left to others: what the rings' indexes mean ([`super::ring`]), who sleeps
//! ([`super::waiter`]), how the descriptor travels ([`super::rendezvous`]), and
//! when a segment may be used again ([`super::pool`]).

#![cfg(not(loom))]

mod header;
mod layout;
mod map;
mod status;

use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;

pub use header::{Generation, Header};
pub use layout::{Direction, Layout, MAX_CAPACITY, MIN_CAPACITY, PAGE, Side};
pub use status::{ResetReason, Stale, State, Status};

use super::lock::{Busy, Identity};
use super::ring::{self, Consumer, Exclusive, FIRST_WINDOW, Memory, Producer, Ring};
use crate::stats::file_size_allowed;
use map::Map;

const _: () = assert!(MIN_CAPACITY >= FIRST_WINDOW);

const SEALS: SealFlags = SealFlags::SHRINK
    .union(SealFlags::GROW)
    .union(SealFlags::SEAL);

/// The file system of memfds without huge pages (statfs(2)).
const TMPFS_MAGIC: u64 = 0x0102_1994;

/// Why a segment cannot be made or used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SegmentError {
    /// A capacity that no ring has.
    #[error(
        "a ring of 2^{shift} bytes: the capacity must be a power of two from {MIN_CAPACITY} to {MAX_CAPACITY} bytes"
    )]
    Capacity {
        /// Binary logarithm of the capacity.
        shift: u32,
    },
    /// Not a memfd, or one of huge pages.
    #[error("the descriptor offered as segment is not a plain memfd")]
    NotMemfd,
    /// Not sealed as it must be.
    #[error("the segment is sealed {found:#x} instead of {expected:#x}", expected = SEALS.bits())]
    Seals {
        /// The seals that are there (fcntl(2), `F_GET_SEALS`).
        found: u32,
    },
    /// The file is not as long as the offer says.
    #[error("the segment has {found} bytes instead of {expected}")]
    Size {
        /// By the offer.
        expected: usize,
        /// The length of the file.
        found: u64,
    },
    /// The header is of another format.
    #[error("the segment does not begin with the header of a session")]
    Header,
    /// The header tells of another layout or another use than the offer.
    #[error("the segment's header contradicts the offer")]
    Contradiction,
    /// No memory is left.
    #[error("no memory for the segment: {errno}")]
    Memory {
        /// What madvise(2) said to `MADV_POPULATE_WRITE`.
        errno: Errno,
    },
    /// A system call failed.
    #[error("{call} failed for a segment: {errno}")]
    System {
        /// Which one.
        call: &'static str,
        /// With what.
        errno: Errno,
    },
}

fn failed(call: &'static str) -> impl Fn(Errno) -> SegmentError {
    move |errno| SegmentError::System { call, errno }
}

/// What tells one memfd from another, by the kernel's word: its inode.
///
/// A number is not used for another file as long as the memfd or a mapping of it exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Inode {
    device: u64,
    number: u64,
}

impl Inode {
    /// The inode behind a descriptor.
    ///
    /// # Errors
    ///
    /// Those of fstat(2).
    pub fn of(file: impl AsFd) -> Result<Self, Errno> {
        let stat = rustix::fs::fstat(file)?;
        Ok(Self {
            device: stat.st_dev,
            number: stat.st_ino,
        })
    }
}

/// A mapped segment. Unmapped when dropped; references into it do not outlive it.
#[derive(Debug)]
pub struct Segment {
    map: Map,
    layout: Layout,
    inode: Inode,
}

impl Segment {
    /// Makes a segment, sealed, with its header written for the first use, and the descriptor to
    /// hand over.
    ///
    /// # Errors
    ///
    /// [`SegmentError::System`] where descriptors are lacking, `RLIMIT_FSIZE` is too low or the kernel
    /// is older than 5.14, [`SegmentError::Memory`].
    pub fn create(layout: Layout) -> Result<(Self, OwnedFd), SegmentError> {
        if !file_size_allowed(layout.total_bytes() as u64) {
            return Err(failed("ftruncate")(Errno::FBIG));
        }
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file =
            match rustix::fs::memfd_create(c"dmm-session", flags | MemfdFlags::NOEXEC_SEAL) {
                // Before Linux 6.3.
                Err(Errno::INVAL) => rustix::fs::memfd_create(c"dmm-session", flags),
                file => file,
            }
            .map_err(failed("memfd_create"))?;
        rustix::fs::ftruncate(&file, layout.total_bytes() as u64).map_err(failed("ftruncate"))?;
        rustix::fs::fcntl_add_seals(&file, SEALS).map_err(failed("F_ADD_SEALS"))?;
        let inode = Inode::of(&file).map_err(failed("fstat"))?;
        let segment = Self::map(&file, layout, inode)?;
        segment.header().format(layout);
        Ok((segment, file))
    }

    /// Maps a segment that a peer has handed over, if it is what its offer says: a memfd, sealed, of
    /// that layout, prepared for that use. The descriptor is not needed afterwards.
    ///
    /// # Errors
    ///
    /// See [`SegmentError`]; every one of them but `System` and `Memory` is the peer's doing.
    pub fn adopt(
        file: impl AsFd,
        layout: Layout,
        generation: Generation,
    ) -> Result<Self, SegmentError> {
        let file = file.as_fd();
        // Only memfds, and files of a tmpfs, have seals; the latter have F_SEAL_SEAL from the start
        // and get no others.
        let seals = rustix::fs::fcntl_get_seals(file).map_err(|_| SegmentError::NotMemfd)?;
        let system = rustix::fs::fstatfs(file).map_err(failed("fstatfs"))?;
        if system.f_type as u64 != TMPFS_MAGIC {
            return Err(SegmentError::NotMemfd);
        }
        // F_SEAL_EXEC comes with MFD_NOEXEC_SEAL.
        if seals.difference(SealFlags::EXEC) != SEALS {
            return Err(SegmentError::Seals {
                found: seals.bits(),
            });
        }
        let stat = rustix::fs::fstat(file).map_err(failed("fstat"))?;
        if stat.st_size != layout.total_bytes() as i64 {
            return Err(SegmentError::Size {
                expected: layout.total_bytes(),
                found: stat.st_size as u64,
            });
        }
        let inode = Inode {
            device: stat.st_dev,
            number: stat.st_ino,
        };
        let segment = Self::map(file, layout, inode)?;
        segment.header().check_format(layout)?;
        segment.header().check_use(generation)?;
        Ok(segment)
    }

    /// What is at the start of the memory.
    #[inline]
    pub fn header(&self) -> &Header {
        // SAFETY: the mapping is longer than a header and aligned to a page, lives as long as
        // `self`, and a header is made of atomics, for which every bit pattern is valid.
        unsafe { self.map.base().cast::<Header>().as_ref() }
    }

    /// The validated sizes: a private copy.
    #[inline]
    pub const fn layout(&self) -> Layout {
        self.layout
    }

    /// Which memfd this is.
    #[inline]
    pub const fn inode(&self) -> Inode {
        self.inode
    }

    /// One of the two rings.
    #[inline]
    pub fn ring(&self, direction: Direction) -> Ring<'_> {
        let (start, capacity) = (self.ring_bytes(direction), self.layout.capacity(direction));
        // SAFETY: the bytes are mapped while `self` lives, and nothing else here touches them.
        let memory = unsafe { Memory::new(start, capacity, ring::populate) };
        let memory = memory.expect("a layout has no other capacities than rings have");
        Ring::new(self.header().ring(direction), memory)
    }

    /// The sending end of a side, as soon as nobody else has it.
    ///
    /// # Errors
    ///
    /// See [`Exclusive::producer`].
    #[inline]
    pub fn producer(&self, side: Side, who: Identity) -> Result<Exclusive<'_, Producer<'_>>, Busy> {
        let (ring, own) = (self.ring(side.sends()), self.header().producer(side));
        // SAFETY: this end is used with these words, everywhere.
        unsafe { Exclusive::producer(ring, own, who) }
    }

    /// The sending end of a side, if nobody else has it now.
    ///
    /// # Errors
    ///
    /// See [`Exclusive::try_producer`].
    #[inline]
    pub fn try_producer(
        &self,
        side: Side,
        who: Identity,
    ) -> Result<Exclusive<'_, Producer<'_>>, Busy> {
        let (ring, own) = (self.ring(side.sends()), self.header().producer(side));
        // SAFETY: as in `producer`.
        unsafe { Exclusive::try_producer(ring, own, who) }
    }

    /// The receiving end of a side, as soon as nobody else has it.
    ///
    /// # Errors
    ///
    /// See [`Exclusive::consumer`].
    #[inline]
    pub fn consumer(&self, side: Side, who: Identity) -> Result<Exclusive<'_, Consumer<'_>>, Busy> {
        let (ring, own) = (self.ring(side.receives()), self.header().consumer(side));
        // SAFETY: as in `producer`.
        unsafe { Exclusive::consumer(ring, own, who) }
    }

    /// The receiving end of a side, if nobody else has it now.
    ///
    /// # Errors
    ///
    /// See [`Exclusive::try_consumer`].
    #[inline]
    pub fn try_consumer(
        &self,
        side: Side,
        who: Identity,
    ) -> Result<Exclusive<'_, Consumer<'_>>, Busy> {
        let (ring, own) = (self.ring(side.receives()), self.header().consumer(side));
        // SAFETY: as in `producer`.
        unsafe { Exclusive::try_consumer(ring, own, who) }
    }

    /// Where the bytes of a ring are; there are [`Layout::capacity`] of them.
    #[inline]
    pub(in crate::session) fn ring_bytes(&self, direction: Direction) -> NonNull<u8> {
        // SAFETY: the mapping is `total_bytes` long, of which the ring is a part.
        unsafe { self.map.base().add(self.layout.offset(direction)) }
    }

    fn map(file: impl AsFd, layout: Layout, inode: Inode) -> Result<Self, SegmentError> {
        let map = Map::new(file, layout.total_bytes()).map_err(failed("mmap"))?;
        let segment = Self { map, layout, inode };
        // The header and the first page of the first ring are neighbours. More of a ring is backed
        // when it is used (`ring::populate`).
        let second = layout.offset(Direction::ToConnecting);
        for (offset, len) in [(0, PAGE + FIRST_WINDOW), (second, FIRST_WINDOW)] {
            segment
                .map
                .populate(offset, len)
                .map_err(|errno| SegmentError::Memory { errno })?;
        }
        Ok(segment)
    }
}

#[cfg(test)]
mod tests;
