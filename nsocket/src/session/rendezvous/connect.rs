//! The connecting side: dial a rendezvous, look who is there, make the offer.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::message;
use super::name::Name;
use super::offer::{MAX_DESCRIPTORS, Offer};
use super::owner::{Listener, LookupError};
use super::peer::Credentials;

/// Why there is no session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// The listener is not under DMM, or there is none.
    #[error("nobody is at the rendezvous")]
    PeerNotHere,
    /// As many connections as the listener wants wait already.
    #[error("the backlog of the rendezvous is full")]
    BacklogFull,
    /// Somebody else than the port's owner has taken the rendezvous' name.
    #[error("the rendezvous belongs to user {found}, the port to user {expected}")]
    WrongOwner {
        /// Who listens at the rendezvous.
        found: u32,
        /// Who listens at the port.
        expected: u32,
    },
    /// Who listens at the port cannot be told.
    #[error(transparent)]
    Lookup(#[from] LookupError),
    /// The number of descriptors is not what the offer says.
    #[error("the offer announces {announced} descriptors, {given} are given")]
    Descriptors {
        /// By the offer, the segment included.
        announced: usize,
        /// By the caller.
        given: usize,
    },
    /// A system call failed.
    #[error("{call} failed at a rendezvous: {errno}")]
    System {
        /// Which one.
        call: &'static str,
        /// With what.
        errno: Errno,
    },
}

fn failed(call: &'static str) -> impl Fn(Errno) -> DialError {
    move |errno| DialError::System { call, errno }
}

/// A connection to a rendezvous whose owner is the right one; nothing has been sent.
#[derive(Debug)]
pub struct Dialed {
    socket: OwnedFd,
    peer: Credentials,
}

impl Dialed {
    /// Connects to the rendezvous of a TCP listener, if it has one.
    ///
    /// # Errors
    ///
    /// See [`DialError`].
    pub fn listener(listener: &Listener) -> Result<Self, DialError> {
        let dialed = Self::name(&Name::listener(listener.cookie))?;
        if listener.is_spoken_for_by(dialed.peer.uid) {
            Ok(dialed)
        } else {
            Err(DialError::WrongOwner {
                found: dialed.peer.uid,
                expected: listener.uid,
            })
        }
    }

    /// Connects to a rendezvous, whoever is there: the caller checks [`Dialed::peer`].
    ///
    /// # Errors
    ///
    /// See [`DialError`].
    pub fn name(name: &Name) -> Result<Self, DialError> {
        let address = name.address().map_err(failed("address"))?;
        let socket = rustix::net::socket_with(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::NONBLOCK | SocketFlags::CLOEXEC,
            None,
        )
        .map_err(failed("socket"))?;
        rustix::io::retry_on_intr(|| rustix::net::connect(&socket, &address)).map_err(|errno| {
            match errno {
                Errno::CONNREFUSED => DialError::PeerNotHere,
                Errno::AGAIN => DialError::BacklogFull,
                errno => failed("connect")(errno),
            }
        })?;
        let peer = Credentials::of_peer(&socket).map_err(failed("SO_PEERCRED"))?;
        Ok(Self { socket, peer })
    }

    /// Who called listen(2) at the rendezvous.
    pub const fn peer(&self) -> Credentials {
        self.peer
    }

    /// Sends the offer: the session is established. Returns its Unix socket, which is non-blocking
    /// and close-on-exec.
    ///
    /// `segment` and `attached` are handed over; what is attached has the order of
    /// [`Attachments`](super::Attachments).
    ///
    /// # Errors
    ///
    /// [`DialError::PeerNotHere`] if the rendezvous has been closed meanwhile.
    pub fn offer(
        self,
        offer: &Offer,
        segment: BorrowedFd<'_>,
        attached: &[BorrowedFd<'_>],
    ) -> Result<OwnedFd, DialError> {
        let given = 1 + attached.len();
        let announced = 1 + offer.attachments.count();
        if given != announced || given > MAX_DESCRIPTORS {
            return Err(DialError::Descriptors { announced, given });
        }
        let mut descriptors = [segment; MAX_DESCRIPTORS];
        descriptors[1..given].copy_from_slice(attached);
        match message::send(&self.socket, &offer.encode(), &descriptors[..given]) {
            Ok(()) => Ok(self.socket),
            Err(Errno::PIPE | Errno::CONNRESET) => Err(DialError::PeerNotHere),
            Err(errno) => Err(failed("sendmsg")(errno)),
        }
    }
}

impl AsFd for Dialed {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
