//! The calls that change or ask the state of one session.

use std::ffi::{c_int, c_ulong, c_void};
use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use dmm_nsocket::session::segment::Side;
use dmm_nsocket::stats::Counter;
use libc::{sockaddr, socklen_t};

use super::data;
use super::options::{self, Facts, Refused};
use super::pool::{SESSIONS, Using};
use super::wait::borrow;
use crate::process::TABLE;
use crate::user_memory::{self, Address};
use crate::{errno, track};

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
    // It is told by this that it has succeeded.
    using.session().connecting.store(false, Ordering::Release);
    if endpoint.is_closed() {
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

/// What bind(2) says of a connected TCP socket: what is wrong with the address comes first.
pub(crate) fn bind_error(fd: c_int, address: *const sockaddr, len: socklen_t) -> c_int {
    if let Err(code) = data::check_address(address, len) {
        return code;
    }
    let domain = enter(fd).map_or(libc::AF_INET, |using| using.session().domain());
    match (user_memory::address(address, len), domain) {
        (Address::Inet(SocketAddr::V4(_)), libc::AF_INET)
        | (Address::Inet(SocketAddr::V6(_)), libc::AF_INET6) => libc::EINVAL,
        (Address::Inet(_), _) if len as usize >= smallest(domain) => libc::EAFNOSUPPORT,
        (Address::Other, _) if len as usize >= smallest(domain) => libc::EAFNOSUPPORT,
        _ => libc::EINVAL,
    }
}

/// Bytes of an address at least (RFC 3493: an IPv6 one may come without a scope).
const fn smallest(domain: c_int) -> usize {
    match domain {
        libc::AF_INET6 => size_of::<libc::sockaddr_in6>() - 4,
        _ => size_of::<libc::sockaddr_in>(),
    }
}

/// connect(2) once more.
pub(crate) fn connect(fd: c_int, address: *const sockaddr, len: socklen_t) -> Option<c_int> {
    let using = enter(fd)?;
    if let Err(code) = data::check_address(address, len) {
        return Some(errno::fail(code));
    }
    if (len as usize) < size_of::<libc::sa_family_t>() {
        return Some(errno::fail(libc::EINVAL));
    }
    if !using.session().connecting.swap(false, Ordering::AcqRel) {
        return Some(errno::fail(libc::EISCONN));
    }
    if using.endpoint().is_closed() {
        // It has come and gone before the program has asked.
        let code = match using.endpoint().take_error() {
            0 => libc::ECONNABORTED,
            code => code,
        };
        return Some(errno::fail(code));
    }
    Some(0)
}

/// sockatmark(3). `None`: it is no session.
pub(crate) fn is_at_mark(fd: c_int) -> Option<bool> {
    enter(fd).map(|using| using.endpoint().is_at_mark())
}

/// The error that waits to be told, if there is one: it is told with that.
pub(crate) fn take_error(handle: u32) -> Option<c_int> {
    let using = SESSIONS.enter(handle)?;
    Some(using.endpoint().take_error()).filter(|code| *code != 0)
}

/// The program does not want to wait for its connection: it is told at the next connect.
pub(crate) fn begin_connecting(handle: u32) {
    if let Some(using) = SESSIONS.enter(handle) {
        using.session().connecting.store(true, Ordering::Release);
    }
}

/// fcntl(2) has set these status flags. SIGIO comes from the kernel, by tokens.
pub(crate) fn status_changed(fd: c_int, flags: c_int) {
    if flags & libc::O_ASYNC != 0
        && let Some(using) = enter(fd)
    {
        using.endpoint().ring_always(true);
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
    let session = using.session();
    if !is_level(level) || level == libc::IPPROTO_IPV6 && value.is_null() {
        // The kernel does not look for a value, or takes none for 0 (ipv6_setsockopt).
        let zero = [0; size_of::<c_int>()];
        let zero = &zero[..zero.len().min(len as usize)];
        let set = session.options.set(session.domain(), level, name, zero);
        return Some(set.map_or_else(fail, |()| 0));
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
    match session.options.set(session.domain(), level, name, bytes) {
        Ok(()) => {
            follow(&using, fd, level, name);
            Some(0)
        }
        Err(refused) => Some(fail(refused)),
    }
}

/// Whether options of that level are answered by a TCP socket at all.
const fn is_level(level: c_int) -> bool {
    matches!(
        level,
        libc::SOL_SOCKET | libc::IPPROTO_TCP | libc::IPPROTO_IP | libc::IPPROTO_IPV6
    )
}

/// What an option that was set changes at once.
fn follow(using: &Using, fd: c_int, level: c_int, name: c_int) {
    if level != libc::SOL_SOCKET {
        return;
    }
    match name {
        libc::SO_LINGER => linger_follows(using),
        libc::SO_OOBINLINE => urgent_follows(using),
        libc::SO_RCVTIMEO | SO_RCVTIMEO_NEW => super::timeouts_follow(using, fd),
        _ => {}
    }
}

/// SO_OOBINLINE was set, or inherited.
pub(crate) fn urgent_follows(using: &Using) {
    let inline = using.session().options.oob_inline();
    using.endpoint().keep_urgent_inline(inline);
}

/// SO_LINGER was set, or inherited.
pub(crate) fn linger_follows(using: &Using) {
    let linger = using.session().options.linger();
    let abort = linger.on && linger.seconds == 0;
    using.session().abort.store(abort, Ordering::Release);
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
    let room = unsafe { user_memory::read(len) };
    let known = is_level(level);
    let room = match room {
        Some(room) if room.cast_signed() >= 0 => room,
        // Of a level that it does not know the kernel says so before it looks at the length.
        _ if !known => 0,
        // And of an IPv6 option it takes any length for one of an int.
        Some(_) if level == libc::IPPROTO_IPV6 => size_of::<c_int>() as socklen_t,
        Some(_) => return Some(errno::fail(libc::EINVAL)),
        None => return Some(errno::fail(libc::EFAULT)),
    };
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
            if used > 0 && !user_memory::readable(value, used)
                || !known && !user_memory::readable(len.cast(), size_of::<socklen_t>())
            {
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
        peer_receive_buffer: options::usual_receive_buffer(),
        sent,
        received: received + u64::from(unread),
        unread,
        unacknowledged,
        unsent: 0,
        send_buffer: send as u32,
        receive_buffer: receive as u32,
        at_mark: endpoint.is_at_mark(),
        since_sent_ms: 0,
        since_received_ms: 0,
    }
}
