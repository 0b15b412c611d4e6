//! Moving bytes over a session.

use std::ffi::{c_int, c_void};
use std::sync::atomic::Ordering;

use dmm_nsocket::session::endpoint::{Stop, Take};
use dmm_nsocket::stats::HistogramKind;
use libc::{iovec, msghdr, size_t, sockaddr, socklen_t, ssize_t};

use super::pool::{SESSIONS, Using};
use super::wait::{self, For, borrow};
use crate::user_memory;
use crate::{errno, real, track};

/// Reads that find nothing after which the kernel is asked whether the peer is still there.
const LOOK_EVERY: u32 = 32;

/// Parts of a vector at most, as for the kernel.
const IOV_MAX: usize = 1024;

/// Bytes of stray data that are looked at in one go.
const STRAY: usize = 4096;

/// A call's flags and what the descriptor says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    /// The program's descriptor.
    pub(crate) fd: c_int,
    /// The session's handle.
    pub(crate) handle: u32,
    /// MSG_...; 0 for read(2) and write(2).
    pub(crate) flags: c_int,
    /// Whether the call may wait.
    pub(crate) blocking: bool,
}

impl Call {
    /// The same with flags.
    #[inline(always)]
    pub(crate) const fn with(self, flags: c_int) -> Self {
        Self { flags, ..self }
    }
}

/// read(2): of no bytes it does nothing.
#[inline]
pub(crate) fn read(call: Call, data: *mut c_void, len: size_t) -> Option<ssize_t> {
    if len == 0 {
        return SESSIONS.enter(call.handle).map(|_| 0);
    }
    receive(call, data, len)
}

/// recv(2). `None`: the descriptor is no session any more, the kernel has it.
#[inline]
pub(crate) fn receive(call: Call, data: *mut c_void, len: size_t) -> Option<ssize_t> {
    let using = SESSIONS.enter(call.handle)?;
    if is_bad(data, len) || len == 0 {
        return Some(receive_nothing(using, call, len));
    }
    let len = len.min(MAX);
    if call.flags & !libc::MSG_DONTWAIT == 0 {
        // SAFETY: the program says that there is room for so many bytes.
        let read = unsafe {
            using.endpoint().read(
                borrow(call.fd),
                [(data.cast::<u8>(), len)].into_iter(),
                Take::Consume,
            )
        };
        match read {
            Ok(n) => {
                sample(&using, call.fd);
                return Some(n as ssize_t);
            }
            // It is told once.
            Err(Stop::Error(code)) => return Some(errno::fail(code)),
            Err(_) => {}
        }
    }
    let place = [iovec {
        iov_base: data,
        iov_len: len,
    }];
    Some(receive_slowly(using, call, Places(&place), len))
}

/// readv(2): of no bytes it does nothing.
pub(crate) fn read_vector(call: Call, vector: *const iovec, count: usize) -> Option<ssize_t> {
    let using = SESSIONS.enter(call.handle)?;
    // SAFETY: the program hands over a vector of so many parts.
    match unsafe { Places::of(vector, count) } {
        Ok((_, 0)) => Some(0),
        Ok((places, total)) => Some(receive_slowly(using, call, places, total)),
        Err(code) => Some(errno::fail(code)),
    }
}

/// The vector of recvmsg(2).
fn receive_vector(call: Call, vector: *const iovec, count: usize) -> Option<ssize_t> {
    let using = SESSIONS.enter(call.handle)?;
    if count > IOV_MAX {
        return Some(errno::fail(libc::EMSGSIZE));
    }
    // SAFETY: the program hands over a vector of so many parts.
    match unsafe { Places::of(vector, count) } {
        Ok((_, 0)) => Some(receive_nothing(using, call, 0)),
        Ok((places, total)) => Some(receive_slowly(using, call, places, total)),
        Err(code) => Some(errno::fail(code)),
    }
}

