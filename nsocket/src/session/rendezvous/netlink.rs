//! One question to the kernel and its answer, over a netlink socket (netlink(7)).
//!
//! A socket is made for each question: one kept open would have to be found again after `fork`,
//! `setns` and a program that closes all descriptors it does not know.

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType};

/// Length of `struct nlmsghdr`.
pub(super) const HEADER: usize = 16;

/// `NLM_F_REQUEST`: without flags that would ask for more than one answer.
const REQUEST: u16 = 1;
/// `NLMSG_ERROR`.
const ERROR: u16 = 2;
const SEQUENCE: u32 = 1;

/// Writes the header of a request of `message.len()` bytes to its start.
pub(super) fn frame(message: &mut [u8], kind: u16) {
    let len = message.len() as u32;
    message[..4].copy_from_slice(&len.to_ne_bytes());
    message[4..6].copy_from_slice(&kind.to_ne_bytes());
    message[6..8].copy_from_slice(&REQUEST.to_ne_bytes());
    message[8..12].copy_from_slice(&SEQUENCE.to_ne_bytes());
    message[12..16].fill(0);
}

/// The body of the answer to a [framed](frame) request.
///
/// # Errors
///
/// What the kernel answers; `BADMSG` if it answers nothing of that kind.
pub(super) fn unframe(message: &[u8], kind: u16) -> Result<&[u8], Errno> {
    let header = message.first_chunk::<HEADER>().ok_or(Errno::BADMSG)?;
    let len = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
    let found = u16::from_ne_bytes([header[4], header[5]]);
    // A long answer has been cut off; what is needed is in front.
    let body = &message[HEADER..len.clamp(HEADER, message.len())];
    if found == ERROR {
        let code = body.first_chunk::<4>().ok_or(Errno::BADMSG)?;
        let code = i32::from_ne_bytes(*code).unsigned_abs();
        return match i32::try_from(code) {
            Ok(code @ 1..4096) => Err(Errno::from_raw_os_error(code)),
            _ => Err(Errno::BADMSG),
        };
    }
    if found == kind {
        Ok(body)
    } else {
        Err(Errno::BADMSG)
    }
}

/// Sends a request and receives the answer, cut off at the length of `answer`. Without a protocol it is
/// `NETLINK_ROUTE`, whose number is 0.
///
/// # Errors
///
/// Those of the system calls.
pub(super) fn ask<'a>(
    protocol: Option<Protocol>,
    request: &[u8],
    answer: &'a mut [u8],
) -> Result<&'a [u8], Errno> {
    let socket = rustix::net::socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        protocol,
    )?;
    let kernel = SocketAddrNetlink::new(0, 0);
    rustix::io::retry_on_intr(|| {
        rustix::net::sendto(&socket, request, SendFlags::DONTWAIT, &kernel)
    })?;
    // The kernel has answered before sendto returns.
    let (len, _) = rustix::io::retry_on_intr(|| {
        rustix::net::recv(&socket, &mut *answer, RecvFlags::DONTWAIT)
    })?;
    Ok(&answer[..len])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_any_shape_are_survived() {
        let mut message = [0; HEADER + 8];
        frame(&mut message, 20);
        assert_eq!(unframe(&message, 20).map(<[u8]>::len), Ok(8));
        assert_eq!(unframe(&message, 21), Err(Errno::BADMSG));
        assert_eq!(unframe(&message[..HEADER - 1], 20), Err(Errno::BADMSG));
        for len in [0, HEADER as u32, 7, u32::MAX] {
            message[..4].copy_from_slice(&len.to_ne_bytes());
            unframe(&message, 20).unwrap();
        }
        frame(&mut message, ERROR);
        for (code, expected) in [
            (-2, Errno::NOENT),
            (0, Errno::BADMSG),
            (i32::MIN, Errno::BADMSG),
            (-4096, Errno::BADMSG),
        ] {
            message[HEADER..HEADER + 4].copy_from_slice(&i32::to_ne_bytes(code));
            assert_eq!(unframe(&message, 20), Err(expected), "{code}");
        }
    }
}
