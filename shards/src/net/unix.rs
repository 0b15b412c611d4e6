//! Unix stream sockets, by path or by abstract name.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;

use rustix::net::{AddressFamily, SocketType};

use crate::reactor::fd::Fd;
use crate::reactor::{Lent, Reactor};
use crate::shard::current;

use super::addr::RawAddr;
use super::kernel::acceptor::Acceptor;
use super::kernel::connection;
use super::kernel::payload::Payload;
use super::options;
use super::split::{ReadHalf, WriteHalf, halves};
use super::stream::{connect, stream_methods};

/// A connected Unix stream socket of the current shard.
pub struct UnixStream {
    pub(super) read: ReadHalf,
    pub(super) write: WriteHalf,
}

stream_methods!(UnixStream);

impl UnixStream {
    /// Connects to the socket at `path`.
    ///
    /// # Errors
    ///
    /// Those of socket(2) and connect(2); a path that is too long.
    ///
    /// # Panics
    ///
    /// Outside of a shard.
    pub async fn connect(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::connect_to(path_addr(path.as_ref())?).await
    }

    /// Connects to the socket with an abstract name (unix(7)), which is given without its leading zero.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect).
    ///
    /// # Panics
    ///
    /// Outside of a shard.
    pub async fn connect_abstract(name: &[u8]) -> io::Result<Self> {
        Self::connect_to(abstract_addr(name)?).await
    }

    /// Two sockets that are connected to each other.
    ///
    /// # Errors
    ///
    /// Those of socketpair(2).
    ///
    /// # Panics
    ///
    /// Outside of a shard.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (one, other) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::STREAM,
            options::FLAGS,
            None,
        )?;
        let local = current();
        Ok((
            Self::of(local.reactor(), one),
            Self::of(local.reactor(), other),
        ))
    }

    /// Takes a connected socket over.
    ///
    /// # Errors
    ///
    /// Those of fcntl(2).
    ///
    /// # Panics
    ///
    /// Outside of a shard.
    pub fn from_std(stream: std::os::unix::net::UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self::of(current().reactor(), stream.into()))
    }

    async fn connect_to(addr: RawAddr) -> io::Result<Self> {
        let socket = connect(new_socket()?, addr, None).await?;
        // Zero-copy sends are for the internet families.
        let (read, write) = halves(connection::over(&socket, false));
        Ok(Self { read, write })
    }

    fn of(reactor: &Rc<Reactor>, socket: OwnedFd) -> Self {
        let (read, write) = halves(connection::connection(reactor, socket, false));
        Self { read, write }
    }
}

/// A listening Unix stream socket of the current shard. The path, if it has one, stays when it is dropped.
pub struct UnixListener {
    acceptor: Rc<Acceptor>,
}

impl UnixListener {
    /// Listens at `path`, which must not be there.
    ///
    /// # Errors
    ///
    /// Those of socket(2), bind(2), listen(2); a path that is too long.
    ///
    /// # Panics
    ///
    /// Outside of a shard.
    pub fn bind(path: impl AsRef<Path>) -> io::Result<Self> {
        let path = path.as_ref();
        path_addr(path)?;
        Self::listen(&rustix::net::SocketAddrUnix::new(path)?)
    }

    /// Listens with an abstract name, which is given without its leading zero.
    ///
    /// # Errors
    ///
    /// As [`bind`](Self::bind).
    ///
    /// # Panics
    ///
    /// Outside of a shard.
    pub fn bind_abstract(name: &[u8]) -> io::Result<Self> {
        Self::listen(&rustix::net::SocketAddrUnix::new_abstract_name(name)?)
    }

    /// The next connection.
    ///
    /// # Errors
    ///
    /// Those of accept(2).
    pub async fn accept(&self) -> io::Result<UnixStream> {
        let socket = poll_fn(|cx| self.acceptor.poll_accept(cx)).await?;
        Ok(UnixStream::of(self.acceptor.listener().reactor(), socket))
    }

    fn listen(addr: &rustix::net::SocketAddrUnix) -> io::Result<Self> {
        let socket = new_socket()?;
        rustix::net::bind(&socket, addr)?;
        rustix::net::listen(&socket, 4096)?;
        let fd = Fd::new(current().reactor(), socket);
        Ok(Self {
            acceptor: Acceptor::new(fd),
        })
    }
}

impl AsFd for UnixListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.acceptor.listener().as_fd()
    }
}

impl Drop for UnixListener {
    fn drop(&mut self) {
        self.acceptor.abandon();
    }
}

fn new_socket() -> io::Result<OwnedFd> {
    let kind = SocketType::STREAM;
    Ok(rustix::net::socket_with(
        AddressFamily::UNIX,
        kind,
        options::FLAGS,
        None,
    )?)
}

fn path_addr(path: &Path) -> io::Result<RawAddr> {
    RawAddr::unix(path.as_os_str().as_bytes(), false).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            "the path of a Unix socket has 1 to 107 bytes, none of them zero",
        )
    })
}

fn abstract_addr(name: &[u8]) -> io::Result<RawAddr> {
    RawAddr::unix(name, true).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            "the abstract name of a Unix socket has 1 to 107 bytes",
        )
    })
}
