//! Socket addresses as the kernel reads and writes them.

use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// An address in the kernel's form.
#[derive(Clone, Copy)]
pub(super) struct RawAddr {
    storage: libc::sockaddr_storage,
    len: u32,
}

/// Room for any internet address.
pub(super) const ROOM: usize = size_of::<libc::sockaddr_in6>();

impl RawAddr {
    pub(super) fn as_ptr(&self) -> *const libc::sockaddr {
        (&raw const self.storage).cast()
    }

    pub(super) fn len(&self) -> u32 {
        self.len
    }

    /// A path, or an abstract name without the leading zero. `None` if it is too long, or empty.
    pub(super) fn unix(name: &[u8], is_abstract: bool) -> Option<Self> {
        // SAFETY: all zero is a valid address of any kind.
        let mut raw: libc::sockaddr_un = unsafe { MaybeUninit::zeroed().assume_init() };
        raw.sun_family = libc::AF_UNIX as u16;
        let start = usize::from(is_abstract);
        // A path ends with a zero, an abstract name with its length.
        let room = raw.sun_path.len() - 1;
        if name.is_empty() || name.len() > room || (!is_abstract && name.contains(&0)) {
            return None;
        }
        for (place, byte) in raw.sun_path[start..].iter_mut().zip(name) {
            *place = *byte as libc::c_char;
        }
        let used = name.len() + start + usize::from(!is_abstract);
        let len = std::mem::offset_of!(libc::sockaddr_un, sun_path) + used;
        Some(Self::of(&raw, len))
    }

    fn of<T: Copy>(raw: &T, len: usize) -> Self {
        debug_assert!(size_of::<T>() <= size_of::<libc::sockaddr_storage>());
        // SAFETY: all zero is a valid address of any kind.
        let mut storage: libc::sockaddr_storage = unsafe { MaybeUninit::zeroed().assume_init() };
        // SAFETY: the storage has room for every kind of address, and is aligned for it.
        unsafe { (&raw mut storage).cast::<T>().write(*raw) };
        Self {
            storage,
            len: len as u32,
        }
    }
}

impl From<SocketAddr> for RawAddr {
    fn from(addr: SocketAddr) -> Self {
        match addr {
            SocketAddr::V4(addr) => {
                let raw = libc::sockaddr_in {
                    sin_family: libc::AF_INET as u16,
                    sin_port: addr.port().to_be(),
                    sin_addr: libc::in_addr {
                        s_addr: u32::from_ne_bytes(addr.ip().octets()),
                    },
                    sin_zero: [0; 8],
                };
                Self::of(&raw, size_of_val(&raw))
            }
            SocketAddr::V6(addr) => {
                let raw = libc::sockaddr_in6 {
                    sin6_family: libc::AF_INET6 as u16,
                    sin6_port: addr.port().to_be(),
                    sin6_flowinfo: addr.flowinfo(),
                    sin6_addr: libc::in6_addr {
                        s6_addr: addr.ip().octets(),
                    },
                    sin6_scope_id: addr.scope_id(),
                };
                Self::of(&raw, size_of_val(&raw))
            }
        }
    }
}

/// Reads an internet address out of bytes that the kernel has written. `None` if it is of another family.
pub(super) fn parse(bytes: &[u8]) -> Option<SocketAddr> {
    let at = |offset: usize, len: usize| bytes.get(offset..offset + len);
    let family = u16::from_ne_bytes(at(0, 2)?.try_into().ok()?);
    let port = u16::from_be_bytes(at(2, 2)?.try_into().ok()?);
    match i32::from(family) {
        libc::AF_INET => {
            let ip: [u8; 4] = at(4, 4)?.try_into().ok()?;
            Some(SocketAddrV4::new(Ipv4Addr::from(ip), port).into())
        }
        libc::AF_INET6 => {
            let flow = u32::from_ne_bytes(at(4, 4)?.try_into().ok()?);
            let ip: [u8; 16] = at(8, 16)?.try_into().ok()?;
            let scope = u32::from_ne_bytes(at(24, 4)?.try_into().ok()?);
            Some(SocketAddrV6::new(Ipv6Addr::from(ip), port, flow, scope).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_the_way_to_the_kernel_and_back() {
        for addr in ["127.0.0.1:80", "[fe80::1]:65535", "[::]:0"] {
            let addr: SocketAddr = addr.parse().unwrap();
            let raw = RawAddr::from(addr);
            // SAFETY: an address of this length lies there.
            let bytes =
                unsafe { std::slice::from_raw_parts(raw.as_ptr().cast(), raw.len() as usize) };
            assert_eq!(parse(bytes), Some(addr));
        }
        assert_eq!(parse(&[]), None);
        assert_eq!(parse(&[1, 0, 0, 0]), None);
    }

    #[test]
    fn names_of_unix_sockets_have_limits() {
        assert!(RawAddr::unix(&[b'a'; 107], false).is_some());
        assert!(RawAddr::unix(&[b'a'; 108], false).is_none());
        assert!(RawAddr::unix(&[b'a'; 107], true).is_some());
        assert!(RawAddr::unix(b"", true).is_none());
        assert!(RawAddr::unix(b"a\0b", false).is_none());
    }
}
