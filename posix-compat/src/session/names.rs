//! getsockname(2) and getpeername(2) of sessions: the addresses that TCP would have.

use std::ffi::c_int;
use std::net::SocketAddr;

use libc::{sockaddr, sockaddr_in, sockaddr_in6, socklen_t};

use crate::user_memory;

/// A socket address as C has it.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) union Raw {
    v4: sockaddr_in,
    v6: sockaddr_in6,
}

/// An address of a socket of that domain, and its length: an IPv4 one of an AF_INET6 socket is mapped.
pub(crate) fn raw(address: SocketAddr, domain: c_int) -> (Raw, socklen_t) {
    match (address, domain) {
        (SocketAddr::V4(address), libc::AF_INET) => {
            let v4 = sockaddr_in {
                sin_family: libc::AF_INET as u16,
                sin_port: address.port().to_be(),
                sin_addr: libc::in_addr {
                    s_addr: u32::from_ne_bytes(address.ip().octets()),
                },
                sin_zero: [0; 8],
            };
            (Raw { v4 }, size_of::<sockaddr_in>() as socklen_t)
        }
        (address, _) => {
            let (ip, scope) = match address {
                SocketAddr::V4(address) => (address.ip().to_ipv6_mapped(), 0),
                SocketAddr::V6(address) => (*address.ip(), address.scope_id()),
            };
            let v6 = sockaddr_in6 {
                sin6_family: libc::AF_INET6 as u16,
                sin6_port: address.port().to_be(),
                sin6_flowinfo: 0,
                sin6_addr: libc::in6_addr {
                    s6_addr: ip.octets(),
                },
                sin6_scope_id: scope,
            };
            (Raw { v6 }, size_of::<sockaddr_in6>() as socklen_t)
        }
    }
}

/// Writes an address where the program wants it, as the kernel does: as much as fits, and the length
/// that it has. The error is the kernel's.
pub(crate) fn give(
    address: SocketAddr,
    domain: c_int,
    to: *mut sockaddr,
    len: *mut socklen_t,
) -> Result<(), c_int> {
    // SAFETY: any bytes are a number.
    let Some(room) = (unsafe { user_memory::read(len) }) else {
        return Err(libc::EFAULT);
    };
    if room.cast_signed() < 0 {
        return Err(libc::EINVAL);
    }
    let (raw, size) = raw(address, domain);
    let copied = (room.min(size)) as usize;
    if copied > 0 && !user_memory::readable(to.cast(), copied) {
        return Err(libc::EFAULT);
    }
    // SAFETY: there is room for so many bytes, by the program's word.
    unsafe {
        std::ptr::from_ref(&raw)
            .cast::<u8>()
            .copy_to_nonoverlapping(to.cast(), copied);
        len.write_unaligned(size);
    }
    Ok(())
}
