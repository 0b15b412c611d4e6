//! The life of a socket: made, bound, connected or listening, accepted from.

use std::ffi::{c_int, c_void};
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;

use dmm_nsocket::Reason;
use dmm_nsocket::fresh::Origin;
use dmm_nsocket::stats::HistogramKind;
use dmm_nsocket::table::{Entry, State};
use dmm_policy::Role;
use libc::{sockaddr, socklen_t};

use crate::export::export;
use crate::process::{self, FRESH, TABLE};
use crate::session::listener::Accepted;
use crate::session::pool::{Addresses, SESSIONS};
use crate::user_memory::{self, Address};
use crate::{clock, errno, place, real, sandbox, session, track};

export! {
    /// socket(2).
    also [__socket] fn socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int {
        socket_by(domain, kind, protocol, || unsafe { real::socket(domain, kind, protocol) })
    }

    /// socketpair(2).
    fn socketpair(domain: c_int, kind: c_int, protocol: c_int, pair: *mut c_int) -> c_int {
        socketpair_by(domain, kind, protocol, pair, || unsafe {
            real::socketpair(domain, kind, protocol, pair)
        })
    }

    /// bind(2).
    fn bind(fd: c_int, address: *const sockaddr, len: socklen_t) -> c_int {
        bind_by(fd, address, len, || unsafe { real::bind(fd, address, len) })
    }

    /// listen(2).
    fn listen(fd: c_int, backlog: c_int) -> c_int {
        listen_by(fd, backlog, || unsafe { real::listen(fd, backlog) })
    }

    /// accept(2).
    fn accept(fd: c_int, address: *mut sockaddr, len: *mut socklen_t) -> c_int {
        accept_by(fd, (address, len), 0, || unsafe { real::accept(fd, address, len) })
    }

    /// accept4(2).
    fn accept4(fd: c_int, address: *mut sockaddr, len: *mut socklen_t, flags: c_int) -> c_int {
        accept_by(fd, (address, len), flags, || unsafe { real::accept4(fd, address, len, flags) })
    }

    /// connect(2).
    also [__connect] fn connect(fd: c_int, address: *const sockaddr, len: socklen_t) -> c_int {
        connect_by(fd, address, len, || unsafe { real::connect(fd, address, len) })
    }

    /// shutdown(2). On a socket that is not connected it fails and leaves its mark all the same.
    fn shutdown(fd: c_int, how: c_int) -> c_int {
        if let Some(result) = session::control::shutdown(fd, how) {
            return result;
        }
        let result = unsafe { real::shutdown(fd, how) };
        shut_down(fd, how);
        result
    }

    /// getsockopt(2). Asking for SO_ERROR tells us too how a connect has ended; a socket that was
    /// given MPTCP for TCP still says that it is TCP.
    fn getsockopt(fd: c_int, level: c_int, name: c_int, value: *mut c_void, len: *mut socklen_t) -> c_int {
        if let Some(result) = session::control::getsockopt(fd, level, name, value, len) {
            return result;
        }
        let result = unsafe { real::getsockopt(fd, level, name, value, len) };
        if result == 0
            && level == libc::SOL_SOCKET
            // SAFETY: the kernel has just written the length there.
            && unsafe { len.read_unaligned() } as usize == size_of::<c_int>()
        {
            let entry = TABLE.load(fd);
            let value = value.cast::<c_int>();
            // SAFETY: the kernel has just written an int there.
            let said = unsafe { value.read_unaligned() };
            match name {
                libc::SO_ERROR if entry.has(Entry::CONNECTING) => connect_ended(fd, said),
                libc::SO_PROTOCOL if entry.has(Entry::DISGUISED) => {
                    // SAFETY: as above.
                    unsafe { value.write_unaligned(libc::IPPROTO_TCP) };
                }
                _ => {}
            }
        }
        result
    }

    /// setsockopt(2).
    fn setsockopt(fd: c_int, level: c_int, name: c_int, value: *const c_void, len: socklen_t) -> c_int {
        setsockopt_by(fd, level, name, value, len, || unsafe {
            real::setsockopt(fd, level, name, value, len)
        })
    }

    /// sockatmark(3).
    fn sockatmark(fd: c_int) -> c_int {
        match session::control::is_at_mark(fd) {
            Some(at_mark) => c_int::from(at_mark),
            None => unsafe { real::sockatmark(fd) },
        }
    }

    /// isfdtype(3).
    fn isfdtype(fd: c_int, kind: c_int) -> c_int {
        unsafe { real::isfdtype(fd, kind) }
    }
}

// What is done around a call, whichever way it is made: by libc's function, which is a cancellation
// point, or by syscall(2), which is none.