/// send(2), write(2).
#[inline]
pub(crate) fn send(call: Call, data: *const c_void, len: size_t) -> Option<ssize_t> {
    let using = SESSIONS.enter(call.handle)?;
    if is_bad(data, len) {
        return Some(send_nothing(&using, call));
    }
    let len = len.min(MAX);
    let mut sent = 0;
    if call.flags & !(libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL | libc::MSG_MORE) == 0 {
        // SAFETY: the program says that there are so many bytes.
        let written = unsafe {
            using
                .endpoint()
                .write(borrow(call.fd), [(data.cast::<u8>(), len)].into_iter())
        };
        match written {
            Ok(n) if n == len || !call.blocking => return Some(n as ssize_t),
            Ok(n) => sent = n,
            // It is told once.
            Err(Stop::Error(code)) => return Some(errno::fail(code)),
            Err(_) => {}
        }
    }
    let place = [iovec {
        iov_base: data.cast_mut(),
        iov_len: len,
    }];
    Some(send_slowly(using, call, Places(&place), len, sent))
}

/// writev(2): of no bytes it does nothing.
pub(crate) fn write_vector(call: Call, vector: *const iovec, count: usize) -> Option<ssize_t> {
    let using = SESSIONS.enter(call.handle)?;
    // SAFETY: the program hands over a vector of so many parts.
    match unsafe { Places::of(vector, count) } {
        Ok((_, 0)) => Some(0),
        Ok((places, total)) => Some(send_slowly(using, call, places, total, 0)),
        Err(code) => Some(errno::fail(code)),
    }
}

/// The vector of sendmsg(2).
fn send_vector(call: Call, vector: *const iovec, count: usize) -> Option<ssize_t> {
    let using = SESSIONS.enter(call.handle)?;
    // SAFETY: the program hands over a vector of so many parts.
    match unsafe { Places::of(vector, count) } {
        Ok((places, total)) => Some(send_slowly(using, call, places, total, 0)),
        Err(code) => Some(errno::fail(code)),
    }
}

/// recvmsg(2): no addresses and no control data come with a TCP stream's bytes.
pub(crate) fn receive_message(call: Call, message: *mut msghdr) -> Option<ssize_t> {
    // SAFETY: any bytes are a valid msghdr.
    let Some(header) = (unsafe { user_memory::read(message) }) else {
        return Some(errno::fail(libc::EFAULT));
    };
    if !header.msg_name.is_null() && header.msg_namelen.cast_signed() < 0 {
        return Some(errno::fail(libc::EINVAL));
    }
    let received = receive_vector(call, header.msg_iov, header.msg_iovlen)?;
    if received >= 0 {
        // SAFETY: the header can be read; that it can be written is the program's word.
        unsafe {
            (*message).msg_namelen = 0;
            (*message).msg_controllen = 0;
            (*message).msg_flags = call.flags & (libc::MSG_CMSG_CLOEXEC | libc::MSG_OOB);
        }
    }
    Some(received)
}

/// sendmsg(2).
pub(crate) fn send_message(call: Call, message: *const msghdr) -> Option<ssize_t> {
    // SAFETY: any bytes are a valid msghdr.
    let Some(header) = (unsafe { user_memory::read(message) }) else {
        return Some(errno::fail(libc::EFAULT));
    };
    // Longer names are cut off by this call.
    let len = match header.msg_namelen.cast_signed() {
        ..0 => header.msg_namelen,
        _ => header.msg_namelen.min(LONGEST_NAME),
    };
    if let Err(code) = check_name(header.msg_name.cast(), len) {
        return Some(errno::fail(code));
    }
    if header.msg_iovlen > IOV_MAX {
        return Some(errno::fail(libc::EMSGSIZE));
    }
    send_vector(call, header.msg_iov, header.msg_iovlen)
}

/// sendto(2): a connected TCP socket takes no notice of the address, but the kernel has read it.
#[inline]
pub(crate) fn send_to(
    call: Call,
    (data, len): (*const c_void, size_t),
    (name, name_len): (*const sockaddr, socklen_t),
) -> Option<ssize_t> {
    match check_name(name, name_len) {
        Ok(()) => send(call, data, len),
        Err(code) => Some(errno::fail(code)),
    }
}

