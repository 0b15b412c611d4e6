//! Moving bytes: the read and write families, send and receive, sendfile and splice.
//!
//! On the kernel stack a call is a look-up, the original call and an addition. It touches three lines
//! of data: the original's address, the descriptor's slot, and its counters. Whatever else there is to
//! do (a fresh socket, a connection that is not known to stand, a call that is timed) goes by
//! [`before`] and [`after`].

use std::ffi::{c_int, c_uint, c_void};
use std::sync::atomic::{AtomicU32, Ordering};

use dmm_nsocket::stats::{Counters, HistogramKind};
use dmm_nsocket::table::{Entry, Slot, State};
use dmm_policy::Role;
use libc::{iovec, mmsghdr, msghdr, off_t, size_t, sockaddr, socklen_t, ssize_t, timespec};

use crate::export::export;
use crate::process::{self, TABLE};
use crate::session::data as session;
use crate::user_memory::{self, Address};
use crate::{clock, errno, place, real, track};

/// Which way bytes go.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Out,
    In,
}

/// The common course of a call that moves bytes: unmanaged descriptors are a look-up away from the
/// original call, managed ones are counted and, where they may block, now and then timed. What
/// `$first` says is done before if the socket is fresh.
///
/// The call is written out three times, so that its arguments stay in registers and the first of
/// them is a jump.
macro_rules! transfer {
    ($fd:expr, $way:expr, $call:expr, $session:expr) => {
        transfer!($fd, $way, $call, $session, move || Ok(()))
    };
    ($fd:expr, $way:expr, $call:expr, $session:expr, $first:expr) => {{
        let Some((slot, entry)) = managed($fd) else {
            return $call;
        };
        if entry.is_session()
            && let Some(moved) = carried($fd, slot, entry, $way, $session)
        {
            return moved;
        }
        if let Some(counters) = settled(slot, entry) {
            let moved = $call;
            count(counters, $way, moved);
            return moved;
        }
        slowly($fd, $way, $first, move || $call)
    }};
}

/// The slot and entry of a descriptor that is managed.
#[inline(always)]
pub(super) fn managed(fd: c_int) -> Option<(&'static Slot, Entry)> {
    let slot = TABLE.slot(fd)?;
    let entry = slot.entry();
    (!entry.is_unmanaged()).then_some((slot, entry))
}

/// A call on a session: `None` if it is none any more.
#[inline(always)]
pub(super) fn carried(
    fd: c_int,
    slot: &Slot,
    entry: Entry,
    way: Way,
    session: impl FnOnce(session::Call) -> Option<ssize_t>,
) -> Option<ssize_t> {
    let moved = session(session::Call {
        fd,
        handle: entry.slot(),
        flags: 0,
        blocking: !entry.has(Entry::NONBLOCKING),
    })?;
    match process::counters(slot) {
        Some(counters) => count(counters, way, moved),
        None => uncounted(fd, way, moved),
    }
    Some(moved)
}

#[cold]
fn uncounted(fd: c_int, way: Way, moved: ssize_t) {
    if let Some(record) = track::record(fd) {
        count(record.counters(), way, moved);
    }
}

/// A call on a session that fails the way it does on any socket, or is left to the kernel.
fn as_any_socket(_: session::Call) -> Option<ssize_t> {
    None
}

/// The counters of a socket whose next call needs nothing but to be counted.
#[inline(always)]
fn settled(slot: &Slot, entry: Entry) -> Option<&'static Counters> {
    if !entry.is_settled() {
        return None;
    }
    let counters = process::counters(slot)?;
    (entry.has(Entry::NONBLOCKING) || counters.passes_untimed()).then_some(counters)
}

#[inline(always)]
fn count(counters: &Counters, way: Way, moved: isize) {
    if moved > 0 {
        match way {
            Way::Out => counters.add_sent(moved as u64),
            Way::In => counters.add_received(moved as u64),
        }
    }
}

/// A call that is not only counted.
#[cold]
#[inline(never)]
fn slowly(
    fd: c_int,
    way: Way,
    first: impl FnOnce() -> Result<(), c_int>,
    call: impl FnOnce() -> isize,
) -> isize {
    match before(fd, way, first) {
        Ok(begun) => {
            let moved = call();
            after(fd, way, moved, begun);
            moved
        }
        Err(code) => errno::fail(code),
    }
}