/// Makes a socket by `call`: one of the Internet families is fresh until it is used.
pub(super) fn socket_by(
    domain: c_int,
    kind: c_int,
    protocol: c_int,
    call: impl FnOnce() -> c_int,
) -> c_int {
    let fd = call();
    if fd >= 0 && !process::is_borrowed() {
        track::opened(fd, domain, kind, protocol);
    }
    fd
}

/// Makes a pair of sockets by `call`: always the kernel's.
pub(super) fn socketpair_by(
    domain: c_int,
    kind: c_int,
    protocol: c_int,
    pair: *const c_int,
    call: impl FnOnce() -> c_int,
) -> c_int {
    let result = call();
    if result == 0 && !process::is_borrowed() {
        for i in 0..2 {
            // SAFETY: the kernel has just written both numbers.
            let fd = unsafe { pair.add(i).read_unaligned() };
            track::opened(fd, domain, kind, protocol);
        }
    }
    result
}

/// Binds a socket to an address by `call`.
pub(super) fn bind_by(
    fd: c_int,
    address: *const sockaddr,
    len: socklen_t,
    call: impl FnOnce() -> c_int,
) -> c_int {
    let entry = TABLE.load(fd);
    if entry.is_session() {
        return errno::fail(session::control::bind_error(fd, address, len));
    }
    if entry.state() != State::Fresh || sandbox::is_entered() {
        return call();
    }
    let bound = match user_memory::address(address, len) {
        Address::Inet(local) => place::prepare_bind(fd, local),
        Address::Unspecified | Address::Other => Ok(false),
    };
    let result = match bound {
        Ok(true) => 0,
        Ok(false) => call(),
        Err(code) => errno::fail(code),
    };
    if result == 0 {
        record_local(fd);
    }
    result
}

/// Makes a socket listen by `call`: a fresh stream socket is bound to a stack before.
pub(super) fn listen_by(fd: c_int, backlog: c_int, call: impl FnOnce() -> c_int) -> c_int {
    let entry = TABLE.load(fd);
    if entry.is_session() {
        return errno::fail(libc::EINVAL);
    }
    if entry.state() == State::Fresh
        && !entry.has(Entry::DATAGRAM)
        && let Err(code) = place::bind_to_stack(fd, Role::Listen, None)
    {
        return errno::fail(code);
    }
    let result = call();
    if result == 0 && !process::is_borrowed() && !sandbox::is_entered() {
        listens(fd);
        let entry = TABLE.load(fd);
        if entry.state() == State::Listener {
            session::listener::set_backlog(entry.slot(), backlog);
        }
    }
    result
}

/// Accepts a connection by `call`.
pub(super) fn accept_by(
    fd: c_int,
    (address, len): (*mut sockaddr, *mut socklen_t),
    flags: c_int,
    call: impl Fn() -> c_int,
) -> c_int {
    let begun = accepting(fd);
    let entry = TABLE.load(fd);
    let accepted = if flags & !(libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC) != 0 {
        // The kernel refuses it, before it looks at anything else.
        call()
    } else if entry.state() == State::Listener && !process::is_borrowed() {
        let blocking = !entry.has(Entry::NONBLOCKING);
        match session::listener::accept(entry.slot(), fd, flags, blocking, &call) {
            Accepted::Kernel(accepted) => accepted,
            Accepted::Failed(code) => return errno::fail(code),
            Accepted::Session(accepted, handle, addresses) => {
                return session_accepted(
                    fd,
                    accepted,
                    handle,
                    addresses,
                    (address, len),
                    flags,
                    begun,
                );
            }
        }
    } else if entry.is_session() {
        return errno::fail(libc::EINVAL);
    } else {
        call()
    };
    if accepted >= 0 {
        accepted_from(fd, accepted, flags, begun);
    }
    accepted
}

/// Connects a socket by `call`: a fresh one is bound to a stack before.
pub(super) fn connect_by(
    fd: c_int,
    address: *const sockaddr,
    len: socklen_t,
    call: impl FnOnce() -> c_int,
) -> c_int {
    let entry = TABLE.load(fd);
    if !entry.is_socket() || sandbox::is_entered() {
        return call();
    }
    if let Some(result) = session::control::connect(fd, address, len) {
        return result;
    }
    if entry.has(Entry::CONNECTING) {
        // The program asks again how it goes.
        let begun = clock::now();
        let result = call();
        connected(fd, None, result, begun);
        return result;
    }
    let remote = match user_memory::address(address, len) {
        Address::Inet(remote) => Some(remote),
        Address::Unspecified | Address::Other => None,
    };
    if entry.state() == State::Fresh && remote.is_some() {
        let role = if entry.has(Entry::DATAGRAM) {
            Role::Datagram
        } else {
            Role::Connect
        };
        let begun = clock::now();
        if let Err(code) = place::bind_to_stack(fd, role, remote) {
            return errno::fail(code);
        }
        if TABLE.load(fd).is_session() {
            return session_connected(fd, remote, begun);
        }
    }
    let begun = clock::now();
    let result = call();
    if entry.state() == State::Listener && result == 0 {
        session::listener::stopped(entry.slot());
    }
    connected(fd, remote, result, begun);
    result
}