/// Bytes of a socket address at most (struct sockaddr_storage).
const LONGEST_NAME: socklen_t = 128;

#[inline]
fn check_name(name: *const sockaddr, len: socklen_t) -> Result<(), c_int> {
    if name.is_null() {
        return Ok(());
    }
    check_address(name, len)
}

/// What the kernel says of an address before it looks what it says (move_addr_to_kernel).
pub(super) fn check_address(name: *const sockaddr, len: socklen_t) -> Result<(), c_int> {
    if len == 0 {
        return Ok(());
    }
    if len > LONGEST_NAME {
        return Err(libc::EINVAL);
    }
    if user_memory::readable(name.cast(), len as usize) {
        Ok(())
    } else {
        Err(libc::EFAULT)
    }
}

/// More than this the kernel does not move in one call either (MAX_RW_COUNT).
const MAX: usize = 0x7fff_f000;

/// Addresses that no memory of a program's is at. What else is bad shows as a fault, not as EFAULT:
/// to ask the kernel each time would cost more than the copy.
#[inline]
pub(super) fn is_bad<T>(data: *const T, len: usize) -> bool {
    let start = data as usize;
    len != 0 && (start < 4096 || start.saturating_add(len) > 1 << 47)
}

type Place = (*mut u8, usize);

/// The parts of a vector, as the program holds it: nothing is copied, whatever its length.
#[derive(Clone, Copy)]
struct Places<'a>(&'a [iovec]);

impl<'a> Places<'a> {
    /// A program's vector, and the sum of its parts. The error is what the kernel says of a bad one.
    ///
    /// # Safety
    ///
    /// If it can be read it must not change during the call.
    unsafe fn of(vector: *const iovec, count: usize) -> Result<(Self, usize), c_int> {
        if count > IOV_MAX {
            return Err(libc::EINVAL);
        }
        if count == 0 {
            return Ok((Self(&[]), 0));
        }
        let bytes = count * size_of::<iovec>();
        if !vector.is_aligned() || is_bad(vector, bytes) {
            return Err(libc::EFAULT);
        }
        // SAFETY: the vector can be read, as was just asked.
        let parts: &[iovec] = unsafe { std::slice::from_raw_parts(vector, count) };
        let mut total = 0_usize;
        for part in parts {
            if part.iov_len > isize::MAX as usize {
                return Err(libc::EINVAL);
            }
            if is_bad(part.iov_base, part.iov_len) {
                return Err(libc::EFAULT);
            }
            total = total.saturating_add(part.iov_len).min(MAX);
        }
        Ok((Self(parts), total))
    }

    /// The places without the first `done` bytes, up to `total` of them in all.
    fn rest(self, done: usize, total: usize) -> impl Iterator<Item = Place> + Clone + 'a {
        let (mut skip, mut left) = (done, total.saturating_sub(done));
        self.0.iter().map(move |part| {
            let skipped = skip.min(part.iov_len);
            skip -= skipped;
            let len = (part.iov_len - skipped).min(left);
            left -= len;
            // SAFETY: within the place, or at its end.
            (unsafe { part.iov_base.cast::<u8>().add(skipped) }, len)
        })
    }
}

/// recv(2) of no bytes, or to where none can be written: waits for some all the same, and takes none.
#[cold]
fn receive_nothing(using: Using, call: Call, len: usize) -> ssize_t {
    if len == 0
        && call.flags & (libc::MSG_OOB | libc::MSG_ERRQUEUE) == 0
        && using.endpoint().is_at_mark()
    {
        return 0;
    }
    let mut byte = 0_u8;
    let place = [iovec {
        iov_base: (&raw mut byte).cast(),
        iov_len: 1,
    }];
    let flags = call.flags & !libc::MSG_TRUNC | libc::MSG_PEEK;
    let received = receive_slowly(using, call.with(flags), Places(&place), 1);
    // Whatever ends the wait, a signal or a timeout too, the kernel has what it wanted: no bytes.
    let waited = may_wait(call) && flags & (libc::MSG_OOB | libc::MSG_ERRQUEUE) == 0;
    if received > 0 && len > 0 {
        return errno::fail(libc::EFAULT);
    }
    if received < 0 && len == 0 && waited && matches!(errno::last(), libc::EINTR | libc::EAGAIN) {
        return 0;
    }
    received.min(0)
}

