//! Socket addresses in the layout.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::sync::atomic::Ordering::Relaxed;

use super::layout::Address;

pub(super) fn store_address(place: &Address, address: Option<SocketAddr>) {
    let (kind, high, low) = match address.map(|address| address.ip()) {
        None => (0, 0, 0),
        Some(IpAddr::V4(ip)) => (4, 0, u64::from(u32::from(ip))),
        Some(IpAddr::V6(ip)) => (6, (u128::from(ip) >> 64) as u64, u128::from(ip) as u64),
    };
    place.kind.store(kind, Relaxed);
    place
        .port
        .store(address.map_or(0, |address| address.port()), Relaxed);
    let scope = match address {
        Some(SocketAddr::V6(address)) => address.scope_id(),
        _ => 0,
    };
    place.scope.store(scope, Relaxed);
    place.high.store(high, Relaxed);
    place.low.store(low, Relaxed);
}

pub(super) fn load_address(place: &Address) -> Option<SocketAddr> {
    let port = place.port.load(Relaxed);
    let (high, low) = (place.high.load(Relaxed), place.low.load(Relaxed));
    match place.kind.load(Relaxed) {
        4 => Some(SocketAddr::from((Ipv4Addr::from(low as u32), port))),
        6 => {
            let ip = Ipv6Addr::from(u128::from(high) << 64 | u128::from(low));
            Some(SocketAddr::V6(SocketAddrV6::new(
                ip,
                port,
                0,
                place.scope.load(Relaxed),
            )))
        }
        _ => None,
    }
}
