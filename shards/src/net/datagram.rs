//! UDP sockets: one request stays with the kernel, and each datagram is a piece of a provided buffer.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::ops::Deref;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::task::{Context, Poll};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType, ipproto};

use crate::reactor::fd::Fd;
use crate::reactor::once::Once;
use crate::reactor::request::{Manner, Request};
use crate::reactor::table::Key;
use crate::reactor::{Deferred, Lent, Operation, Outcome, Reactor};
use crate::shard::current;
use crate::wake::slot::WakerSlot;

use super::addr::{self, RawAddr};
use super::options;

/// Datagrams that wait for the program, before they are left in the socket's own queue.
const HELD: usize = 64;
/// What is before the name in a received piece (`struct io_uring_recvmsg_out`).
const HEAD: usize = 16;

/// A UDP socket of the current shard.
///
/// A datagram is received into one buffer of the shard's pool, of 4 KiB unless the builder says otherwise; a
/// longer one is cut, and says so.
pub struct UdpSocket {
    incoming: Rc<Incoming>,
}

/// A received datagram, in the buffer that the kernel has put it in.
pub struct Datagram {
    bytes: Lent,
    from: Option<SocketAddr>,
    is_cut: bool,
}

impl UdpSocket {
    /// Binds to `addr`.
    ///
    /// # Errors
    ///
    /// Those of socket(2) and bind(2).
    ///
    /// # Panics
    ///
    /// Outside of a shard.
    pub fn bind(addr: SocketAddr) -> io::Result<Self> {
        let family = match addr {
            SocketAddr::V4(_) => AddressFamily::INET,
            SocketAddr::V6(_) => AddressFamily::INET6,
        };
        let protocol = Some(ipproto::UDP);
        let socket = rustix::net::socket_with(family, SocketType::DGRAM, options::FLAGS, protocol)?;
        rustix::net::bind(&socket, &addr)?;
        Ok(Self::of(socket))
    }

    /// Takes a socket over.
    ///
    /// # Errors
    ///
    /// Those of fcntl(2).
    ///
    /// # Panics
    ///
    /// Outside of a shard.
    pub fn from_std(socket: std::net::UdpSocket) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self::of(socket.into()))
    }

    /// Sends to, and receives from, `peer` only.
    ///
    /// # Errors
    ///
    /// Those of connect(2).
    pub fn connect(&self, peer: SocketAddr) -> io::Result<()> {
        Ok(rustix::net::connect(self, &peer)?)
    }

    /// The own address.
    ///
    /// # Errors
    ///
    /// Those of getsockname(2).
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        options::local_addr(self.as_fd())
    }

    /// The next datagram.
    ///
    /// # Errors
    ///
    /// Those of recvmsg(2): of a connected socket also that the peer is not there.
    pub async fn recv(&self) -> io::Result<Datagram> {
        Ok(poll_fn(|cx| self.incoming.poll(cx)).await?)
    }

    /// Sends a datagram to the connected peer.
    ///
    /// # Errors
    ///
    /// Those of sendmsg(2).
    pub async fn send(&self, bytes: &[u8]) -> io::Result<()> {
        self.send_message(bytes, None).await
    }

    /// Sends a datagram to `to`.
    ///
    /// # Errors
    ///
    /// Those of sendmsg(2).
    pub async fn send_to(&self, bytes: &[u8], to: SocketAddr) -> io::Result<()> {
        self.send_message(bytes, Some(RawAddr::from(to))).await
    }

    async fn send_message(&self, bytes: &[u8], to: Option<RawAddr>) -> io::Result<()> {
        let reactor = self.incoming.socket.reactor();
        let mut scrap = reactor.scrap();
        scrap.extend_from_slice(bytes);
        let outgoing = Outgoing {
            socket: Rc::clone(&self.incoming.socket),
            bytes: scrap,
            to,
            vector: libc::iovec {
                iov_base: std::ptr::null_mut(),
                iov_len: 0,
            },
            // SAFETY: all zero is a valid message header.
            header: unsafe { MaybeUninit::zeroed().assume_init() },
        };
        // SAFETY: the request points at the payload's header, and that into the payload, which also keeps the
        // socket open.
        let sent = unsafe { Once::start(reactor, outgoing, Outgoing::request) };
        let (result, outgoing) = sent.await;
        reactor.recycle(outgoing.bytes);
        result?;
        Ok(())
    }

    fn of(socket: OwnedFd) -> Self {
        let socket = Fd::new(current().reactor(), socket);
        // SAFETY: all zero is a valid message header.
        let mut header: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
        header.msg_namelen = addr::ROOM as u32;
        Self {
            incoming: Rc::new(Incoming {
                socket,
                header,
                datagrams: RefCell::default(),
                request: Cell::new(None),
                ending: Cell::new(false),
                error: Cell::new(None),
                gone: Cell::new(false),
                waker: WakerSlot::new(),
            }),
        }
    }
}

impl AsFd for UdpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.incoming.socket.as_fd()
    }
}

impl AsRawFd for UdpSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.incoming.socket.as_raw_fd()
    }
}

impl Drop for UdpSocket {
    fn drop(&mut self) {
        self.incoming.abandon();
    }
}

impl Datagram {
    /// Who has sent it. `None` if the kernel does not tell.
    pub fn from(&self) -> Option<SocketAddr> {
        self.from
    }

