//! sendfile(2) and splice(2) with a session at one end: between the file and the ring, without a copy
//! in between.

use std::ffi::c_int;

use dmm_nsocket::session::endpoint::Stop;
use libc::{off_t, size_t, ssize_t};

use super::data::{self, Call};
use super::pool::{SESSIONS, Using};
use super::wait::{self, For, borrow};
use crate::{errno, real, user_memory};

/// Bytes that are read from a file in one go.
const PART: usize = 128 << 10;

/// More than this the kernel does not move in one call either (MAX_RW_COUNT).
const MAX: usize = 0x7fff_f000;

/// sendfile(2) to a session.
pub(crate) fn send(call: Call, input: c_int, offset: *mut off_t, count: size_t) -> Option<ssize_t> {
    let using = SESSIONS.enter(call.handle)?;
    let at = if offset.is_null() {
        None
    } else {
        // SAFETY: any bytes are a number.
        match unsafe { user_memory::read(offset) } {
            Some(at) => Some(at),
            None => return Some(errno::fail(libc::EFAULT)),
        }
    };
    let moved = fill(using, call, count, |start, len, done| {
        // SAFETY: memory of the ring, lent for the call.
        unsafe {
            match at {
                Some(at) => real::pread(input, start.cast(), len, at + done as off_t),
                None => real::read(input, start.cast(), len),
            }
        }
    });
    if let Some(at) = at
        && moved > 0
    {
        // SAFETY: the offset can be read; that it can be written is the program's word.
        unsafe { offset.write_unaligned(at + moved as off_t) };
    }
    Some(moved)
}

/// splice(2) from a pipe to a session.
pub(crate) fn splice_in(
    call: Call,
    input: c_int,
    input_offset: *const i64,
    out_offset: *const i64,
    len: size_t,
) -> Option<ssize_t> {
    let using = SESSIONS.enter(call.handle)?;
    if let Err(code) = check_pipe(input, input_offset, out_offset) {
        return Some(errno::fail(code));
    }
    // What the pipe has now: a read of more would wait for it. Of an empty one the first read waits.
    let waiting = pending(input).max(1);
    Some(fill(using, call, len.min(waiting), |start, len, _| {
        // SAFETY: memory of the ring, lent for the call.
        unsafe { real::read(input, start.cast(), len) }
    }))
}

/// splice(2) from a session to a pipe.
pub(crate) fn splice_out(
    call: Call,
    input_offset: *const i64,
    out: c_int,
    out_offset: *const i64,
    len: size_t,
) -> Option<ssize_t> {
    let mut using = SESSIONS.enter(call.handle)?;
    if let Err(code) = check_pipe(out, out_offset, input_offset) {
        return Some(errno::fail(code));
    }
    let endpoint = using.endpoint();
    loop {
        let moved = endpoint.read_in_place(borrow(call.fd), |spans| {
            let len = spans[0].len.min(len).min(PART);
            // SAFETY: memory of the ring, lent for the call.
            let written = unsafe { real::write(out, spans[0].start.as_ptr().cast(), len) };
            (written.max(0) as usize, written)
        });
        match moved {
            Ok(moved) => return Some(moved),
            Err(Stop::End | Stop::Pipe) => return Some(0),
            Err(Stop::Error(code)) => return Some(errno::fail(code)),
            Err(Stop::Busy | Stop::Stray) => return Some(errno::fail(libc::EAGAIN)),
            Err(Stop::WouldBlock) if !data::may_wait(call) => {
                return Some(errno::fail(libc::EAGAIN));
            }
            Err(Stop::WouldBlock) => {}
        }
        let waited;
        (using, waited) = wait::wait(using, call.fd, For::Bytes, None);
        if let Err(code) = waited {
            return Some(errno::fail(code));
        }
    }
}

/// Lets `read` fill the ring until `count` bytes have gone, it has no more, or there is no space and
/// the call may not wait.
fn fill(
    mut using: Using,
    call: Call,
    count: usize,
    mut read: impl FnMut(*mut u8, usize, usize) -> ssize_t,
) -> ssize_t {
    let endpoint = using.endpoint();
    let count = count.min(MAX);
    let mut done = 0;
    while done < count {
        let wanted = (count - done).min(PART);
        let filled = endpoint.write_in_place(borrow(call.fd), wanted, |spans| {
            let len = spans[0].len.min(wanted);
            let got = read(spans[0].start.as_ptr(), len, done);
            (got.max(0) as usize, got)
        });
        match filled {
            Ok(got @ 1..) => {
                done += got as usize;
                continue;
            }
            Ok(0) => break,
            Ok(_) if done > 0 => break,
            Ok(failed) => return failed,
            Err(Stop::WouldBlock) if data::may_wait(call) => {}
            Err(_) if done > 0 => break,
            Err(stop) => return data::cannot_send(call, stop),
        }
        let Some(tail) = endpoint.awaited_tail(count - done) else {
            continue;
        };
        let waited;
        let timeout = using.session().options.send_timeout_ns();
        (using, waited) = wait::wait(using, call.fd, For::Space(tail), timeout);
        if let Err(code) = waited {
            return if done > 0 {
                done as ssize_t
            } else {
                errno::fail(code)
            };
        }
    }
    done as ssize_t
}

/// What splice(2) says of what is no pipe, and of offsets where there are none.
fn check_pipe(
    pipe: c_int,
    pipe_offset: *const i64,
    session_offset: *const i64,
) -> Result<(), c_int> {
    let status = rustix::fs::fstat(borrow(pipe)).map_err(|_| libc::EBADF)?;
    if rustix::fs::FileType::from_raw_mode(status.st_mode) != rustix::fs::FileType::Fifo {
        return Err(libc::EINVAL);
    }
    if !pipe_offset.is_null() || !session_offset.is_null() {
        return Err(libc::ESPIPE);
    }
    Ok(())
}

fn pending(pipe: c_int) -> usize {
    rustix::io::ioctl_fionread(borrow(pipe)).unwrap_or(0) as usize
}