/// A session stands. A program that does not want to wait is told so later, as it is of a TCP
/// connection over loopback.
fn session_connected(fd: c_int, remote: Option<SocketAddr>, begun: u64) -> c_int {
    let entry = TABLE.load(fd);
    if let (Some(record), Some(remote)) = (track::record(fd), remote) {
        if let Some(using) = SESSIONS.enter(entry.slot()) {
            record.local(using.session().addresses().local);
        }
        record.connecting(remote);
        record.connected(Some(clock::now() - begun));
    }
    if entry.has(Entry::NONBLOCKING) {
        session::control::begin_connecting(entry.slot());
        return errno::fail(libc::EINPROGRESS);
    }
    0
}

/// Sets an option by `call`: what a fresh socket has accepted is recorded, to be replayed on another
/// stack.
pub(super) fn setsockopt_by(
    fd: c_int,
    level: c_int,
    name: c_int,
    value: *const c_void,
    len: socklen_t,
    call: impl FnOnce() -> c_int,
) -> c_int {
    if let Some(result) = session::control::setsockopt(fd, level, name, value, len) {
        return result;
    }
    let result = call();
    let entry = TABLE.load(fd);
    if result == 0
        && entry.state() == State::Fresh
        && let Some(fresh) = FRESH.slot(entry.slot())
    {
        let bytes = if value.is_null() {
            // The IPv6 options take a null for a 0 (ipv6_setsockopt in the kernel).
            &[0; size_of::<c_int>()][..]
        } else {
            // SAFETY: the kernel has accepted an option of this size from there; it may have
            // read less of it, so a log that could not hold it does not look.
            unsafe { option_bytes(value, len) }
        };
        fresh.record_option(level, name, bytes);
    }
    result
}

/// shutdown(2) was called on a socket: what it leaves on a fresh one is remembered.
fn shut_down(fd: c_int, how: c_int) {
    let bits = match how {
        libc::SHUT_RD => 1,
        libc::SHUT_WR => 2,
        libc::SHUT_RDWR => 3,
        _ => return,
    };
    let entry = TABLE.load(fd);
    if entry.state() == State::Listener && bits & 1 != 0 {
        session::listener::stopped(entry.slot());
    }
    if entry.state() == State::Fresh
        && let Some(fresh) = FRESH.slot(entry.slot())
        && fresh.with(|details| details.shut |= bits).is_none()
    {
        fresh.pin(Reason::UnreplayableOption);
    }
}

/// The bytes of an option's value, as many as can be read.
///
/// # Safety
/// What can be read there must not change during the call.
unsafe fn option_bytes<'a>(value: *const c_void, len: socklen_t) -> &'a [u8] {
    // The kernel reads an int of most options, whatever length is said; the rest may be nowhere.
    let mut len = (len as usize).min(dmm_nsocket::options::CAPACITY + 1);
    if !user_memory::readable(value, len) {
        len = len.min(size_of::<c_int>());
    }
    // SAFETY: `len` bytes can be read.
    unsafe { std::slice::from_raw_parts(value.cast(), len) }
}

#[cold]
fn record_local(fd: c_int) {
    if let Some(record) = track::record(fd)
        // SAFETY: a descriptor of the program's, borrowed for the call.
        && let Ok(name) = rustix::net::getsockname(unsafe { BorrowedFd::borrow_raw(fd) })
        && let Ok(local) = SocketAddr::try_from(name)
    {
        record.local(local);
    }
}

fn listens(fd: c_int) {
    if !TABLE.load(fd).is_socket() && !track::adopt(fd) {
        return;
    }
    record_local(fd);
    if let Some(record) = track::record(fd) {
        record.listening();
    }
}

/// When a blocking accept was begun; 0 where none is.
fn accepting(fd: c_int) -> u64 {
    let entry = TABLE.load(fd);
    if !entry.is_socket() || entry.has(Entry::NONBLOCKING) {
        0
    } else {
        clock::now()
    }
}

