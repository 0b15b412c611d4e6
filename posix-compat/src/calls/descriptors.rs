//! Descriptor numbers: closed, duplicated, inspected, passed on.

use std::ffi::{c_char, c_int, c_uint, c_ulong};

use dmm_nsocket::Reason;
use dmm_nsocket::hidden;
use dmm_nsocket::table::{Entry, State};
use libc::{msghdr, stat, stat64};

use crate::export::export;
use crate::process::{self, FRESH, TABLE};
use crate::{errno, real, session, track};

export! {
    hot;

    /// close(2).
    also [__close] fn close(fd: c_int) -> c_int {
        if is_hidden(fd) {
            return errno::fail(libc::EBADF);
        }
        track::forget(fd);
        unsafe { real::close(fd) }
    }

    /// closefrom(3).
    fn closefrom(first: c_int) {
        forget_range(first.max(0).cast_unsigned(), c_uint::MAX);
        let first = first.max(0).cast_unsigned();
        if hidden::first_in(first, c_uint::MAX).is_none() {
            return unsafe { real::closefrom(first.cast_signed()) };
        }
        around_hidden(first, c_uint::MAX, |first, last| unsafe {
            real::close_range(first, last, 0)
        });
    }

    /// close_range(2).
    fn close_range(first: c_uint, last: c_uint, flags: c_int) -> c_int {
        close_range_by(first, last, flags, |first, last| unsafe {
            real::close_range(first, last, flags)
        })
    }

    /// dup(2).
    fn dup(fd: c_int) -> c_int {
        duplicated_by(fd, unsafe { real::dup(fd) })
    }

    /// dup2(2).
    also [__dup2] fn dup2(old: c_int, new: c_int) -> c_int {
        duplicated_over(old, new, || unsafe { real::dup2(old, new) })
    }

    /// dup3(2).
    fn dup3(old: c_int, new: c_int, flags: c_int) -> c_int {
        duplicated_over(old, new, || unsafe { real::dup3(old, new, flags) })
    }

    /// fcntl(2). Commands without an argument ignore the third one.
    also [__fcntl] fn fcntl(fd: c_int, command: c_int, argument: c_ulong) -> c_int {
        if is_hidden(fd) {
            return errno::fail(libc::EBADF);
        }
        let result = unsafe { real::fcntl(fd, command, argument) };
        after_fcntl(fd, command, argument, result)
    }

    /// fcntl(2), by the name that programs with 64-bit offsets are linked to.
    fn fcntl64(fd: c_int, command: c_int, argument: c_ulong) -> c_int {
        if is_hidden(fd) {
            return errno::fail(libc::EBADF);
        }
        let result = unsafe { real::fcntl64(fd, command, argument) };
        after_fcntl(fd, command, argument, result)
    }

    /// ioctl(2).
    fn ioctl(fd: c_int, request: c_ulong, argument: c_ulong) -> c_int {
        if let Some(result) = session::control::ioctl(fd, request, argument) {
            return result;
        }
        let result = unsafe { real::ioctl(fd, request, argument) };
        if request == libc::FIONBIO && result == 0 && TABLE.load(fd).is_socket() {
            // SAFETY: the kernel has just read an int from there.
            let on = unsafe { (argument as *const c_int).read_unaligned() };
            TABLE.set_flag(fd, Entry::NONBLOCKING, on != 0);
        }
        result
    }

    /// fstat(2).
    fn fstat(fd: c_int, status: *mut stat) -> c_int {
        unsafe { real::fstat(fd, status) }
    }

    /// fstat(2), for 64-bit offsets.
    fn fstat64(fd: c_int, status: *mut stat64) -> c_int {
        unsafe { real::fstat64(fd, status) }
    }

    /// fstat(2), as older programs are linked to it.
    fn __fxstat(version: c_int, fd: c_int, status: *mut stat) -> c_int {
        unsafe { real::__fxstat(version, fd, status) }
    }

    /// fstat(2), as older programs are linked to it.
    fn __fxstat64(version: c_int, fd: c_int, status: *mut stat64) -> c_int {
        unsafe { real::__fxstat64(version, fd, status) }
    }

    /// fstatat(2).
    fn fstatat(fd: c_int, path: *const c_char, status: *mut stat, flags: c_int) -> c_int {
        unsafe { real::fstatat(fd, path, status, flags) }
    }

    /// fstatat(2), for 64-bit offsets.
    fn fstatat64(fd: c_int, path: *const c_char, status: *mut stat64, flags: c_int) -> c_int {
        unsafe { real::fstatat64(fd, path, status, flags) }
    }

    /// statx(2).
    fn statx(fd: c_int, path: *const c_char, flags: c_int, mask: c_uint, status: *mut libc::statx) -> c_int {
        unsafe { real::statx(fd, path, flags, mask, status) }
    }
}

/// Whether a descriptor is one that the program does not know of. A child of vfork has copies of them,
/// which are its own to close.
#[inline]
pub(super) fn is_hidden(fd: c_int) -> bool {
    hidden::is_hidden(fd) && !process::is_borrowed()
}

/// close_range(2): those of ours in the range stay.
pub(super) fn close_range_by(
    first: c_uint,
    last: c_uint,
    flags: c_int,
    call: impl Fn(c_uint, c_uint) -> c_int,
) -> c_int {
    before_close_range(first, last, flags);
    around_hidden(first, last, call)
}

fn around_hidden(mut first: c_uint, last: c_uint, call: impl Fn(c_uint, c_uint) -> c_int) -> c_int {
    while !process::is_borrowed()
        && let Some(ours) = hidden::first_in(first, last)
    {
        if ours > first {
            let result = call(first, ours - 1);
            if result != 0 {
                return result;
            }
        }
        if ours == last {
            return 0;
        }
        first = ours + 1;
    }
    call(first, last)
}