#[cold]
fn receive_slowly(mut using: Using, call: Call, places: Places<'_>, total: usize) -> ssize_t {
    let (session, endpoint) = (using.session(), using.endpoint());
    if call.flags & libc::MSG_OOB != 0 {
        return receive_urgent(&using, call, places.rest(0, total));
    }
    if call.flags & libc::MSG_ERRQUEUE != 0 {
        return errno::fail(libc::EAGAIN);
    }
    let peek = call.flags & libc::MSG_PEEK != 0;
    let all = call.flags & libc::MSG_WAITALL != 0 && call.blocking;
    let low_water = session.options.receive_low_water().max(1) as usize;
    let wanted = if all { total } else { total.min(low_water) };
    let blocking = may_wait(call);
    let mut done = 0;
    loop {
        let take = match peek {
            true if call.flags & libc::MSG_TRUNC != 0 => Take::Measure,
            true => Take::Peek(0),
            false if call.flags & libc::MSG_TRUNC != 0 => Take::Discard,
            false => Take::Consume,
        };
        let from = if peek { 0 } else { done };
        if peek && blocking && wanted > 1 && !For::SoMany(wanted).is_met(endpoint) {
            let waited;
            let timeout = session.options.receive_timeout_ns();
            (using, waited) = wait::wait(using, call.fd, For::SoMany(wanted), timeout);
            if let Err(code) = waited {
                return errno::fail(code);
            }
        }
        // SAFETY: the program says that the places can be written.
        match unsafe { endpoint.read(borrow(call.fd), places.rest(from, total), take) } {
            Ok(n) => {
                sample(&using, call.fd);
                done = if peek { n } else { done + n };
                if peek || done >= wanted || !blocking || endpoint.is_at_mark() {
                    return done as ssize_t;
                }
            }
            Err(Stop::Stray) => {
                let n = receive_stray(&using, call, places.rest(from, total), peek);
                if n != 0 {
                    return if done > 0 { done as ssize_t } else { n };
                }
                continue;
            }
            Err(Stop::WouldBlock) => {
                if !blocking {
                    if done > 0 {
                        return done as ssize_t;
                    }
                    if look_at_kernel(&using, call.fd) {
                        continue;
                    }
                    return errno::fail(libc::EAGAIN);
                }
            }
            Err(_) if done > 0 => return done as ssize_t,
            Err(Stop::End | Stop::Pipe) => return 0,
            Err(Stop::Error(code)) => return errno::fail(code),
            Err(Stop::Busy) => return errno::fail(libc::EAGAIN),
        }
        let waited;
        let timeout = session.options.receive_timeout_ns();
        let what = For::SoMany((wanted - done).min(64 << 10));
        let what = if wanted - done > 1 { what } else { For::Bytes };
        (using, waited) = wait::wait(using, call.fd, what, timeout);
        if let Err(code) = waited {
            if done > 0 {
                return done as ssize_t;
            }
            return errno::fail(code);
        }
    }
}

/// What was read may have been the byte whose way is measured.
#[inline]
pub(super) fn sample(using: &Using, fd: c_int) {
    if let Some(ns) = using.endpoint().take_waited() {
        record_one_way(fd, ns.get());
    }
}

#[cold]
fn record_one_way(fd: c_int, ns: u64) {
    if let Some(record) = track::existing_record(fd) {
        record.took(HistogramKind::OneWay, ns);
    }
}

