//! Source ports of sessions.
//!
//! No kernel gives them out, and nobody can connect to one: they are names, by which a server tells
//! its clients apart. So they are drawn one after the other, from a start that differs from process to
//! process, out of the range that the host uses for this (`net.ipv4.ip_local_port_range`). A port
//! comes back to the same destination only after all others of the range.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::rand::GetRandomFlags;

/// Linux's default range.
const DEFAULT: (u16, u16) = (32768, 60999);

/// The process that has drawn a start (upper half), and how many ports were drawn since.
static DRAWN: AtomicU64 = AtomicU64::new(0);

/// The range: first port in the upper half, last in the lower one; 0 if it was not read yet.
static RANGE: AtomicU32 = AtomicU32::new(0);

/// The next port for a session to that destination.
pub fn next(to: SocketAddr) -> u16 {
    let (first, last) = range();
    let count = u64::from(last - first) + 1;
    let pid = rustix::process::getpid().as_raw_nonzero().get() as u64;
    let mut drawn = DRAWN.load(Ordering::Relaxed);
    loop {
        // A child goes on from another place than its parent.
        let place = if drawn >> 32 == pid {
            drawn as u32
        } else {
            start()
        };
        let next = pid << 32 | u64::from(place.wrapping_add(1));
        match DRAWN.compare_exchange(drawn, next, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => {
                let port = first + (u64::from(place) % count) as u16;
                // A program cannot be connected to itself (simultaneous open) by accident.
                return if port == to.port() && port != first {
                    first
                } else {
                    port
                };
            }
            Err(now) => drawn = now,
        }
    }
}

fn start() -> u32 {
    let mut bytes = [0; 4];
    // Without randomness any start will do.
    let _ = rustix::rand::getrandom(&mut bytes, GetRandomFlags::NONBLOCK);
    u32::from_ne_bytes(bytes)
}

fn range() -> (u16, u16) {
    let known = RANGE.load(Ordering::Relaxed);
    if known != 0 {
        return ((known >> 16) as u16, known as u16);
    }
    let (first, last) = read_range().unwrap_or(DEFAULT);
    RANGE.store(u32::from(first) << 16 | u32::from(last), Ordering::Relaxed);
    (first, last)
}

fn read_range() -> Option<(u16, u16)> {
    let path = c"/proc/sys/net/ipv4/ip_local_port_range";
    let file =
        rustix::fs::openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let mut text = [0; 32];
    let len = rustix::io::read(&file, &mut text).ok()?;
    let text = std::str::from_utf8(&text[..len]).ok()?;
    let mut numbers = text.split_ascii_whitespace().map(str::parse::<u16>);
    let (first, last) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    (first != 0 && first <= last).then_some((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_come_one_after_the_other() {
        let to = "127.0.0.1:1".parse().unwrap();
        let (first, last) = range();
        let ports: Vec<u16> = (0..100).map(|_| next(to)).collect();
        assert!(ports.iter().all(|port| (first..=last).contains(port)));
        let mut distinct = ports.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), 100);
    }
}
