//! Which addresses are this host's, by its routing tables.

use std::net::IpAddr;

use rustix::io::Errno;

use super::netlink;

/// `RTM_NEWROUTE`, `RTM_GETROUTE`.
const NEW_ROUTE: u16 = 24;
const GET_ROUTE: u16 = 26;
/// `struct rtmsg`.
const ROUTE: usize = 12;
/// `struct rtattr`.
const ATTRIBUTE: usize = 4;
/// `RTA_DST`.
const DESTINATION: u16 = 1;
/// `RTN_LOCAL`.
const LOCAL: u8 = 2;

/// Whether packets to the address stay on this host, in this network namespace. For an address of
/// 127.0.0.0/8 and for ::1 no system call is made.
///
/// # Errors
///
/// What the kernel says to the question, but for "no route", which is a no.
pub fn is_own(ip: IpAddr) -> Result<bool, Errno> {
    let ip = ip.to_canonical();
    if ip.is_loopback() {
        return Ok(true);
    }
    let mut request = [0; netlink::HEADER + ROUTE + ATTRIBUTE + 16];
    let len = write_request(&mut request, ip);
    let mut answer = [0; netlink::HEADER + ROUTE];
    let answer = netlink::ask(None, &request[..len], &mut answer)?;
    parse(answer)
}

fn write_request(message: &mut [u8], ip: IpAddr) -> usize {
    let mut octets = [0; 16];
    let (family, bytes) = match ip {
        IpAddr::V4(ip) => {
            octets[..4].copy_from_slice(&ip.octets());
            (libc::AF_INET as u8, 4)
        }
        IpAddr::V6(ip) => {
            octets = ip.octets();
            (libc::AF_INET6 as u8, 16)
        }
    };
    let len = netlink::HEADER + ROUTE + ATTRIBUTE + bytes;
    netlink::frame(&mut message[..len], GET_ROUTE);
    let body = &mut message[netlink::HEADER..len];
    body[0] = family;
    body[1] = bytes as u8 * 8;
    let attribute = &mut body[ROUTE..];
    attribute[..2].copy_from_slice(&((ATTRIBUTE + bytes) as u16).to_ne_bytes());
    attribute[2..4].copy_from_slice(&DESTINATION.to_ne_bytes());
    attribute[4..].copy_from_slice(&octets[..bytes]);
    len
}

fn parse(answer: &[u8]) -> Result<bool, Errno> {
    match netlink::unframe(answer, NEW_ROUTE) {
        Ok(body) => match body.get(7) {
            Some(kind) => Ok(*kind == LOCAL),
            None => Err(Errno::BADMSG),
        },
        Err(Errno::NETUNREACH | Errno::HOSTUNREACH | Errno::ACCESS | Errno::INVAL) => Ok(false),
        Err(errno) => Err(errno),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_own_addresses_are_told_from_others() {
        for own in ["127.0.0.1", "127.200.3.4", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(is_own(own.parse().unwrap()), Ok(true), "{own}");
        }
        // Documentation addresses (RFC 5737, RFC 3849), a broadcast address.
        for other in ["192.0.2.1", "2001:db8::1", "255.255.255.255"] {
            assert_eq!(is_own(other.parse().unwrap()), Ok(false), "{other}");
        }
    }

    #[test]
    fn the_question_itself_finds_loopback() {
        for ip in ["127.0.0.1", "::1"] {
            let mut request = [0; 64];
            let len = write_request(&mut request, ip.parse().unwrap());
            let mut answer = [0; 64];
            let answer = netlink::ask(None, &request[..len], &mut answer).unwrap();
            assert_eq!(parse(answer), Ok(true), "{ip}");
        }
    }
}
