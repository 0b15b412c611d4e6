//! Names: the resolver asks its servers over sockets that it makes inside libc, out of our sight. If
//! the policy has datagrams to the name server carried in another network namespace, the whole
//! look-up is made there.

use std::ffi::{c_char, c_int, c_void};
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use dmm_nsocket::sys::BlockedSignals;
use dmm_policy::{Family, Key, Role, SockType};
use dmm_stack_kernel::netns;
use libc::{addrinfo, hostent, size_t, sockaddr, socklen_t};

use crate::export::export;
use crate::{errno, files, policy, real};

export! {
    /// getaddrinfo(3).
    fn getaddrinfo(node: *const c_char, service: *const c_char, hints: *const addrinfo, result: *mut *mut addrinfo) -> c_int {
        in_namespace(|| unsafe { real::getaddrinfo(node, service, hints, result) })
    }

    /// getnameinfo(3).
    fn getnameinfo(address: *const sockaddr, len: socklen_t, host: *mut c_char, host_len: socklen_t, service: *mut c_char, service_len: socklen_t, flags: c_int) -> c_int {
        in_namespace(|| unsafe {
            real::getnameinfo(address, len, host, host_len, service, service_len, flags)
        })
    }

    /// gethostbyname(3).
    fn gethostbyname(name: *const c_char) -> *mut hostent {
        in_namespace(|| unsafe { real::gethostbyname(name) })
    }

    /// gethostbyname2(3).
    fn gethostbyname2(name: *const c_char, family: c_int) -> *mut hostent {
        in_namespace(|| unsafe { real::gethostbyname2(name, family) })
    }

    /// gethostbyaddr(3).
    fn gethostbyaddr(address: *const c_void, len: socklen_t, family: c_int) -> *mut hostent {
        in_namespace(|| unsafe { real::gethostbyaddr(address, len, family) })
    }

    /// gethostbyname_r(3).
    fn gethostbyname_r(name: *const c_char, entry: *mut hostent, buffer: *mut c_char, len: size_t, result: *mut *mut hostent, error: *mut c_int) -> c_int {
        in_namespace(|| unsafe { real::gethostbyname_r(name, entry, buffer, len, result, error) })
    }

    /// gethostbyname2_r(3).
    fn gethostbyname2_r(name: *const c_char, family: c_int, entry: *mut hostent, buffer: *mut c_char, len: size_t, result: *mut *mut hostent, error: *mut c_int) -> c_int {
        in_namespace(|| unsafe {
            real::gethostbyname2_r(name, family, entry, buffer, len, result, error)
        })
    }

    /// gethostbyaddr_r(3).
    fn gethostbyaddr_r(address: *const c_void, address_len: socklen_t, family: c_int, entry: *mut hostent, buffer: *mut c_char, len: size_t, result: *mut *mut hostent, error: *mut c_int) -> c_int {
        in_namespace(|| unsafe {
            real::gethostbyaddr_r(address, address_len, family, entry, buffer, len, result, error)
        })
    }
}

/// Runs a look-up where the policy has its datagrams go.
///
/// A thread of its own does it there: the program's thread would have to keep its signals waiting as
/// long as the name server takes, as a handler must not find itself in the wrong place.
fn in_namespace<R>(look_up: impl Fn() -> R) -> R {
    let mut buffer = [0; NAME];
    let Some(name) = namespace(&mut buffer) else {
        return look_up();
    };
    let mut job = Job {
        name,
        look_up: &look_up,
        result: None,
        codes: (0, 0),
    };
    if !on_a_thread(&mut job) {
        return look_up();
    }
    match job.result {
        Some(result) => {
            errno::set(job.codes.0);
            // SAFETY: the address of this thread's h_errno.
            unsafe { *__h_errno_location() = job.codes.1 };
            result
        }
        // One that cannot be entered is passed over, as it is for sockets.
        None => look_up(),
    }
}

struct Job<'a, F, R> {
    name: &'a str,
    look_up: &'a F,
    result: Option<R>,
    /// errno and h_errno, which every thread has its own of.
    codes: (c_int, c_int),
}

impl<F: Fn() -> R, R> Job<'_, F, R> {
    extern "C" fn run(job: *mut c_void) -> *mut c_void {
        // SAFETY: `on_a_thread` passes its job, and touches it no more until this thread has ended.
        let job = unsafe { &mut *job.cast::<Self>() };
        if netns::settle_in(job.name).is_ok() {
            job.result = Some((job.look_up)());
            // SAFETY: the address of this thread's h_errno.
            job.codes = (errno::last(), unsafe { *__h_errno_location() });
        }
        std::ptr::null_mut()
    }
}

/// Runs the job on a new thread and waits for it; `false` if there can be none. The program's
/// signals come to the thread that waits.
fn on_a_thread<F: Fn() -> R, R>(job: &mut Job<'_, F, R>) -> bool {
    let mut thread = MaybeUninit::uninit();
    let signals = BlockedSignals::new();
    // SAFETY: the job outlives the thread, which is joined below.
    let made = unsafe {
        libc::pthread_create(
            thread.as_mut_ptr(),
            std::ptr::null(),
            Job::<F, R>::run,
            std::ptr::from_mut(job).cast(),
        )
    };
    drop(signals);
    if made != 0 {
        return false;
    }
    let mut cancel = 0;
    // SAFETY: the thread was made just now; it borrows from this stack, so this one is not cancelled
    // while it waits.
    unsafe {
        pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &raw mut cancel);
        libc::pthread_join(thread.assume_init(), std::ptr::null_mut());
        pthread_setcancelstate(cancel, std::ptr::null_mut());
    }
    true
}

/// Longest name of a namespace that is remembered during a look-up.
const NAME: usize = 256;

const PTHREAD_CANCEL_DISABLE: c_int = 1;

unsafe extern "C" {
    fn pthread_setcancelstate(state: c_int, old: *mut c_int) -> c_int;
    fn __h_errno_location() -> *mut c_int;
}

/// The namespace that datagrams to the name server are ruled to, if it is another than ours.
fn namespace(buffer: &mut [u8; NAME]) -> Option<&str> {
    policy::refresh();
    let len = policy::with(|live| {
        let image = live.matcher.image();
        // Without any namespace in the policy there is nothing to ask.
        image.stacks().find(|stack| stack.netns.is_some())?;
        let server = name_server();
        let key = Key {
            role: Role::Datagram,
            family: if server.is_ipv4() {
                Family::Inet
            } else {
                Family::Inet6
            },
            sock_type: SockType::Datagram,
            protocol: libc::IPPROTO_UDP as u16,
            local: None,
            remote: Some(SocketAddr::new(server, 53)),
            uid: rustix::process::geteuid().as_raw(),
            priority: None,
            dscp: None,
        };
        let first = live.matcher.lookup(&key).stacks().next()?;
        let name = image.stack(first).netns?;
        buffer
            .get_mut(..name.len())?
            .copy_from_slice(name.as_bytes());
        Some(name.len())
    })??;
    std::str::from_utf8(&buffer[..len]).ok()
}

/// The first `nameserver` of /etc/resolv.conf; the local host without one (resolv.conf(5)).
fn name_server() -> IpAddr {
    let mut text = [0; 4096];
    let len = files::read_start(c"/etc/resolv.conf", &mut text).unwrap_or(0);
    text[..len]
        .split(|byte| *byte == b'\n')
        .filter_map(|line| std::str::from_utf8(line).ok())
        .find_map(|line| {
            let mut words = line.split_ascii_whitespace();
            (words.next()? == "nameserver").then(|| words.next()?.parse().ok())?
        })
        .unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
}
