//! Which listening socket TCP would have reached, and whose it is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;

use rustix::io::Errno;

use super::{netlink, route};
use crate::sys;

/// `SOCK_DIAG_BY_FAMILY`, the kind of both request and answer.
const BY_FAMILY: u16 = 20;
/// `struct inet_diag_req_v2`.
const REQUEST: usize = 56;
/// `struct inet_diag_msg`.
const ANSWER: usize = 72;
/// `TCP_LISTEN`.
const LISTEN: u8 = 10;
/// The index of `lo` in every network namespace.
const LOOPBACK: u32 = 1;
/// `INET_DIAG_NOCOOKIE`, in both words.
const NO_COOKIE: u32 = u32::MAX;
/// The uid that stands for one that this user namespace does not know (user_namespaces(7)).
const OVERFLOW_UID: u32 = 65534;

/// The number that the kernel gives to a socket, and to no other one until it is restarted
/// (`SO_COOKIE`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cookie(pub u64);

impl Cookie {
    /// The cookie of a socket of this process.
    ///
    /// # Errors
    ///
    /// Those of getsockopt(2).
    pub fn of(socket: impl AsFd) -> Result<Self, Errno> {
        let mut value = [0; 8];
        sys::getsockopt(socket, libc::SOL_SOCKET, libc::SO_COOKIE, &mut value)?;
        Ok(Self(u64::from_ne_bytes(value)))
    }
}

/// A listening TCP socket of this network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Which one.
    pub cookie: Cookie,
    /// Whose it is.
    pub uid: u32,
    /// The address that it is bound to; may be a wildcard.
    pub bound: SocketAddr,
}

/// Why no listener was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LookupError {
    /// TCP would refuse the connection.
    #[error("nobody listens at the address")]
    NobodyListens,
    /// TCP would send the connection elsewhere.
    #[error("the address is not this host's")]
    NotThisHost,
    /// The kernel does not tell: no sock_diag (`CONFIG_INET_DIAG`), a sandbox, no descriptors left.
    #[error("the kernel does not tell who listens: {0}")]
    System(Errno),
}

impl Listener {
    /// The listener that a SYN from one address to another would reach, if the latter is this host's.
    ///
    /// # Errors
    ///
    /// See [`LookupError`].
    pub fn find(from: SocketAddr, to: SocketAddr) -> Result<Self, LookupError> {
        // The lookup does not care where the packet would go: a wildcard listener would be found.
        if !route::is_own(to.ip()).map_err(LookupError::System)? {
            return Err(LookupError::NotThisHost);
        }
        // An old connection between the two, which TCP may not have forgotten yet, stands in front of
        // the listener. No connection has port 0.
        let nowhere = SocketAddr::new(from.ip(), 0);
        for from in [from, nowhere] {
            if let Some(listener) = ask(from, to)? {
                return Ok(listener);
            }
        }
        Err(LookupError::NobodyListens)
    }

    /// Whether somebody of that user may speak for the listener.
    ///
    /// Root may. A user that this user namespace does not know looks like any other such user, so it
    /// may not.
    pub fn is_spoken_for_by(&self, uid: u32) -> bool {
        if uid == OVERFLOW_UID && !sees_all_users() {
            return false;
        }
        uid == self.uid || uid == 0
    }
}

/// The listener that serves the two addresses, or `None` if something else does.
fn ask(from: SocketAddr, to: SocketAddr) -> Result<Option<Listener>, LookupError> {
    let mut answer = [0; netlink::HEADER + ANSWER];
    let protocol = Some(rustix::net::netlink::SOCK_DIAG);
    let answer =
        netlink::ask(protocol, &request(from, to), &mut answer).map_err(LookupError::System)?;
    parse(answer)
}

