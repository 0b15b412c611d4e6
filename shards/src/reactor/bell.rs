//! What wakes a shard that sleeps in its driver.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::event::EventfdFlags;

/// Rings a shard: an eventfd, and the ring that a `MSG_RING` can be sent to.
///
/// The descriptors are its own, so that a ring for a shard that has gone does not reach whoever got
/// its numbers.
#[derive(Debug)]
pub(crate) struct Bell {
    eventfd: OwnedFd,
    ring: Option<OwnedFd>,
}

impl Bell {
    pub(crate) fn new(eventfd: BorrowedFd<'_>, ring: Option<BorrowedFd<'_>>) -> io::Result<Self> {
        Ok(Self {
            eventfd: eventfd.try_clone_to_owned()?,
            ring: ring.map(|ring| ring.try_clone_to_owned()).transpose()?,
        })
    }

    /// Rings with one system call; from any thread.
    ///
    /// # Errors
    ///
    /// None that is not a bug: the counter cannot be full, as no one rings 2^64 times.
    pub(crate) fn ring(&self) -> io::Result<()> {
        match rustix::io::write(&self.eventfd, &1u64.to_ne_bytes()) {
            // A full counter is readable all the same.
            Ok(_) | Err(rustix::io::Errno::AGAIN) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// The io_uring instance behind it.
    pub(crate) fn ring_fd(&self) -> Option<RawFd> {
        self.ring.as_ref().map(AsRawFd::as_raw_fd)
    }
}

/// The eventfd of a driver. It is watched edge-triggered and never read: each write is an edge.
pub(crate) fn eventfd() -> io::Result<OwnedFd> {
    let eventfd = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    debug_assert!(eventfd.as_fd().as_raw_fd() >= 0);
    Ok(eventfd)
}
