//! Sockets made, named, connected and shut down.

use std::ffi::CString;

use libc::{c_int, socklen_t};

use super::{Executor, elsewhere::guarded};
use crate::op::{Op, Room, Slot};
use crate::sys::{call, wild};

impl Executor<'_> {
    pub(super) fn create(&mut self, op: &Op) {
        match *op {
            Op::Socket {
                dst,
                domain,
                kind,
                protocol,
            } => {
                let fd = call!(libc::socket, domain, kind, protocol);
                self.store(dst, fd);
            }
            Op::SocketPair { dst, domain, kind } => {
                let mut fds = [-7; 2];
                let result = call!(libc::socketpair, domain, kind, 0, fds.as_mut_ptr());
                self.pair(dst, fds, result);
            }
            Op::Pipe { dst, flags } => {
                let mut fds = [-7; 2];
                let result = call!(libc::pipe2, fds.as_mut_ptr(), flags);
                self.pair(dst, fds, result);
            }
            Op::File { dst } => {
                let content: Vec<u8> = (0..4096_u32).map(|n| (n * 7 % 251) as u8).collect();
                if std::fs::write("file", content).is_err() {
                    self.note(format_args!(" (no file)"));
                }
                let path = CString::new("file").unwrap_or_default();
                let fd = call!(libc::open, path.as_ptr(), libc::O_RDWR);
                self.store(dst, fd);
            }
            _ => {}
        }
    }

    fn pair(&mut self, dst: [Slot; 2], fds: [c_int; 2], result: i64) {
        self.result(result);
        self.note(format_args!(" {fds:?}"));
        if result == 0 {
            self.keep(dst[0], fds[0]);
            self.keep(dst[1], fds[1]);
        }
    }

    pub(super) fn connection(&mut self, op: &Op) {
        match *op {
            Op::Bind { s, to } => {
                let to = self.address(to);
                let fd = self.fd(s);
                let result =
                    self.may_choose_port(fd, |_| call!(libc::bind, fd, to.pointer(), to.len));
                self.result(result);
            }
            Op::Listen { s, backlog } => {
                let fd = self.fd(s);
                let backlog = match self.setting.long_backlogs {
                    true if (0..LONG_BACKLOG).contains(&backlog) => LONG_BACKLOG,
                    _ => backlog,
                };
                let result = self.may_choose_port(fd, |_| call!(libc::listen, fd, backlog));
                self.result(result);
            }
            Op::Connect { s, to } => {
                let to = self.address(to);
                let fd = self.fd(s);
                let result = self.may_choose_port(fd, |_| {
                    guarded(|| call!(libc::connect, fd, to.pointer(), to.len))
                });
                self.result(result);
            }
            Op::Accept {
                s,
                dst,
                flags,
                room,
            } => {
                let fd = self.fd(s);
                let mut place = Place::new(room);
                let (address, length) = place.pointers();
                let accepted = guarded(|| match flags {
                    Some(flags) => call!(libc::accept4, fd, address, length, flags),
                    None => call!(libc::accept, fd, address, length),
                });
                self.store(dst, accepted);
                self.place(&place, accepted >= 0);
            }
            Op::Name { s, peer, room } => {
                let mut place = Place::new(room);
                let (address, length) = place.pointers();
                let result = if peer {
                    call!(libc::getpeername, self.fd(s), address, length)
                } else {
                    call!(libc::getsockname, self.fd(s), address, length)
                };
                self.result(result);
                self.place(&place, result == 0);
            }
            Op::Shutdown { s, how } => {
                let fd = self.fd(s);
                let result = call!(libc::shutdown, fd, how);
                self.result(result);
                if result == 0 && how != libc::SHUT_WR {
                    self.deaf.push(fd);
                }
            }
            _ => {}
        }
    }

    /// Notes an address that a call returned, if it did.
    pub(super) fn place(&mut self, place: &Place, written: bool) {
        if !place.wanted {
            return;
        }
        if !written {
            let touched = place.bytes.iter().any(|&byte| byte != FILLER) || place.len != place.room;
            self.note(format_args!(
                "{}",
                if touched { " address touched" } else { "" }
            ));
            return;
        }
        let valid = place.len.min(place.room) as usize;
        let text = self.names.show(&place.bytes[..valid]);
        let beyond = place.bytes[place.room.min(128) as usize..]
            .iter()
            .any(|&byte| byte != FILLER);
        self.note(format_args!(
            " {text} len {}{}",
            place.len,
            if beyond { " OVERRUN" } else { "" }
        ));
    }
}

/// More than any sequence fills.
const LONG_BACKLOG: c_int = 100;

/// What stands in memory that a call should not write.
const FILLER: u8 = 0xaa;

/// Where a call may write an address.
pub(super) struct Place {
    bytes: [u8; 192],
    pub(super) len: socklen_t,
    room: socklen_t,
    kind: Room,
    wanted: bool,
}

impl Place {
    pub(super) fn new(kind: Room) -> Self {
        let room = match kind {
            Room::Full => 128,
            Room::Bytes(n) => n,
            _ => 128,
        };
        let wanted = matches!(kind, Room::Full | Room::Bytes(_));
        Self {
            bytes: [FILLER; 192],
            len: room,
            room,
            kind,
            wanted,
        }
    }

    pub(super) fn pointers(&mut self) -> (*mut libc::sockaddr, *mut socklen_t) {
        let address = self.bytes.as_mut_ptr().cast();
        let len = &raw mut self.len;
        match self.kind {
            Room::Full | Room::Bytes(_) => (address, len),
            Room::NullLength => (address, std::ptr::null_mut()),
            Room::NullAddress => (std::ptr::null_mut(), len),
            Room::None => (std::ptr::null_mut(), std::ptr::null_mut()),
            Room::Wild => (wild(), len),
        }
    }
}
