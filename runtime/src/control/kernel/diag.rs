//! Socket tables by sock_diag(7): with queues, round-trip times and congestion control.

use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use rustix::fd::OwnedFd;
use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use rustix::thread::LinkNameSpaceType;

use super::{KernelSocket, TcpInfo, TcpState};

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const TCP: u16 = 6;
const UDP: u16 = 17;
const MPTCP: u16 = 262;

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST_DUMP: u16 = 0x301;
const INET_DIAG_INFO: u16 = 2;
const INET_DIAG_CONG: u16 = 4;
/// Attribute of a request, for a protocol number beyond a byte.
const INET_DIAG_REQ_PROTOCOL: u16 = 3;
const IPPROTO_RAW: u8 = 255;

const HEADER: usize = 16;
const REQUEST: usize = 56;
const MESSAGE: usize = 72;

/// All TCP, MPTCP and UDP sockets of this thread's network namespace.
pub(super) fn sockets() -> io::Result<Vec<KernelSocket>> {
    let socket = open()?;
    let mut found = Vec::new();
    for protocol in [TCP, UDP, MPTCP] {
        for family in [AF_INET, AF_INET6] {
            match dump(&socket, family, protocol, &mut found) {
                // A kernel without IPv6, or without MPTCP, has none of those.
                Err(_) if family == AF_INET6 || protocol == MPTCP => {}
                dumped => dumped?,
            }
        }
    }
    Ok(found)
}

/// What `look` finds in another network namespace, in a thread that enters it and ends there: needs
/// CAP_SYS_ADMIN.
pub(super) fn inside<T: Send>(
    namespace: &Path,
    look: impl FnOnce() -> io::Result<T> + Send,
) -> io::Result<T> {
    let namespace = File::open(namespace)?;
    std::thread::scope(|scope| {
        let enter = scope.spawn(|| {
            use std::os::fd::AsFd;
            rustix::thread::move_into_link_name_space(
                namespace.as_fd(),
                Some(LinkNameSpaceType::Network),
            )?;
            look()
        });
        enter
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("a reader of socket tables ended")))
    })
}

/// A socket to ask at.
pub(super) fn open() -> io::Result<OwnedFd> {
    let socket = rustix::net::socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        Some(netlink::SOCK_DIAG),
    )?;
    rustix::net::connect(&socket, &SocketAddrNetlink::new(0, 0))?;
    Ok(socket)
}

fn dump(
    socket: &OwnedFd,
    family: u8,
    protocol: u16,
    found: &mut Vec<KernelSocket>,
) -> io::Result<()> {
    ask(socket, &request(family, protocol), |body| {
        found.extend(parse(body, protocol));
    })
}

/// Sends a request for a dump, and hands over the body of each message that describes a socket.
pub(super) fn ask(socket: &OwnedFd, request: &[u8], mut each: impl FnMut(&[u8])) -> io::Result<()> {
    rustix::net::send(socket, request, SendFlags::empty())?;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let (len, _) = rustix::net::recv(socket, &mut buffer[..], RecvFlags::empty())?;
        let mut rest = &buffer[..len];
        while let Some((kind, body, next)) = next_message(rest) {
            rest = next;
            match kind {
                NLMSG_DONE => return Ok(()),
                NLMSG_ERROR => {
                    let code = i32_at(body, 0).unwrap_or(0);
                    return Err(io::Error::from_raw_os_error(-code));
                }
                SOCK_DIAG_BY_FAMILY => each(body),
                _ => {}
            }
        }
    }
}

/// A request for a dump of a family's sockets, with this body.
pub(super) fn frame(body: &[u8]) -> Vec<u8> {
    let mut request = Vec::with_capacity(HEADER + body.len());
    let len = u32::try_from(HEADER + body.len()).unwrap_or(0);
    request.extend(len.to_ne_bytes());
    request.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    request.extend(NLM_F_REQUEST_DUMP.to_ne_bytes());
    request.extend([0; 8]); // Sequence and port: one question at a time.
    request.extend(body);
    request
}

fn request(family: u8, protocol: u16) -> Vec<u8> {
    let mut body = Vec::with_capacity(REQUEST + 8);
    let extensions = 1 << (INET_DIAG_INFO - 1) | 1 << (INET_DIAG_CONG - 1);
    body.extend([
        family,
        u8::try_from(protocol).unwrap_or(IPPROTO_RAW),
        extensions,
        0,
    ]);
    body.extend(u32::MAX.to_ne_bytes()); // All states.
    body.resize(REQUEST, 0); // Any address.
    if protocol > 255 {
        body.extend(8_u16.to_ne_bytes());
        body.extend(INET_DIAG_REQ_PROTOCOL.to_ne_bytes());
        body.extend(u32::from(protocol).to_ne_bytes());
    }
    frame(&body)
}

