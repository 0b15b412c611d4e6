//! The calls under test, and the calls that must not be.
//!
//! [`call!`] calls libc by its dynamic symbol, so that a preloaded library sees it. [`raw`] enters
//! the kernel without libc: what the executor does for itself stays out of the library's sight and
//! tells how the kernel sees things.

use std::arch::asm;
use std::ffi::{CStr, c_char, c_int};

unsafe extern "C" {
    fn strerrorname_np(errno: c_int) -> *const c_char;
    pub(crate) fn dprintf(fd: c_int, format: *const c_char, ...) -> c_int;
    pub(crate) fn epoll_pwait2(
        ep: c_int,
        events: *mut libc::epoll_event,
        max: c_int,
        timeout: *const libc::timespec,
        mask: *const libc::sigset_t,
    ) -> c_int;
}

/// Calls a libc function and gives its result as an `i64`.
macro_rules! call {
    ($function:path $(, $argument:expr)*) => {{
        // SAFETY: each pointer among the arguments is valid for what the call does with it, or it
        // is invalid on purpose, and then the kernel, not this process, finds that out (EFAULT).
        let result = unsafe { $function($($argument),*) };
        #[allow(trivial_numeric_casts, reason = "some calls give an i64 already")]
        let result = result as i64;
        result
    }};
}
pub(crate) use call;

/// A pointer to memory that is not mapped: the first page never is (vm.mmap_min_addr).
pub(crate) fn wild<T>() -> *mut T {
    std::ptr::without_provenance_mut(16)
}

/// The calling thread's errno.
pub(crate) fn errno() -> c_int {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

/// Sets the calling thread's errno.
pub(crate) fn set_errno(errno: c_int) {
    // SAFETY: the calling thread's errno is always there.
    unsafe { *libc::__errno_location() = errno };
}

/// The symbol of an errno value, such as `EAGAIN`.
pub(crate) fn errno_name(errno: c_int) -> String {
    // SAFETY: takes any number; gives null or a string of static lifetime.
    let name = unsafe { strerrorname_np(errno) };
    if name.is_null() {
        return format!("errno {errno}");
    }
    // SAFETY: not null, so a static nul-terminated string.
    unsafe { CStr::from_ptr(name) }
        .to_string_lossy()
        .into_owned()
}

/// A system call without libc. Gives the result, or the errno negated.
///
/// # Safety
///
/// As for the call itself: pointers among `args` must be valid for what it does with them.
#[cfg(target_arch = "x86_64")]
pub(crate) unsafe fn raw(number: i64, args: [i64; 6]) -> i64 {
    let result;
    // SAFETY: the x86_64 convention (syscall(2)); the caller answers for the arguments.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") args[0],
            in("rsi") args[1],
            in("rdx") args[2],
            in("r10") args[3],
            in("r8") args[4],
            in("r9") args[5],
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result
}

/// A system call without libc. Gives the result, or the errno negated.
///
/// # Safety
///
/// As for the call itself: pointers among `args` must be valid for what it does with them.
#[cfg(target_arch = "aarch64")]
pub(crate) unsafe fn raw(number: i64, args: [i64; 6]) -> i64 {
    let result;
    // SAFETY: the aarch64 convention (syscall(2)); the caller answers for the arguments.
    unsafe {
        asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") args[0] => result,
            in("x1") args[1],
            in("x2") args[2],
            in("x3") args[3],
            in("x4") args[4],
            in("x5") args[5],
            options(nostack),
        );
    }
    result
}
