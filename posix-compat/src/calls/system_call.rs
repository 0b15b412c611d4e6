//! syscall(2): programs that make their socket calls by number are managed as well.

use std::ffi::{c_int, c_long, c_uint, c_ulong};

use dmm_nsocket::stats::Counter;

use super::{data, descriptors, exec, fork, readiness, sockets};
use crate::export::export;
use crate::{process, real, sandbox, track, user_memory};

export! {
    /// syscall(2). Around the calls that make, bind, duplicate or close a descriptor the same is done
    /// as around the function of that name; the call itself stays what it is, no cancellation point.
    fn syscall(number: c_long, a: c_long, b: c_long, c: c_long, d: c_long, e: c_long, f: c_long) -> c_long {
        let call = || unsafe { real::syscall(number, a, b, c, d, e, f) };
        let small = || call() as c_int;
        let (int, uint) = (|x: c_long| x as c_int, |x: c_long| x as c_uint);
        let result: c_long = match number {
            libc::SYS_socket => sockets::socket_by(int(a), int(b), int(c), small).into(),
            libc::SYS_socketpair => {
                sockets::socketpair_by(int(a), int(b), int(c), d as *const _, small).into()
            }
            libc::SYS_bind => sockets::bind_by(int(a), b as *const _, uint(c), small).into(),
            libc::SYS_listen => sockets::listen_by(int(a), small).into(),
            libc::SYS_accept => sockets::accept_by(int(a), 0, small).into(),
            libc::SYS_accept4 => sockets::accept_by(int(a), int(d), small).into(),
            libc::SYS_connect => sockets::connect_by(int(a), b as *const _, uint(c), small).into(),
            libc::SYS_setsockopt => {
                sockets::setsockopt_by(int(a), int(b), int(c), d as *const _, uint(e), small).into()
            }
            libc::SYS_sendto => {
                data::sendto_by(int(a), int(d), e as *const _, uint(f), || call() as isize) as c_long
            }
            libc::SYS_sendmsg => {
                data::sendmsg_by(int(a), b as *const _, int(c), || call() as isize) as c_long
            }
            libc::SYS_sendmmsg => {
                data::sendmmsg_by(int(a), b as *const _, uint(c), int(d), small).into()
            }
            libc::SYS_recvmsg => {
                data::recvmsg_by(int(a), b as *const _, || call() as isize) as c_long
            }
            libc::SYS_close => {
                track::forget(int(a));
                call()
            }
            libc::SYS_close_range => {
                descriptors::before_close_range(uint(a), uint(b), int(c));
                call()
            }
            libc::SYS_dup => descriptors::duplicated_by(int(a), small()).into(),
            libc::SYS_dup3 => descriptors::duplicated_over(int(a), int(b), small).into(),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_dup2 => descriptors::duplicated_over(int(a), int(b), small).into(),
            libc::SYS_fcntl => {
                let result = call();
                descriptors::after_fcntl(int(a), int(b), c as c_ulong, int(result));
                result
            }
            libc::SYS_epoll_create1 => readiness::created(small()).into(),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_epoll_create => readiness::created(small()).into(),
            libc::SYS_epoll_ctl => {
                readiness::changed(int(a), int(b), int(c), d as *const _, small()).into()
            }
            libc::SYS_execve => exec::with_preload(c as *const _, true, |envp| unsafe {
                real::syscall(number, a, b, envp as c_long, d, e, f) as c_int
            })
            .into(),
            libc::SYS_exit_group => {
                process::finish();
                call()
            }
            #[cfg(target_arch = "x86_64")]
            libc::SYS_fork => {
                fork::begin();
                call()
            }
            libc::SYS_clone => fork::cloning(a as u64, call),
            libc::SYS_clone3 => {
                // SAFETY: any bytes are valid flags, the first field of struct clone_args.
                let flags = unsafe { user_memory::read(a as *const u64) };
                fork::cloning(flags.unwrap_or(0), call)
            }
            libc::SYS_seccomp => {
                sandbox::prepare();
                sandbox::entered(call())
            }
            libc::SYS_prctl if int(a) == libc::PR_SET_SECCOMP => {
                sandbox::prepare();
                sandbox::entered(call())
            }
            _ => return call(),
        };
        track::count(Counter::RawSystemCalls);
        result
    }
}
