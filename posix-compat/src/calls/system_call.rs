//! syscall(2): programs that make their socket calls by number are managed as well.

use std::ffi::{c_int, c_long, c_uint, c_ulong};

use dmm_nsocket::stats::Counter;
use dmm_nsocket::table::{Entry, State};

use super::{data, descriptors, exec, fork, names, readiness, sockets};
use crate::export::export;
use crate::process::TABLE;
use crate::session::poll::Bits;
use crate::{errno, process, real, sandbox, track, user_memory};

export! {
    /// syscall(2). Around the calls that make, bind, duplicate or close a descriptor the same is done
    /// as around the function of that name; the call itself stays what it is, no cancellation point.
    fn syscall(number: c_long, a: c_long, b: c_long, c: c_long, d: c_long, e: c_long, f: c_long) -> c_long {
        let call = move || unsafe { real::syscall(number, a, b, c, d, e, f) };
        let small = || call() as c_int;
        let (int, uint) = (|x: c_long| x as c_int, |x: c_long| x as c_uint);
        if let Some(result) = on_session(number, [a, b, c, d, e, f]) {
            return result;
        }
        if let Some(result) = on_set(number, [a, b, c, d, e, f]) {
            return result.into();
        }
        let result: c_long = match number {
            libc::SYS_socket => sockets::socket_by(int(a), int(b), int(c), small).into(),
            libc::SYS_socketpair => {
                sockets::socketpair_by(int(a), int(b), int(c), d as *const _, small).into()
            }
            libc::SYS_bind => sockets::bind_by(int(a), b as *const _, uint(c), small).into(),
            libc::SYS_listen => sockets::listen_by(int(a), int(b), small).into(),
            libc::SYS_accept => sockets::accept_by(int(a), (b as *mut _, c as *mut _), 0, small).into(),
            libc::SYS_accept4 => {
                sockets::accept_by(int(a), (b as *mut _, c as *mut _), int(d), small).into()
            },
            libc::SYS_connect => sockets::connect_by(int(a), b as *const _, uint(c), small).into(),
            libc::SYS_setsockopt => {
                sockets::setsockopt_by(int(a), int(b), int(c), d as *const _, uint(e), small).into()
            }
            libc::SYS_sendto => {
                data::sendto_by(int(a), (b as *const _, c as usize), int(d), e as *const _, uint(f), move || {
                    call() as isize
                }) as c_long
            }
            libc::SYS_sendmsg => {
                data::sendmsg_by(int(a), b as *const _, int(c), move || call() as isize) as c_long
            }
            libc::SYS_sendmmsg => {
                data::sendmmsg_by(int(a), b as *const _, uint(c), int(d), small).into()
            }
            libc::SYS_recvmsg => {
                data::recvmsg_by(int(a), b as *mut _, int(c), move || call() as isize) as c_long
            }
            libc::SYS_close if descriptors::is_hidden(int(a)) => errno::fail(libc::EBADF),
            libc::SYS_close => {
                track::forget(int(a));
                call()
            }
            libc::SYS_close_range => {
                descriptors::close_range_by(uint(a), uint(b), int(c), |first, last| unsafe {
                    real::syscall(number, first.into(), last.into(), c, d, e, f) as c_int
                })
                .into()
            }
            libc::SYS_dup => descriptors::duplicated_by(int(a), small()).into(),
            libc::SYS_dup3 => descriptors::duplicated_over(int(a), int(b), small).into(),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_dup2 => descriptors::duplicated_over(int(a), int(b), small).into(),
            libc::SYS_fcntl => {
                descriptors::after_fcntl(int(a), int(b), c as c_ulong, small()).into()
            }
            libc::SYS_epoll_create1 => readiness::created(small()).into(),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_epoll_create => readiness::created(small()).into(),
            libc::SYS_epoll_ctl => {
                readiness::control_by(int(a), int(b), int(c), d as *const _, small).into()
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
                fork::began(small()).into()
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

/// poll(2) and select(2), where there is something of the session layer in the set.
fn on_set(number: c_long, [a, b, c, d, e, f]: [c_long; 6]) -> Option<c_int> {
    let bits = Bits {
        count: a as c_int,
        read: b as *mut _,
        write: c as *mut _,
        except: d as *mut _,
    };
    match number {
        #[cfg(target_arch = "x86_64")]
        libc::SYS_poll => readiness::poll_by_number(a as *mut _, b as c_ulong, c as c_int),
        libc::SYS_ppoll => {
            let (mask, mask_len) = (d as *const _, e as usize);
            readiness::ppoll_by_number(a as *mut _, b as c_ulong, c as *mut _, mask, mask_len)
        }
        #[cfg(target_arch = "x86_64")]
        libc::SYS_select => readiness::select_by_number(bits, e as *mut _),
        libc::SYS_pselect6 => readiness::pselect_by_number(bits, e as *mut _, f as *const _),
        _ => None,
    }
}

/// Calls that a session, or an epoll instance with sessions, answers: by the functions of those names.
/// The rest has arms of its own, or is the kernel's.
fn on_session(number: c_long, [a, b, c, d, e, f]: [c_long; 6]) -> Option<c_long> {
    let entry = TABLE.load(a as c_int);
    if entry.state() == State::Epoll && (entry.has(Entry::SESSIONS) || entry.has(Entry::NESTS)) {
        // SAFETY: the program's own arguments, as everywhere below.
        return Some(
            unsafe {
                match number {
                    #[cfg(target_arch = "x86_64")]
                    libc::SYS_epoll_wait => {
                        readiness::epoll_wait(a as c_int, b as *mut _, c as c_int, d as c_int)
                    }
                    libc::SYS_epoll_pwait => readiness::epoll_pwait(
                        a as c_int,
                        b as *mut _,
                        c as c_int,
                        d as c_int,
                        e as *const _,
                    ),
                    _ => return None,
                }
            }
            .into(),
        );
    }
    if number == libc::SYS_sendfile && entry.is_session() {
        // SAFETY: as above.
        return Some(
            unsafe { data::sendfile(a as c_int, b as c_int, c as *mut _, d as usize) } as c_long,
        );
    }
    if !entry.is_session() {
        return None;
    }
    let fd = a as c_int;
    // SAFETY: as above.
    unsafe {
        Some(match number {
            libc::SYS_read => data::read(fd, b as *mut _, c as usize) as c_long,
            libc::SYS_write => data::write(fd, b as *const _, c as usize) as c_long,
            libc::SYS_readv => data::readv(fd, b as *const _, c as c_int) as c_long,
            libc::SYS_writev => data::writev(fd, b as *const _, c as c_int) as c_long,
            libc::SYS_recvfrom => data::recvfrom(
                fd,
                b as *mut _,
                c as usize,
                d as c_int,
                e as *mut _,
                f as *mut _,
            ) as c_long,
            libc::SYS_shutdown => sockets::shutdown(fd, b as c_int).into(),
            libc::SYS_getsockopt => {
                sockets::getsockopt(fd, b as c_int, c as c_int, d as *mut _, e as *mut _).into()
            }
            libc::SYS_getsockname => names::getsockname(fd, b as *mut _, c as *mut _).into(),
            libc::SYS_getpeername => names::getpeername(fd, b as *mut _, c as *mut _).into(),
            libc::SYS_ioctl => descriptors::ioctl(fd, b as c_ulong, c as c_ulong).into(),
            _ => return None,
        })
    }
}
