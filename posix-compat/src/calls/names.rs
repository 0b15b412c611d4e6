//! The addresses of a socket.

use std::ffi::c_int;

use libc::{sockaddr, socklen_t};

use crate::export::export;
use crate::real;

export! {
    /// getsockname(2).
    fn getsockname(fd: c_int, address: *mut sockaddr, len: *mut socklen_t) -> c_int {
        unsafe { real::getsockname(fd, address, len) }
    }

    /// getpeername(2).
    fn getpeername(fd: c_int, address: *mut sockaddr, len: *mut socklen_t) -> c_int {
        unsafe { real::getpeername(fd, address, len) }
    }
}
