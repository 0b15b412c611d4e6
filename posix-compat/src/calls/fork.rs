//! Making and ending processes.
//!
//! A child of fork needs little done for it: the tables are private memory, what is its parent's own
//! is wiped by the kernel, and only the addresses of its parent's counters have to be forgotten (see
//! [`crate::process`]). vfork is another matter: the child
//! runs in its parent's memory but has descriptors of its own, so it must not touch the tables; and
//! as it shares the stack, nobody may stand between libc's vfork and the program. So the system call
//! is made here, with the return address kept in a register.

use std::ffi::{c_char, c_int, c_long, c_void};

use dmm_nsocket::stats::Counter;
use libc::pid_t;

use crate::export::export;
use crate::{errno, process, real, session, track};

export! {
    /// fork(2).
    also [__fork] fn fork() -> pid_t {
        begin();
        began(unsafe { real::fork() })
    }

    /// fork(2) without the handlers of pthread_atfork(3).
    fn _Fork() -> pid_t {
        begin();
        began(unsafe { real::_Fork() })
    }

    /// clone(2), as libc wraps it: the child runs `function` on a stack of its own.
    also [__clone] fn clone(function: *mut c_void, stack: *mut c_void, flags: c_int, argument: *mut c_void, parent: *mut c_void, tls: *mut c_void, child: *mut c_void) -> c_int {
        cloning(flags as u64, || unsafe {
            real::clone(function, stack, flags, argument, parent, tls, child)
        })
    }

    /// forkpty(3): forks inside libc.
    fn forkpty(master: *mut c_int, name: *mut c_char, terminal: *const c_void, window: *const c_void) -> pid_t {
        begin();
        began(unsafe { real::forkpty(master, name, terminal, window) })
    }

    /// daemon(3): forks inside libc.
    fn daemon(nochdir: c_int, noclose: c_int) -> c_int {
        begin();
        let result = began(unsafe { real::daemon(nochdir, noclose) });
        if result == 0 {
            // The parent has ended inside libc.
            session::fork::leaving();
        }
        result
    }

    /// _exit(2): no destructor runs, so the statistics file is taken away here.
    also [_Exit] fn _exit(status: c_int) {
        process::finish();
        unsafe { real::_exit(status) }
    }

    /// quick_exit(3): as _exit(2).
    fn quick_exit(status: c_int) {
        process::finish();
        unsafe { real::quick_exit(status) }
    }
}

/// Runs a clone with these flags. A child that is given its parent's memory while that waits for it
/// (CLONE_VFORK) is told to leave the tables alone, as in vfork.
pub(super) fn cloning<T>(flags: u64, call: impl FnOnce() -> T) -> T {
    const BORROWS: u64 = (libc::CLONE_VM | libc::CLONE_VFORK) as u64;
    if flags & libc::CLONE_THREAD as u64 != 0 {
        return call();
    }
    if flags & BORROWS != BORROWS {
        begin();
        if flags & libc::CLONE_VM as u64 == 0 {
            // The child may not come by here. The parent finds its own again when it needs them.
            process::forked();
        }
        return call();
    }
    track::count(Counter::Forks);
    process::borrow(1);
    let result = call();
    process::borrow(-1);
    result
}

/// A process is about to be made.
pub(super) fn begin() {
    if !process::is_borrowed() {
        process::forking();
        track::count(Counter::Forks);
        session::fork::before_fork();
    }
}

/// A call that makes a process has returned: 0 in the child.
pub(super) fn began(pid: pid_t) -> pid_t {
    match pid {
        0 => process::forked(),
        1.. => {}
        _ => session::fork::fork_failed(),
    }
    pid
}

/// vfork(2).
#[cfg(target_arch = "x86_64")]
#[cfg_attr(not(test), unsafe(no_mangle))]
#[unsafe(naked)]
pub(crate) unsafe extern "C-unwind" fn vfork() -> pid_t {
    core::arch::naked_asm!(
        "sub rsp, 8",
        "call {begin}",
        "add rsp, 8",
        // The child will use this place of the stack: the parent's return address waits in rdx,
        // which the kernel leaves alone.
        "pop rdx",
        "mov eax, {number}",
        "syscall",
        "push rdx",
        "test eax, eax",
        "jz 2f",
        "mov rdi, rax",
        "sub rsp, 8",
        "call {end}",
        "add rsp, 8",
        "2:",
        "ret",
        begin = sym vfork_begins,
        end = sym vfork_ended,
        number = const libc::SYS_vfork,
    )
}

/// Alias of `vfork`.
#[cfg(target_arch = "x86_64")]
#[cfg_attr(not(test), unsafe(no_mangle))]
#[unsafe(naked)]
pub(crate) unsafe extern "C-unwind" fn __vfork() -> pid_t {
    core::arch::naked_asm!("jmp {vfork}", vfork = sym vfork)
}

#[cfg(target_arch = "x86_64")]
extern "C" fn vfork_begins() {
    track::count(Counter::Forks);
    process::borrow(1);
}

/// In the parent, when the child has gone on to another program or has ended.
#[cfg(target_arch = "x86_64")]
extern "C" fn vfork_ended(result: c_long) -> c_long {
    process::borrow(-1);
    if result < 0 {
        errno::fail(-result as c_int)
    } else {
        result
    }
}