fn accepted_from(listener: c_int, fd: c_int, flags: c_int, begun: u64) {
    if process::is_borrowed() || sandbox::is_entered() {
        track::forget(fd);
        return;
    }
    if !TABLE.load(listener).is_socket() && !track::adopt(listener) {
        track::forget(fd);
        return;
    }
    // SAFETY: the descriptor was made by the call just before.
    let remote = rustix::net::getpeername(unsafe { BorrowedFd::borrow_raw(fd) })
        .ok()
        .and_then(|name| SocketAddr::try_from(name?).ok());
    track::accepted(listener, fd, flags, remote);
    if begun != 0
        && let Some(record) = track::existing_record(listener)
    {
        record.took(HistogramKind::Accept, clock::now() - begun);
    }
}

/// A session was accepted under `fd`.
fn session_accepted(
    listener: c_int,
    fd: c_int,
    handle: u32,
    addresses: Addresses,
    (address, len): (*mut sockaddr, *mut socklen_t),
    flags: c_int,
    begun: u64,
) -> c_int {
    track::accepted_session(listener, fd, flags, handle, addresses);
    if begun != 0
        && let Some(record) = track::existing_record(listener)
    {
        record.took(HistogramKind::Accept, clock::now() - begun);
    }
    if !address.is_null()
        && let Some(using) = SESSIONS.enter(handle)
        && let Err(code) =
            session::names::give(addresses.remote, using.session().domain(), address, len)
    {
        // As the kernel does: the connection is lost.
        drop(using);
        // SAFETY: a descriptor that was made just now.
        unsafe { crate::calls::descriptors::close(fd) };
        return errno::fail(code);
    }
    fd
}

/// After a connect: the record follows, and one that is under way is remembered with its start.
fn connected(fd: c_int, remote: Option<SocketAddr>, result: c_int, begun: u64) {
    let code = errno::last();
    let entry = TABLE.load(fd);
    if process::is_borrowed() || !entry.is_socket() {
        return;
    }
    let Some(record) = track::record(fd) else {
        return;
    };
    if entry.has(Entry::DATAGRAM) {
        if result == 0 {
            record.peer(remote);
        }
        return;
    }
    match (result, code, remote) {
        (0, _, Some(remote)) => {
            record.connecting(remote);
            if entry.has(Entry::CONNECTING) {
                connection_stands(fd);
            } else {
                record.connected(Some(clock::now() - begun));
            }
        }
        (0, _, None) if entry.has(Entry::CONNECTING) => connection_stands(fd),
        (0, _, None) => record.peer(None),
        (_, libc::EINPROGRESS | libc::EINTR, Some(remote)) => {
            record.connecting(remote);
            note_connecting(fd, entry, begun);
        }
        (_, libc::EALREADY | libc::EISCONN, _) => {}
        (_, code, _) if entry.has(Entry::CONNECTING) => connect_ended(fd, code),
        _ => record.connect_failed(),
    }
    errno::set(code);
}

fn note_connecting(fd: c_int, entry: Entry, begun: u64) {
    let origin = Origin {
        domain: 0,
        kind: 0,
        protocol: 0,
        pid: process::pid(),
        forks: process::forks(),
    };
    let Some(slot) = FRESH.take(origin, 0) else {
        return;
    };
    if let Some(fresh) = FRESH.slot(slot) {
        fresh.with(|details| details.connecting_since = begun);
    }
    let connecting = Entry::new(State::Kernel, entry.flags() | Entry::CONNECTING, slot);
    if !TABLE.exchange(fd, entry, connecting) {
        FRESH.release(slot);
    }
}

/// A connection that was under way has carried data, or its peer's name: it stands.
#[cold]
pub(super) fn connection_stands(fd: c_int) {
    if let Some(since) = no_longer_connecting(fd)
        && let Some(record) = track::record(fd)
    {
        record.connected(since);
    }
}

/// A connect that was under way has ended with SO_ERROR saying `code`.
#[cold]
fn connect_ended(fd: c_int, code: c_int) {
    if sandbox::is_entered() {
        return;
    }
    if code != 0 {
        if no_longer_connecting(fd).is_some()
            && let Some(record) = track::record(fd)
        {
            record.connect_failed();
        }
    } else if rustix::net::getpeername(
        // SAFETY: a descriptor of the program's, borrowed for the call.
        unsafe { BorrowedFd::borrow_raw(fd) },
    )
    .is_ok()
    {
        connection_stands(fd);
    }
}

/// How long ago the connect was begun, if it was still under way.
fn no_longer_connecting(fd: c_int) -> Option<Option<u64>> {
    let entry = TABLE.load(fd);
    if !entry.has(Entry::CONNECTING) {
        return None;
    }
    let done = entry.on_kernel().with(Entry::CONNECTING, false);
    if !TABLE.exchange(fd, entry, done) {
        return None;
    }
    let since = FRESH
        .slot(entry.slot())
        .and_then(|fresh| fresh.with(|details| details.connecting_since))
        .filter(|since| *since != 0);
    FRESH.release(entry.slot());
    Some(since.map(|since| clock::now() - since))
}
