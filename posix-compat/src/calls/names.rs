//! The addresses of a socket.

use std::ffi::c_int;

use libc::{sockaddr, socklen_t};

use crate::export::export;
use crate::process::TABLE;
use crate::session::names;
use crate::session::pool::{Addresses, SESSIONS};
use crate::{errno, real};

export! {
    /// getsockname(2).
    fn getsockname(fd: c_int, address: *mut sockaddr, len: *mut socklen_t) -> c_int {
        match session_addresses(fd) {
            Some((addresses, domain, _)) => answer(names::give(addresses.local, domain, address, len)),
            None => unsafe { real::getsockname(fd, address, len) },
        }
    }

    /// getpeername(2).
    fn getpeername(fd: c_int, address: *mut sockaddr, len: *mut socklen_t) -> c_int {
        match session_addresses(fd) {
            // TCP has no peer any more when the connection is over.
            Some((.., true)) => errno::fail(libc::ENOTCONN),
            Some((addresses, domain, false)) => answer(names::give(addresses.remote, domain, address, len)),
            None => unsafe { real::getpeername(fd, address, len) },
        }
    }
}

/// The addresses of a session, its domain, and whether it is over.
fn session_addresses(fd: c_int) -> Option<(Addresses, c_int, bool)> {
    let entry = TABLE.load(fd);
    if !entry.is_session() {
        return None;
    }
    let using = SESSIONS.enter(entry.slot())?;
    let session = using.session();
    let over = using.endpoint().is_closed();
    Some((session.addresses(), session.domain(), over))
}

fn answer(result: Result<(), c_int>) -> c_int {
    match result {
        Ok(()) => 0,
        Err(code) => errno::fail(code),
    }
}
