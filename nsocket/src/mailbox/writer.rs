//! The side of a mailbox that posts.

use std::mem::offset_of;
use std::ptr::NonNull;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use rustix::fd::OwnedFd;
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags};
use rustix::time::Timespec;

use crate::stats::file_size_allowed;

use super::{
    FILE_BYTES, HEADER_BYTES, Header, MAGIC, MAX_IMAGE, MailboxPath, VERSION, checksum, slot_offset,
};

/// A mailbox to post to. Also used by programs, to have the file there (and mapped by a
/// [`Mailbox`](super::Mailbox)) before they change root or user: it makes system calls only.
pub struct MailboxWriter {
    file: OwnedFd,
    header: NonNull<Header>,
}

// SAFETY: the mapping belongs to the value and is accessed through atomics only.
unsafe impl Send for MailboxWriter {}
// SAFETY: as above; posts exclude each other by flock.
unsafe impl Sync for MailboxWriter {}

impl MailboxWriter {
    /// Opens the mailbox, or makes it. `public` lets other users read it, as they may read the
    /// policy file. One of another version or length is replaced.
    ///
    /// # Errors
    ///
    /// Those of open(2), pwrite(2), mmap(2); `PERM` if the mailbox is another user's (that of the
    /// policy's owner, who alone may post), `BUSY` if somebody has been making it for a second,
    /// `FBIG` under a file size limit.
    pub fn open(path: &MailboxPath, public: bool) -> Result<Self, Errno> {
        let own = rustix::process::geteuid().as_raw();
        if path.owner() != own {
            return Err(Errno::PERM);
        }
        let mut mode = Mode::RUSR | Mode::WUSR;
        if public {
            mode |= Mode::RGRP | Mode::ROTH;
        }
        for _ in 0..16 {
            let file = rustix::fs::open(
                path.as_c_str(),
                OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC,
                mode,
            )?;
            let stat = rustix::fs::fstat(&file)?;
            if stat.st_uid != own {
                return Err(Errno::PERM);
            }
            if stat.st_size == FILE_BYTES as i64 || make(path, &file, mode)? {
                let header = map_header(&file)?;
                let writer = Self { file, header };
                if writer.is_of_this_version() {
                    return Ok(writer);
                }
                rustix::fs::unlink(path.as_c_str())?;
            }
        }
        Err(Errno::BUSY)
    }

    /// Posts an image. It is there for readers when this returns.
    ///
    /// # Errors
    ///
    /// `FBIG` if the image is larger than [`MAX_IMAGE`]; `NOSPC` where there is no memory for it;
    /// `BUSY` if somebody else has been posting for a second (it may be stopped). The image that was
    /// there before stays.
    pub fn post(&self, image: &[u8], text_hash: u64) -> Result<u64, Errno> {
        if image.len() > MAX_IMAGE {
            return Err(Errno::FBIG);
        }
        let _locked = Locked::within_a_second(&self.file)?;
        self.write(image, text_hash)
    }

    fn write(&self, image: &[u8], text_hash: u64) -> Result<u64, Errno> {
        let header = self.header();
        let number = header.newest.load(Relaxed) + 1;
        let slot = &header.slots[(number % 2) as usize];
        // A reader that still copies the image before last finds out by this.
        slot.number.store(0, Release);
        write_all(&self.file, image, slot_offset(number) as u64)?;
        slot.text_hash.store(text_hash, Relaxed);
        slot.len.store(image.len() as u64, Relaxed);
        slot.checksum.store(checksum(image), Relaxed);
        slot.number.store(number, Release);
        header.newest.store(number, Release);
        Ok(number)
    }

    fn is_of_this_version(&self) -> bool {
        let header = self.header();
        header.magic.load(Acquire) == MAGIC && header.version.load(Relaxed) == VERSION
    }

    fn header(&self) -> &Header {
        // SAFETY: a mapping of a page that starts with a header and lives as long as `self`.
        unsafe { self.header.as_ref() }
    }
}

impl Drop for MailboxWriter {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and no reference into it outlives `self`.
        let _ = unsafe { rustix::mm::munmap(self.header.as_ptr().cast(), HEADER_BYTES) };
    }
}

impl std::fmt::Debug for MailboxWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MailboxWriter").finish_non_exhaustive()
    }
}

/// Makes an empty file a mailbox. False if it was not empty (then it is removed) or is not what the
/// path leads to any more.
fn make(path: &MailboxPath, file: &OwnedFd, mode: Mode) -> Result<bool, Errno> {
    let _locked = Locked::within_a_second(file)?;
    let stat = rustix::fs::fstat(file)?;
    let linked = rustix::fs::stat(path.as_c_str())
        .is_ok_and(|now| (now.st_dev, now.st_ino) == (stat.st_dev, stat.st_ino));
    if !linked {
        return Ok(false);
    }
    if stat.st_size == FILE_BYTES as i64 {
        return Ok(true); // Somebody was faster.
    }
    if stat.st_size != 0 {
        rustix::fs::unlink(path.as_c_str())?;
        return Ok(false);
    }
    if !file_size_allowed(FILE_BYTES as u64) {
        rustix::fs::unlink(path.as_c_str())?;
        return Err(Errno::FBIG);
    }
    rustix::fs::fchmod(file, mode)?; // Whatever the umask says.
    // Written, so that it is backed with memory: a store to a hole could be a SIGBUS. The length
    // comes last: a file of the full length is a mailbox.
    let mut header = [0; HEADER_BYTES];
    header[offset_of!(Header, magic)..][..8].copy_from_slice(&MAGIC.to_ne_bytes());
    header[offset_of!(Header, version)..][..4].copy_from_slice(&VERSION.to_ne_bytes());
    write_all(file, &header, 0)?;
    rustix::fs::ftruncate(file, FILE_BYTES as u64)?;
    Ok(true)
}

/// The file's lock, given back when dropped.
struct Locked<'a>(&'a OwnedFd);

impl<'a> Locked<'a> {
    /// Waits for a second at most: programs post too, and must not hang for a tool that was stopped.
    fn within_a_second(file: &'a OwnedFd) -> Result<Self, Errno> {
        const PAUSE: Timespec = Timespec {
            tv_sec: 0,
            tv_nsec: 1_000_000,
        };
        for _ in 0..1_000 {
            match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Self(file)),
                Err(Errno::WOULDBLOCK | Errno::INTR) => {}
                Err(error) => return Err(error),
            }
            // Interrupted: a shorter pause.
            let _ = rustix::thread::nanosleep(&PAUSE);
        }
        Err(Errno::BUSY)
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        // A lock that cannot be given back goes with the descriptor.
        let _ = rustix::fs::flock(self.0, FlockOperation::Unlock);
    }
}

fn map_header(file: &OwnedFd) -> Result<NonNull<Header>, Errno> {
    // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing.
    let base = unsafe {
        rustix::mm::mmap(
            std::ptr::null_mut(),
            HEADER_BYTES,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::SHARED,
            file,
            0,
        )
    }?;
    NonNull::new(base.cast()).ok_or(Errno::NOMEM)
}

fn write_all(file: &OwnedFd, mut bytes: &[u8], mut offset: u64) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::pwrite(file, bytes, offset) {
            Ok(0) => return Err(Errno::NOSPC),
            Ok(written) => {
                bytes = &bytes[written..];
                offset += written as u64;
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
