//! The accepting side: a rendezvous, and the sessions that are offered there.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::time::ClockId;

use super::aside::{Aside, PATIENCE_MS, PATIENCE_WITHOUT_ROOM_MS, SLOTS, Waiting};
use super::message::{self, Received};
use super::name::Name;
use super::offer::{Attached, OFFER_BYTES, Offer, OfferError};
use super::peer::Credentials;
use super::route;
use crate::hidden::Hidden;

/// Ports below are root's, on a host with the default `net.ipv4.ip_unprivileged_port_start`.
const FIRST_FREE_PORT: u16 = 1024;

/// How many new connections without an offer one call of [`Rendezvous::accept`] puts aside.
const PUT_ASIDE_AT_MOST: usize = 2 * SLOTS;

/// A named place where sessions are offered. Closed when dropped; the name is free when every
/// process that has inherited the socket has closed it.
#[derive(Debug)]
pub struct Rendezvous {
    socket: Hidden,
    aside: Aside,
}

/// Why there is no rendezvous.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// Somebody has the name already. Of a listener's own process that is no accident: cookies are
    /// never used again.
    #[error("the name of the rendezvous is taken")]
    NameTaken,
    /// A system call failed.
    #[error("{call} failed for a rendezvous: {errno}")]
    System {
        /// Which one.
        call: &'static str,
        /// With what.
        errno: Errno,
    },
}

/// A session that a peer has offered. Nothing of it has been mapped.
#[derive(Debug)]
pub struct Accepted {
    /// The Unix socket of the session: non-blocking, close-on-exec.
    pub connection: OwnedFd,
    /// What the peer says. Both addresses are the host's own, and its source port one that the
    /// peer's user may have, as TCP would have seen to; that the peer *has* the port is not known.
    pub offer: Offer,
    /// Who it is.
    pub peer: Credentials,
    /// The descriptor of the segment, for [`Segment::adopt`](crate::session::segment::Segment::adopt),
    /// unchecked.
    pub segment: OwnedFd,
    /// What else has come with the offer.
    pub attached: Attached,
}

/// Why no session has been accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AcceptError {
    /// No offer is there, for now.
    #[error("no session is offered")]
    WouldBlock,
    /// A peer was sent away: its connection is closed, and there may be others. To be counted.
    #[error("a peer was sent away: {0}")]
    SentAway(#[from] SentAway),
    /// A system call failed: what accept(2) says, to be told to the program. As with TCP, a connection
    /// that there is no descriptor for (`EMFILE`) stays, to be taken later.
    #[error("accept failed at a rendezvous: {0}")]
    System(Errno),
}

/// Why a peer was sent away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SentAway {
    /// No offer came in time, or too many others waited.
    #[error("it did not make an offer in time")]
    Stalled,
    /// It closed the connection without an offer.
    #[error("it left without an offer")]
    Left,
    /// What came is no offer.
    #[error(transparent)]
    Offer(#[from] OfferError),
    /// Fewer or more descriptors came than the offer announces.
    #[error("its offer announces {announced} descriptors, {found} came")]
    Descriptors {
        /// By the offer.
        announced: usize,
        /// That have come.
        found: usize,
    },
    /// More descriptors came than any offer has.
    #[error("too many descriptors came with its offer")]
    TooManyDescriptors,
    /// One of the two addresses is not this host's.
    #[error("it says that it comes from or goes to an address that is not this host's")]
    ForeignAddress,
    /// The source port is reserved to root.
    #[error("it says that it comes from a port that its user may not have")]
    ReservedPort,
    /// A system call failed with its connection.
    #[error("its connection failed: {0}")]
    System(Errno),
}

impl Rendezvous {
    /// Listens at a name, with a backlog as in listen(2).
    ///
    /// # Errors
    ///
    /// See [`ListenError`].
    pub fn listen(name: &Name, backlog: i32) -> Result<Self, ListenError> {
        let failed = |call| move |errno| ListenError::System { call, errno };
        let address = name.address().map_err(failed("address"))?;
        let socket = rustix::net::socket_with(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::NONBLOCK | SocketFlags::CLOEXEC,
            None,
        )
        .map_err(failed("socket"))?;
        rustix::net::bind(&socket, &address).map_err(|errno| match errno {
            Errno::ADDRINUSE => ListenError::NameTaken,
            errno => failed("bind")(errno),
        })?;
        rustix::net::listen(&socket, backlog).map_err(failed("listen"))?;
        Ok(Self {
            socket: Hidden::new(socket),
            aside: Aside::new(),
        })
    }

    /// For another call of listen(2) by the program: changes the backlog.
    ///
    /// # Errors
    ///
    /// Those of listen(2).
    pub fn set_backlog(&self, backlog: i32) -> Result<(), Errno> {
        rustix::net::listen(&self.socket, backlog)
    }

