//! What this process was handed by its parent, and giving it on unchanged.
//!
//! Rust's runtime ignores SIGPIPE and opens `/dev/null` on standard descriptors that were closed, and
//! `std::process::Command` empties the signal mask and resets SIGPIPE. A program that runs under
//! `dmm run` must not see any of that: it gets the mask, the SIGPIPE disposition and the closed
//! descriptors that the caller of `dmm` had. They are recorded before `main`, when they are still so.

use std::io;
use std::mem::MaybeUninit;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

/// Whether SIGPIPE was ignored.
static SIGPIPE_IGNORED: AtomicBool = AtomicBool::new(false);
/// A bit for each of the descriptors 0, 1, 2 that was closed.
static CLOSED: AtomicU8 = AtomicU8::new(0);

// SAFETY: the section holds pointers to functions that the C library calls, one after the other and in
// a process of one thread, before `main`. `record` only makes system calls and stores to atomics.
#[used]
#[unsafe(link_section = ".init_array")]
static RECORD: extern "C" fn() = record;

extern "C" fn record() {
    let mut action = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: a null action changes nothing; the old one is written to the place given.
    let asked = unsafe { libc::sigaction(libc::SIGPIPE, std::ptr::null(), action.as_mut_ptr()) };
    if asked == 0 {
        // SAFETY: sigaction succeeded, so it has written the whole structure.
        let action = unsafe { action.assume_init() };
        SIGPIPE_IGNORED.store(action.sa_sigaction == libc::SIG_IGN, Ordering::Relaxed);
    }
    for fd in 0..3 {
        // SAFETY: F_GETFD has no argument and no effect.
        if unsafe { libc::fcntl(fd, libc::F_GETFD) } == -1 {
            CLOSED.fetch_or(1 << fd, Ordering::Relaxed);
        }
    }
}

/// Makes the program of a command start with the state that this process was handed. Call it before
/// signals are blocked: the mask is the calling thread's.
pub fn restore_in(command: &mut Command) {
    let mask = current_mask();
    let sigpipe = if SIGPIPE_IGNORED.load(Ordering::Relaxed) {
        libc::SIG_IGN
    } else {
        libc::SIG_DFL
    };
    let closed = CLOSED.load(Ordering::Relaxed);
    let restore = move || {
        // SAFETY: signal, sigprocmask and close are async-signal-safe, which is what a forked child may
        // call; the mask is a valid one. Descriptors 0 to 2 belong to nobody in the child.
        unsafe {
            libc::signal(libc::SIGPIPE, sigpipe);
            libc::sigprocmask(libc::SIG_SETMASK, &raw const mask, std::ptr::null_mut());
            for fd in 0..3 {
                if closed & (1 << fd) != 0 {
                    libc::close(fd);
                }
            }
        }
        Ok::<(), io::Error>(())
    };
    // SAFETY: the closure allocates nothing, takes no lock and touches only its captured copies.
    unsafe { command.pre_exec(restore) };
}

fn current_mask() -> libc::sigset_t {
    let mut mask = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: without a new set the call only writes the current one; all zeroes is the empty set, so
    // the value is initialised even if the call failed, which it cannot with these arguments.
    unsafe {
        libc::sigprocmask(libc::SIG_BLOCK, std::ptr::null(), mask.as_mut_ptr());
        mask.assume_init()
    }
}
