//! Where a session comes from, as TCP would have it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::ports;

/// The address that a connect goes to: a wildcard stands for the loopback address (connect(2) of
/// Linux), a v4-mapped one stays as it is.
pub fn destination(remote: SocketAddr) -> SocketAddr {
    let ip = match remote.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.to_ipv4_mapped() == Some(Ipv4Addr::UNSPECIFIED) => {
            IpAddr::V6(Ipv4Addr::LOCALHOST.to_ipv6_mapped())
        }
        ip => ip,
    };
    let mut remote = remote;
    remote.set_ip(ip);
    remote
}

/// The source address that the kernel's routes give to a connection to an address of this host, with
/// a port of our choice: that address itself, but 127.0.0.1 for all of 127.0.0.0/8.
pub fn for_destination(to: SocketAddr) -> SocketAddr {
    let mut from = to;
    match to.ip() {
        IpAddr::V4(ip) if ip.is_loopback() => from.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some_and(|ip| ip.is_loopback()) => {
            from.set_ip(Ipv4Addr::LOCALHOST.to_ipv6_mapped().into());
        }
        IpAddr::V4(_) | IpAddr::V6(_) => {}
    }
    from.set_port(ports::next(to));
    from
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_is_the_destination_or_loopback() {
        for (to, from) in [
            ("127.0.0.1:80", "127.0.0.1"),
            ("127.5.6.7:80", "127.0.0.1"),
            ("0.0.0.0:80", "127.0.0.1"),
            ("192.0.2.1:80", "192.0.2.1"),
            ("[::]:80", "::1"),
            ("[::ffff:127.0.0.9]:80", "::ffff:127.0.0.1"),
            ("[::ffff:0.0.0.0]:80", "::ffff:127.0.0.1"),
            ("[2001:db8::1]:80", "2001:db8::1"),
        ] {
            let source = for_destination(destination(to.parse().unwrap()));
            assert_eq!(source.ip(), from.parse::<IpAddr>().unwrap(), "{to}");
            assert_ne!(source.port(), 0);
        }
    }
}