    /// Takes the next session that is offered, without waiting for anything. To be called again
    /// until it says [`AcceptError::WouldBlock`], if the caller waits for edges.
    ///
    /// A connection whose offer has not come yet is put aside, and `put_aside` is told its
    /// descriptor, so that the caller can wait for it along with the rendezvous; it is looked at again
    /// by every call. From there it goes by itself.
    ///
    /// # Errors
    ///
    /// See [`AcceptError`].
    pub fn accept(
        &self,
        put_aside: &mut dyn FnMut(BorrowedFd<'_>),
    ) -> Result<Accepted, AcceptError> {
        let now = now_ms();
        for slot in 0..SLOTS {
            let Some(waiting) = self.aside.take(slot) else {
                continue;
            };
            if let Some(accepted) = self.look_at(waiting, now)? {
                return Ok(accepted);
            }
        }
        for _ in 0..PUT_ASIDE_AT_MOST {
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            let connection = match rustix::net::accept_with(&self.socket, flags) {
                Ok(connection) => connection,
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR | Errno::CONNABORTED) => continue,
                Err(errno) => return Err(AcceptError::System(errno)),
            };
            let (patience, full) = match receive(&connection)? {
                Come::Message(received, bytes) => return Ok(check(connection, received, &bytes)?),
                Come::Nothing => (PATIENCE_MS, false),
                Come::NoRoom => (PATIENCE_WITHOUT_ROOM_MS, true),
            };
            put_aside(connection.as_fd());
            self.put_aside(Waiting {
                connection,
                deadline: now.wrapping_add(patience),
            })?;
            if full {
                return Err(AcceptError::System(Errno::MFILE));
            }
        }
        Err(AcceptError::WouldBlock)
    }

    /// The descriptors of connections whose offer has not come yet, to be waited for.
    pub fn aside(&self) -> impl Iterator<Item = RawFd> + '_ {
        self.aside.descriptors()
    }

    /// In the child, after `fork`: leaves the connections whose offer has not come yet to the parent.
    pub fn after_fork_in_child(&self) {
        self.aside.clear();
    }

    /// Looks again at a connection that waits.
    fn look_at(&self, waiting: Waiting, now: u32) -> Result<Option<Accepted>, AcceptError> {
        match receive(&waiting.connection)? {
            Come::Message(received, bytes) => {
                Ok(Some(check(waiting.connection, received, &bytes)?))
            }
            _ if waiting.is_late(now) => Err(SentAway::Stalled.into()),
            Come::Nothing => self.put_aside(waiting).map(|()| None),
            Come::NoRoom => {
                self.put_aside(waiting)?;
                Err(AcceptError::System(Errno::MFILE))
            }
        }
    }

    fn put_aside(&self, waiting: Waiting) -> Result<(), AcceptError> {
        match self.aside.put(waiting) {
            None => Ok(()),
            Some(_gone) => Err(SentAway::Stalled.into()),
        }
    }
}

impl AsFd for Rendezvous {
    /// The listening socket: readable when connections wait.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// What has come on a new connection.
enum Come {
    Nothing,
    /// Something whose descriptors the process has no numbers for. It has been left where it is.
    NoRoom,
    Message(Received, [u8; OFFER_BYTES]),
}

fn receive(connection: &OwnedFd) -> Result<Come, SentAway> {
    let mut buffer = [0; OFFER_BYTES];
    match message::receive(connection, &mut buffer) {
        Ok(received) => Ok(Come::Message(received, buffer)),
        Err(Errno::AGAIN) => Ok(Come::Nothing),
        Err(Errno::MFILE) => Ok(Come::NoRoom),
        Err(errno) => Err(SentAway::System(errno)),
    }
}

/// Whether what has come is an offer that TCP would have let through.
fn check(
    connection: OwnedFd,
    received: Received,
    bytes: &[u8; OFFER_BYTES],
) -> Result<Accepted, SentAway> {
    if received.len == 0 {
        return Err(SentAway::Left);
    }
    let offer = Offer::decode(&bytes[..received.len])?;
    if received.too_many {
        return Err(SentAway::TooManyDescriptors);
    }
    let announced = 1 + offer.attachments.count();
    let found = received.count;
    let mut descriptors = received.descriptors.into_iter().flatten();
    let (Some(segment), true) = (descriptors.next(), announced == found) else {
        return Err(SentAway::Descriptors { announced, found });
    };
    let peer = Credentials::of_peer(&connection).map_err(SentAway::System)?;
    if offer.from.port() < FIRST_FREE_PORT && peer.uid != 0 {
        return Err(SentAway::ReservedPort);
    }
    // Most connections among local programs come from the address that they go to.
    let (from, to) = (offer.from.ip(), offer.to.ip());
    for ip in [Some(from), (to != from).then_some(to)]
        .into_iter()
        .flatten()
    {
        if !route::is_own(ip).map_err(SentAway::System)? {
            return Err(SentAway::ForeignAddress);
        }
    }
    Ok(Accepted {
        attached: offer.attachments.sort(&mut descriptors),
        connection,
        offer,
        peer,
        segment,
    })
}

/// Milliseconds of the monotonic clock, wrapping around.
fn now_ms() -> u32 {
    let now = rustix::time::clock_gettime(ClockId::MonotonicCoarse);
    (now.tv_sec as u64 * 1000 + now.tv_nsec as u64 / 1_000_000) as u32
}