    /// Whether it was longer than the buffer, and its end is lost.
    pub fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// Reads what the kernel, or the epoll driver, has laid out: head, name, payload.
    fn parse(mut piece: Lent) -> Option<Self> {
        let word = |nth: usize| -> Option<u32> {
            let bytes = piece.get(nth * 4..nth * 4 + 4)?;
            Some(u32::from_ne_bytes(bytes.try_into().ok()?))
        };
        let (name_len, payload_len, flags) = (word(0)?, word(2)?, word(3)?);
        let name = piece.get(HEAD..HEAD + addr::ROOM.min(name_len as usize))?;
        let from = addr::parse(name);
        piece.advance(HEAD + addr::ROOM);
        let is_cut = flags & libc::MSG_TRUNC as u32 != 0 || payload_len as usize > piece.len();
        piece.truncate(payload_len as usize);
        Some(Self {
            bytes: piece,
            from,
            is_cut,
        })
    }
}

impl Deref for Datagram {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl fmt::Debug for Datagram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Datagram")
            .field("len", &self.len())
            .field("from", &self.from)
            .field("is_cut", &self.is_cut)
            .finish()
    }
}

/// A datagram on its way out.
struct Outgoing {
    socket: Rc<Fd>,
    bytes: Vec<u8>,
    to: Option<RawAddr>,
    vector: libc::iovec,
    header: libc::msghdr,
}

impl Outgoing {
    fn request(&mut self) -> Request {
        self.vector.iov_base = self.bytes.as_mut_ptr().cast();
        self.vector.iov_len = self.bytes.len();
        self.header.msg_iov = &raw mut self.vector;
        self.header.msg_iovlen = 1;
        if let Some(to) = &self.to {
            self.header.msg_name = to.as_ptr().cast_mut().cast();
            self.header.msg_namelen = to.len();
        }
        Request::SendMessage {
            socket: self.socket.as_raw_fd(),
            header: &raw const self.header,
            len: self.bytes.len() as u32,
            manner: Manner::Awaited,
        }
    }
}

/// Datagrams on their way in.
struct Incoming {
    socket: Rc<Fd>,
    /// What the request points at: how much room a name is left.
    header: libc::msghdr,
    datagrams: RefCell<VecDeque<Datagram>>,
    request: Cell<Option<Key>>,
    /// The request's end was asked for.
    ending: Cell<bool>,
    error: Cell<Option<Errno>>,
    gone: Cell<bool>,
    waker: WakerSlot,
}

impl Incoming {
    fn poll(self: &Rc<Self>, cx: &Context<'_>) -> Poll<Result<Datagram, Errno>> {
        if let Some(datagram) = self.datagrams.borrow_mut().pop_front() {
            return Poll::Ready(Ok(datagram));
        }
        if let Some(errno) = self.error.take() {
            return Poll::Ready(Err(errno));
        }
        self.waker.register(cx);
        if self.request.get().is_none() {
            self.start();
            if let Some(errno) = self.error.take() {
                return Poll::Ready(Err(errno));
            }
        }
        Poll::Pending
    }

    fn start(self: &Rc<Self>) {
        let request = Request::ReceiveMessages {
            socket: self.socket.as_raw_fd(),
            header: &raw const self.header,
        };
        let operation = Rc::<Self>::clone(self);
        // SAFETY: the header is this operation's and never changes; it also keeps the socket open.
        let key = unsafe { self.socket.reactor().start(operation, request) };
        if self.error.get().is_none() {
            self.request.set(Some(key));
        }
    }

    /// How many datagrams may wait.
    fn limit(&self) -> usize {
        if self.socket.reactor().pool().is_short() {
            1
        } else {
            HELD
        }
    }

    fn abandon(&self) {
        self.gone.set(true);
        self.waker.clear();
        self.datagrams.borrow_mut().clear();
        if let Some(key) = self.request.get() {
            self.socket.reactor().cancel(key);
        }
    }
}

impl Deferred for Incoming {
    /// There are buffers again.
    fn run(self: Rc<Self>, _reactor: &Rc<Reactor>) {
        if self.waker.is_waiting() && self.request.get().is_none() {
            self.start();
        }
    }
}

impl Operation for Incoming {
    fn data(&self, data: Lent) {
        if self.gone.get() {
            return;
        }
        if let Some(datagram) = Datagram::parse(data) {
            self.datagrams.borrow_mut().push_back(datagram);
        }
    }

    fn complete(self: Rc<Self>, outcome: Outcome) {
        if outcome.more {
            if self.datagrams.borrow().len() >= self.limit()
                && !self.ending.replace(true)
                && let Some(key) = self.request.get()
            {
                self.socket.reactor().cancel(key);
            }
        } else {
            self.request.set(None);
            self.ending.set(false);
            match outcome.result {
                Ok(_) | Err(Errno::CANCELED) => {}
                Err(Errno::NOBUFS) => {
                    let reactor = self.socket.reactor();
                    reactor.defer_until_buffers(Rc::<Self>::clone(&self));
                }
                Err(errno) => self.error.set(Some(errno)),
            }
        }
        let is_over = self.request.get().is_none() && self.waker.is_waiting();
        if !self.datagrams.borrow().is_empty() || self.error.get().is_some() {
            self.waker.wake();
        } else if is_over && outcome.result != Err(Errno::NOBUFS) {
            // Ended on the program's behalf, which has read everything meanwhile.
            self.start();
        }
    }
}
