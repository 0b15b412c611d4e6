//! Descriptors come and go: the table, the pool of fresh sockets and the statistics follow.
//!
//! The order matters where a number is reused. A descriptor's entry is cleared *before* the kernel
//! closes it: once it is closed another thread may get the same number, and must not find what was
//! said of the old one.

use std::ffi::c_int;
use std::os::fd::BorrowedFd;

use dmm_nsocket::fresh::{Held, Origin};
use dmm_nsocket::stats::{Counter, Opened, Segment, Socket, SocketRole};
use dmm_nsocket::sys::{self, BlockedSignals};
use dmm_nsocket::table::{Entry, State};
use rustix::fs::FileType;

use crate::process::{self, FRESH, TABLE};
use crate::session::pool::{Addresses, SESSIONS};
use crate::{sandbox, session};

/// The record of a descriptor, made if need be.
pub(crate) fn record(fd: c_int) -> Option<Socket<'static>> {
    process::record_at(fd, Segment::socket)
}

/// The record of a descriptor if there has ever been one near it: takes no memory.
pub(crate) fn existing_record(fd: c_int) -> Option<Socket<'static>> {
    process::record_at(fd, Segment::existing_socket)
}

/// Counts something of the process, if it shows statistics.
pub(crate) fn count(counter: Counter) {
    if let Some(segment) = process::existing_segment() {
        segment.add(counter, 1);
    }
}

/// A socket was made under `fd`: it is fresh if a policy may send it elsewhere.
pub(crate) fn opened(fd: c_int, domain: c_int, kind: c_int, protocol: c_int) {
    forget(fd);
    if !matches!(domain, libc::AF_INET | libc::AF_INET6) {
        if let Some(segment) = process::existing_segment() {
            segment.add(passed_counter(domain), 1);
        }
        return;
    }
    let flags = kind & (libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC);
    let kind = kind & !flags;
    if sandbox::is_entered() {
        return;
    }
    let inode = inode(fd);
    let origin = Origin {
        domain,
        kind,
        protocol,
        pid: process::pid(),
        forks: process::forks(),
    };
    let mut entry = match FRESH.take(origin, inode) {
        Some(slot) => Entry::new(State::Fresh, 0, slot),
        None => Entry::new(State::Kernel, 0, 0),
    };
    entry = entry
        .with(Entry::NONBLOCKING, flags & libc::SOCK_NONBLOCK != 0)
        .with(Entry::DATAGRAM, kind != libc::SOCK_STREAM);
    enter(fd, entry);
    if let Some(record) = record(fd) {
        record.open(&Opened {
            family: domain,
            sock_type: kind,
            protocol,
            inode,
        });
    }
}

/// A connection was accepted from `listener` under `fd`.
pub(crate) fn accepted(
    listener: c_int,
    fd: c_int,
    flags: c_int,
    remote: Option<std::net::SocketAddr>,
) {
    forget(fd);
    let disguised = TABLE.load(listener).has(Entry::DISGUISED);
    let entry = Entry::new(State::Kernel, 0, 0)
        .with(Entry::NONBLOCKING, flags & libc::SOCK_NONBLOCK != 0)
        .with(Entry::DISGUISED, disguised);
    enter(fd, entry);
    if let (Some(from), Some(to)) = (record(listener), record(fd)) {
        to.accepted(from, inode(fd), remote);
    }
}

/// A session was accepted from `listener` under `fd`.
pub(crate) fn accepted_session(
    listener: c_int,
    fd: c_int,
    flags: c_int,
    handle: u32,
    addresses: Addresses,
) {
    forget(fd);
    let entry = Entry::new(State::Session, 0, handle)
        .with(Entry::NONBLOCKING, flags & libc::SOCK_NONBLOCK != 0);
    enter(fd, entry);
    if let (Some(segment), Some(from), Some(to)) =
        (process::segment(), record(listener), record(fd))
    {
        to.accepted_on(
            from,
            inode(fd),
            Some(addresses.remote),
            segment.stack("local"),
        );
        to.local(addresses.local);
    }
}

/// A descriptor that came from somewhere else (an exec, another process) turns out to be a socket
/// that would be managed had it been made here: from now on it is. Says whether it is one.
pub(crate) fn adopt(fd: c_int) -> bool {
    if fd < 0 || process::is_borrowed() || sandbox::is_entered() {
        return false;
    }
    // SAFETY: only borrowed for the calls; one that is not open is refused by them.
    let socket = unsafe { BorrowedFd::borrow_raw(fd) };
    let option = |name| sys::getsockopt_int(socket, libc::SOL_SOCKET, name);
    let Ok(domain @ (libc::AF_INET | libc::AF_INET6)) = option(libc::SO_DOMAIN) else {
        return false;
    };
    let (Ok(kind), Ok(protocol)) = (option(libc::SO_TYPE), option(libc::SO_PROTOCOL)) else {
        return false;
    };
    let listening = option(libc::SO_ACCEPTCONN) == Ok(1);
    let nonblocking = rustix::fs::fcntl_getfl(socket)
        .is_ok_and(|flags| flags.contains(rustix::fs::OFlags::NONBLOCK));
    let entry = Entry::new(State::Kernel, 0, 0)
        .with(Entry::NONBLOCKING, nonblocking)
        .with(Entry::DATAGRAM, kind != libc::SOCK_STREAM);
    enter(fd, entry);
    if let (Some(segment), Some(record)) = (process::segment(), record(fd)) {
        segment.add(Counter::SocketsInherited, 1);
        record.open(&Opened {
            family: domain,
            sock_type: kind,
            protocol,
            inode: inode(fd),
        });
        let role = match (listening, kind) {
            (true, _) => SocketRole::Listen,
            (false, libc::SOCK_STREAM) => SocketRole::Accept,
            (false, _) => SocketRole::Datagram,
        };
        crate::place::record_as_it_is(segment, record, role, "(inherited)");
        if listening {
            record.listening();
        }
    }
    true
}