/// Now and then, when reads find nothing: has the peer died? Says whether to read again.
fn look_at_kernel(using: &Using, fd: c_int) -> bool {
    let dry = using.session().dry.fetch_add(1, Ordering::Relaxed);
    if !dry.is_multiple_of(LOOK_EVERY) {
        return false;
    }
    let found = using.endpoint().drain(borrow(fd));
    found.gone || found.stray
}

/// Bytes that somebody at the other end has written to the socket itself: they come behind the
/// ring's, and a record that does not fit stays with what is left of it lost to nobody: it is taken
/// only as a whole.
#[cold]
fn receive_stray(
    using: &Using,
    call: Call,
    places: impl Iterator<Item = Place>,
    peek: bool,
) -> ssize_t {
    let mut record = [0; STRAY];
    let flags = libc::MSG_DONTWAIT | libc::MSG_PEEK | libc::MSG_TRUNC;
    // SAFETY: a buffer of that size.
    let len = unsafe { real::recv(call.fd, record.as_mut_ptr().cast(), STRAY, flags) };
    if len <= 0 {
        using.endpoint().drain(borrow(call.fd));
        return 0;
    }
    let skipped = using.session().stray_taken.load(Ordering::Acquire) as usize;
    let known = &record[..(len as usize).min(STRAY)];
    let mut left = known.get(skipped..).unwrap_or_default();
    let mut moved = 0;
    for (start, room) in places {
        let n = left.len().min(room);
        // SAFETY: the program says that the place can be written.
        unsafe { start.copy_from_nonoverlapping(left.as_ptr(), n) };
        left = &left[n..];
        moved += n;
    }
    if peek {
        return moved as ssize_t;
    }
    if left.is_empty() {
        // SAFETY: as above; without a buffer the record is thrown away.
        unsafe { real::recv(call.fd, record.as_mut_ptr().cast(), 0, libc::MSG_DONTWAIT) };
        using.session().stray_taken.store(0, Ordering::Release);
        using.endpoint().drain(borrow(call.fd));
    } else {
        let taken = (skipped + moved) as u32;
        using.session().stray_taken.store(taken, Ordering::Release);
    }
    moved as ssize_t
}

/// send(2) of bytes that cannot be read: what the connection has to say comes first.
#[cold]
fn send_nothing(using: &Using, call: Call) -> ssize_t {
    // SAFETY: no places.
    match unsafe { using.endpoint().write(borrow(call.fd), std::iter::empty()) } {
        Ok(_) => errno::fail(libc::EFAULT),
        Err(stop) => cannot_send(call, stop),
    }
}

/// recv(2) with `MSG_OOB`: the urgent byte, if there is one.
#[cold]
fn receive_urgent(using: &Using, call: Call, mut places: impl Iterator<Item = Place>) -> ssize_t {
    let peek = call.flags & libc::MSG_PEEK != 0;
    match using.endpoint().read_urgent(borrow(call.fd), peek) {
        Ok(byte) => {
            if let Some((start, _)) = places.find(|(_, len)| *len > 0)
                && call.flags & libc::MSG_TRUNC == 0
            {
                // SAFETY: the program says that the place can be written.
                unsafe { start.write(byte) };
            }
            1
        }
        Err(Stop::Error(code)) => errno::fail(code),
        Err(_) => errno::fail(libc::EAGAIN),
    }
}

/// send(2) with `MSG_OOB`: the last byte is the urgent one.
#[cold]
fn send_urgent(using: Using, call: Call, places: Places<'_>, total: usize) -> ssize_t {
    let plain = call.with(call.flags & !libc::MSG_OOB);
    let mut done = 0;
    if total > 1 {
        let handle = using.handle();
        let sent = send_slowly(using, plain, places, total - 1, 0);
        if sent < (total - 1) as ssize_t {
            return sent;
        }
        done = total - 1;
        return match SESSIONS.enter(handle) {
            Some(using) => send_last_urgent(using, plain, places.rest(done, total), done),
            None => done as ssize_t,
        };
    }
    send_last_urgent(using, plain, places.rest(done, total), done)
}

