//! A shared mapping of a whole file, and memory taken for parts of it.
//!
//! A write to a page that the kernel cannot provide is a SIGBUS. So nothing is touched that has not
//! been asked for: `MADV_POPULATE_WRITE` (Linux 5.14) takes the memory or returns an error.

use std::os::fd::AsFd;
use std::ptr::NonNull;

use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, MprotectFlags, ProtFlags};

use super::layout::PAGE;

/// How often a request for memory that was interrupted is made again.
const ATTEMPTS: u32 = 16;

/// Unmapped when dropped.
#[derive(Debug)]
pub(super) struct Map {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping belongs to the value; it is accessed through atomics and, by those who hold the
// locks of the rings, through raw pointers.
unsafe impl Send for Map {}
// SAFETY: as above.
unsafe impl Sync for Map {}

impl Map {
    pub(super) fn new(file: impl AsFd, len: usize) -> Result<Self, Errno> {
        // Without access at first: under mlockall(MCL_FUTURE) the kernel would back all of it.
        // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing.
        let base = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                len,
                ProtFlags::empty(),
                MapFlags::SHARED | MapFlags::NORESERVE,
                file,
                0,
            )
        }?;
        let base = NonNull::new(base.cast::<u8>()).ok_or(Errno::NOMEM)?;
        let map = Self { base, len };
        let start = base.as_ptr().cast();
        // SAFETY: the range is the mapping just made; nothing refers into it yet. A core dump with
        // other people's data in it is nobody's wish.
        unsafe {
            rustix::mm::munlock(start, len)?;
            rustix::mm::mprotect(start, len, MprotectFlags::READ | MprotectFlags::WRITE)?;
            let _ = rustix::mm::madvise(start, len, Advice::LinuxDontDump);
        }
        Ok(map)
    }

    #[inline]
    pub(super) const fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Backs a range with memory. After `Ok` a write to it does not fail.
    pub(super) fn populate(&self, offset: usize, len: usize) -> Result<(), Errno> {
        let start = offset & !(PAGE - 1);
        let end = offset
            .saturating_add(len)
            .next_multiple_of(PAGE)
            .min(self.len);
        if start >= end {
            return Ok(());
        }
        for _ in 0..ATTEMPTS {
            // SAFETY: the range is inside the mapping, and populating changes no byte of it.
            let result = unsafe {
                rustix::mm::madvise(
                    self.base.as_ptr().add(start).cast(),
                    end - start,
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
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and no reference into it outlives `self`.
        let _ = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.len) };
    }
}