/// `struct nlmsghdr`, `struct inet_diag_req_v2`.
fn request(from: SocketAddr, to: SocketAddr) -> [u8; netlink::HEADER + REQUEST] {
    let mut message = [0; netlink::HEADER + REQUEST];
    netlink::frame(&mut message, BY_FAMILY);
    let body = &mut message[netlink::HEADER..];
    let (to_ip, from_ip) = (to.ip().to_canonical(), from.ip().to_canonical());
    body[0] = match to_ip {
        IpAddr::V4(_) => libc::AF_INET as u8,
        IpAddr::V6(_) => libc::AF_INET6 as u8,
    };
    body[1] = libc::IPPROTO_TCP as u8;
    body[4..8].copy_from_slice(&u32::MAX.to_ne_bytes()); // all states
    // The kernel's "source" is the local end of the socket that is looked for.
    body[8..10].copy_from_slice(&to.port().to_be_bytes());
    body[10..12].copy_from_slice(&from.port().to_be_bytes());
    put_ip(&mut body[12..28], to_ip);
    put_ip(&mut body[28..44], from_ip);
    body[44..48].copy_from_slice(&arrives_at(to).to_ne_bytes());
    body[48..52].copy_from_slice(&NO_COOKIE.to_ne_bytes());
    body[52..56].copy_from_slice(&NO_COOKIE.to_ne_bytes());
    message
}

/// The interface that a SYN from this host would come in at, which matters to listeners that are
/// bound to one: `lo`, but for link-local addresses.
fn arrives_at(to: SocketAddr) -> u32 {
    match to {
        SocketAddr::V6(to) if to.ip().is_unicast_link_local() && to.scope_id() != 0 => {
            to.scope_id()
        }
        _ => LOOPBACK,
    }
}

fn put_ip(place: &mut [u8], ip: IpAddr) {
    match ip {
        IpAddr::V4(ip) => place[..4].copy_from_slice(&ip.octets()),
        IpAddr::V6(ip) => place[..16].copy_from_slice(&ip.octets()),
    }
}

/// `struct nlmsghdr`, `struct inet_diag_msg`, or an error. `None` if it is about a connection.
fn parse(answer: &[u8]) -> Result<Option<Listener>, LookupError> {
    let body = match netlink::unframe(answer, BY_FAMILY) {
        Ok(body) => body,
        Err(Errno::NOENT) => return Err(LookupError::NobodyListens),
        Err(errno) => return Err(LookupError::System(errno)),
    };
    let body = body
        .first_chunk::<ANSWER>()
        .ok_or(LookupError::System(Errno::BADMSG))?;
    if body[1] != LISTEN {
        return Ok(None);
    }
    let word = |at: usize| [body[at], body[at + 1], body[at + 2], body[at + 3]];
    let ip = match i32::from(body[0]) {
        libc::AF_INET => IpAddr::V4(Ipv4Addr::from(word(8))),
        libc::AF_INET6 => {
            let mut octets = [0; 16];
            octets.copy_from_slice(&body[8..24]);
            IpAddr::V6(Ipv6Addr::from(octets))
        }
        _ => return Err(LookupError::System(Errno::AFNOSUPPORT)),
    };
    let cookie = [44, 48].map(|at| u64::from(u32::from_ne_bytes(word(at))));
    Ok(Some(Listener {
        cookie: Cookie(cookie[0] | cookie[1] << 32),
        uid: u32::from_ne_bytes(word(64)),
        bound: SocketAddr::new(ip, u16::from_be_bytes([body[4], body[5]])),
    }))
}

/// Whether every user of the system has a number of its own here: `/proc/self/uid_map` is the map of
/// the first user namespace.
fn sees_all_users() -> bool {
    use rustix::fs::{Mode, OFlags};
    let mut text = [0_u8; 64];
    let Ok(file) = rustix::fs::open(
        c"/proc/self/uid_map",
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    ) else {
        return false;
    };
    let Ok(len) = rustix::io::read(&file, &mut text[..]) else {
        return false;
    };
    let mut words = text[..len]
        .split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty());
    [&b"0"[..], b"0", b"4294967295"]
        .iter()
        .all(|expected| words.next() == Some(*expected))
        && words.next().is_none()
}

#[cfg(test)]
mod tests;
