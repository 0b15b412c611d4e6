//! Reads a key the way rules mean it.

use std::net::{IpAddr, SocketAddr};

use crate::{Key, Role};

/// An address and port as rules see them: a v4-mapped IPv6 address is the IPv4 address it holds
/// (RFC 4291, 2.5.5.2), and port 0 is a port that is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) v4: Option<u32>,
    pub(crate) v6: Option<u128>,
    pub(crate) port: Option<u16>,
}

impl Endpoint {
    pub(crate) fn new(address: SocketAddr) -> Self {
        let port = Some(address.port()).filter(|port| *port != 0);
        match address.ip().to_canonical() {
            IpAddr::V4(v4) => Self {
                v4: Some(v4.to_bits()),
                v6: None,
                port,
            },
            IpAddr::V6(v6) => Self {
                v4: None,
                v6: Some(v6.to_bits()),
                port,
            },
        }
    }
}

/// The port that names the service: the remote one of a connection, the local one of a listener; for
/// a datagram socket the remote one where it is known and the local one otherwise.
pub(crate) fn service_port(key: &Key) -> Option<u16> {
    let port = |address: Option<SocketAddr>| {
        address
            .map(|address| address.port())
            .filter(|port| *port != 0)
    };
    match key.role {
        Role::Connect => port(key.remote),
        Role::Listen => port(key.local),
        Role::Datagram => port(key.remote).or_else(|| port(key.local)),
    }
}
