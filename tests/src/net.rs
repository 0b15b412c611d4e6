//! Ports that nobody else takes, listeners, and a small HTTP client.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6, TcpStream};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::net::{AddressFamily, SocketType, bind, socket};

use crate::wait::{PATIENCE, eventually};

/// Ports handed out lie below the kernel's range for outgoing connections (32768 and up), so that no
/// connection of somebody else's sits on one.
const FIRST_PORT: u16 = 20_000;
const PORTS_A_BLOCK: u16 = 100;
const BLOCKS: u16 = 120;

/// States of sockets in /proc/net, see net/tcp_states.h.
const LISTEN: &str = "0A";
const UNCONNECTED: &str = "07";

/// A port that is free for TCP and UDP, and that no other test is given meanwhile.
///
/// Tests run as processes side by side: each holds a lock on a block of ports as long as it lives.
///
/// # Panics
/// When all blocks are taken.
pub fn free_port() -> u16 {
    static BLOCK: OnceLock<Block> = OnceLock::new();
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let block = BLOCK.get_or_init(Block::lock);
    for _ in 0..PORTS_A_BLOCK {
        let offset = NEXT
            .fetch_add(1, Ordering::Relaxed)
            .wrapping_add(block.start)
            % PORTS_A_BLOCK;
        let port = block.first + offset;
        if is_free(port) {
            return port;
        }
    }
    panic!(
        "all ports of {}..{} are in use",
        block.first,
        block.first + PORTS_A_BLOCK
    );
}

/// Waits until somebody listens on TCP `port`, without connecting to it.
///
/// # Panics
/// When nobody does in time.
#[track_caller]
pub fn wait_for_listener(port: u16) {
    eventually(&format!("a listener on TCP port {port}"), || {
        is_listening(port).then_some(())
    });
}

/// Waits until a UDP socket is bound to `port`.
///
/// # Panics
/// When none is in time.
#[track_caller]
pub fn wait_for_udp(port: u16) {
    eventually(&format!("a socket on UDP port {port}"), || {
        (in_table("udp", port, UNCONNECTED) || in_table("udp6", port, UNCONNECTED)).then_some(())
    });
}

/// Whether somebody in this network namespace listens on TCP `port`.
pub fn is_listening(port: u16) -> bool {
    in_table("tcp", port, LISTEN) || in_table("tcp6", port, LISTEN)
}

/// Fetches `path` from an HTTP server on 127.0.0.1: the status code and the body.
///
/// # Panics
/// When the server cannot be reached or does not speak HTTP.
#[track_caller]
pub fn http_get(port: u16, path: &str) -> (u16, Vec<u8>) {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let mut stream =
        TcpStream::connect(address).unwrap_or_else(|error| panic!("{address}: {error}"));
    stream
        .set_read_timeout(Some(PATIENCE))
        .expect("a read timeout");
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").expect("to send the request");
    let mut answer = Vec::new();
    stream
        .read_to_end(&mut answer)
        .unwrap_or_else(|error| panic!("GET {path} from {port}: {error}"));
    let head = answer
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .unwrap_or_else(|| panic!("no HTTP answer: {:?}", String::from_utf8_lossy(&answer)));
    let status = String::from_utf8_lossy(&answer[..head])
        .split_whitespace()
        .nth(1)
        .and_then(|code| code.parse().ok())
        .expect("a status code");
    (status, answer.split_off(head + 4))
}

/// A connection to 127.0.0.1 that fails a test rather than hang it.
///
/// # Panics
/// When nobody listens there.
#[track_caller]
pub fn connect(port: u16) -> TcpStream {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let stream = TcpStream::connect_timeout(&address, PATIENCE)
        .unwrap_or_else(|error| panic!("{address}: {error}"));
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .expect("a read timeout");
    stream
}

struct Block {
    first: u16,
    /// Where in the block to begin: ports of a process that has just ended may still be in
    /// TIME_WAIT, and some servers do not care for SO_REUSEADDR.
    start: u16,
    _lock: File,
}

impl Block {
    fn lock() -> Self {
        let dir = std::env::temp_dir().join(format!(
            "dmm-test-ports.{}",
            rustix::process::geteuid().as_raw()
        ));
        std::fs::create_dir_all(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
        for number in 0..BLOCKS {
            let file = File::create(dir.join(number.to_string())).expect("a lock file");
            if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
                return Self {
                    first: FIRST_PORT + number * PORTS_A_BLOCK,
                    start: (std::process::id() % u32::from(PORTS_A_BLOCK)) as u16,
                    _lock: file,
                };
            }
        }
        panic!(
            "all {BLOCKS} blocks of test ports are taken: see {}",
            dir.display()
        );
    }
}

fn is_free(port: u16) -> bool {
    // Bound to the v6 wildcard without SO_REUSEADDR it collides with every use of either family.
    let any = SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, port, 0, 0);
    [SocketType::STREAM, SocketType::DGRAM]
        .into_iter()
        .all(|kind| {
            socket(AddressFamily::INET6, kind, None).is_ok_and(|socket| bind(&socket, &any).is_ok())
        })
}

/// Whether /proc/net/`table` has a socket with this local port in this state (hexadecimal).
fn in_table(table: &str, port: u16, state: &str) -> bool {
    let local_port = format!(":{port:04X}");
    let Ok(file) = File::open(format!("/proc/net/{table}")) else {
        return false;
    };
    BufReader::new(file)
        .lines()
        .skip(1)
        .map_while(Result::ok)
        // Listeners come first in the tables of TCP: ten thousand connections in TIME_WAIT after
        // them take the kernel a while to print.
        .take_while(|line| state != LISTEN || line.split_whitespace().nth(3) == Some(LISTEN))
        .any(|line| {
            let mut fields = line.split_whitespace().skip(1);
            let local = fields.next().unwrap_or_default();
            local.ends_with(&local_port) && fields.nth(1) == Some(state)
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, UdpSocket};

    #[test]
    fn ports_are_free_and_given_once() {
        let ports: Vec<u16> = (0..20).map(|_| free_port()).collect();
        for (number, port) in ports.iter().enumerate() {
            assert!(!ports[..number].contains(port), "{port} was given twice");
        }
        let taken = TcpListener::bind(("127.0.0.1", ports[0])).expect("a free port");
        assert!(!is_free(ports[0]) && is_free(ports[1]));
        drop(taken);
        let _taken = UdpSocket::bind(("::1", ports[1])).expect("a free port");
        assert!(!is_free(ports[1]));
    }

    #[test]
    fn listeners_are_seen_and_other_sockets_are_not() {
        let port = free_port();
        assert!(!is_listening(port));
        let socket = UdpSocket::bind(("127.0.0.1", port)).expect("a free port");
        wait_for_udp(port);
        assert!(!is_listening(port));
        drop(socket);
        let _listener = TcpListener::bind(("::1", port)).expect("a free port");
        assert!(is_listening(port));
        wait_for_listener(port);
    }
}