/// What precedes such a call: returns when it was begun if it is timed, 0 if not.
fn before(fd: c_int, way: Way, first: impl FnOnce() -> Result<(), c_int>) -> Result<u64, c_int> {
    if TABLE.load(fd).state() == State::Fresh {
        first()?;
    }
    // What was done first may have settled it.
    let entry = TABLE.load(fd);
    first_use(fd, entry, way)?;
    let timed = !entry.has(Entry::NONBLOCKING)
        && track::existing_record(fd).is_some_and(|record| !record.counters().passes_untimed());
    Ok(if timed { clock::now() } else { 0 })
}

/// What follows it.
fn after(fd: c_int, way: Way, moved: isize, begun: u64) {
    if moved >= 0 && TABLE.load(fd).has(Entry::CONNECTING) {
        crate::calls::sockets::connection_stands(fd);
    }
    let Some(record) = track::existing_record(fd) else {
        return;
    };
    count(record.counters(), way, moved);
    if begun != 0 {
        record.counters().leave_untimed(next_timed());
        record.took(HistogramKind::Blocking, clock::now() - begun);
    }
}

/// How many blocking calls on a descriptor are not timed after one that was: none as long as few of
/// the process were, then so many that even the 99th percentile of a program's own times is not that
/// of the timed calls. With the timed one they make an odd number, so that a program which sends and
/// receives in turn has both timed.
fn next_timed() -> u32 {
    const TIMED_FIRST: u32 = 256;
    const UNTIMED: u32 = 256;
    static TIMED: AtomicU32 = AtomicU32::new(0);
    if TIMED.load(Ordering::Relaxed) < TIMED_FIRST {
        TIMED.fetch_add(1, Ordering::Relaxed);
        0
    } else {
        UNTIMED
    }
}

/// A fresh datagram socket moves bytes without that a destination was named.
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

