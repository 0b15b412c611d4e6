//! The calls that change or ask the state of one session.

use std::ffi::{c_int, c_ulong, c_void};
use std::sync::atomic::Ordering;

use dmm_nsocket::session::segment::Side;
use dmm_nsocket::stats::Counter;
use libc::socklen_t;

use super::options::{self, Facts, Refused};
use super::pool::{SESSIONS, Using};
use super::wait::borrow;
use crate::process::TABLE;
use crate::{errno, track, user_memory};

/// The session under a descriptor.
fn enter(fd: c_int) -> Option<Using> {
    let entry = TABLE.load(fd);
    if entry.is_session() {
        SESSIONS.enter(entry.slot())
    } else {
        None
    }
}

/// shutdown(2).
pub(crate) fn shutdown(fd: c_int, how: c_int) -> Option<c_int> {
    let using = enter(fd)?;
    let endpoint = using.endpoint();
    let (read, write) = match how {
        libc::SHUT_RD => (true, false),
        libc::SHUT_WR => (false, true),
        libc::SHUT_RDWR => (true, true),
        _ => return Some(errno::fail(libc::EINVAL)),
    };
    if endpoint.is_over() {
        // Both sides have finished: TCP has no connection any more.
        return Some(errno::fail(libc::ENOTCONN));
    }
    if read {
        endpoint.stop_reading(borrow(fd));
    }
    if write {
        endpoint.finish(borrow(fd));
    }
    Some(0)
}

/// connect(2) once more.
pub(crate) fn connect(fd: c_int) -> Option<c_int> {
    let using = enter(fd)?;
    if using.session().connecting.swap(false, Ordering::AcqRel) {
        return Some(0);
    }
    Some(errno::fail(libc::EISCONN))
}

/// The program does not want to wait for its connection: it is told at the next connect.
pub(crate) fn begin_connecting(handle: u32) {
    if let Some(using) = SESSIONS.enter(handle) {
        using.session().connecting.store(true, Ordering::Release);
    }
}

/// Longest value of an option that is looked at.
const LONGEST: usize = 1024;

/// setsockopt(2).
pub(crate) fn setsockopt(
    fd: c_int,
    level: c_int,
    name: c_int,
    value: *const c_void,
    len: socklen_t,
) -> Option<c_int> {
    let using = enter(fd)?;
    if len.cast_signed() < 0 {
        return Some(errno::fail(libc::EINVAL));
    }
    let mut len = (len as usize).min(LONGEST);
    if len > 0 && !user_memory::readable(value, len) {
        // The kernel reads an int of most options, whatever length is said.
        len = len.min(size_of::<c_int>());
        if !user_memory::readable(value, len) {
            return Some(errno::fail(libc::EFAULT));
        }
    }
    let bytes = if len == 0 {
        &[]
    } else {
        // SAFETY: so many bytes can be read.
        unsafe { std::slice::from_raw_parts(value.cast::<u8>(), len) }
    };
    let session = using.session();
    match session.options.set(session.domain(), level, name, bytes) {
        Ok(()) => {
            follow(&using, fd, level, name);
            Some(0)
        }
        Err(refused) => Some(fail(refused)),
    }
}

/// What an option that was set changes at once.
fn follow(using: &Using, fd: c_int, level: c_int, name: c_int) {
    if level != libc::SOL_SOCKET {
        return;
    }
    let session = using.session();
    match name {
        libc::SO_LINGER => {
            let linger = session.options.linger();
            let abort = linger.on && linger.seconds == 0;
            session.abort.store(abort, Ordering::Release);
        }
        libc::SO_RCVTIMEO | SO_RCVTIMEO_NEW => super::timeouts_follow(using, fd),
        _ => {}
    }
}

/// SO_RCVTIMEO_NEW of asm-generic/socket.h, which the libc crate does not have.
const SO_RCVTIMEO_NEW: c_int = 66;

/// getsockopt(2).
pub(crate) fn getsockopt(
    fd: c_int,
    level: c_int,
    name: c_int,
    value: *mut c_void,
    len: *mut socklen_t,
) -> Option<c_int> {
    let using = enter(fd)?;
    // SAFETY: any bytes are a length.
    let Some(room) = (unsafe { user_memory::read(len) }) else {
        return Some(errno::fail(libc::EFAULT));
    };
    if room.cast_signed() < 0 {
        return Some(errno::fail(libc::EINVAL));
    }
    let mut answer = [0; LONGEST];
    let room = (room as usize).min(LONGEST);
    let is_error = level == libc::SOL_SOCKET && name == libc::SO_ERROR;
    let pending = if is_error {
        using.endpoint().take_error()
    } else {
        0
    };
    let facts = facts(&using, fd, pending);
    let session = using.session();
    match session
        .options
        .get(&facts, level, name, &mut answer[..room])
    {
        Ok(used) => {
            if used > 0 && !user_memory::readable(value, used) {
                return Some(errno::fail(libc::EFAULT));
            }
            if is_error {
                session.connecting.store(false, Ordering::Release);
            }
            // SAFETY: the program says that there is room for so many bytes, and for the length.
            unsafe {
                answer
                    .as_ptr()
                    .copy_to_nonoverlapping(value.cast::<u8>(), used);
                len.write_unaligned(used as socklen_t);
            }
            Some(0)
        }
        Err(refused) => Some(fail(refused)),
    }
}

/// ioctl(2): what asks for bytes. The rest is the descriptor's.
pub(crate) fn ioctl(fd: c_int, request: c_ulong, argument: c_ulong) -> Option<c_int> {
    let using = enter(fd)?;
    let facts = facts(&using, fd, 0);
    let answer = options::ioctl(&facts, request as u32)?;
    let place = argument as *mut c_int;
    match answer {
        Ok(_) if !user_memory::readable(place.cast(), size_of::<c_int>()) => {
            Some(errno::fail(libc::EFAULT))
        }
        Ok(number) => {
            // SAFETY: the program says that there is room for a number.
            unsafe { place.write_unaligned(number) };
            Some(0)
        }
        Err(code) => Some(errno::fail(code)),
    }
}

fn fail(refused: Refused) -> c_int {
    if matches!(refused, Refused::Unsupported(_)) {
        track::count(Counter::OptionsUnsupported);
    }
    errno::fail(refused.errno())
}

fn facts(using: &Using, fd: c_int, pending_error: c_int) -> Facts<'static> {
    let (session, endpoint) = (using.session(), using.endpoint());
    let (received, sent) = endpoint.moved();
    let unread = endpoint.unread() as u32;
    let unacknowledged = endpoint.unsent() as u32;
    let (send, receive) = endpoint.capacities();
    Facts {
        domain: session.domain(),
        descriptor: borrow(fd),
        accepted: endpoint.side() == Side::Accepting,
        state: endpoint.tcp_state(),
        pending_error,
        local_port: session.addresses().local.port(),
        peer: session.addresses().remote,
        peer_receive_buffer: send as u32,
        sent,
        received: received + u64::from(unread),
        unread,
        unacknowledged,
        unsent: 0,
        send_buffer: send as u32,
        receive_buffer: receive as u32,
        at_mark: false,
        since_sent_ms: 0,
        since_received_ms: 0,
    }
}
