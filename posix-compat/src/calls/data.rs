//! Moving bytes: the read and write families, send and receive, sendfile and splice.
//!
//! On the kernel stack a call is a look-up, the original call and a few counters.

use std::ffi::{c_int, c_uint, c_void};
use std::sync::atomic::{AtomicU32, Ordering};

use dmm_nsocket::stats::HistogramKind;
use dmm_nsocket::table::{Entry, State};
use dmm_policy::Role;
use libc::{iovec, mmsghdr, msghdr, off_t, size_t, sockaddr, socklen_t, ssize_t, timespec};

use crate::export::export;
use crate::process::{self, TABLE};
use crate::user_memory::{self, Address};
use crate::{clock, errno, place, real};

/// Which way bytes go.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Out,
    In,
}

/// The common course of a call that moves bytes: unmanaged descriptors are a look-up away from the
/// original call, managed ones are counted and, where they may block, timed.
macro_rules! transfer {
    ($fd:expr, $way:expr, $call:expr) => {{
        let entry = TABLE.load($fd);
        if entry.is_unmanaged() {
            return $call;
        }
        if let Err(code) = first_use($fd, entry, $way) {
            return errno::fail(code);
        }
        let begun = begin(entry);
        let moved = $call;
        end($fd, entry, $way, moved, begun);
        moved
    }};
}

/// Blocking calls that are timed: all of a process's first ones, then one in [`SAMPLE`]. Reading the
/// clock twice costs as much as all else that is done here.
const TIMED_FIRST: u32 = 256;
const SAMPLE: u32 = 16;

/// When a call was begun that is to be timed; 0 for one that is not.
#[inline(always)]
fn begin(entry: Entry) -> u64 {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    if entry.has(Entry::NONBLOCKING) {
        return 0;
    }
    // Two steps on purpose: a count that another thread's is lost in does no harm.
    let calls = CALLS.load(Ordering::Relaxed);
    CALLS.store(calls.wrapping_add(1), Ordering::Relaxed);
    if calls < TIMED_FIRST || calls.is_multiple_of(SAMPLE) {
        clock::now()
    } else {
        0
    }
}

#[inline(always)]
fn end(fd: c_int, entry: Entry, way: Way, moved: isize, begun: u64) {
    if entry.has(Entry::CONNECTING) && moved >= 0 {
        crate::calls::sockets::connection_stands(fd);
    }
    let Some(segment) = process::segment() else {
        return;
    };
    let Some(record) = segment.existing_socket(fd) else {
        return;
    };
    if moved > 0 {
        match way {
            Way::Out => record.add_sent(moved as u64),
            Way::In => record.add_received(moved as u64),
        }
    }
    if begun != 0
        && let Some(series) = record.series()
    {
        segment.record_time(series, HistogramKind::Blocking, clock::now() - begun);
    }
}

/// A fresh datagram socket moves bytes without that a destination was named.
#[inline(always)]
fn first_use(fd: c_int, entry: Entry, way: Way) -> Result<(), c_int> {
    if entry.state() == State::Fresh && entry.has(Entry::DATAGRAM) {
        undirected(fd, way)
    } else {
        Ok(())
    }
}

#[cold]
fn undirected(fd: c_int, way: Way) -> Result<(), c_int> {
    match way {
        Way::In => place::receive_datagrams(fd),
        // The call will fail, but give the socket a port: it must be that of the right instance.
        Way::Out => place::move_unaddressed(fd),
    }
}

/// Bytes that a batch of messages has moved.
fn batch_bytes(messages: *const mmsghdr, count: c_int) -> isize {
    if count <= 0 {
        return 0;
    }
    // SAFETY: the kernel has just written the lengths of the first `count` messages.
    let messages = unsafe { std::slice::from_raw_parts(messages, count as usize) };
    messages
        .iter()
        .map(|message| message.msg_len as isize)
        .sum()
}

