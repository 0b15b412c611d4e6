//! The side of a mailbox that posts.

use std::ptr::NonNull;
use std::sync::atomic::Ordering::{Relaxed, Release};

use rustix::fd::OwnedFd;
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags};

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
    /// Those of open(2), flock(2), pwrite(2), mmap(2); `PERM` if the file belongs to another user.
    pub fn open(path: &MailboxPath, public: bool) -> Result<Self, Errno> {
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
            rustix::fs::flock(&file, FlockOperation::LockExclusive)?;
            let stat = rustix::fs::fstat(&file)?;
            if stat.st_uid != rustix::process::geteuid().as_raw() {
                return Err(Errno::PERM);
            }
            let linked = rustix::fs::stat(path.as_c_str())
                .is_ok_and(|now| (now.st_dev, now.st_ino) == (stat.st_dev, stat.st_ino));
            if !linked {
                continue; // Replaced while we waited for the lock.
            }
            if stat.st_size == 0 {
                rustix::fs::fchmod(&file, mode)?; // Whatever the umask says.
                rustix::fs::ftruncate(&file, FILE_BYTES as u64)?;
                // Backs the header with memory: a store to a hole could be a SIGBUS.
                write_all(&file, &[0; HEADER_BYTES], 0)?;
            }
            if stat.st_size == 0 || stat.st_size == FILE_BYTES as i64 {
                let writer = Self {
                    header: map_header(&file)?,
                    file,
                };
                if writer.prepare(stat.st_size == 0) {
                    rustix::fs::flock(&writer.file, FlockOperation::Unlock)?;
                    return Ok(writer);
                }
            }
            rustix::fs::unlink(path.as_c_str())?;
        }
        Err(Errno::BUSY)
    }

    /// Posts an image. It is there for readers when this returns.
    ///
    /// # Errors
    ///
    /// `FBIG` if the image is larger than [`MAX_IMAGE`]; `NOSPC` where there is no memory for it.
    /// The image that was there before stays.
    pub fn post(&self, image: &[u8], text_hash: u64) -> Result<u64, Errno> {
        if image.len() > MAX_IMAGE {
            return Err(Errno::FBIG);
        }
        rustix::fs::flock(&self.file, FlockOperation::LockExclusive)?;
        let posted = self.write(image, text_hash);
        rustix::fs::flock(&self.file, FlockOperation::Unlock)?;
        posted
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

    /// Makes a new file a mailbox; says whether an old one is of this version.
    fn prepare(&self, new: bool) -> bool {
        let header = self.header();
        if new {
            header.version.store(VERSION, Relaxed);
            header.magic.store(MAGIC, Release);
        }
        header.magic.load(Relaxed) == MAGIC && header.version.load(Relaxed) == VERSION
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
