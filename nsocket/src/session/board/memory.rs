//! The ready sets of a board: one memfd, mapped writable by the owner and its peers.

use std::os::fd::AsFd;
use std::ptr::NonNull;

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags};

use super::WAITERS;
use crate::hidden::Hidden;
use crate::session::ready::ReadyWords;
use crate::session::waiter::PageError;

/// A set and what fills it up to a multiple of two cache lines.
const STRIDE: usize = ReadyWords::BYTES.next_multiple_of(128);

/// The length of the file.
const BYTES: usize = (WAITERS * STRIDE).next_multiple_of(4096);

const SEALS: SealFlags = SealFlags::SHRINK
    .union(SealFlags::GROW)
    .union(SealFlags::SEAL);

/// The file system of memfds without huge pages (statfs(2)).
const TMPFS_MAGIC: u64 = 0x0102_1994;

/// How often a request for memory that was interrupted is made again.
const ATTEMPTS: u32 = 16;

/// All the ready sets of a board. Unmapped when dropped.
#[derive(Debug)]
pub(super) struct Sets(NonNull<u8>);

// SAFETY: the mapping belongs to the value, and is accessed through atomics only.
unsafe impl Send for Sets {}
// SAFETY: as above.
unsafe impl Sync for Sets {}

impl Sets {
    /// Makes empty sets, and the file to hand to peers.
    pub(super) fn create() -> Result<(Self, Hidden), PageError> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = match rustix::fs::memfd_create(c"dmm-ready", flags | MemfdFlags::NOEXEC_SEAL) {
            // Before Linux 6.3.
            Err(Errno::INVAL) => rustix::fs::memfd_create(c"dmm-ready", flags),
            file => file,
        }
        .map_err(failed("memfd_create"))?;
        rustix::fs::ftruncate(&file, BYTES as u64).map_err(failed("ftruncate"))?;
        rustix::fs::fcntl_add_seals(&file, SEALS).map_err(failed("F_ADD_SEALS"))?;
        let sets = Self::map(&file)?;
        Ok((sets, Hidden::new(file)))
    }

    /// Maps the sets that a peer has handed over, if the file is what it should be.
    pub(super) fn adopt(file: impl AsFd) -> Result<Self, PageError> {
        let file = file.as_fd();
        let seals = rustix::fs::fcntl_get_seals(file).map_err(|_| PageError::NotMemfd)?;
        let system = rustix::fs::fstatfs(file).map_err(failed("fstatfs"))?;
        if system.f_type as u64 != TMPFS_MAGIC {
            return Err(PageError::NotMemfd);
        }
        if seals.difference(SealFlags::EXEC) != SEALS {
            return Err(PageError::Seals {
                found: seals.bits(),
            });
        }
        let size = rustix::fs::fstat(file).map_err(failed("fstat"))?.st_size;
        if size != BYTES as i64 {
            return Err(PageError::Size { found: size as u64 });
        }
        Self::map(file)
    }

    /// The set of a waiter.
    #[inline]
    pub(super) fn set(&self, waiter: usize) -> Option<&ReadyWords> {
        if waiter >= WAITERS {
            return None;
        }
        // SAFETY: inside the mapping.
        let start = unsafe { self.0.add(waiter * STRIDE) };
        let memory = NonNull::slice_from_raw_parts(start, STRIDE);
        // SAFETY: mapped readable and writable while `self` lives, aligned, accessed atomically. The
        // file cannot shrink, so that a page which is not there yet is made by the kernel.
        unsafe { ReadyWords::at(memory) }
    }

    /// Backs the set of a waiter with memory, as far as `sessions` need it.
    pub(super) fn populate(&self, waiter: usize, sessions: usize) -> Result<(), Errno> {
        let start = (waiter * STRIDE) & !4095;
        let end = (waiter * STRIDE + 8 + sessions / 8 + 8)
            .next_multiple_of(4096)
            .min(BYTES);
        for _ in 0..ATTEMPTS {
            // SAFETY: inside the mapping, and populating changes no byte of it.
            let result = unsafe {
                rustix::mm::madvise(
                    self.0.as_ptr().add(start).cast(),
                    end.saturating_sub(start),
                    Advice::LinuxPopulateWrite,
                )
            };
            match result {
                Err(Errno::INTR | Errno::AGAIN) => {}
                result => return result,
            }
        }
        Err(Errno::AGAIN)
    }

    fn map(file: impl AsFd) -> Result<Self, PageError> {
        // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing.
        let base = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                BYTES,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED | MapFlags::NORESERVE,
                file,
                0,
            )
        }
        .map_err(failed("mmap"))?;
        NonNull::new(base.cast())
            .map(Self)
            .ok_or(PageError::System {
                call: "mmap",
                errno: Errno::NOMEM,
            })
    }
}

impl Drop for Sets {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and no reference into it outlives `self`.
        let _ = unsafe { rustix::mm::munmap(self.0.as_ptr().cast(), BYTES) };
    }
}

fn failed(call: &'static str) -> impl Fn(Errno) -> PageError {
    move |errno| PageError::System { call, errno }
}
