//! The mapping of a segment: its file, and memory taken a page at a time.
//!
//! A write to a hole of a tmpfs file that is full is a SIGBUS, which would kill a program over its
//! statistics. So the writer never touches a page that it has not asked the kernel for:
//! `MADV_POPULATE_WRITE` (Linux 5.14) takes the memory or returns an error. On an older kernel there
//! is no segment.
//!
//! The mapping is also kept out of the way of its host program: no descriptor stays open, it is not
//! in core dumps, not locked by an `mlockall` for future mappings, and does not become huge pages.

use std::ffi::CStr;
use std::ptr::NonNull;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, MprotectFlags, MremapFlags, ProtFlags};

use super::histogram::{BUCKETS, HistogramKind};
use super::layout::{Buckets, Fixed, Header, Rule, Series, ShortName, SocketRecord, total_bytes};
use super::process::file_size_allowed;

/// Set for good by [`stop_system_calls`].
static STOPPED: AtomicBool = AtomicBool::new(false);

/// From now on no segment of this process makes a system call: what has memory is written, the rest
/// is lost. For a process that enters a seccomp(2) sandbox.
pub fn stop_system_calls() {
    STOPPED.store(true, Relaxed);
}

/// How often a request for memory that was interrupted is made again.
const ATTEMPTS: u32 = 16;

/// A mapped segment. Unmapped when dropped.
pub(super) struct Pages {
    base: NonNull<u8>,
    len: usize,
    sockets: u32,
    page: usize,
}

// SAFETY: the mapping belongs to the value, and every access to it goes through atomics.
unsafe impl Send for Pages {}
// SAFETY: as above.
unsafe impl Sync for Pages {}

impl Pages {
    /// Creates the file and maps it. The header page is backed with memory, and zero.
    pub(super) fn create(path: &CStr, sockets: u32) -> Result<Self, Errno> {
        let len = total_bytes(sockets);
        if !file_size_allowed(len as u64) {
            return Err(Errno::FBIG);
        }
        let file = rustix::fs::open(
            path,
            OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::RUSR | Mode::WUSR,
        )?;
        let pages = Self::map(&file, len, sockets);
        if pages.is_err() {
            let _ = rustix::fs::unlink(path);
        }
        pages
    }

    fn map(file: &rustix::fd::OwnedFd, len: usize, sockets: u32) -> Result<Self, Errno> {
        rustix::fs::ftruncate(file, len as u64)?;
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
        let pages = Self {
            base,
            len,
            sockets,
            page: page_size(),
        };
        // SAFETY: the range is the mapping just made; nothing refers into it yet.
        unsafe {
            let start = base.as_ptr().cast();
            rustix::mm::munlock(start, len)?;
            rustix::mm::mprotect(start, len, MprotectFlags::READ | MprotectFlags::WRITE)?;
            // Advice only: a kernel built without it says EINVAL.
            let _ = rustix::mm::madvise(start, len, Advice::LinuxDontDump);
            let _ = rustix::mm::madvise(start, len, Advice::LinuxNoHugepage);
        }
        if pages.populate(0, size_of::<Header>()) {
            Ok(pages)
        } else {
            Err(Errno::NOSPC)
        }
    }

    /// Moves the mapping over another one of the same size, and says whether that was possible.
    ///
    /// # Safety
    /// Nothing borrows from `self`, and `other` is never dropped. What still refers to `other`'s memory
    /// finds this one's there, all of which are atomics.
    pub(super) unsafe fn move_over(&mut self, other: &Self) -> bool {
        if self.len != other.len || STOPPED.load(Relaxed) {
            return false;
        }
        // SAFETY: both ranges are mappings of this length, and `other` gives its own up.
        let moved = unsafe {
            rustix::mm::mremap_fixed(
                self.base.as_ptr().cast(),
                self.len,
                self.len,
                MremapFlags::MAYMOVE,
                other.base.as_ptr().cast(),
            )
        };
        if moved.is_ok() {
            self.base = other.base;
        }
        moved.is_ok()
    }

    /// Backs a range of the mapping with memory. After `true` a write to it cannot fail.
    pub(super) fn populate(&self, offset: usize, len: usize) -> bool {
        if STOPPED.load(Relaxed) {
            return false;
        }
        let start = offset & !(self.page - 1);
        let end = (offset + len)
            .next_multiple_of(self.page)
            .min(self.len.next_multiple_of(self.page));
        if start >= end {
            return false;
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
                Ok(()) => return true,
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(_) => return false,
            }
        }
        false
    }

    /// Addresses of the mapping.
    pub(super) fn range(&self) -> std::ops::Range<usize> {
        let start = self.base.as_ptr() as usize;
        start..start + self.len
    }

    pub(super) const fn sockets(&self) -> u32 {
        self.sockets
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    pub(super) fn header(&self) -> &Header {
        &self.fixed().header.0
    }

    pub(super) fn stack(&self, slot: usize) -> &ShortName {
        &self.fixed().stacks.0[slot]
    }

    pub(super) fn class(&self, slot: usize) -> &ShortName {
        &self.fixed().classes.0[slot]
    }

    pub(super) fn rule(&self, slot: usize) -> &Rule {
        &self.fixed().rules.0[slot]
    }

    pub(super) fn series(&self, slot: usize) -> &Series {
        &self.fixed().series.0[slot]
    }

    pub(super) fn buckets(&self, series: usize, kind: HistogramKind) -> &[AtomicU64; BUCKETS] {
        let Buckets(buckets) = &self.fixed().histograms.0[series][kind as usize];
        buckets
    }

    /// The record of a descriptor; the caller has made sure that its memory is there.
    pub(super) fn record(&self, fd: u32) -> Option<&SocketRecord> {
        if fd >= self.sockets {
            return None;
        }
        // SAFETY: the mapping holds `sockets` records behind `Fixed` (see `total_bytes`), which is
        // a multiple of the page size, so the place is inside and aligned. All fields are atomics.
        Some(unsafe {
            &*self
                .base
                .as_ptr()
                .add(size_of::<Fixed>() + fd as usize * size_of::<SocketRecord>())
                .cast::<SocketRecord>()
        })
    }

    /// Where a part of the mapping is, from its start.
    pub(super) fn offset_of<T>(&self, part: &T) -> usize {
        std::ptr::from_ref(part) as usize - self.base.as_ptr() as usize
    }

    /// The bytes of a range that has been populated, for a raw copy.
    pub(super) fn word(&self, offset: usize) -> u64 {
        assert!(offset + 8 <= self.len && offset.is_multiple_of(8));
        // SAFETY: inside the mapping, aligned, and every eight bytes of the layout may be read as
        // an atomic word: fields are atomics of at most this size.
        unsafe { &*self.base.as_ptr().add(offset).cast::<AtomicU64>() }.load(Relaxed)
    }

    fn fixed(&self) -> &Fixed {
        // SAFETY: the mapping is at least this long and page-aligned, lives as long as `self`, and
        // all fields are atomics, for which every bit pattern is valid.
        unsafe { self.base.cast::<Fixed>().as_ref() }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and no reference into it outlives `self`.
        let _ = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.len) };
    }
}

fn page_size() -> usize {
    // SAFETY: getauxval has no preconditions and keeps no state.
    let size = unsafe { libc::getauxval(libc::AT_PAGESZ) } as usize;
    if size.is_power_of_two() {
        size
    } else {
        super::layout::PAGE
    }
}