/// Type and body of the first message, and what follows it.
fn next_message(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let len = u32_at(bytes, 0)? as usize;
    let kind = u16_at(bytes, 4)?;
    let body = bytes.get(HEADER..len)?;
    let next = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
    Some((kind, body, next))
}

/// `struct inet_diag_msg` and its attributes (linux/inet_diag.h).
fn parse(body: &[u8], protocol: u16) -> Option<KernelSocket> {
    let family = *body.first()?;
    let mut socket = KernelSocket {
        protocol,
        state: TcpState(*body.get(1)?),
        local: address(family, body.get(8..24)?, port_at(body, 4)?)?,
        remote: address(family, body.get(24..40)?, port_at(body, 6)?)?,
        receive_queue: u32_at(body, 56)?,
        send_queue: u32_at(body, 60)?,
        uid: u32_at(body, 64)?,
        inode: u64::from(u32_at(body, 68)?),
        congestion: None,
        tcp: None,
    };
    let mut rest = body.get(MESSAGE..)?;
    while let (Some(len), Some(kind)) = (u16_at(rest, 0), u16_at(rest, 2)) {
        let Some(value) = rest.get(4..usize::from(len)) else {
            break;
        };
        match kind {
            // Listeners and datagram sockets have one too, all zero.
            INET_DIAG_INFO if protocol == TCP && socket.state != TcpState(10) => {
                socket.tcp = tcp_info(value);
            }
            INET_DIAG_CONG => {
                let name = value.split(|byte| *byte == 0).next().unwrap_or_default();
                socket.congestion = Some(String::from_utf8_lossy(name).into_owned());
            }
            _ => {}
        }
        let Some(next) = rest.get(usize::from(len).next_multiple_of(4)..) else {
            break;
        };
        rest = next;
    }
    Some(socket)
}

/// `struct tcp_info`; an older kernel's is shorter.
fn tcp_info(value: &[u8]) -> Option<TcpInfo> {
    let word = |offset| u32_at(value, offset).unwrap_or(0);
    let double = |offset| u64_at(value, offset).unwrap_or(0);
    Some(TcpInfo {
        rto_us: u32_at(value, 8)?,
        mss: word(16),
        lost: word(32),
        rtt_us: word(68),
        rtt_variation_us: word(72),
        cwnd: word(80),
        retransmits: word(100),
        bytes_acked: double(120),
        bytes_received: double(128),
        min_rtt_us: word(148),
        delivery_rate: double(160),
    })
}

fn address(family: u8, bytes: &[u8], port: u16) -> Option<SocketAddr> {
    let ip = match family {
        AF_INET => IpAddr::from(Ipv4Addr::from(<[u8; 4]>::try_from(&bytes[..4]).ok()?)),
        AF_INET6 => IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?)),
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

fn port_at(bytes: &[u8], offset: usize) -> Option<u16> {
    u16_at(bytes, offset).map(u16::from_be)
}

pub(super) fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(
        bytes.get(offset..offset + 2)?.try_into().ok()?,
    ))
}

pub(super) fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(
        bytes.get(offset..offset + 4)?.try_into().ok()?,
    ))
}

fn i32_at(bytes: &[u8], offset: usize) -> Option<i32> {
    u32_at(bytes, offset).map(u32::cast_signed)
}

fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(
        bytes.get(offset..offset + 8)?.try_into().ok()?,
    ))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};

    use super::*;

    #[test]
    fn our_own_sockets_are_there() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let stream = TcpStream::connect(address).unwrap();
        let udp = UdpSocket::bind("[::1]:0").unwrap();
        let mut all = sockets().unwrap();
        // Connections that have ended may still hold one of the addresses: they have no inode.
        all.retain(|socket| socket.inode != 0);
        let state = |local: SocketAddr, protocol| {
            all.iter()
                .find(|socket| socket.local == local && socket.protocol == protocol)
                .map(|socket| socket.state.name())
        };
        assert_eq!(state(address, TCP), Some("listen"));
        assert_eq!(
            state(stream.local_addr().unwrap(), TCP),
            Some("established")
        );
        assert_eq!(state(udp.local_addr().unwrap(), UDP), Some("unconnected"));
        let connection = all
            .iter()
            .find(|socket| socket.local == stream.local_addr().unwrap())
            .unwrap();
        assert_eq!(connection.remote, address);
        assert!(
            connection
                .tcp
                .is_some_and(|tcp| tcp.mss > 0 && tcp.cwnd > 0)
        );
        assert!(connection.congestion.is_some());
    }

    #[test]
    fn a_message_that_is_cut_short_is_the_last() {
        let mut message = request(AF_INET, TCP);
        assert!(next_message(&message).is_some());
        message.truncate(20);
        assert!(next_message(&message).is_none());
        assert!(next_message(&[0; 16]).is_none());
        assert!(parse(&[2; 40], TCP).is_none());
    }
}