fn send_last_urgent(
    mut using: Using,
    call: Call,
    mut places: impl Iterator<Item = Place>,
    done: usize,
) -> ssize_t {
    let so_far = |failed: ssize_t| if done > 0 { done as ssize_t } else { failed };
    let Some((start, _)) = places.find(|(_, len)| *len > 0) else {
        return done as ssize_t;
    };
    // SAFETY: the program says that the place can be read.
    let byte = unsafe { start.read() };
    loop {
        match using.endpoint().write_urgent(borrow(call.fd), byte) {
            Ok(_) => return done as ssize_t + 1,
            Err(Stop::WouldBlock) if may_wait(call) => {}
            Err(_) if done > 0 => return done as ssize_t,
            Err(stop) => return cannot_send(call, stop),
        }
        let Some(tail) = using.endpoint().awaited_tail(1) else {
            continue;
        };
        let waited;
        let timeout = using.session().options.send_timeout_ns();
        (using, waited) = wait::wait(using, call.fd, For::Space(tail), timeout);
        if let Err(code) = waited {
            return so_far(errno::fail(code));
        }
    }
}

#[cold]
fn send_slowly(
    mut using: Using,
    call: Call,
    places: Places<'_>,
    total: usize,
    sent: usize,
) -> ssize_t {
    let (session, endpoint) = (using.session(), using.endpoint());
    if call.flags & libc::MSG_FASTOPEN != 0 && !session.connecting.swap(false, Ordering::AcqRel) {
        return errno::fail(libc::EISCONN);
    }
    if call.flags & libc::MSG_OOB != 0 && total > 0 && !endpoint.cannot_write() {
        return send_urgent(using, call, places, total);
    }
    let blocking = may_wait(call);
    let mut done = sent;
    loop {
        let left = places
            .rest(done, total)
            .map(|(start, len)| (start.cast_const(), len));
        // SAFETY: the program says that the places can be read.
        match unsafe { endpoint.write(borrow(call.fd), left) } {
            Ok(n) => {
                done += n;
                if done >= total || !blocking {
                    return done as ssize_t;
                }
            }
            Err(Stop::WouldBlock) if !blocking => {
                return if done > 0 {
                    done as ssize_t
                } else {
                    errno::fail(libc::EAGAIN)
                };
            }
            Err(Stop::WouldBlock) => {}
            Err(_) if done > 0 => return done as ssize_t,
            Err(stop) => return cannot_send(call, stop),
        }
        let Some(tail) = endpoint.awaited_tail(total - done) else {
            continue;
        };
        let waited;
        let timeout = session.options.send_timeout_ns();
        (using, waited) = wait::wait(using, call.fd, For::Space(tail), timeout);
        if let Err(code) = waited {
            return if done > 0 {
                done as ssize_t
            } else {
                errno::fail(code)
            };
        }
    }
}

/// Whether a call may wait.
pub(super) const fn may_wait(call: Call) -> bool {
    call.blocking && call.flags & libc::MSG_DONTWAIT == 0
}

/// What a call that could not send anything says.
pub(super) fn cannot_send(call: Call, stop: Stop) -> ssize_t {
    match stop {
        Stop::Error(code) => errno::fail(code),
        Stop::WouldBlock | Stop::Busy => errno::fail(libc::EAGAIN),
        Stop::Pipe | Stop::End | Stop::Stray => {
            if call.flags & libc::MSG_NOSIGNAL == 0 {
                raise_pipe();
            }
            errno::fail(libc::EPIPE)
        }
    }
}

/// SIGPIPE to the calling thread, as the kernel does.
fn raise_pipe() {
    let (pid, tid) = (rustix::process::getpid(), rustix::thread::gettid());
    // SAFETY: a signal to this thread, which the program has asked for by not forbidding it.
    let _ = unsafe {
        syscalls::syscall!(
            syscalls::Sysno::tgkill,
            pid.as_raw_nonzero().get(),
            tid.as_raw_nonzero().get(),
            libc::SIGPIPE
        )
    };
}
