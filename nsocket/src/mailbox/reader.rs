//! The program's side of a mailbox. System calls and loads only: it runs inside preloaded programs.

use std::ptr::NonNull;
use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::sync::atomic::{AtomicU8, AtomicU64, fence};

use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags};

use super::{
    FILE_BYTES, HEADER_BYTES, Header, MAGIC, MAX_IMAGE, MailboxPath, VERSION, checksum, slot_offset,
};

/// Copies that a writer overtakes before a poll gives up until the next one.
const ATTEMPTS: u32 = 8;

/// A mapped mailbox.
pub struct Mailbox {
    base: NonNull<u8>,
    device: u64,
    inode: u64,
}

/// What a poll found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Poll {
    /// No newer image than the one asked about (or none that could be read whole just now).
    Unchanged,
    /// A newer image is in the caller's buffer.
    New {
        /// Its number, for the next poll.
        number: u64,
        /// Hash of the policy text that it was compiled from.
        text_hash: u64,
        /// Its length in the buffer.
        len: usize,
    },
    /// There is a newer image, and it does not fit.
    BufferTooSmall {
        /// Bytes that it needs.
        needed: usize,
    },
}

// SAFETY: the mapping belongs to the value and is only read, through atomics.
unsafe impl Send for Mailbox {}
// SAFETY: as above.
unsafe impl Sync for Mailbox {}

impl Mailbox {
    /// Maps a mailbox that exists. No descriptor stays open.
    ///
    /// # Errors
    ///
    /// Those of open(2) (`NOENT`: nobody has made one yet) and mmap(2); `PERM` if somebody other
    /// than this user and root owns it or may write it, `INVAL` if it is not a mailbox of this
    /// version.
    pub fn open(path: &MailboxPath) -> Result<Self, Errno> {
        let file = rustix::fs::open(
            path.as_c_str(),
            OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY,
            Mode::empty(),
        )?;
        let stat = rustix::fs::fstat(&file)?;
        check(&stat)?;
        // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing.
        let base = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                FILE_BYTES,
                ProtFlags::empty(),
                MapFlags::SHARED | MapFlags::NORESERVE,
                &file,
                0,
            )
        }?;
        let base = NonNull::new(base.cast::<u8>()).ok_or(Errno::NOMEM)?;
        let mailbox = Self {
            base,
            device: stat.st_dev,
            inode: stat.st_ino,
        };
        // SAFETY: the range is the mapping just made. Access comes last, so that mlockall does not
        // fill the holes of the file.
        unsafe {
            let start = base.as_ptr().cast();
            rustix::mm::munlock(start, FILE_BYTES)?;
            rustix::mm::mprotect(start, FILE_BYTES, rustix::mm::MprotectFlags::READ)?;
            let _ = rustix::mm::madvise(start, FILE_BYTES, Advice::LinuxDontDump);
        }
        let header = mailbox.header();
        if header.magic.load(Acquire) != MAGIC || header.version.load(Relaxed) != VERSION {
            return Err(Errno::INVAL);
        }
        Ok(mailbox)
    }

    /// Addresses of the mapping: large, and hardly any of it memory.
    pub fn range(&self) -> std::ops::Range<usize> {
        let start = self.base.as_ptr() as usize;
        start..start + FILE_BYTES
    }

    /// Number of the newest image, 0 if there is none. One load.
    #[inline]
    pub fn newest(&self) -> u64 {
        self.header().newest.load(Acquire)
    }

    /// Copies the newest image into `buffer` if its number is not `last`.
    pub fn poll(&self, last: u64, buffer: &mut [u8]) -> Poll {
        for _ in 0..ATTEMPTS {
            let number = self.newest();
            if number == 0 || number == last {
                return Poll::Unchanged;
            }
            let slot = &self.header().slots[(number % 2) as usize];
            if slot.number.load(Acquire) != number {
                continue;
            }
            let text_hash = slot.text_hash.load(Relaxed);
            let sum = slot.checksum.load(Relaxed);
            let len = slot.len.load(Relaxed) as usize;
            if len > MAX_IMAGE {
                return Poll::Unchanged;
            }
            let Some(target) = buffer.get_mut(..len) else {
                return Poll::BufferTooSmall { needed: len };
            };
            self.copy(slot_offset(number), target);
            fence(Acquire);
            if slot.number.load(Relaxed) == number && checksum(target) == sum {
                return Poll::New {
                    number,
                    text_hash,
                    len,
                };
            }
        }
        Poll::Unchanged
    }

    /// Whether the path still leads to this mailbox, and not to a new one or to nothing. A system
    /// call: for now and then.
    pub fn is_current(&self, path: &MailboxPath) -> bool {
        rustix::fs::stat(path.as_c_str())
            .is_ok_and(|stat| (stat.st_dev, stat.st_ino) == (self.device, self.inode))
    }

    fn header(&self) -> &Header {
        // SAFETY: the mapping starts with a header, page-aligned, and lives as long as `self`.
        unsafe { self.base.cast::<Header>().as_ref() }
    }

    /// Copies bytes that somebody may be writing; the caller finds out whether they were.
    fn copy(&self, offset: usize, target: &mut [u8]) {
        assert!(offset >= HEADER_BYTES && offset + target.len() <= FILE_BYTES);
        let mut words = target.chunks_exact_mut(8);
        let mut at = offset;
        for word in words.by_ref() {
            // SAFETY: inside the mapping by the assertion above, and eight-byte aligned, as slots
            // start at page boundaries.
            let source = unsafe { &*self.base.as_ptr().add(at).cast::<AtomicU64>() };
            word.copy_from_slice(&source.load(Relaxed).to_ne_bytes());
            at += 8;
        }
        for byte in words.into_remainder() {
            // SAFETY: inside the mapping by the assertion above.
            *byte = unsafe { &*self.base.as_ptr().add(at).cast::<AtomicU8>() }.load(Relaxed);
            at += 1;
        }
    }
}

impl Drop for Mailbox {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and no reference into it outlives `self`.
        let _ = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), FILE_BYTES) };
    }
}

impl std::fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mailbox")
            .field("newest", &self.newest())
            .finish_non_exhaustive()
    }
}

/// Whether a file may be believed, and mapped: of this user or root, theirs alone to write, and of
/// the right length (a page beyond its end would be a SIGBUS).
fn check(stat: &Stat) -> Result<(), Errno> {
    let own = rustix::process::geteuid().as_raw();
    let shared = Mode::WGRP | Mode::WOTH;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        Err(Errno::INVAL)
    } else if (stat.st_uid != own && stat.st_uid != 0)
        || Mode::from_raw_mode(stat.st_mode).intersects(shared)
    {
        Err(Errno::PERM)
    } else if stat.st_size != FILE_BYTES as i64 {
        Err(Errno::INVAL)
    } else {
        Ok(())
    }
}
