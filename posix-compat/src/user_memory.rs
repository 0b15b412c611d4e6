//! Reading arguments that may be bad pointers.
//!
//! Where the kernel answers EFAULT, we must not fault: a program that runs without DMM runs under
//! it. So before an address, a message header or a vector is looked at, the kernel is asked whether
//! it can be read. The question is rt_sigprocmask(2) with a `how` that does not exist: it reads its
//! set, says EFAULT or EINVAL, and changes nothing; every seccomp filter lets it through.

use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use libc::{c_int, c_void, sockaddr, socklen_t};
use syscalls::{Errno, Sysno, syscall};

const PAGE: usize = 4096;
const WORD: usize = 8;

/// Copies a `T` out of the program's memory, if it can be read. `T` must be valid for all bytes.
///
/// # Safety
/// Any bytes must be a valid `T`.
pub(crate) unsafe fn read<T: Copy>(address: *const T) -> Option<T> {
    if !readable(address.cast(), size_of::<T>()) {
        return None;
    }
    // SAFETY: the memory can be read, and the caller vouches for the type.
    Some(unsafe { address.read_unaligned() })
}

/// Whether `len` bytes can be read.
pub(crate) fn readable(address: *const c_void, len: usize) -> bool {
    let start = address as usize;
    let Some(end) = start.checked_add(len) else {
        return false;
    };
    // The lowest page is never mapped (mmap_min_addr), and a null set would not be looked at.
    if start < PAGE {
        return len == 0;
    }
    // One word of each page that the bytes touch: it can be read, or none of the page can.
    let mut at = start & !(WORD - 1);
    while at < end {
        if !word_readable(at) {
            return false;
        }
        at = (at / PAGE + 1) * PAGE;
    }
    true
}

fn word_readable(address: usize) -> bool {
    const NO_SUCH_HOW: c_int = !0;
    // SAFETY: with this `how` the call only reads the set, and says if it cannot.
    let result = unsafe { syscall!(Sysno::rt_sigprocmask, NO_SUCH_HOW, address, 0usize, WORD) };
    result != Err(Errno::EFAULT)
}

/// What an address argument says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    /// An IPv4 or IPv6 address.
    Inet(SocketAddr),
    /// AF_UNSPEC: dissolve the association.
    Unspecified,
    /// Anything else, and what the kernel will refuse: it has the last word.
    Other,
}

/// Reads an address argument.
pub(crate) fn address(address: *const sockaddr, len: socklen_t) -> Address {
    let len = len as usize;
    // What is looked at: of a longer address (a Unix socket's) its family alone.
    let looked_at = len.min(size_of::<libc::sockaddr_in6>());
    if len < size_of::<libc::sa_family_t>() || !readable(address.cast(), looked_at) {
        return Address::Other;
    }
    // SAFETY: can be read, as was just asked.
    let family = unsafe { address.cast::<libc::sa_family_t>().read_unaligned() };
    match c_int::from(family) {
        libc::AF_UNSPEC => Address::Unspecified,
        libc::AF_INET if len >= size_of::<libc::sockaddr_in>() => {
            // SAFETY: can be read, and any bytes are a valid sockaddr_in.
            let inet = unsafe { address.cast::<libc::sockaddr_in>().read_unaligned() };
            Address::Inet(SocketAddr::V4(SocketAddrV4::new(
                Ipv4Addr::from(u32::from_be(inet.sin_addr.s_addr)),
                u16::from_be(inet.sin_port),
            )))
        }
        // The scope was added later: the kernel accepts an address without it (RFC 2133).
        libc::AF_INET6 if len >= size_of::<libc::sockaddr_in6>() - 4 => {
            let mut inet = MaybeUninit::<libc::sockaddr_in6>::zeroed();
            // SAFETY: `looked_at` bytes can be read and fit; any bytes are a valid sockaddr_in6.
            let inet = unsafe {
                std::ptr::copy_nonoverlapping(
                    address.cast::<u8>(),
                    inet.as_mut_ptr().cast::<u8>(),
                    looked_at,
                );
                inet.assume_init()
            };
            Address::Inet(SocketAddr::V6(SocketAddrV6::new(
                Ipv6Addr::from(inet.sin6_addr.s6_addr),
                u16::from_be(inet.sin6_port),
                inet.sin6_flowinfo,
                inet.sin6_scope_id,
            )))
        }
        _ => Address::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_pointers_are_found_and_good_ones_read() {
        assert!(!readable(std::ptr::null(), 1));
        assert!(!readable(std::ptr::without_provenance(1), 1));
        assert!(!readable(std::ptr::without_provenance(1), 100));
        assert!(!readable(usize::MAX as *const c_void, 16));
        assert!(!readable((usize::MAX - 20) as *const c_void, 16));
        let value = [7u8; 100];
        for len in 0..100 {
            assert!(readable(value[..len].as_ptr().cast(), len));
        }
        // SAFETY: any bytes are a valid integer.
        let word = unsafe { read(value.as_ptr().cast::<u32>()) };
        assert_eq!(word, Some(0x0707_0707));
    }

    #[test]
    fn the_edge_of_a_mapping_is_found() {
        use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect};
        // SAFETY: a new mapping, half of which is then closed.
        let memory = unsafe {
            let memory = mmap_anonymous(
                std::ptr::null_mut(),
                2 * PAGE,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE,
            )
            .unwrap();
            mprotect(
                memory.cast::<u8>().add(PAGE).cast(),
                PAGE,
                MprotectFlags::empty(),
            )
            .unwrap();
            memory as usize
        };
        for len in 1..64 {
            let last = memory + PAGE - len;
            assert!(readable(last as *const c_void, len), "{len}");
            assert!(!readable(last as *const c_void, len + 1), "{len}");
        }
        assert!(!readable((memory + PAGE) as *const c_void, 4));
    }

    #[test]
    fn addresses_are_read() {
        let v4 = libc::sockaddr_in {
            sin_family: libc::AF_INET as u16,
            sin_port: 80u16.to_be(),
            sin_addr: libc::in_addr {
                s_addr: u32::from(Ipv4Addr::new(10, 1, 2, 3)).to_be(),
            },
            sin_zero: [0; 8],
        };
        let at = (&raw const v4).cast::<sockaddr>();
        assert_eq!(
            address(at, 16),
            Address::Inet("10.1.2.3:80".parse().unwrap())
        );
        assert_eq!(address(at, 15), Address::Other);
        assert_eq!(address(at, 1), Address::Other);
        assert_eq!(address(std::ptr::null(), 16), Address::Other);
        let unspecified = [0u16; 8];
        assert_eq!(
            address(unspecified.as_ptr().cast(), 16),
            Address::Unspecified
        );
    }
}
