//! The memory that sleep words live in: a process writes its own, its peers only read them.
//!
//! A memfd that is mapped writable first and sealed afterwards with `F_SEAL_FUTURE_WRITE` (Linux
//! 5.1): the mapping that is there stays writable, nobody who is given the descriptor gets another
//! writable one, writes to it, or punches holes into it.

use std::os::fd::{AsFd, BorrowedFd};
use std::ptr::NonNull;

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags};

use crate::hidden::Hidden;
use crate::sync::{AtomicU32, Ordering};

use super::sleep::SleepWord;

/// Waiters that a page has room for.
pub const SLOTS: usize = 128;

/// The length of the file.
pub const BYTES: usize = SLOTS * size_of::<Slot>();

const SEALS: SealFlags = SealFlags::FUTURE_WRITE
    .union(SealFlags::SHRINK)
    .union(SealFlags::GROW)
    .union(SealFlags::SEAL);

/// The file system of memfds without huge pages (statfs(2)).
const TMPFS_MAGIC: u64 = 0x0102_1994;

/// How often a request for memory that was interrupted is made again.
const ATTEMPTS: u32 = 16;

/// What is published of a waiter. Two cache lines apart from the next, as processors fetch lines in
/// pairs.
#[derive(Debug)]
#[repr(C, align(128))]
pub struct Slot {
    sleep: SleepWord,
    /// The core that the waiter was last seen on, plus one; 0 if it has not told.
    core: AtomicU32,
}

/// Why a peer's page is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PageError {
    /// Not a memfd, or one of huge pages, which can run out under a reader.
    #[error("the descriptor offered as waiter page is not a plain memfd")]
    NotMemfd,
    /// Not sealed as it must be.
    #[error("the waiter page is sealed {found:#x} instead of {expected:#x}", expected = SEALS.bits())]
    Seals {
        /// The seals that are there (fcntl(2), `F_GET_SEALS`).
        found: u32,
    },
    /// Of another length.
    #[error("the waiter page has {found} bytes instead of {BYTES}")]
    Size {
        /// The length of the file.
        found: u64,
    },
    /// A system call failed.
    #[error("{call} failed for a waiter page: {errno}")]
    System {
        /// Which one.
        call: &'static str,
        /// With what.
        errno: Errno,
    },
}

fn failed(call: &'static str) -> impl Fn(Errno) -> PageError {
    move |errno| PageError::System { call, errno }
}

/// The page of this process. A child of `fork` must make its own: it shares this one with its
/// parent, whose peers ring the parent's doorbell.
#[derive(Debug)]
pub struct WaiterPage {
    map: Map,
    file: Hidden,
}

impl WaiterPage {
    /// Makes a page on which nobody sleeps, all of it backed with memory.
    ///
    /// # Errors
    ///
    /// [`PageError::System`]: no descriptors or memory are left, or the kernel is older than 5.14
    /// (`MADV_POPULATE_WRITE`).
    pub fn create() -> Result<Self, PageError> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = match rustix::fs::memfd_create(c"dmm-waiter", flags | MemfdFlags::NOEXEC_SEAL) {
            // Before Linux 6.3.
            Err(Errno::INVAL) => rustix::fs::memfd_create(c"dmm-waiter", flags),
            file => file,
        }
        .map_err(failed("memfd_create"))?;
        rustix::fs::ftruncate(&file, BYTES as u64).map_err(failed("ftruncate"))?;
        let map = Map::new(&file, ProtFlags::READ | ProtFlags::WRITE)?;
        map.populate(Advice::LinuxPopulateWrite)?;
        rustix::fs::fcntl_add_seals(&file, SEALS).map_err(failed("F_ADD_SEALS"))?;
        let file = Hidden::new(file);
        Ok(Self { map, file })
    }

    /// The sleep word of a waiter, or `None` if there is no such slot.
    pub fn sleep(&self, slot: usize) -> Option<&SleepWord> {
        self.map.slot(slot).map(|slot| &slot.sleep)
    }

    /// Publishes the core that a waiter runs on; a store only if that has changed.
    pub fn publish_core(&self, slot: usize, core: Option<u32>) {
        let Some(slot) = self.map.slot(slot) else {
            return;
        };
        let core = core.map_or(0, |core| core.wrapping_add(1));
        if slot.core.load(Ordering::Relaxed) != core {
            slot.core.store(core, Ordering::Relaxed);
        }
    }
}

