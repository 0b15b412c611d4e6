//! Reading and writing in place, for programs that ask for it: what `include/dmm.h` declares.
//!
//! These functions stand in front of nobody's. A program links to them weakly, or looks them up by
//! dlsym(3), and does without where they are not there or say ENOTSUP.

use std::ffi::{c_char, c_int};
use std::os::fd::BorrowedFd;

use dmm_nsocket::table::{Entry, Slot};
use libc::{iovec, size_t, ssize_t};
use rustix::fs::FileType;

use super::data::{Way, carried, managed};
use crate::export::export;
use crate::process;
use crate::session::data::Call;
use crate::session::lend;
use crate::{errno, track};

export! {
    hot;

    /// Lends the unread bytes, where they are.
    fn dmm_peek_in_place(fd: c_int, vector: *mut iovec) -> ssize_t {
        match session(fd) {
            Ok((_, entry)) => lend::peek(call(fd, entry), vector).unwrap_or_else(|| not_carried(fd)),
            Err(code) => errno::fail(code),
        }
    }

    /// So many of the bytes that were lent are read.
    fn dmm_consume(fd: c_int, used: size_t) -> ssize_t {
        moved(fd, Way::In, move |call| lend::consume(call, used))
    }

    /// Lends free memory.
    fn dmm_reserve(fd: c_int, min: size_t, vector: *mut iovec) -> ssize_t {
        match session(fd) {
            Ok((_, entry)) => lend::reserve(call(fd, entry), min, vector).unwrap_or_else(|| not_carried(fd)),
            Err(code) => errno::fail(code),
        }
    }

    /// Sends so many bytes of the memory that was lent.
    fn dmm_commit(fd: c_int, filled: size_t) -> ssize_t {
        moved(fd, Way::Out, move |call| lend::commit(call, filled))
    }

    /// Whether shared memory carries the socket.
    fn dmm_is_session(fd: c_int) -> c_int {
        match session(fd) {
            Ok(_) => 1,
            Err(libc::ENOTSUP) => 0,
            Err(code) => errno::fail(code),
        }
    }

    /// The name of the stack instance that carries the socket.
    fn dmm_stack(fd: c_int, name: *mut c_char, size: size_t) -> ssize_t {
        match stack(fd) {
            Ok((bytes, len)) => {
                let copied = len.min(size.saturating_sub(1));
                if size > 0 && !name.is_null() {
                    // SAFETY: the program says that there is room for `size` bytes.
                    unsafe {
                        name.cast::<u8>().copy_from_nonoverlapping(bytes.as_ptr(), copied);
                        name.add(copied).write(0);
                    }
                }
                len as ssize_t
            }
            Err(code) => errno::fail(code),
        }
    }
}

/// Longest name of a stack instance.
const LONGEST: usize = 64;

/// The session under a descriptor, or why there is none.
#[inline]
fn session(fd: c_int) -> Result<(&'static Slot, Entry), c_int> {
    match managed(fd) {
        Some((slot, entry)) if entry.is_session() => Ok((slot, entry)),
        _ => Err(why_not(fd)),
    }
}

fn call(fd: c_int, entry: Entry) -> Call {
    Call {
        fd,
        handle: entry.slot(),
        flags: 0,
        blocking: !entry.has(Entry::NONBLOCKING),
    }
}

/// A call that moves bytes: they are counted.
#[inline]
fn moved(fd: c_int, way: Way, by: impl FnOnce(Call) -> Option<ssize_t>) -> ssize_t {
    match session(fd) {
        Ok((slot, entry)) => carried(fd, slot, entry, way, by).unwrap_or_else(|| not_carried(fd)),
        Err(code) => errno::fail(code),
    }
}

/// It was closed just now, by another thread.
#[cold]
fn not_carried(fd: c_int) -> ssize_t {
    errno::fail(why_not(fd))
}

#[cold]
fn why_not(fd: c_int) -> c_int {
    if fd < 0 {
        return libc::EBADF;
    }
    // SAFETY: only borrowed for the call, which refuses one that is not open.
    let file = unsafe { BorrowedFd::borrow_raw(fd) };
    match rustix::fs::fstat(file) {
        Ok(status) if FileType::from_raw_mode(status.st_mode) == FileType::Socket => libc::ENOTSUP,
        Ok(_) => libc::ENOTSOCK,
        Err(errno) => errno.raw_os_error(),
    }
}

/// The name, without a zero byte.
fn stack(fd: c_int) -> Result<([u8; LONGEST], usize), c_int> {
    if managed(fd).is_none() {
        return Err(why_not(fd));
    }
    let mut bytes = [0; LONGEST];
    let (Some(segment), Some(record)) = (process::segment(), track::existing_record(fd)) else {
        return Err(libc::ENODATA);
    };
    // A fresh socket has none yet.
    let len = record
        .stack()
        .map_or(0, |stack| segment.copy_stack_name(stack, &mut bytes));
    Ok((bytes, len))
}
