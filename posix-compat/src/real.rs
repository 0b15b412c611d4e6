//! The functions that ours stand in front of: libc's, or those of another library that interposes
//! them behind us (an address sanitizer's).
//!
//! Each is looked up once, by `dlsym(RTLD_NEXT)`, normally in the constructor. A call that comes
//! earlier (from another library's constructor) looks up its own function alone. Calling through
//! these pointers, not by system calls, keeps what libc adds: cancellation points, `errno`, the
//! handling of old kernels.

use std::ffi::{CStr, c_char, c_int, c_long, c_uint, c_ulong, c_void};
use std::sync::atomic::{AtomicPtr, Ordering};

use libc::{
    FILE, addrinfo, epoll_event, fd_set, gid_t, hostent, iovec, mmsghdr, msghdr, off_t, pid_t,
    pollfd, posix_spawn_file_actions_t, posix_spawnattr_t, sigset_t, size_t, sockaddr, socklen_t,
    ssize_t, stat, stat64, timespec, timeval, uid_t,
};

use crate::process::ORIGINALS;

/// Where the functions are; null for one that has not been looked up. In the order in which they are
/// listed below: those of data paths come first and share a few cache lines.
pub(crate) struct Originals([AtomicPtr<c_void>; NAMES.len()]);

impl Originals {
    pub(crate) const fn new() -> Self {
        Self([const { AtomicPtr::new(std::ptr::null_mut()) }; NAMES.len()])
    }

    #[inline(always)]
    fn address(&self, number: usize) -> *mut c_void {
        self.0[number].load(Ordering::Relaxed)
    }

    fn look_up(&self, number: usize) -> *mut c_void {
        // SAFETY: the name is a C string; RTLD_NEXT asks for the definition behind this library's.
        let address = unsafe { libc::dlsym(libc::RTLD_NEXT, NAMES[number].as_ptr()) };
        self.0[number].store(address, Ordering::Relaxed);
        address
    }
}

/// Looks all of them up, so that no later call has to: `dlsym` is not for signal handlers.
pub(crate) fn look_up_all() {
    for number in 0..NAMES.len() {
        ORIGINALS.look_up(number);
    }
}

macro_rules! real {
    ($($name:ident($($arg:ident: $type:ty),*) -> $ret:ty;)*) => {
        /// A function's number.
        #[expect(non_camel_case_types, reason = "named as the functions")]
        enum Number {
            $($name),*
        }

        const NAMES: &[&CStr] = &[$(
            match CStr::from_bytes_with_nul(concat!(stringify!($name), "\0").as_bytes()) {
                Ok(name) => name,
                Err(_) => panic!("a name without a nul"),
            }
        ),*];

        $(
            #[allow(non_snake_case, clippy::too_many_arguments, reason = "as in C")]
            /// The original function of that name; ENOSYS where libc has none.
            ///
            /// # Safety
            /// As for the C function.
            #[inline(always)]
            pub(crate) unsafe fn $name($($arg: $type),*) -> $ret {
                type Function = unsafe extern "C-unwind" fn($($type),*) -> $ret;
                /// A call before the constructor ran, or of a function that libc does not have. With
                /// the same arguments, so that the caller need not save them to come here.
                #[cold]
                #[inline(never)]
                #[allow(clippy::too_many_arguments, reason = "as in C")]
                unsafe extern "C-unwind" fn not_found_yet($($arg: $type),*) -> $ret {
                    match ORIGINALS.look_up(Number::$name as usize) {
                        address if address.is_null() => crate::errno::unsupported(),
                        // SAFETY: as below.
                        address => unsafe {
                            std::mem::transmute::<*mut c_void, Function>(address)($($arg),*)
                        },
                    }
                }
                let address = ORIGINALS.address(Number::$name as usize);
                if address.is_null() {
                    // SAFETY: the caller vouches for the arguments.
                    return unsafe { not_found_yet($($arg),*) };
                }
                // SAFETY: the address is that of the C function of this name, whose type this is.
                let function = unsafe { std::mem::transmute::<*mut c_void, Function>(address) };
                // SAFETY: the caller vouches for the arguments.
                unsafe { function($($arg),*) }
            }
        )*
    };
}

