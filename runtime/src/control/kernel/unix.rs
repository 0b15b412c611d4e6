//! The kernel's objects behind sessions: Unix sockets of records, and who is at their other end.
//!
//! A program's descriptor of a session is such a socket (see `dmm_nsocket::session`). No table of
//! Internet sockets knows it; that of Unix sockets says whether the peer is still there, and which
//! socket the peer is.

use std::fs;
use std::io;

use super::diag::{ask, frame, open, u16_at, u32_at};

const AF_UNIX: u8 = 1;
const SOCK_SEQPACKET: u8 = 5;
const UDIAG_SHOW_NAME: u32 = 1;
const UDIAG_SHOW_PEER: u32 = 4;
const UDIAG_SHOW_UID: u32 = 0x40;
const UNIX_DIAG_NAME: u16 = 0;
const UNIX_DIAG_PEER: u16 = 2;
const UNIX_DIAG_UID: u16 = 7;
const LISTEN: u8 = 10;
/// `struct unix_diag_msg` (linux/unix_diag.h).
const MESSAGE: usize = 16;

/// What stands at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::control) enum Other {
    /// The socket with this inode number.
    Inode(u64),
    /// Nothing any more.
    Closed,
    /// The kernel does not tell.
    Unknown,
}

/// Who listens under an abstract name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The user; unknown before Linux 5.3.
    pub uid: Option<u32>,
}

/// Who listens under an abstract name (given without the zero byte in front) in this network
/// namespace; asks the kernel, and connects to nothing. `None` if nobody does.
///
/// # Errors
///
/// If the kernel does not tell (no `CONFIG_UNIX_DIAG`).
pub fn listens_at(name: &[u8]) -> io::Result<Option<Owner>> {
    let mut found = None;
    let request = request(UDIAG_SHOW_NAME | UDIAG_SHOW_UID);
    ask(&open()?, &request, |body| {
        let mut named = false;
        let mut uid = None;
        attributes(body, |kind, value| match kind {
            UNIX_DIAG_NAME => named = value.split_first() == Some((&0, name)),
            UNIX_DIAG_UID => uid = u32_at(value, 0),
            _ => {}
        });
        if named && body.get(2) == Some(&LISTEN) {
            found = Some(Owner { uid });
        }
    })?;
    Ok(found)
}

/// The sockets of records of this thread's network namespace: inode numbers and other ends.
pub(super) fn sockets() -> io::Result<Vec<(u64, Other)>> {
    let mut found = Vec::new();
    ask(&open()?, &request(UDIAG_SHOW_PEER), |body| {
        found.extend(parse(body));
    })?;
    Ok(found)
}

/// The same for a process's namespace, without what the kernel tells only by sock_diag(7).
pub(super) fn sockets_of(pid: u32) -> Vec<(u64, Other)> {
    let text = fs::read_to_string(format!("/proc/{pid}/net/unix")).unwrap_or_default();
    text.lines()
        .skip(1)
        .filter_map(parse_line)
        .map(|inode| (inode, Other::Unknown))
        .collect()
}

/// `struct unix_diag_req`.
fn request(show: u32) -> Vec<u8> {
    let mut body = vec![AF_UNIX, 0, 0, 0];
    body.extend(u32::MAX.to_ne_bytes()); // All states.
    body.extend(0_u32.to_ne_bytes()); // Any inode.
    body.extend(show.to_ne_bytes());
    body.extend([0; 8]); // Any cookie.
    frame(&body)
}

fn parse(body: &[u8]) -> Option<(u64, Other)> {
    if *body.get(1)? != SOCK_SEQPACKET {
        return None;
    }
    let inode = u64::from(u32_at(body, 4)?);
    let mut other = Other::Closed;
    attributes(body, |kind, value| {
        if kind == UNIX_DIAG_PEER {
            other = match u32_at(value, 0) {
                None | Some(0) => Other::Closed,
                Some(inode) => Other::Inode(inode.into()),
            };
        }
    });
    Some((inode, other))
}

/// The attributes of a message, by kind and value.
fn attributes(body: &[u8], mut each: impl FnMut(u16, &[u8])) {
    let mut rest = body.get(MESSAGE..).unwrap_or_default();
    while let (Some(len), Some(kind)) = (u16_at(rest, 0), u16_at(rest, 2)) {
        let Some(value) = rest.get(4..usize::from(len)) else {
            break;
        };
        each(kind, value);
        let Some(next) = rest.get(usize::from(len).next_multiple_of(4)..) else {
            break;
        };
        rest = next;
    }
}

/// `Num RefCount Protocol Flags Type St Inode Path`
fn parse_line(line: &str) -> Option<u64> {
    let mut fields = line.split_whitespace().skip(4);
    let records = fields.next()? == "0005";
    let inode = fields.nth(1)?.parse().ok()?;
    records.then_some(inode)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    use super::*;

    fn inode(socket: impl AsFd) -> u64 {
        rustix::fs::fstat(socket).unwrap().st_ino
    }

    #[test]
    fn both_ends_know_each_other_until_one_is_closed() {
        let (one, other) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .unwrap();
        let (first, second) = (inode(&one), inode(&other));
        let of = |wanted| {
            let all = sockets().unwrap();
            all.into_iter().find(|(inode, _)| *inode == wanted)
        };
        assert_eq!(of(first), Some((first, Other::Inode(second))));
        assert_eq!(of(second), Some((second, Other::Inode(first))));
        assert!(sockets_of(std::process::id()).contains(&(first, Other::Unknown)));
        drop(other);
        assert_eq!(of(first), Some((first, Other::Closed)));
        assert_eq!(of(second), None);
    }

    #[test]
    fn an_abstract_name_is_found_with_its_owner() {
        use std::os::linux::net::SocketAddrExt;
        use std::os::unix::net::{SocketAddr, UnixListener};
        let name = format!("dmm-test-{}", std::process::id());
        assert_eq!(listens_at(name.as_bytes()).unwrap(), None);
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let _listener = UnixListener::bind_addr(&address).unwrap();
        let uid = Some(rustix::process::geteuid().as_raw());
        assert_eq!(listens_at(name.as_bytes()).unwrap(), Some(Owner { uid }));
        assert_eq!(listens_at(&name.as_bytes()[1..]).unwrap(), None);
    }

    #[test]
    fn other_kinds_and_messages_cut_short_are_left_out() {
        let (stream, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let wanted = inode(&stream);
        assert!(sockets().unwrap().iter().all(|(inode, _)| *inode != wanted));
        assert!(parse(&[1, SOCK_SEQPACKET, 1, 0, 9]).is_none());
        assert!(parse(&[]).is_none());
        assert!(parse_line("0: 2 0 0 0005 01").is_none());
    }
}
