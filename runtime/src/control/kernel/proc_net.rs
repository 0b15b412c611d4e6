//! Socket tables from /proc/PID/net: for namespaces that we may not enter.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{KernelSocket, TcpState};

/// The TCP and UDP sockets of a process's network namespace, as far as they can be read.
pub(super) fn sockets(pid: u32) -> Vec<KernelSocket> {
    let mut found = Vec::new();
    for (name, protocol) in [("tcp", 6), ("tcp6", 6), ("udp", 17), ("udp6", 17)] {
        let text = fs::read_to_string(format!("/proc/{pid}/net/{name}")).unwrap_or_default();
        found.extend(
            text.lines()
                .skip(1)
                .filter_map(|line| parse(line, protocol)),
        );
    }
    found
}

/// `sl local remote st tx:rx tr:when retransmit uid timeout inode ...`
fn parse(line: &str, protocol: u16) -> Option<KernelSocket> {
    let mut fields = line.split_whitespace().skip(1);
    let local = address(fields.next()?)?;
    let remote = address(fields.next()?)?;
    let state = TcpState(u8::from_str_radix(fields.next()?, 16).ok()?);
    let (send, receive) = fields.next()?.split_once(':')?;
    let uid = fields.nth(2)?.parse().ok()?;
    let inode = fields.nth(1)?.parse().ok()?;
    Some(KernelSocket {
        protocol,
        state,
        local,
        remote,
        receive_queue: u32::from_str_radix(receive, 16).ok()?,
        send_queue: u32::from_str_radix(send, 16).ok()?,
        uid,
        inode,
        congestion: None,
        tcp: None,
    })
}

/// The address as 32-bit words in the machine's order, the port as a number.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let mut bytes = Vec::with_capacity(16);
    for start in (0..ip.len()).step_by(8) {
        let word = u32::from_str_radix(ip.get(start..start + 8)?, 16).ok()?;
        bytes.extend(word.to_ne_bytes());
    }
    let ip = match bytes.len() {
        4 => IpAddr::from(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?)),
        16 => IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?)),
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_listener_is_there() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let local = listener.local_addr().unwrap();
        let found = sockets(std::process::id());
        let socket = found
            .iter()
            .find(|socket| socket.local == local && socket.inode != 0)
            .unwrap();
        assert_eq!(socket.state.name(), "listen");
    }

    #[test]
    fn lines_that_make_no_sense_are_left_out() {
        for line in [
            "",
            "0: zz",
            "0: 0100007F:0050 00000000:0000 0A",
            "0: é:1 é:1 0A 0:0 0 0 0 0 0",
        ] {
            assert!(parse(line, 6).is_none(), "{line}");
        }
        #[cfg(target_endian = "little")]
        assert_eq!(
            address("0100007F:0050"),
            Some("127.0.0.1:80".parse().unwrap())
        );
    }
}