real! {
    read(fd: c_int, data: *mut c_void, len: size_t) -> ssize_t;
    write(fd: c_int, data: *const c_void, len: size_t) -> ssize_t;
    recv(fd: c_int, data: *mut c_void, len: size_t, flags: c_int) -> ssize_t;
    send(fd: c_int, data: *const c_void, len: size_t, flags: c_int) -> ssize_t;
    epoll_wait(epoll: c_int, events: *mut epoll_event, count: c_int, timeout: c_int) -> c_int;
    readv(fd: c_int, vectors: *const iovec, count: c_int) -> ssize_t;
    writev(fd: c_int, vectors: *const iovec, count: c_int) -> ssize_t;
    recvmsg(fd: c_int, message: *mut msghdr, flags: c_int) -> ssize_t;
    sendmsg(fd: c_int, message: *const msghdr, flags: c_int) -> ssize_t;
    recvfrom(fd: c_int, data: *mut c_void, len: size_t, flags: c_int, address: *mut sockaddr, address_len: *mut socklen_t) -> ssize_t;
    sendto(fd: c_int, data: *const c_void, len: size_t, flags: c_int, address: *const sockaddr, address_len: socklen_t) -> ssize_t;
    sendfile(out: c_int, input: c_int, offset: *mut off_t, count: size_t) -> ssize_t;
    poll(set: *mut pollfd, count: libc::nfds_t, timeout: c_int) -> c_int;
    close(fd: c_int) -> c_int;
    accept4(fd: c_int, address: *mut sockaddr, len: *mut socklen_t, flags: c_int) -> c_int;
    __read_chk(fd: c_int, data: *mut c_void, len: size_t, size: size_t) -> ssize_t;

    socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int;
    socketpair(domain: c_int, kind: c_int, protocol: c_int, pair: *mut c_int) -> c_int;
    bind(fd: c_int, address: *const sockaddr, len: socklen_t) -> c_int;
    listen(fd: c_int, backlog: c_int) -> c_int;
    accept(fd: c_int, address: *mut sockaddr, len: *mut socklen_t) -> c_int;
    connect(fd: c_int, address: *const sockaddr, len: socklen_t) -> c_int;
    shutdown(fd: c_int, how: c_int) -> c_int;
    __chk_fail() -> ();
    getsockname(fd: c_int, address: *mut sockaddr, len: *mut socklen_t) -> c_int;
    getpeername(fd: c_int, address: *mut sockaddr, len: *mut socklen_t) -> c_int;
    getsockopt(fd: c_int, level: c_int, name: c_int, value: *mut c_void, len: *mut socklen_t) -> c_int;
    setsockopt(fd: c_int, level: c_int, name: c_int, value: *const c_void, len: socklen_t) -> c_int;
    sockatmark(fd: c_int) -> c_int;
    isfdtype(fd: c_int, kind: c_int) -> c_int;

    sendmmsg(fd: c_int, messages: *mut mmsghdr, count: c_uint, flags: c_int) -> c_int;
    __recv_chk(fd: c_int, data: *mut c_void, len: size_t, size: size_t, flags: c_int) -> ssize_t;
    __recvfrom_chk(fd: c_int, data: *mut c_void, len: size_t, size: size_t, flags: c_int, address: *mut sockaddr, address_len: *mut socklen_t) -> ssize_t;
    recvmmsg(fd: c_int, messages: *mut mmsghdr, count: c_uint, flags: c_int, timeout: *mut timespec) -> c_int;
    pread(fd: c_int, data: *mut c_void, len: size_t, offset: off_t) -> ssize_t;
    __pread_chk(fd: c_int, data: *mut c_void, len: size_t, offset: off_t, size: size_t) -> ssize_t;
    preadv(fd: c_int, vectors: *const iovec, count: c_int, offset: off_t) -> ssize_t;
    preadv2(fd: c_int, vectors: *const iovec, count: c_int, offset: off_t, flags: c_int) -> ssize_t;
    pwrite(fd: c_int, data: *const c_void, len: size_t, offset: off_t) -> ssize_t;
    pwritev(fd: c_int, vectors: *const iovec, count: c_int, offset: off_t) -> ssize_t;
    pwritev2(fd: c_int, vectors: *const iovec, count: c_int, offset: off_t, flags: c_int) -> ssize_t;
    splice(input: c_int, input_offset: *mut i64, out: c_int, out_offset: *mut i64, len: size_t, flags: c_uint) -> ssize_t;
    tee(input: c_int, out: c_int, len: size_t, flags: c_uint) -> ssize_t;
    vmsplice(fd: c_int, vectors: *const iovec, count: size_t, flags: c_uint) -> ssize_t;

    closefrom(first: c_int) -> ();
    close_range(first: c_uint, last: c_uint, flags: c_int) -> c_int;
    dup(fd: c_int) -> c_int;
    dup2(old: c_int, new: c_int) -> c_int;
    dup3(old: c_int, new: c_int, flags: c_int) -> c_int;
    fcntl(fd: c_int, command: c_int, argument: c_ulong) -> c_int;
    fcntl64(fd: c_int, command: c_int, argument: c_ulong) -> c_int;
    ioctl(fd: c_int, request: c_ulong, argument: c_ulong) -> c_int;
    fstat(fd: c_int, status: *mut stat) -> c_int;
    fstat64(fd: c_int, status: *mut stat64) -> c_int;
    __fxstat(version: c_int, fd: c_int, status: *mut stat) -> c_int;
    __fxstat64(version: c_int, fd: c_int, status: *mut stat64) -> c_int;
    fstatat(fd: c_int, path: *const c_char, status: *mut stat, flags: c_int) -> c_int;
    fstatat64(fd: c_int, path: *const c_char, status: *mut stat64, flags: c_int) -> c_int;
    statx(fd: c_int, path: *const c_char, flags: c_int, mask: c_uint, status: *mut libc::statx) -> c_int;

    __poll_chk(set: *mut pollfd, count: libc::nfds_t, timeout: c_int, size: size_t) -> c_int;
    ppoll(set: *mut pollfd, count: libc::nfds_t, timeout: *const timespec, mask: *const sigset_t) -> c_int;
    __ppoll_chk(set: *mut pollfd, count: libc::nfds_t, timeout: *const timespec, mask: *const sigset_t, size: size_t) -> c_int;
    select(count: c_int, read: *mut fd_set, write: *mut fd_set, except: *mut fd_set, timeout: *mut timeval) -> c_int;
    pselect(count: c_int, read: *mut fd_set, write: *mut fd_set, except: *mut fd_set, timeout: *const timespec, mask: *const sigset_t) -> c_int;
    epoll_create(size: c_int) -> c_int;
    epoll_create1(flags: c_int) -> c_int;
    epoll_ctl(epoll: c_int, operation: c_int, fd: c_int, event: *mut epoll_event) -> c_int;
    epoll_pwait(epoll: c_int, events: *mut epoll_event, count: c_int, timeout: c_int, mask: *const sigset_t) -> c_int;
    epoll_pwait2(epoll: c_int, events: *mut epoll_event, count: c_int, timeout: *const timespec, mask: *const sigset_t) -> c_int;

    fork() -> pid_t;
    clone(function: *mut c_void, stack: *mut c_void, flags: c_int, argument: *mut c_void, parent: *mut c_void, tls: *mut c_void, child: *mut c_void) -> c_int;
    forkpty(master: *mut c_int, name: *mut c_char, terminal: *const c_void, window: *const c_void) -> pid_t;
    _Fork() -> pid_t;
    _exit(status: c_int) -> ();
    quick_exit(status: c_int) -> ();
    daemon(nochdir: c_int, noclose: c_int) -> c_int;
    execve(path: *const c_char, argv: *const *const c_char, envp: *const *const c_char) -> c_int;
    execvpe(file: *const c_char, argv: *const *const c_char, envp: *const *const c_char) -> c_int;
    fexecve(fd: c_int, argv: *const *const c_char, envp: *const *const c_char) -> c_int;
    execveat(fd: c_int, path: *const c_char, argv: *const *const c_char, envp: *const *const c_char, flags: c_int) -> c_int;
    posix_spawn(pid: *mut pid_t, path: *const c_char, actions: *const posix_spawn_file_actions_t, attributes: *const posix_spawnattr_t, argv: *const *mut c_char, envp: *const *mut c_char) -> c_int;
    posix_spawnp(pid: *mut pid_t, file: *const c_char, actions: *const posix_spawn_file_actions_t, attributes: *const posix_spawnattr_t, argv: *const *mut c_char, envp: *const *mut c_char) -> c_int;

    fdopen(fd: c_int, mode: *const c_char) -> *mut FILE;
    fclose(stream: *mut FILE) -> c_int;
    freopen(path: *const c_char, mode: *const c_char, stream: *mut FILE) -> *mut FILE;
    freopen64(path: *const c_char, mode: *const c_char, stream: *mut FILE) -> *mut FILE;
    vdprintf(fd: c_int, format: *const c_char, arguments: *mut c_void) -> c_int;
    __vdprintf_chk(fd: c_int, flag: c_int, format: *const c_char, arguments: *mut c_void) -> c_int;

    setuid(uid: uid_t) -> c_int;
    seteuid(uid: uid_t) -> c_int;
    setreuid(real: uid_t, effective: uid_t) -> c_int;
    setresuid(real: uid_t, effective: uid_t, saved: uid_t) -> c_int;
    setfsuid(uid: uid_t) -> c_int;
    setgid(gid: gid_t) -> c_int;
    setegid(gid: gid_t) -> c_int;
    setregid(real: gid_t, effective: gid_t) -> c_int;
    setresgid(real: gid_t, effective: gid_t, saved: gid_t) -> c_int;
    setfsgid(gid: gid_t) -> c_int;
    setgroups(count: size_t, groups: *const gid_t) -> c_int;
    mlockall(flags: c_int) -> c_int;
    prctl(option: c_int, a: c_ulong, b: c_ulong, c: c_ulong, d: c_ulong) -> c_int;
    setns(fd: c_int, kind: c_int) -> c_int;
    unshare(flags: c_int) -> c_int;

    getnameinfo(address: *const sockaddr, len: socklen_t, host: *mut c_char, host_len: socklen_t, service: *mut c_char, service_len: socklen_t, flags: c_int) -> c_int;
    gethostbyname(name: *const c_char) -> *mut hostent;
    gethostbyname2(name: *const c_char, family: c_int) -> *mut hostent;
    gethostbyaddr(address: *const c_void, len: socklen_t, family: c_int) -> *mut hostent;
    gethostbyname_r(name: *const c_char, entry: *mut hostent, buffer: *mut c_char, len: size_t, result: *mut *mut hostent, error: *mut c_int) -> c_int;
    gethostbyname2_r(name: *const c_char, family: c_int, entry: *mut hostent, buffer: *mut c_char, len: size_t, result: *mut *mut hostent, error: *mut c_int) -> c_int;
    gethostbyaddr_r(address: *const c_void, address_len: socklen_t, family: c_int, entry: *mut hostent, buffer: *mut c_char, len: size_t, result: *mut *mut hostent, error: *mut c_int) -> c_int;
    getaddrinfo(node: *const c_char, service: *const c_char, hints: *const addrinfo, result: *mut *mut addrinfo) -> c_int;

    syscall(number: c_long, a: c_long, b: c_long, c: c_long, d: c_long, e: c_long, f: c_long) -> c_long;
}
