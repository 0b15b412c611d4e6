//! Making the process that copies.
//!
//! It is made by system calls alone, with all signals blocked, as a grandchild: its parent has ended
//! when [`start`] returns, and it has no signal for its end, so that no wait(2) of the program's ever
//! sees it. It keeps the descriptors of its jobs and nothing else.

use std::ffi::c_int;
use std::os::fd::{AsRawFd, BorrowedFd};

use dmm_nsocket::sys::{self, BlockedSignals};
use rustix::io::Errno;
use syscalls::{Sysno, syscall};

use super::super::pool::SESSIONS;
use super::{Job, copy};

/// Jobs that one process can have.
pub(super) const JOBS: usize = 64;

/// Starts a process for the jobs. With a gate it waits first until that hangs up (it goes ahead) or has
/// a byte to read (it was in vain).
pub(super) fn start<'a>(
    jobs: impl Iterator<Item = &'a Job> + Clone,
    gate: Option<BorrowedFd<'_>>,
) -> Result<(), Errno> {
    for job in jobs.clone() {
        if let Some(using) = SESSIONS.enter(job.handle) {
            using.endpoint().join();
        }
    }
    let signals = BlockedSignals::new();
    let started = match clone() {
        Ok(0) => {
            // Between the program and the relay.
            if clone() == Ok(0) {
                settle(jobs.clone(), gate);
                copy::run(jobs, gate);
            }
            exit()
        }
        Ok(child) => {
            reap(child);
            Ok(())
        }
        Err(errno) => {
            for job in jobs {
                if let Some(using) = SESSIONS.enter(job.handle) {
                    let _ = using.endpoint().leave();
                }
            }
            Err(errno)
        }
    };
    drop(signals);
    started
}

/// A copy of this thread, in a process of its own, whose end nobody is told of.
fn clone() -> Result<c_int, Errno> {
    // SAFETY: without flags, a copy of the process. What it does afterwards needs no lock that another
    // thread could have held, and no memory of libc's.
    let result = unsafe { syscall!(Sysno::clone, 0, 0, 0, 0, 0) };
    result.map(|pid| pid as c_int).map_err(sys::errno)
}

fn reap(child: c_int) {
    loop {
        // SAFETY: no status is asked for.
        let waited = unsafe { syscall!(Sysno::wait4, child, 0, libc::__WALL, 0) };
        if waited != Err(syscalls::Errno::EINTR) {
            return;
        }
    }
}

pub(super) fn exit() -> ! {
    loop {
        // SAFETY: ends the process, without anything of the program's being run.
        let _ = unsafe { syscall!(Sysno::exit_group, 0) };
    }
}

/// Lets go of whatever a process holds.
fn settle<'a>(jobs: impl Iterator<Item = &'a Job>, gate: Option<BorrowedFd<'_>>) {
    let name = c"dmm-relay";
    // SAFETY: a string that is read.
    let _ = unsafe { syscall!(Sysno::prctl, libc::PR_SET_NAME, name.as_ptr()) };
    let _ = rustix::process::setsid();
    let _ = rustix::process::chdir(c"/");
    let mut kept = [0; 2 * JOBS + 1];
    let mut count = 0;
    let descriptors = jobs
        .flat_map(|job| [job.session.as_raw_fd(), job.stream.as_raw_fd()])
        .chain(gate.map(|gate| gate.as_raw_fd()));
    for (place, fd) in kept.iter_mut().zip(descriptors) {
        *place = fd as u32;
        count += 1;
    }
    kept[..count].sort_unstable();
    let mut from = 0;
    for &fd in &kept[..count] {
        close_between(from, fd);
        from = fd + 1;
    }
    close_between(from, u32::MAX);
}

/// Closes the numbers from `first` up to that before `end`.
fn close_between(first: u32, end: u32) {
    if first < end {
        // SAFETY: numbers of a process that uses none of them.
        let _ = unsafe { syscall!(Sysno::close_range, first, end - 1, 0) };
    }
}
