//! `errno`, set in one place.

use std::ffi::{c_int, c_long};

/// A C function's return value that says that it has failed.
pub(crate) trait Failure {
    /// -1, a null pointer, or nothing at all.
    const FAILED: Self;
}

impl Failure for c_int {
    const FAILED: Self = -1;
}

impl Failure for isize {
    const FAILED: Self = -1;
}

impl Failure for c_long {
    const FAILED: Self = -1;
}

impl<T> Failure for *mut T {
    const FAILED: Self = std::ptr::null_mut();
}

impl Failure for () {
    const FAILED: Self = ();
}

/// Fails a C function with `code`.
pub(crate) fn fail<T: Failure>(code: c_int) -> T {
    set(code);
    T::FAILED
}

/// Fails a C function that this libc does not have.
#[cold]
pub(crate) fn unsupported<T: Failure>() -> T {
    fail(libc::ENOSYS)
}

/// Sets `errno`.
pub(crate) fn set(code: c_int) {
    // SAFETY: the address of this thread's errno, valid for its lifetime.
    unsafe { *libc::__errno_location() = code };
}

/// Reads `errno`.
pub(crate) fn last() -> c_int {
    // SAFETY: the address of this thread's errno, valid for its lifetime.
    unsafe { *libc::__errno_location() }
}