/// A datagram that names its destination binds a fresh socket to a stack; so does data with the
/// connection request (TCP Fast Open).
#[cold]
fn first_send(
    fd: c_int,
    flags: c_int,
    address: *const sockaddr,
    len: socklen_t,
) -> Result<(), c_int> {
    let role = match TABLE.load(fd).has(Entry::DATAGRAM) {
        true => Role::Datagram,
        false if flags & libc::MSG_FASTOPEN != 0 => Role::Connect,
        false => return Ok(()),
    };
    match user_memory::address(address, len) {
        Address::Inet(remote) => place::bind_to_stack(fd, role, Some(remote)),
        Address::Unspecified | Address::Other => Ok(()),
    }
}

/// The same for a message header.
#[cold]
fn first_message(fd: c_int, flags: c_int, message: *const msghdr) -> Result<(), c_int> {
    // SAFETY: any bytes are a valid msghdr (integers and raw pointers).
    match unsafe { user_memory::read(message) } {
        Some(header) if !header.msg_name.is_null() => {
            first_send(fd, flags, header.msg_name.cast(), header.msg_namelen)
        }
        _ => Ok(()),
    }
}

fn is_fresh(fd: c_int) -> bool {
    TABLE.load(fd).state() == State::Fresh
}

export! {
    /// send(2).
    also [__send] fn send(fd: c_int, data: *const c_void, len: size_t, flags: c_int) -> ssize_t {
        transfer!(fd, Way::Out, unsafe { real::send(fd, data, len, flags) })
    }

    /// sendto(2).
    fn sendto(fd: c_int, data: *const c_void, len: size_t, flags: c_int, address: *const sockaddr, address_len: socklen_t) -> ssize_t {
        sendto_by(fd, flags, address, address_len, || unsafe {
            real::sendto(fd, data, len, flags, address, address_len)
        })
    }

    /// sendmsg(2).
    fn sendmsg(fd: c_int, message: *const msghdr, flags: c_int) -> ssize_t {
        sendmsg_by(fd, message, flags, || unsafe { real::sendmsg(fd, message, flags) })
    }

    /// sendmmsg(2).
    also [__sendmmsg] fn sendmmsg(fd: c_int, messages: *mut mmsghdr, count: c_uint, flags: c_int) -> c_int {
        sendmmsg_by(fd, messages, count, flags, || unsafe {
            real::sendmmsg(fd, messages, count, flags)
        })
    }

    /// recv(2).
    also [__recv] fn recv(fd: c_int, data: *mut c_void, len: size_t, flags: c_int) -> ssize_t {
        transfer!(fd, Way::In, unsafe { real::recv(fd, data, len, flags) })
    }

    /// recv(2), with the buffer's size checked.
    fn __recv_chk(fd: c_int, data: *mut c_void, len: size_t, size: size_t, flags: c_int) -> ssize_t {
        transfer!(fd, Way::In, unsafe { real::__recv_chk(fd, data, len, size, flags) })
    }

    /// recvfrom(2).
    fn recvfrom(fd: c_int, data: *mut c_void, len: size_t, flags: c_int, address: *mut sockaddr, address_len: *mut socklen_t) -> ssize_t {
        transfer!(fd, Way::In, unsafe { real::recvfrom(fd, data, len, flags, address, address_len) })
    }

    /// recvfrom(2), with the buffer's size checked.
    fn __recvfrom_chk(fd: c_int, data: *mut c_void, len: size_t, size: size_t, flags: c_int, address: *mut sockaddr, address_len: *mut socklen_t) -> ssize_t {
        transfer!(fd, Way::In, unsafe {
            real::__recvfrom_chk(fd, data, len, size, flags, address, address_len)
        })
    }

    /// recvmsg(2).
    fn recvmsg(fd: c_int, message: *mut msghdr, flags: c_int) -> ssize_t {
        recvmsg_by(fd, message, || unsafe { real::recvmsg(fd, message, flags) })
    }

    /// recvmmsg(2).
    fn recvmmsg(fd: c_int, messages: *mut mmsghdr, count: c_uint, flags: c_int, timeout: *mut timespec) -> c_int {
        let entry = TABLE.load(fd);
        if let Err(code) = first_use(fd, entry, Way::In) {
            return errno::fail(code);
        }
        let begun = if entry.is_unmanaged() { 0 } else { begin(entry) };
        let received = unsafe { real::recvmmsg(fd, messages, count, flags, timeout) };
        if !entry.is_unmanaged() {
            end(fd, entry, Way::In, batch_bytes(messages, received), begun);
        } else {
            for i in 0..received.max(0) as usize {
                // SAFETY: the kernel has just written the first `received` headers.
                crate::calls::descriptors::received(unsafe { &(*messages.add(i)).msg_hdr });
            }
        }
        received
    }

    /// read(2).
    also [__read] fn read(fd: c_int, data: *mut c_void, len: size_t) -> ssize_t {
        transfer!(fd, Way::In, unsafe { real::read(fd, data, len) })
    }

    /// read(2), with the buffer's size checked.
    fn __read_chk(fd: c_int, data: *mut c_void, len: size_t, size: size_t) -> ssize_t {
        transfer!(fd, Way::In, unsafe { real::__read_chk(fd, data, len, size) })
    }

    /// readv(2).
    fn readv(fd: c_int, vectors: *const iovec, count: c_int) -> ssize_t {
        transfer!(fd, Way::In, unsafe { real::readv(fd, vectors, count) })
    }

    /// write(2).
    also [__write] fn write(fd: c_int, data: *const c_void, len: size_t) -> ssize_t {
        transfer!(fd, Way::Out, unsafe { real::write(fd, data, len) })
    }

    /// writev(2).
    fn writev(fd: c_int, vectors: *const iovec, count: c_int) -> ssize_t {
        transfer!(fd, Way::Out, unsafe { real::writev(fd, vectors, count) })
    }

    /// pread(2): sockets have no offset, the kernel says ESPIPE.
    also [pread64 __pread64] fn pread(fd: c_int, data: *mut c_void, len: size_t, offset: off_t) -> ssize_t {
        transfer!(fd, Way::In, unsafe { real::pread(fd, data, len, offset) })
    }

    /// pread(2), with the buffer's size checked.
    also [__pread64_chk] fn __pread_chk(fd: c_int, data: *mut c_void, len: size_t, offset: off_t, size: size_t) -> ssize_t {
        transfer!(fd, Way::In, unsafe { real::__pread_chk(fd, data, len, offset, size) })
    }

    /// preadv(2).
    also [preadv64] fn preadv(fd: c_int, vectors: *const iovec, count: c_int, offset: off_t) -> ssize_t {
        transfer!(fd, Way::In, unsafe { real::preadv(fd, vectors, count, offset) })
    }

    /// preadv2(2): with the offset -1 it reads from a socket.
    also [preadv64v2] fn preadv2(fd: c_int, vectors: *const iovec, count: c_int, offset: off_t, flags: c_int) -> ssize_t {
        transfer!(fd, Way::In, unsafe { real::preadv2(fd, vectors, count, offset, flags) })
    }

    /// pwrite(2): sockets have no offset, the kernel says ESPIPE.
    also [pwrite64 __pwrite64] fn pwrite(fd: c_int, data: *const c_void, len: size_t, offset: off_t) -> ssize_t {
        transfer!(fd, Way::Out, unsafe { real::pwrite(fd, data, len, offset) })
    }

    /// pwritev(2).
    also [pwritev64] fn pwritev(fd: c_int, vectors: *const iovec, count: c_int, offset: off_t) -> ssize_t {
        transfer!(fd, Way::Out, unsafe { real::pwritev(fd, vectors, count, offset) })
    }

    /// pwritev2(2): with the offset -1 it writes to a socket.
    also [pwritev64v2] fn pwritev2(fd: c_int, vectors: *const iovec, count: c_int, offset: off_t, flags: c_int) -> ssize_t {
        transfer!(fd, Way::Out, unsafe { real::pwritev2(fd, vectors, count, offset, flags) })
    }

    /// sendfile(2): counted for the socket that is written to.
    also [sendfile64] fn sendfile(out: c_int, input: c_int, offset: *mut off_t, count: size_t) -> ssize_t {
        transfer!(out, Way::Out, unsafe { real::sendfile(out, input, offset, count) })
    }

    /// splice(2): counted for the socket at either end.
    fn splice(input: c_int, input_offset: *mut i64, out: c_int, out_offset: *mut i64, len: size_t, flags: c_uint) -> ssize_t {
        let (from, to) = (TABLE.load(input), TABLE.load(out));
        let moved = unsafe { real::splice(input, input_offset, out, out_offset, len, flags) };
        if !from.is_unmanaged() {
            end(input, from, Way::In, moved, 0);
        }
        if !to.is_unmanaged() {
            end(out, to, Way::Out, moved, 0);
        }
        moved
    }

    /// tee(2): between pipes only.
    fn tee(input: c_int, out: c_int, len: size_t, flags: c_uint) -> ssize_t {
        unsafe { real::tee(input, out, len, flags) }
    }

    /// vmsplice(2): to pipes only.
    fn vmsplice(fd: c_int, vectors: *const iovec, count: size_t, flags: c_uint) -> ssize_t {
        unsafe { real::vmsplice(fd, vectors, count, flags) }
    }
}

