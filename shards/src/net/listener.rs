//! Listening for TCP connections.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::rc::Rc;

use rustix::net::{AddressFamily, SocketType, ipproto, sockopt};

use crate::reactor::fd::Fd;
use crate::shard::current;

use super::kernel::acceptor::Acceptor;
use super::options;
use super::stream::TcpStream;

/// How to listen.
#[derive(Clone, Copy, Debug)]
#[must_use = "listens to nothing by itself"]
pub struct ListenOptions {
    backlog: i32,
    reuse_port: bool,
    nodelay: bool,
    only_v6: bool,
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self {
            backlog: 4096,
            reuse_port: false,
            nodelay: false,
            only_v6: false,
        }
    }
}

impl ListenOptions {
    /// Connections that may wait to be accepted. The system has a limit too (`net.core.somaxconn`).
    pub fn backlog(mut self, backlog: i32) -> Self {
        self.backlog = backlog;
        self
    }

    /// Several listeners, one a shard, share the port and its connections (`SO_REUSEPORT`).
    pub fn reuse_port(mut self, reuse_port: bool) -> Self {
        self.reuse_port = reuse_port;
        self
    }

    /// Accepted connections send small segments at once (`TCP_NODELAY`, which they inherit).
    pub fn nodelay(mut self, nodelay: bool) -> Self {
        self.nodelay = nodelay;
        self
    }

    /// The wildcard address of IPv6 does not stand for IPv4 too (`IPV6_V6ONLY`).
    pub fn only_v6(mut self, only_v6: bool) -> Self {
        self.only_v6 = only_v6;
        self
    }

    /// Listens at `addr`, on the current shard.
    ///
    /// # Errors
    ///
    /// Those of socket(2), bind(2), listen(2).
    ///
    /// # Panics
    ///
    /// Outside of a shard.
    pub fn listen(self, addr: SocketAddr) -> io::Result<TcpListener> {
        let family = match addr {
            SocketAddr::V4(_) => AddressFamily::INET,
            SocketAddr::V6(_) => AddressFamily::INET6,
        };
        let protocol = Some(ipproto::TCP);
        let socket =
            rustix::net::socket_with(family, SocketType::STREAM, options::FLAGS, protocol)?;
        sockopt::set_socket_reuseaddr(&socket, true)?;
        if self.reuse_port {
            sockopt::set_socket_reuseport(&socket, true)?;
        }
        if self.nodelay {
            sockopt::set_tcp_nodelay(&socket, true)?;
        }
        if family == AddressFamily::INET6 {
            sockopt::set_ipv6_v6only(&socket, self.only_v6)?;
        }
        rustix::net::bind(&socket, &addr)?;
        rustix::net::listen(&socket, self.backlog)?;
        Ok(TcpListener::of(socket))
    }
}

/// A listening TCP socket of the current shard.
///
/// Dropped, it closes connections that were accepted and not taken.
pub struct TcpListener {
    acceptor: Rc<Acceptor>,
}

impl TcpListener {
    /// Listens at `addr` with the default [options](ListenOptions).
    ///
    /// # Errors
    ///
    /// As [`ListenOptions::listen`].
    ///
    /// # Panics
    ///
    /// Outside of a shard.
    pub fn bind(addr: SocketAddr) -> io::Result<Self> {
        ListenOptions::default().listen(addr)
    }

    /// Takes a listening socket over.
    ///
    /// # Errors
    ///
    /// Those of fcntl(2).
    ///
    /// # Panics
    ///
    /// Outside of a shard.
    pub fn from_std(listener: std::net::TcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self::of(listener.into()))
    }

    /// The next connection.
    ///
    /// # Errors
    ///
    /// Those of accept(2). After most of them (too many descriptors, a connection that was aborted) it goes
    /// on: wait a moment and call again.
    pub async fn accept(&self) -> io::Result<TcpStream> {
        let socket = poll_fn(|cx| self.acceptor.poll_accept(cx)).await?;
        Ok(TcpStream::of(self.acceptor.listener().reactor(), socket))
    }

    /// The address that it listens at.
    ///
    /// # Errors
    ///
    /// Those of getsockname(2).
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        options::local_addr(self.as_fd())
    }

    fn of(socket: OwnedFd) -> Self {
        let fd = Fd::new(current().reactor(), socket);
        Self {
            acceptor: Acceptor::new(fd),
        }
    }
}

impl AsFd for TcpListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.acceptor.listener().as_fd()
    }
}

impl AsRawFd for TcpListener {
    fn as_raw_fd(&self) -> RawFd {
        self.acceptor.listener().as_raw_fd()
    }
}

impl Drop for TcpListener {
    fn drop(&mut self) {
        self.acceptor.abandon();
    }
}