impl AsFd for WaiterPage {
    /// The file to hand to peers. Whoever has it can read the page, and no more.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// A peer's page: mapped for reading.
#[derive(Debug)]
pub struct PeerPage {
    map: Map,
}

impl PeerPage {
    /// Maps the page that a peer has handed over. The descriptor is not needed afterwards.
    ///
    /// Checked first: a memfd of the right length that can neither shrink nor lose pages (reading
    /// behind the end of a file is a SIGBUS).
    ///
    /// # Errors
    ///
    /// See [`PageError`].
    pub fn adopt(file: impl AsFd) -> Result<Self, PageError> {
        let file = file.as_fd();
        // Only memfds (and files of a tmpfs, which have F_SEAL_SEAL from the start) have seals.
        let seals = rustix::fs::fcntl_get_seals(file).map_err(|_| PageError::NotMemfd)?;
        let system = rustix::fs::fstatfs(file).map_err(failed("fstatfs"))?;
        if system.f_type as u64 != TMPFS_MAGIC {
            return Err(PageError::NotMemfd);
        }
        // F_SEAL_EXEC comes with MFD_NOEXEC_SEAL.
        if !seals.contains(SEALS) || seals.contains(SealFlags::WRITE) {
            return Err(PageError::Seals {
                found: seals.bits(),
            });
        }
        let size = rustix::fs::fstat(file).map_err(failed("fstat"))?.st_size;
        if size != BYTES as i64 {
            return Err(PageError::Size { found: size as u64 });
        }
        let map = Map::new(&file, ProtFlags::READ)?;
        // Holes, if a peer has left any, are filled now or never.
        map.populate(Advice::LinuxPopulateRead)?;
        Ok(Self { map })
    }

    /// What a waiter of the peer has published; `None` if the page has no such slot (the number
    /// comes from the peer).
    pub fn slot(&self, slot: usize) -> Option<PeerSlot<'_>> {
        self.map.slot(slot).map(PeerSlot)
    }
}

/// A waiter of a peer, to be looked at.
#[derive(Clone, Copy, Debug)]
pub struct PeerSlot<'a>(&'a Slot);

impl PeerSlot<'_> {
    /// The core that the waiter was last seen on, if it has told.
    pub fn core(&self) -> Option<u32> {
        self.0.core.load(Ordering::Relaxed).checked_sub(1)
    }

    /// [`Ringer::ring_if_asleep`](super::Ringer::ring_if_asleep) for this waiter.
    ///
    /// # Errors
    ///
    /// Those of `ring`.
    #[inline]
    pub fn ring_if_asleep<E>(
        &self,
        ringer: &super::Ringer,
        ring: impl FnOnce() -> Result<(), E>,
    ) -> Result<bool, E> {
        ringer.ring_if_asleep(&self.0.sleep, ring)
    }
}

/// A mapping of a page's length, unmapped when dropped.
#[derive(Debug)]
struct Map(NonNull<Slot>);

// SAFETY: the mapping belongs to the value, and is accessed through atomics only.
unsafe impl Send for Map {}
// SAFETY: as above.
unsafe impl Sync for Map {}

impl Map {
    fn new(file: &impl AsFd, access: ProtFlags) -> Result<Self, PageError> {
        // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing.
        let base = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                BYTES,
                access,
                MapFlags::SHARED,
                file,
                0,
            )
        }
        .map_err(failed("mmap"))?;
        let base = NonNull::new(base.cast()).ok_or(PageError::System {
            call: "mmap",
            errno: Errno::NOMEM,
        })?;
        let map = Self(base);
        // SAFETY: the range is the mapping just made. Advice only: nothing depends on it.
        let _ = unsafe { rustix::mm::madvise(base.as_ptr().cast(), BYTES, Advice::LinuxDontDump) };
        Ok(map)
    }

    fn populate(&self, how: Advice) -> Result<(), PageError> {
        for _ in 0..ATTEMPTS {
            // SAFETY: the range is the mapping, and populating changes no byte of it.
            match unsafe { rustix::mm::madvise(self.0.as_ptr().cast(), BYTES, how) } {
                Err(Errno::INTR | Errno::AGAIN) => {}
                result => return result.map_err(failed("MADV_POPULATE")),
            }
        }
        Err(failed("MADV_POPULATE")(Errno::AGAIN))
    }

    fn slot(&self, slot: usize) -> Option<&Slot> {
        if slot >= SLOTS {
            return None;
        }
        // SAFETY: inside the mapping, which is aligned to a page and lives as long as `self`; a slot
        // is made of atomics, for which every bit pattern is valid, and a peer's is only loaded from.
        Some(unsafe { self.0.add(slot).as_ref() })
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and no reference into it outlives `self`.
        let _ = unsafe { rustix::mm::munmap(self.0.as_ptr().cast(), BYTES) };
    }
}

#[cfg(test)]
mod tests;