/// Those in the range are forgotten.
fn before_close_range(first: c_uint, last: c_uint, flags: c_int) {
    // CLOSE_RANGE_CLOEXEC closes nothing now; other flags but UNSHARE are refused.
    const UNSHARE: c_int = 1 << 1;
    if first <= last && flags & !UNSHARE == 0 {
        forget_range(first, last);
    }
}

/// A call that duplicates `old` over `new`, closing what was there.
///
/// A number of ours is not to be had, as one beyond RLIMIT_NOFILE is not.
pub(super) fn duplicated_over(old: c_int, new: c_int, call: impl FnOnce() -> c_int) -> c_int {
    if is_hidden(new) || is_hidden(old) {
        return errno::fail(libc::EBADF);
    }
    if process::is_borrowed() {
        return duplicated_by(old, call());
    }
    if is_standard(new) && old != new {
        // Whoever reads and writes there may do so inside libc, or be the next program.
        session::relay::hand_over(old);
    }
    let held = track::hold(new);
    let result = call();
    if result >= 0 && old != new && held.is_some() {
        track::forget_held(new);
    }
    drop(held);
    duplicated_by(old, result)
}

/// A call that duplicates `old` has returned `result`.
pub(super) fn duplicated_by(old: c_int, result: c_int) -> c_int {
    if result >= 0 && process::is_borrowed() {
        session::relay::exec::borrowed_duplicate(old, result);
    } else if result >= 0 {
        track::duplicated(old, result);
    }
    result
}

/// Standard input, output, error.
const fn is_standard(fd: c_int) -> bool {
    fd >= libc::STDIN_FILENO && fd <= libc::STDERR_FILENO
}

fn forget_range(first: c_uint, last: c_uint) {
    if process::is_borrowed() {
        return;
    }
    for (fd, _) in TABLE.managed(first, last) {
        track::forget(fd);
    }
}

/// fcntl(2) has returned `result`: what the program is told.
pub(super) fn after_fcntl(fd: c_int, command: c_int, argument: c_ulong, result: c_int) -> c_int {
    if result < 0 {
        return result;
    }
    match command {
        libc::F_DUPFD | libc::F_DUPFD_CLOEXEC => {
            duplicated_by(fd, result);
        }
        libc::F_GETFL => return session::listener::flags(TABLE.load(fd), result),
        libc::F_SETFL if TABLE.load(fd).is_socket() => {
            let on = argument & libc::O_NONBLOCK as c_ulong != 0;
            TABLE.set_flag(fd, Entry::NONBLOCKING, on);
            session::control::status_changed(fd, argument as c_int);
        }
        _ => {}
    }
    result
}

/// A message is about to be sent: a session in it becomes one that its receiver can use, and a listener
/// the kernel's alone, as connections that wait beside it would not be found there.
pub(super) fn pass_on(message: *const msghdr) {
    if session::pool::SESSIONS.count() == 0 && !session::listener::are_there() {
        return;
    }
    // SAFETY: any bytes are a valid header.
    let Some(header) = (unsafe { crate::user_memory::read(message) }) else {
        return;
    };
    let len = header.msg_controllen;
    if len == 0 || process::is_borrowed() || !crate::user_memory::readable(header.msg_control, len)
    {
        return;
    }
    each_passed(&header, |fd| match TABLE.load(fd).state() {
        State::Session => {
            session::relay::hand_over(fd);
        }
        State::Listener => session::listener::leave_to_kernel(fd),
        _ => {}
    });
}

/// A message was sent: a fresh socket in it is shared with its receiver from now on.
pub(super) fn passed_on(header: &msghdr) {
    if header.msg_control.is_null() || header.msg_controllen == 0 {
        return;
    }
    each_passed(header, |fd| {
        let entry = TABLE.load(fd);
        if entry.state() == State::Fresh
            && let Some(fresh) = FRESH.slot(entry.slot())
        {
            fresh.pin(Reason::SharedDescriptor);
        }
    });
}

/// A message was received: descriptors in it are new, whatever their numbers were used for before.
pub(super) fn received(header: &msghdr) {
    if header.msg_control.is_null() || header.msg_controllen == 0 || process::is_borrowed() {
        return;
    }
    each_passed(header, |fd| {
        track::forget(fd);
        if track::adopt(fd) {
            track::count(dmm_nsocket::stats::Counter::DescriptorsReceived);
        }
    });
}

/// Calls `f` with each descriptor in a message's control data (SCM_RIGHTS), which must be readable.
fn each_passed(header: &msghdr, f: impl Fn(c_int)) {
    const HEADER: usize = size_of::<libc::cmsghdr>();
    let mut at = 0;
    while header.msg_controllen - at >= HEADER {
        // SAFETY: the header lies within the control data.
        let control = unsafe {
            header
                .msg_control
                .cast::<u8>()
                .add(at)
                .cast::<libc::cmsghdr>()
                .read_unaligned()
        };
        let len = control.cmsg_len;
        if len < HEADER || len > header.msg_controllen - at {
            return;
        }
        if control.cmsg_level == libc::SOL_SOCKET && control.cmsg_type == libc::SCM_RIGHTS {
            for i in 0..(len - HEADER) / size_of::<c_int>() {
                let offset = at + HEADER + i * size_of::<c_int>();
                // SAFETY: within the data of this control message.
                f(unsafe {
                    header
                        .msg_control
                        .cast::<u8>()
                        .add(offset)
                        .cast::<c_int>()
                        .read_unaligned()
                });
            }
        }
        at += len.next_multiple_of(size_of::<usize>());
        if at >= header.msg_controllen {
            return;
        }
    }
}
