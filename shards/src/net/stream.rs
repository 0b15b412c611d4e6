//! TCP connections, and what all streams have in common.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketType, ipproto};

use crate::reactor::fd::Fd;
use crate::reactor::once::Once;
use crate::reactor::request::Request;
use crate::reactor::{Feature, Lent, Reactor};
use crate::shard::current;

use super::addr::RawAddr;
use super::kernel::connection;
use super::kernel::payload::Payload;
use super::options;
use super::split::{ReadHalf, WriteHalf, halves};

/// A TCP connection of the current shard.
///
/// Writes are taken over at once and leave together at the end of the turn: see
/// [`write`](Self::write). Dropped, it sends what was written first, for half a minute at most.
pub struct TcpStream {
    pub(super) read: ReadHalf,
    pub(super) write: WriteHalf,
}

/// The methods that every stream has, of its halves.
macro_rules! stream_methods {
    ($stream:ident) => {
        impl $stream {
            /// As [`ReadHalf::fill_buf`].
            ///
            /// # Errors
            ///
            /// Those of recv(2).
            pub async fn fill_buf(&mut self) -> io::Result<&[u8]> {
                self.read.fill_buf().await
            }

            /// As [`ReadHalf::consume`].
            #[inline]
            pub fn consume(&mut self, count: usize) {
                self.read.consume(count);
            }

            /// As [`ReadHalf::read_piece`].
            ///
            /// # Errors
            ///
            /// Those of recv(2).
            pub async fn read_piece(&mut self) -> io::Result<Option<Lent>> {
                self.read.read_piece().await
            }

            /// As [`ReadHalf::read`].
            ///
            /// # Errors
            ///
            /// Those of recv(2).
            pub async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                self.read.read(buffer).await
            }

            /// As [`ReadHalf::read_exact`].
            ///
            /// # Errors
            ///
            /// Those of recv(2), and the end of the stream.
            pub async fn read_exact(&mut self, buffer: &mut [u8]) -> io::Result<()> {
                self.read.read_exact(buffer).await
            }

            /// As [`WriteHalf::write`].
            ///
            /// # Errors
            ///
            /// That of an earlier send(2).
            pub async fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.write.write(bytes).await
            }

            /// As [`WriteHalf::write_vectored`].
            ///
            /// # Errors
            ///
            /// That of an earlier send(2).
            pub async fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
                self.write.write_vectored(slices).await
            }

            /// As [`WriteHalf::write_all`].
            ///
            /// # Errors
            ///
            /// That of an earlier send(2).
            pub async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
                self.write.write_all(bytes).await
            }

            /// As [`WriteHalf::send`].
            ///
            /// # Errors
            ///
            /// That of an earlier send(2).
            pub async fn send(&mut self, payload: impl Into<Payload>) -> io::Result<()> {
                self.write.send(payload).await
            }

            /// As [`WriteHalf::flush`].
            ///
            /// # Errors
            ///
            /// That of send(2).
            pub async fn flush(&mut self) -> io::Result<()> {
                self.write.flush().await
            }

            /// As [`WriteHalf::shutdown`].
            ///
            /// # Errors
            ///
            /// Those of send(2) and shutdown(2).
            pub async fn shutdown(&mut self) -> io::Result<()> {
                self.write.shutdown().await
            }

            /// The two halves, each to be owned by a task of its own.
            pub fn into_split(self) -> (ReadHalf, WriteHalf) {
                (self.read, self.write)
            }
        }

        /// For options of the socket; it stays the stream's.
        impl AsFd for $stream {
            fn as_fd(&self) -> BorrowedFd<'_> {
                self.read.socket().as_fd()
            }
        }

        impl AsRawFd for $stream {
            fn as_raw_fd(&self) -> RawFd {
                self.read.socket().as_raw_fd()
            }
        }
    };
}
pub(super) use stream_methods;

stream_methods!(TcpStream);

impl TcpStream {
    /// Connects to `addr`.
    ///
    /// # Errors
    ///
    /// Those of socket(2) and connect(2).
    ///
    /// # Panics
    ///
    /// Outside of a shard.
    pub async fn connect(addr: SocketAddr) -> io::Result<Self> {
        Self::connect_within(addr, None).await
    }

    /// Connects to `addr` within `limit`.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect); [`TimedOut`](io::ErrorKind::TimedOut) after `limit`.
    ///
    /// # Panics
    ///
    /// Outside of a shard.
    pub async fn connect_timeout(addr: SocketAddr, limit: Duration) -> io::Result<Self> {
        Self::connect_within(addr, Some(limit)).await
    }

    /// Takes a connected socket over, for the current shard.
    ///
    /// # Errors
    ///
    /// Those of fcntl(2).
    ///
    /// # Panics
    ///
    /// Outside of a shard.
    pub fn from_std(stream: std::net::TcpStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self::of(current().reactor(), stream.into()))
    }

    /// The peer's address.
    ///
    /// # Errors
    ///
    /// Those of getpeername(2).
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        options::peer_addr(self.as_fd())
    }

    /// The own address.
    ///
    /// # Errors
    ///
    /// Those of getsockname(2).
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        options::local_addr(self.as_fd())
    }

    /// Whether small segments leave at once (`TCP_NODELAY`).
    ///
    /// # Errors
    ///
    /// Those of setsockopt(2).
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        Ok(rustix::net::sockopt::set_tcp_nodelay(self, nodelay)?)
    }

    pub(super) fn of(reactor: &Rc<Reactor>, socket: OwnedFd) -> Self {
        let (read, write) = halves(connection::connection(reactor, socket, true));
        Self { read, write }
    }

    async fn connect_within(addr: SocketAddr, limit: Option<Duration>) -> io::Result<Self> {
        let family = match addr {
            SocketAddr::V4(_) => AddressFamily::INET,
            SocketAddr::V6(_) => AddressFamily::INET6,
        };
        let protocol = Some(ipproto::TCP);
        let socket =
            rustix::net::socket_with(family, SocketType::STREAM, options::FLAGS, protocol)?;
        let socket = connect(socket, RawAddr::from(addr), limit).await?;
        let (read, write) = halves(connection::over(&socket, true));
        Ok(Self { read, write })
    }
}

/// Connects a socket.
pub(super) async fn connect(
    socket: OwnedFd,
    addr: RawAddr,
    limit: Option<Duration>,
) -> io::Result<Rc<Fd>> {
    let local = current();
    let reactor = local.reactor();
    let fd = Fd::new(reactor, socket);
    let linked = reactor.features().has(Feature::LinkedTimeout);
    // SAFETY: the request points into the payload, which also keeps the socket open.
    let connected = unsafe {
        Once::start(reactor, (Rc::clone(&fd), addr), |(fd, addr)| {
            Request::Connect {
                socket: fd.as_raw_fd(),
                address: addr.as_ptr(),
                len: addr.len(),
                within: limit.filter(|_| linked),
            }
        })
    };
    let (result, _) = match limit {
        Some(limit) if !linked => crate::timer::timeout(limit, connected).await?,
        _ => connected.await,
    };
    match result {
        Ok(_) => Ok(fd),
        // What the time limit ends is told as cancelled.
        Err(rustix::io::Errno::CANCELED) if limit.is_some() => Err(crate::timer::Elapsed.into()),
        Err(errno) => Err(errno.into()),
    }
}