/// Before `fd` is closed, or once it is known to be something new.
pub(crate) fn forget(fd: c_int) {
    if TABLE.load(fd).is_unmanaged() || process::is_borrowed() {
        return;
    }
    let held = hold(fd);
    forget_held(fd);
    drop(held);
}

/// Keeps the socket under `fd`, if it is a fresh one, from being replaced until the result is dropped:
/// a number that is closed or reused meanwhile would have its new file replaced.
pub(crate) fn hold(fd: c_int) -> Option<(Held<'static>, BlockedSignals)> {
    let entry = TABLE.load(fd);
    if entry.state() != State::Fresh || sandbox::is_entered() {
        return None;
    }
    let signals = BlockedSignals::new();
    let fresh = FRESH.slot(entry.slot())?;
    Some((fresh.hold(process::pid()), signals))
}

/// Sets the entry of a new descriptor; what was under the number is gone.
fn enter(fd: c_int, entry: Entry) {
    let_go(TABLE.swap(fd, entry));
}

/// What an entry has named is not named by it any more.
fn let_go(old: Entry) {
    match old.state() {
        State::Session => SESSIONS.unname(old.slot()),
        State::Listener => session::listener::unname(old.slot()),
        State::Epoll if old.has(Entry::SESSIONS) || session::nested::are_any() => epoll_closed(old),
        _ if holds_slot(old) => FRESH.release(old.slot()),
        _ => {}
    }
}

/// A descriptor of an epoll instance is closed; with the last one its registrations go.
#[cold]
fn epoll_closed(old: Entry) {
    let others = TABLE
        .managed(0, u32::MAX)
        .any(|(_, entry)| entry.state() == State::Epoll && entry.slot() == old.slot());
    if !others {
        session::epoll::closed(old);
        session::nested::closed(old.slot());
    }
}

/// The same as [`forget`], by whoever holds the socket.
pub(crate) fn forget_held(fd: c_int) {
    let old = TABLE.swap(fd, Entry::UNMANAGED);
    let_go(old);
    if old.is_socket()
        && let Some(segment) = process::existing_segment()
        && let Some(record) = segment.existing_socket(fd)
    {
        record.close();
    }
}

/// `new` names what `old` names.
pub(crate) fn duplicated(old: c_int, new: c_int) {
    if old == new || process::is_borrowed() {
        return;
    }
    forget(new);
    let entry = TABLE.load(old);
    if entry.is_unmanaged() {
        return;
    }
    let named = match entry.state() {
        State::Session => SESSIONS.name(entry.slot()),
        State::Listener => session::listener::name(entry.slot()),
        _ => !holds_slot(entry) || FRESH.name(entry.slot()),
    };
    let entry = match (named, entry.state()) {
        (true, _) => entry,
        // Another thread has closed it just now.
        (false, State::Session) => return,
        // Or has bound it.
        (false, _) => entry.on_kernel().with(Entry::CONNECTING, false),
    };
    enter(new, entry);
    if entry.is_socket()
        && let (Some(from), Some(to)) = (record(old), record(new))
    {
        to.adopt(from);
    }
}

/// Whether an entry counts as a name of its slot: fresh sockets, and those that still connect.
pub(crate) fn holds_slot(entry: Entry) -> bool {
    match entry.state() {
        State::Fresh => true,
        State::Kernel => entry.has(Entry::CONNECTING),
        State::Unmanaged | State::Epoll | State::Session | State::Listener => false,
    }
}

/// Inode number of a socket; 0 if it cannot be told, or if the descriptor is none.
pub(crate) fn inode(fd: c_int) -> u64 {
    if fd < 0 {
        return 0;
    }
    // SAFETY: only borrowed for the call, which refuses one that is not open.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    match rustix::fs::fstat(fd) {
        Ok(status) if FileType::from_raw_mode(status.st_mode) == FileType::Socket => status.st_ino,
        _ => 0,
    }
}

fn passed_counter(domain: c_int) -> Counter {
    match domain {
        libc::AF_UNIX => Counter::PassedUnix,
        libc::AF_NETLINK => Counter::PassedNetlink,
        libc::AF_PACKET => Counter::PassedPacket,
        _ => Counter::PassedOther,
    }
}
