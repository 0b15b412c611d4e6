//! Addresses and options of sockets.

use std::io;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;

use rustix::net::SocketFlags;

/// What every socket is made with.
pub(super) const FLAGS: SocketFlags = SocketFlags::CLOEXEC.union(SocketFlags::NONBLOCK);

pub(super) fn peer_addr(socket: BorrowedFd<'_>) -> io::Result<SocketAddr> {
    let addr = rustix::net::getpeername(socket)?.ok_or(io::ErrorKind::NotConnected)?;
    addr.try_into().map_err(not_internet)
}

pub(super) fn local_addr(socket: BorrowedFd<'_>) -> io::Result<SocketAddr> {
    let addr = rustix::net::getsockname(socket)?;
    addr.try_into().map_err(not_internet)
}

fn not_internet(_: rustix::io::Errno) -> io::Error {
    io::Error::new(
        io::ErrorKind::Unsupported,
        "the socket's address is no internet address",
    )
}
