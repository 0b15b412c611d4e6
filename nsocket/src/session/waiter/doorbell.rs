//! What wakes a sleeper in the kernel: a descriptor that is readable once it has been rung.
//!
//! There are two kinds, because a descriptor is shared with everything that belongs to it:
//!
//! | kind | for peers of | why |
//! |---|---|---|
//! | eventfd | the same user | the cheapest. Whoever holds it may also drain it, fill it, or clear its `O_NONBLOCK`: a hostile holder could swallow the rings of others, or make the next ring wait |
//! | pair of Unix sockets | one other user | only the waiter's end can be read, and `MSG_DONTWAIT` cannot be taken away from a call; ringing costs some 0.7 us more |
//!
//! Peers of one user could stop or trace each other anyway. Even so, draining never waits here,
//! whatever the flags are.
//!
//! Ringing a doorbell that has been rung is no error and wakes nobody twice.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::EventfdFlags;
use rustix::fs::OFlags;
use rustix::io::{Errno, IoSliceMut, ReadWriteFlags};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

/// Rings that one drain takes at most from a pair of sockets: a flood of them must not hold up the
/// waiter, and what is left wakes it again.
const DRAINED_AT_ONCE: usize = 64;

/// The waiter's end: goes among the descriptors that it sleeps on, for reading. Register it in an
/// epoll instance that threads share with `EPOLLET`: a ring then wakes one of them.
#[derive(Debug)]
pub struct Doorbell {
    fd: OwnedFd,
    /// The ringing end where that is another descriptor.
    button: Option<OwnedFd>,
}

impl Doorbell {
    /// An eventfd: for peers of the same user, and for [`pass_on`](Self::pass_on).
    ///
    /// # Errors
    ///
    /// Those of eventfd(2).
    pub fn eventfd() -> Result<Self, Errno> {
        Ok(Self {
            fd: new_eventfd()?,
            button: None,
        })
    }

    /// A pair of sockets: for peers of one other user.
    ///
    /// # Errors
    ///
    /// Those of socketpair(2).
    pub fn socket() -> Result<Self, Errno> {
        // Datagrams: of the types of Unix sockets the one whose holder cannot shut down the
        // reading end with its own.
        let (fd, button) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::DGRAM,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            None,
        )?;
        Ok(Self {
            fd,
            button: Some(button),
        })
    }

    /// The descriptor to hand to peers, who make a [`Bell`] of it.
    pub fn button(&self) -> BorrowedFd<'_> {
        self.button.as_ref().unwrap_or(&self.fd).as_fd()
    }

    /// Forgets the rings so far. To be called when the doorbell was found readable, *before* looking
    /// for work. Never waits, and takes a bounded time whatever the holders of the button do.
    ///
    /// # Errors
    ///
    /// Those of read(2) and recv(2), but not that there was nothing to forget.
    pub fn drain(&self) -> Result<(), Errno> {
        let result = if self.button.is_none() {
            drain_eventfd(&self.fd)
        } else {
            drain_socket(&self.fd)
        };
        match result {
            Err(Errno::AGAIN) => Ok(()),
            result => result,
        }
    }

    /// Wakes one more sleeper of this doorbell: for one who leaves work behind.
    ///
    /// # Errors
    ///
    /// As [`Bell::ring`].
    pub fn pass_on(&self) -> Result<(), Errno> {
        match &self.button {
            None => ring_eventfd(&self.fd),
            Some(button) => ring_socket(button),
        }
    }
}

impl AsFd for Doorbell {
    /// The descriptor to sleep on.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The writer's end: the button of a peer's doorbell.
#[derive(Debug)]
pub struct Bell {
    fd: OwnedFd,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Eventfd,
    Socket,
}

impl Bell {
    /// Makes a bell of the button that a peer has handed over. `same_user`: the peer is of our user;
    /// of another one an eventfd is not taken, as it could make us wait in [`ring`](Self::ring).
    ///
    /// The descriptor is checked: a ring writes to it, and a file of a peer's choice (a FUSE file, a
    /// terminal) could hang, or do anything.
    ///
    /// # Errors
    ///
    /// `INVAL` if it is no doorbell, `PERM` for an eventfd of another user, and those of eventfd(2)
    /// and fcntl(2).
    pub fn adopt(fd: OwnedFd, same_user: bool) -> Result<Self, Errno> {
        let kind = if is_datagram_socket(&fd) {
            Kind::Socket
        } else if is_anonymous(&fd)? {
            if !same_user {
                return Err(Errno::PERM);
            }
            if !rustix::fs::fcntl_getfl(&fd)?.contains(OFlags::NONBLOCK) {
                return Err(Errno::INVAL);
            }
            Kind::Eventfd
        } else {
            return Err(Errno::INVAL);
        };
        Ok(Self { fd, kind })
    }

    /// Rings: one system call. A doorbell that has been rung and not been drained yet stays so.
    ///
    /// # Errors
    ///
    /// Those of write(2) and send(2), but not that the doorbell is full of rings. `CONNREFUSED` and
    /// `NOTCONN`: the waiter is gone.
    pub fn ring(&self) -> Result<(), Errno> {
        match self.kind {
            Kind::Eventfd => ring_eventfd(&self.fd),
            Kind::Socket => ring_socket(&self.fd),
        }
    }
}

fn new_eventfd() -> Result<OwnedFd, Errno> {
    rustix::event::eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)
}

fn is_datagram_socket(fd: &OwnedFd) -> bool {
    // Asked first for the domain: a socket of another family could reach the network.
    rustix::net::sockopt::socket_domain(fd) == Ok(AddressFamily::UNIX)
        && rustix::net::sockopt::socket_type(fd) == Ok(SocketType::DGRAM)
}

/// Whether this is an eventfd or one of its kin: they share one inode. None of the others (epoll,
/// timerfd, signalfd, io_uring) does anything with a write but fail.
fn is_anonymous(fd: &OwnedFd) -> Result<bool, Errno> {
    let ours = rustix::fs::fstat(new_eventfd()?)?;
    let theirs = rustix::fs::fstat(fd)?;
    Ok((ours.st_dev, ours.st_ino) == (theirs.st_dev, theirs.st_ino))
}

fn ring_eventfd(fd: &OwnedFd) -> Result<(), Errno> {
    full_is_rung(rustix::io::write(fd, &1_u64.to_ne_bytes()).map(|_| ()))
}

fn ring_socket(fd: &OwnedFd) -> Result<(), Errno> {
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    full_is_rung(rustix::net::send(fd, &[0], flags).map(|_| ()))
}

fn full_is_rung(result: Result<(), Errno>) -> Result<(), Errno> {
    match result {
        Err(Errno::AGAIN) => Ok(()),
        result => result,
    }
}

fn drain_eventfd(fd: &OwnedFd) -> Result<(), Errno> {
    let mut count = [0; 8];
    let mut buffers = [IoSliceMut::new(&mut count)];
    // The current position: an eventfd has no other.
    match rustix::io::preadv2(fd, &mut buffers, u64::MAX, ReadWriteFlags::NOWAIT) {
        // Before Linux 5.8: the flags of the descriptor decide whether it waits.
        Err(Errno::OPNOTSUPP) => rustix::io::read(fd, &mut count).map(|_| ()),
        result => result.map(|_| ()),
    }
}

fn drain_socket(fd: &OwnedFd) -> Result<(), Errno> {
    for _ in 0..DRAINED_AT_ONCE {
        // Descriptors that are sent along are closed by the kernel, as there is no room for them.
        rustix::net::recv(fd, &mut [0], RecvFlags::DONTWAIT)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
