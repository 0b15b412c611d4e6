//! Names: the resolver asks its servers over sockets that it makes inside libc, out of our sight. If
//! the policy has datagrams to the name server carried in another network namespace, the whole
//! look-up is made there.

use std::ffi::{c_char, c_int, c_void};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use dmm_policy::{Family, Key, Role, SockType};
use dmm_stack_kernel::netns;
use libc::{addrinfo, hostent, size_t, sockaddr, socklen_t};

use crate::export::export;
use crate::{files, policy, real};

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

/// Longest name of a namespace that is remembered during a look-up.
const NAME: usize = 256;

/// Runs a look-up where the policy has its datagrams go. Signals are kept away and the thread is not
/// cancelled while it is away from home.
fn in_namespace<R>(look_up: impl Fn() -> R) -> R {
    let mut buffer = [0; NAME];
    let Some(name) = namespace(&mut buffer) else {
        return look_up();
    };
    let mut old = 0;
    // SAFETY: a place for the old state; both are functions of libc that are not interposed.
    unsafe { pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &raw mut old) };
    let result = netns::within(name, &look_up);
    // SAFETY: as above.
    unsafe { pthread_setcancelstate(old, std::ptr::null_mut()) };
    // One that cannot be entered is passed over, as it is for sockets.
    result.unwrap_or_else(|_| look_up())
}

const PTHREAD_CANCEL_DISABLE: c_int = 1;

unsafe extern "C" {
    fn pthread_setcancelstate(state: c_int, old: *mut c_int) -> c_int;
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
