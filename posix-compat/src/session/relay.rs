//! Sessions where nobody knows what a session is: in a program without DMM, inside libc, in another
//! process that is sent the descriptor.
//!
//! | module | what it does |
//! |---|---|
//! | here | puts an end of a plain Unix stream in the session's place |
//! | `exec` | does so for the time of an exec, and takes it back if that fails |
//! | `process` | makes the process that copies |
//! | `copy` | what that process does |
//!
//! The descriptor becomes one end of a fresh pair of Unix stream sockets, which reads, writes, polls,
//! half-closes and is passed on like any stream. A *relay*, a process that nobody sees in wait(2),
//! copies between the other end and the session until both are over. What TCP would show and the stream
//! does not: addresses, TCP's options, and a reset by the peer, which reads as the end of the stream.
//!
//! The relay takes bytes out of the session before the program asks for them. Where somebody else has
//! the session, too, and it was not passed on on purpose (a server that runs a helper, which inherits
//! whatever is open), these bytes would be stolen. So such a session is read only when the program has
//! written to it, or when nobody else has it any more.

mod copy;
pub(crate) mod exec;
mod process;

use std::ffi::c_int;
use std::os::fd::AsRawFd;

use dmm_nsocket::hidden::Hidden;
use dmm_nsocket::stats::Counter;
use dmm_nsocket::sys;
use dmm_nsocket::table::State;
use rustix::fs::OFlags;
use rustix::io::{Errno, FdFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::pool::{SESSIONS, Using};
use super::wait::borrow;
use super::{epoll, fork};
use crate::process::TABLE;
use crate::track;

/// A session to be relayed.
struct Job {
    handle: u32,
    /// The session's socket, and the relay's end of the stream.
    session: Hidden,
    stream: Hidden,
    /// It was passed on on purpose: what has come is for the program at once.
    eager: bool,
}

/// Turns the session under a descriptor into a relayed one for good, under all its numbers. Says
/// whether it is none any more; false leaves everything as it was.
pub(crate) fn hand_over(fd: c_int) -> bool {
    let entry = TABLE.load(fd);
    if entry.state() != State::Session || crate::process::is_borrowed() {
        return false;
    }
    let Some(using) = SESSIONS.enter(entry.slot()) else {
        return false;
    };
    let before = crate::errno::last();
    let done = replace(&using, fd).is_ok();
    if done {
        track::count(Counter::SessionsRelayed);
    }
    crate::errno::set(before);
    done
}

fn replace(using: &Using, fd: c_int) -> Result<(), Errno> {
    let (job, program) = prepare(using, fd, true)?;
    process::start([&job].into_iter(), None)?;
    let watched = epoll::Watched::of(using);
    let mut done = Err(Errno::BADF);
    for (name, entry) in TABLE.managed(0, u32::MAX) {
        if entry.state() != State::Session || entry.slot() != using.handle() {
            continue;
        }
        let flags = rustix::io::fcntl_getfd(borrow(name)).unwrap_or(FdFlags::empty());
        track::forget(name);
        if put(&program, name, flags).is_ok() {
            done = Ok(());
        }
    }
    watched.renew();
    done
}

/// Makes the pair for a session, with its status flags, and counts the relay among those that have it.
fn prepare(using: &Using, fd: c_int, eager: bool) -> Result<(Job, Hidden), Errno> {
    let (program, stream) = rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    let (program, stream) = (Hidden::new(program), Hidden::new(stream));
    let socket = borrow(fd);
    let status = rustix::fs::fcntl_getfl(socket)?;
    rustix::fs::fcntl_setfl(&program, status & OFlags::NONBLOCK)?;
    let session = Hidden::new(rustix::io::fcntl_dupfd_cloexec(socket, 3)?);
    if !fork::share(using) {
        track::count(Counter::SharingFailed);
        return Err(Errno::NOMEM);
    }
    let job = Job {
        handle: using.handle(),
        session,
        stream,
        eager,
    };
    Ok((job, program))
}

/// Puts the program's end under a number, with these descriptor flags.
fn put(program: &Hidden, name: c_int, flags: FdFlags) -> Result<(), Errno> {
    // SAFETY: dup3 with numbers; what is under `name` is the session's socket, which this replaces.
    let result = unsafe {
        syscalls::syscall!(
            syscalls::Sysno::dup3,
            program.as_raw_fd(),
            name,
            if flags.contains(FdFlags::CLOEXEC) {
                libc::O_CLOEXEC
            } else {
                0
            }
        )
    };
    result.map(|_| ()).map_err(sys::errno)
}