/// Sends to an address by `call`: a fresh socket is bound to a stack before.
pub(super) fn sendto_by(
    fd: c_int,
    flags: c_int,
    address: *const sockaddr,
    len: socklen_t,
    call: impl Fn() -> ssize_t,
) -> ssize_t {
    if is_fresh(fd)
        && !address.is_null()
        && let Err(code) = first_send(fd, flags, address, len)
    {
        return errno::fail(code);
    }
    transfer!(fd, Way::Out, call())
}

/// Sends a message by `call`: a fresh socket is bound to a stack before; one that is passed along is
/// shared from then on.
pub(super) fn sendmsg_by(
    fd: c_int,
    message: *const msghdr,
    flags: c_int,
    call: impl Fn() -> ssize_t,
) -> ssize_t {
    if is_fresh(fd)
        && let Err(code) = first_message(fd, flags, message)
    {
        return errno::fail(code);
    }
    let sent = sent_message(fd, call);
    if sent >= 0 {
        // SAFETY: the kernel has just read the header, and the control data that it names.
        crate::calls::descriptors::passed_on(unsafe { &*message });
    }
    sent
}

fn sent_message(fd: c_int, call: impl Fn() -> ssize_t) -> ssize_t {
    transfer!(fd, Way::Out, call())
}

/// Sends messages by `call`: a fresh socket is bound to a stack by the first of them.
pub(super) fn sendmmsg_by(
    fd: c_int,
    messages: *const mmsghdr,
    count: c_uint,
    flags: c_int,
    call: impl FnOnce() -> c_int,
) -> c_int {
    if is_fresh(fd)
        && count > 0
        && let Err(code) = first_message(fd, flags, messages.cast::<msghdr>())
    {
        return errno::fail(code);
    }
    let entry = TABLE.load(fd);
    if entry.is_unmanaged() {
        let sent = call();
        for i in 0..sent.max(0) as usize {
            // SAFETY: the kernel has just read the first `sent` headers.
            crate::calls::descriptors::passed_on(unsafe { &(*messages.add(i)).msg_hdr });
        }
        return sent;
    }
    if let Err(code) = first_use(fd, entry, Way::Out) {
        return errno::fail(code);
    }
    let begun = begin(entry);
    let sent = call();
    end(fd, entry, Way::Out, batch_bytes(messages, sent), begun);
    sent
}

/// Receives a message by `call`; descriptors that come with it are new.
pub(super) fn recvmsg_by(
    fd: c_int,
    message: *const msghdr,
    call: impl FnOnce() -> ssize_t,
) -> ssize_t {
    let entry = TABLE.load(fd);
    if entry.is_unmanaged() {
        let received = call();
        if received >= 0 {
            // SAFETY: the kernel has just written the header.
            crate::calls::descriptors::received(unsafe { &*message });
        }
        return received;
    }
    if let Err(code) = first_use(fd, entry, Way::In) {
        return errno::fail(code);
    }
    let begun = begin(entry);
    let received = call();
    end(fd, entry, Way::In, received, begun);
    received
}

/// Counts bytes that went out by another way (dprintf(3)).
pub(super) fn sent_otherwise(fd: c_int, moved: isize) {
    let entry = TABLE.load(fd);
    if !entry.is_unmanaged() {
        end(fd, entry, Way::Out, moved, 0);
    }
}
