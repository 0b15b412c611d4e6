//! sendfile(2) and splice(2) with a session at one end: between the file and the ring, without a copy
//! in between.

use std::ffi::c_int;

use dmm_nsocket::session::endpoint::Stop;
use libc::{off_t, size_t, ssize_t};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;

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
    // What cannot be read from a place of one's choice is refused, and a stream's bytes stay there.
    if (at.is_none() || count == 0)
        && let Err(code) = check_file(input, at.is_some())
    {
        return Some(errno::fail(code));
    }
    let refused = || check_file(input, at.is_some());
    let moved = fill(using, call, count, refused, |start, len, done| {
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
    (input, nowait): (c_int, bool),
    input_offset: *const i64,
    out_offset: *const i64,
    len: size_t,
) -> Option<ssize_t> {
    let using = SESSIONS.enter(call.handle)?;
    if let Err(code) = check_pipe(input, OFlags::WRONLY, input_offset, out_offset) {
        return Some(errno::fail(code));
    }
    // What the pipe has now: a read of more would wait for it. Of an empty one the first read waits.
    let waiting = pending(input).max(1);
    if nowait && !is_readable(input) {
        return Some(errno::fail(libc::EAGAIN));
    }
    let refused = || Ok(());
    Some(fill(
        using,
        call,
        len.min(waiting),
        refused,
        |start, len, _| {
            // SAFETY: memory of the ring, lent for the call.
            unsafe { real::read(input, start.cast(), len) }
        },
    ))
}

/// splice(2) from a session to a pipe.
pub(crate) fn splice_out(
    call: Call,
    input_offset: *const i64,
    (out, nowait): (c_int, bool),
    out_offset: *const i64,
    len: size_t,
) -> Option<ssize_t> {
    let mut using = SESSIONS.enter(call.handle)?;
    if let Err(code) = check_pipe(out, OFlags::RDONLY, out_offset, input_offset) {
        return Some(errno::fail(code));
    }
    // Its readers and its room are looked for before the session's bytes (wait_for_space in the kernel).
    match room_in(out) {
        Room::NoReaders => return Some(data::cannot_send(call, Stop::Pipe)),
        Room::None if nowait => return Some(errno::fail(libc::EAGAIN)),
        Room::None | Room::Some => {}
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
/// the call may not wait. Where nothing can be sent any more, the call fails with what `refused` says of
/// its other arguments, if it says something.
fn fill(
    mut using: Using,
    call: Call,
    count: usize,
    refused: impl Fn() -> Result<(), c_int>,
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
            Ok(failed) => {
                return match refused() {
                    Err(code) if errno::last() == libc::ESPIPE => errno::fail(code),
                    _ => failed,
                };
            }
            Err(Stop::WouldBlock) if data::may_wait(call) => {}
            Err(_) if done > 0 => break,
            Err(stop) => {
                return match refused() {
                    Ok(()) => data::cannot_send(call, stop),
                    Err(code) => errno::fail(code),
                };
            }
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

/// What sendfile(2) says of what has no places to read from.
fn check_file(input: c_int, has_offset: bool) -> Result<(), c_int> {
    if input < 0 {
        return Err(libc::EBADF);
    }
    let flags = rustix::fs::fcntl_getfl(borrow(input)).map_err(Errno::raw_os_error)?;
    if flags & OFlags::ACCMODE == OFlags::WRONLY {
        return Err(libc::EBADF);
    }
    match rustix::fs::tell(borrow(input)) {
        Ok(_) => Ok(()),
        Err(Errno::SPIPE) if !has_offset => Err(libc::EINVAL),
        Err(errno) => Err(errno.raw_os_error()),
    }
}

/// What splice(2) says of what is no pipe, or the wrong end of one, and of offsets where there are none.
fn check_pipe(
    pipe: c_int,
    wrong: OFlags,
    pipe_offset: *const i64,
    session_offset: *const i64,
) -> Result<(), c_int> {
    if pipe < 0 {
        return Err(libc::EBADF);
    }
    let flags = rustix::fs::fcntl_getfl(borrow(pipe)).map_err(|_| libc::EBADF)?;
    if flags & OFlags::ACCMODE == wrong {
        return Err(libc::EBADF);
    }
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

/// Whether a read would not wait.
fn is_readable(pipe: c_int) -> bool {
    !look(pipe, PollFlags::IN).is_empty()
}

/// Whether there is room in a pipe.
enum Room {
    Some,
    None,
    NoReaders,
}

fn room_in(pipe: c_int) -> Room {
    let found = look(pipe, PollFlags::OUT);
    if found.contains(PollFlags::ERR) {
        Room::NoReaders
    } else if found.is_empty() {
        Room::None
    } else {
        Room::Some
    }
}

fn look(pipe: c_int, wanted: PollFlags) -> PollFlags {
    let pipe = borrow(pipe);
    let mut set = [PollFd::new(&pipe, wanted)];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    match poll(&mut set, Some(&now)) {
        Ok(_) => set[0].revents(),
        Err(_) => PollFlags::empty(),
    }
}