export! {
    hot;

    /// send(2).
    also [__send] fn send(fd: c_int, data: *const c_void, len: size_t, flags: c_int) -> ssize_t {
        transfer!(fd, Way::Out, unsafe { real::send(fd, data, len, flags) }, move |call| {
            session::send(call.with(flags), data, len)
        })
    }

    /// sendto(2).
    fn sendto(fd: c_int, data: *const c_void, len: size_t, flags: c_int, address: *const sockaddr, address_len: socklen_t) -> ssize_t {
        sendto_by(fd, (data, len), flags, address, address_len, move || unsafe {
            real::sendto(fd, data, len, flags, address, address_len)
        })
    }

    /// sendmsg(2).
    fn sendmsg(fd: c_int, message: *const msghdr, flags: c_int) -> ssize_t {
        sendmsg_by(fd, message, flags, move || unsafe { real::sendmsg(fd, message, flags) })
    }

    /// sendmmsg(2).
    also [__sendmmsg] fn sendmmsg(fd: c_int, messages: *mut mmsghdr, count: c_uint, flags: c_int) -> c_int {
        sendmmsg_by(fd, messages, count, flags, || unsafe {
            real::sendmmsg(fd, messages, count, flags)
        })
    }

    /// recv(2).
    also [__recv] fn recv(fd: c_int, data: *mut c_void, len: size_t, flags: c_int) -> ssize_t {
        transfer!(fd, Way::In, unsafe { real::recv(fd, data, len, flags) }, move |call| {
            session::receive(call.with(flags), data, len)
        })
    }

    /// recv(2), with the buffer's size checked.
    fn __recv_chk(fd: c_int, data: *mut c_void, len: size_t, size: size_t, flags: c_int) -> ssize_t {
        transfer!(fd, Way::In, unsafe { real::__recv_chk(fd, data, len, size, flags) }, move |call| {
            checked(len, size);
            session::receive(call.with(flags), data, len)
        })
    }

    /// recvfrom(2).
    fn recvfrom(fd: c_int, data: *mut c_void, len: size_t, flags: c_int, address: *mut sockaddr, address_len: *mut socklen_t) -> ssize_t {
        transfer!(fd, Way::In, unsafe { real::recvfrom(fd, data, len, flags, address, address_len) }, move |call| {
            no_address(address, address_len, session::receive(call.with(flags), data, len))
        })
    }

    /// recvfrom(2), with the buffer's size checked.
    fn __recvfrom_chk(fd: c_int, data: *mut c_void, len: size_t, size: size_t, flags: c_int, address: *mut sockaddr, address_len: *mut socklen_t) -> ssize_t {
        transfer!(fd, Way::In, unsafe {
            real::__recvfrom_chk(fd, data, len, size, flags, address, address_len)
        }, move |call| {
            checked(len, size);
            no_address(address, address_len, session::receive(call.with(flags), data, len))
        })
    }

    /// recvmsg(2).
    fn recvmsg(fd: c_int, message: *mut msghdr, flags: c_int) -> ssize_t {
        recvmsg_by(fd, message, flags, move || unsafe { real::recvmsg(fd, message, flags) })
    }

    /// recvmmsg(2).
    fn recvmmsg(fd: c_int, messages: *mut mmsghdr, count: c_uint, flags: c_int, timeout: *mut timespec) -> c_int {
        if managed(fd).is_none() {
            let received = unsafe { real::recvmmsg(fd, messages, count, flags, timeout) };
            for i in 0..received.max(0) as usize {
                // SAFETY: the kernel has just written the first `received` headers.
                crate::calls::descriptors::received(unsafe { &(*messages.add(i)).msg_hdr });
            }
            return received;
        }
        if let Some(received) = many(fd, messages, count, flags, Way::In) {
            return received;
        }
        let begun = match before(fd, Way::In, || Ok(())) {
            Ok(begun) => begun,
            Err(code) => return errno::fail(code),
        };
        let received = unsafe { real::recvmmsg(fd, messages, count, flags, timeout) };
        after(fd, Way::In, batch_bytes(messages, received), begun);
        received
    }

    /// read(2).
    also [__read] fn read(fd: c_int, data: *mut c_void, len: size_t) -> ssize_t {
        transfer!(fd, Way::In, unsafe { real::read(fd, data, len) }, move |call| {
            session::read(call, data, len)
        })
    }

    /// read(2), with the buffer's size checked.
    fn __read_chk(fd: c_int, data: *mut c_void, len: size_t, size: size_t) -> ssize_t {
        transfer!(fd, Way::In, unsafe { real::__read_chk(fd, data, len, size) }, move |call| {
            checked(len, size);
            session::read(call, data, len)
        })
    }

    /// readv(2).
    fn readv(fd: c_int, vectors: *const iovec, count: c_int) -> ssize_t {
        transfer!(fd, Way::In, unsafe { real::readv(fd, vectors, count) }, move |call| {
            session::read_vector(call, vectors, count as usize)
        })
    }

    /// write(2).
    also [__write] fn write(fd: c_int, data: *const c_void, len: size_t) -> ssize_t {
        transfer!(fd, Way::Out, unsafe { real::write(fd, data, len) }, move |call| {
            session::send(call, data, len)
        })
    }

    /// writev(2).
    fn writev(fd: c_int, vectors: *const iovec, count: c_int) -> ssize_t {
        transfer!(fd, Way::Out, unsafe { real::writev(fd, vectors, count) }, move |call| {
            session::write_vector(call, vectors, count as usize)
        })
    }

    /// pread(2): sockets have no offset, the kernel says ESPIPE.
    also [pread64 __pread64] fn pread(fd: c_int, data: *mut c_void, len: size_t, offset: off_t) -> ssize_t {
        transfer!(fd, Way::In, unsafe { real::pread(fd, data, len, offset) }, as_any_socket)
    }

    /// pread(2), with the buffer's size checked.
    also [__pread64_chk] fn __pread_chk(fd: c_int, data: *mut c_void, len: size_t, offset: off_t, size: size_t) -> ssize_t {
        transfer!(fd, Way::In, unsafe { real::__pread_chk(fd, data, len, offset, size) }, as_any_socket)
    }

    /// preadv(2).
    also [preadv64] fn preadv(fd: c_int, vectors: *const iovec, count: c_int, offset: off_t) -> ssize_t {
        transfer!(fd, Way::In, unsafe { real::preadv(fd, vectors, count, offset) }, as_any_socket)
    }

    /// preadv2(2): with the offset -1 it reads from a socket.
    also [preadv64v2] fn preadv2(fd: c_int, vectors: *const iovec, count: c_int, offset: off_t, flags: c_int) -> ssize_t {
        transfer!(fd, Way::In, unsafe { real::preadv2(fd, vectors, count, offset, flags) }, move |call| {
            at_no_offset(offset)?;
            session::read_vector(call.with(nowait(flags)), vectors, count as usize)
        })
    }

    /// pwrite(2): sockets have no offset, the kernel says ESPIPE.
    also [pwrite64 __pwrite64] fn pwrite(fd: c_int, data: *const c_void, len: size_t, offset: off_t) -> ssize_t {
        transfer!(fd, Way::Out, unsafe { real::pwrite(fd, data, len, offset) }, as_any_socket)
    }

    /// pwritev(2).
    also [pwritev64] fn pwritev(fd: c_int, vectors: *const iovec, count: c_int, offset: off_t) -> ssize_t {
        transfer!(fd, Way::Out, unsafe { real::pwritev(fd, vectors, count, offset) }, as_any_socket)
    }

    /// pwritev2(2): with the offset -1 it writes to a socket.
    also [pwritev64v2] fn pwritev2(fd: c_int, vectors: *const iovec, count: c_int, offset: off_t, flags: c_int) -> ssize_t {
        transfer!(fd, Way::Out, unsafe { real::pwritev2(fd, vectors, count, offset, flags) }, move |call| {
            at_no_offset(offset)?;
            session::write_vector(call.with(nowait(flags)), vectors, count as usize)
        })
    }

    /// sendfile(2): counted for the socket that is written to.
    also [sendfile64] fn sendfile(out: c_int, input: c_int, offset: *mut off_t, count: size_t) -> ssize_t {
        transfer!(out, Way::Out, unsafe { real::sendfile(out, input, offset, count) }, move |call| {
            crate::session::file::send(call, input, offset, count)
        })
    }

    /// splice(2): counted for the socket at either end.
    fn splice(input: c_int, input_offset: *mut i64, out: c_int, out_offset: *mut i64, len: size_t, flags: c_uint) -> ssize_t {
        if let Some(moved) = splice_session(input, input_offset, out, out_offset, len, flags) {
            return moved;
        }
        let moved = unsafe { real::splice(input, input_offset, out, out_offset, len, flags) };
        moved_otherwise(input, Way::In, moved);
        moved_otherwise(out, Way::Out, moved);
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
    (data, size): (*const c_void, size_t),
    flags: c_int,
    address: *const sockaddr,
    len: socklen_t,
    call: impl Fn() -> ssize_t + Copy,
) -> ssize_t {
    let session =
        move |call: session::Call| session::send_to(call.with(flags), (data, size), (address, len));
    transfer!(fd, Way::Out, call(), session, move || {
        if address.is_null() {
            Ok(())
        } else {
            first_send(fd, flags, address, len)
        }
    })
}

/// Sends a message by `call`: a fresh socket is bound to a stack before; one that is passed along is
/// shared from then on.
pub(super) fn sendmsg_by(
    fd: c_int,
    message: *const msghdr,
    flags: c_int,
    call: impl Fn() -> ssize_t + Copy,
) -> ssize_t {
    if managed(fd).is_none() {
        crate::calls::descriptors::pass_on(message);
    }
    let sent = sent_message(fd, message, flags, call);
    if sent >= 0 {
        // SAFETY: the kernel has just read the header, and the control data that it names.
        crate::calls::descriptors::passed_on(unsafe { &*message });
    }
    sent
}

#[inline(always)]
fn sent_message(
    fd: c_int,
    message: *const msghdr,
    flags: c_int,
    call: impl Fn() -> ssize_t + Copy,
) -> ssize_t {
    let session = move |call: session::Call| session::send_message(call.with(flags), message);
    transfer!(fd, Way::Out, call(), session, move || first_message(
        fd, flags, message
    ))
}

/// Sends messages by `call`: a fresh socket is bound to a stack by the first of them.
pub(super) fn sendmmsg_by(
    fd: c_int,
    messages: *const mmsghdr,
    count: c_uint,
    flags: c_int,
    call: impl FnOnce() -> c_int,
) -> c_int {
    if managed(fd).is_none() {
        for i in 0..(count as usize).min(1024) {
            // What cannot be read is not looked at.
            crate::calls::descriptors::pass_on(messages.wrapping_add(i).cast());
        }
        let sent = call();
        for i in 0..sent.max(0) as usize {
            // SAFETY: the kernel has just read the first `sent` headers.
            crate::calls::descriptors::passed_on(unsafe { &(*messages.add(i)).msg_hdr });
        }
        return sent;
    }
    if let Some(sent) = many(fd, messages.cast_mut(), count, flags, Way::Out) {
        return sent;
    }
    let first = || match count {
        0 => Ok(()),
        _ => first_message(fd, flags, messages.cast::<msghdr>()),
    };
    let begun = match before(fd, Way::Out, first) {
        Ok(begun) => begun,
        Err(code) => return errno::fail(code),
    };
    let sent = call();
    after(fd, Way::Out, batch_bytes(messages, sent), begun);
    sent
}

/// sendmmsg(2) and recvmmsg(2) on a session: one message after the other, and an error only if the
/// first one fails. `None`: it is none.
#[cold]
fn many(fd: c_int, messages: *mut mmsghdr, count: c_uint, flags: c_int, way: Way) -> Option<c_int> {
    let (slot, entry) = managed(fd).filter(|(_, entry)| entry.is_session())?;
    if way == Way::In
        && flags & libc::MSG_ERRQUEUE == 0
        && let Some(code) = crate::session::control::take_error(entry.slot())
    {
        // It is looked for here once more (do_recvmmsg in the kernel).
        return Some(errno::fail(code));
    }
    let mut flags = flags;
    let mut done = 0;
    while done < count.min(1024) {
        // SAFETY: the program hands over so many.
        let message = unsafe { messages.add(done as usize) };
        let header: *mut msghdr = message.cast();
        let moved = carried(fd, slot, entry, way, |call| match way {
            Way::In => session::receive_message(call.with(flags & !libc::MSG_WAITFORONE), header),
            Way::Out => session::send_message(call.with(flags), header),
        })?;
        if moved < 0 {
            return Some(if done > 0 { done as c_int } else { -1 });
        }
        // SAFETY: as above; the header has just been read.
        unsafe { (*message).msg_len = moved as c_uint };
        done += 1;
        if flags & libc::MSG_WAITFORONE != 0 {
            flags |= libc::MSG_DONTWAIT;
        }
    }
    Some(done as c_int)
}

/// splice(2) between a pipe and a session. `None`: neither is one.
fn splice_session(
    input: c_int,
    input_offset: *const i64,
    out: c_int,
    out_offset: *const i64,
    len: size_t,
    flags: c_uint,
) -> Option<ssize_t> {
    let of = |fd| managed(fd).filter(|(_, entry)| entry.is_session());
    // The flag is for the pipe: whether a socket waits is for its descriptor to say.
    let nowait = flags & libc::SPLICE_F_NONBLOCK != 0;
    if let Some((slot, entry)) = of(input) {
        return carried(input, slot, entry, Way::In, |call| {
            crate::session::file::splice_out(call, input_offset, (out, nowait), out_offset, len)
        });
    }
    let (slot, entry) = of(out)?;
    carried(out, slot, entry, Way::Out, |call| {
        crate::session::file::splice_in(call, (input, nowait), input_offset, out_offset, len)
    })
}

/// What the fortified functions check: a buffer that is smaller than the program says it is.
fn checked(len: size_t, size: size_t) {
    if len > size {
        // SAFETY: ends the program, as libc's function would.
        unsafe { real::__chk_fail() };
    }
}

/// With the bytes of a TCP stream comes no address: the kernel leaves it alone, and says that it has no
/// bytes.
fn no_address(
    address: *const sockaddr,
    len: *mut socklen_t,
    received: Option<ssize_t>,
) -> Option<ssize_t> {
    if received.is_some_and(|n| n >= 0) && !address.is_null() {
        // SAFETY: any bytes are a number.
        match unsafe { user_memory::read(len) } {
            None => return Some(errno::fail(libc::EFAULT)),
            Some(room) if room.cast_signed() < 0 => return Some(errno::fail(libc::EINVAL)),
            // SAFETY: it can be read; that it can be written is the program's word.
            Some(_) => unsafe { len.write_unaligned(0) },
        }
    }
    received
}

/// preadv2(2) and pwritev2(2) go on where the last call has stopped only with the offset -1; any other
/// is refused for a socket, by the kernel.
fn at_no_offset(offset: off_t) -> Option<()> {
    (offset == -1).then_some(())
}

/// RWF_NOWAIT, as a flag of recv(2).
const fn nowait(flags: c_int) -> c_int {
    if flags & libc::RWF_NOWAIT != 0 {
        libc::MSG_DONTWAIT
    } else {
        0
    }
}

/// Receives a message by `call`; descriptors that come with it are new.
pub(super) fn recvmsg_by(
    fd: c_int,
    message: *mut msghdr,
    flags: c_int,
    call: impl Fn() -> ssize_t + Copy,
) -> ssize_t {
    if managed(fd).is_none() {
        let received = call();
        if received >= 0 {
            // SAFETY: the kernel has just written the header.
            crate::calls::descriptors::received(unsafe { &*message });
        }
        return received;
    }
    let session = move |call: session::Call| session::receive_message(call.with(flags), message);
    transfer!(fd, Way::In, call(), session)
}

/// Counts bytes that went out by another way (dprintf(3)).
pub(super) fn sent_otherwise(fd: c_int, moved: isize) {
    moved_otherwise(fd, Way::Out, moved);
}

fn moved_otherwise(fd: c_int, way: Way, moved: isize) {
    if managed(fd).is_some() {
        after(fd, way, moved, 0);
    }
}
