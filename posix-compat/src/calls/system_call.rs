//! syscall(2): programs that make their socket calls by number are managed as well.

use std::ffi::{c_int, c_long, c_uint, c_ulong};

use dmm_nsocket::stats::Counter;

use super::{data, descriptors, exec, readiness, sockets};
use crate::export::export;
use crate::{real, track};

export! {
    /// syscall(2). Numbers that make, bind, duplicate or close a descriptor take the way of the
    /// function of that name; all others go to the kernel.
    fn syscall(number: c_long, a: c_long, b: c_long, c: c_long, d: c_long, e: c_long, f: c_long) -> c_long {
        let (int, uint) = (|x: c_long| x as c_int, |x: c_long| x as c_uint);
        let result: c_long = unsafe {
            match number {
                libc::SYS_socket => sockets::socket(int(a), int(b), int(c)).into(),
                libc::SYS_socketpair => sockets::socketpair(int(a), int(b), int(c), d as *mut _).into(),
                libc::SYS_bind => sockets::bind(int(a), b as *const _, uint(c)).into(),
                libc::SYS_listen => sockets::listen(int(a), int(b)).into(),
                libc::SYS_accept => sockets::accept(int(a), b as *mut _, c as *mut _).into(),
                libc::SYS_accept4 => sockets::accept4(int(a), b as *mut _, c as *mut _, int(d)).into(),
                libc::SYS_connect => sockets::connect(int(a), b as *const _, uint(c)).into(),
                libc::SYS_setsockopt => {
                    sockets::setsockopt(int(a), int(b), int(c), d as *const _, uint(e)).into()
                }
                libc::SYS_sendto => {
                    data::sendto(int(a), b as *const _, c as usize, int(d), e as *const _, uint(f)) as c_long
                }
                libc::SYS_sendmsg => data::sendmsg(int(a), b as *const _, int(c)) as c_long,
                libc::SYS_sendmmsg => data::sendmmsg(int(a), b as *mut _, uint(c), int(d)).into(),
                libc::SYS_recvmsg => data::recvmsg(int(a), b as *mut _, int(c)) as c_long,
                libc::SYS_close => descriptors::close(int(a)).into(),
                libc::SYS_close_range => descriptors::close_range(uint(a), uint(b), int(c)).into(),
                libc::SYS_dup => descriptors::dup(int(a)).into(),
                libc::SYS_dup3 => descriptors::dup3(int(a), int(b), int(c)).into(),
                libc::SYS_fcntl => descriptors::fcntl(int(a), int(b), c as c_ulong).into(),
                libc::SYS_epoll_create1 => readiness::epoll_create1(int(a)).into(),
                libc::SYS_epoll_ctl => {
                    readiness::epoll_ctl(int(a), int(b), int(c), d as *mut _).into()
                }
                libc::SYS_exit_group => {
                    crate::process::finish();
                    return real::syscall(number, a, b, c, d, e, f);
                }
                libc::SYS_execve => exec::execve(a as *const _, b as *const _, c as *const _).into(),
                #[cfg(target_arch = "x86_64")]
                libc::SYS_dup2 => descriptors::dup2(int(a), int(b)).into(),
                #[cfg(target_arch = "x86_64")]
                libc::SYS_epoll_create => readiness::epoll_create(int(a)).into(),
                _ => return real::syscall(number, a, b, c, d, e, f),
            }
        };
        track::count(Counter::RawSystemCalls);
        result
    }
}
