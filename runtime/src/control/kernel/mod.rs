//! What the kernel knows of its sockets, by inode number.

mod diag;
mod proc_net;
mod unix;

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;

use serde::Serialize;

use super::proc::Namespace;
use crate::places;

pub(super) use unix::Other;
pub use unix::{Owner, listens_at};

/// A socket in one of the kernel's tables.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct KernelSocket {
    /// IP protocol number.
    pub protocol: u16,
    /// Its state. A datagram socket is unconnected or established.
    pub state: TcpState,
    /// Local address.
    pub local: SocketAddr,
    /// Remote address; unspecified if there is none.
    pub remote: SocketAddr,
    /// Bytes that the program has not read yet; for a listener, connections to accept.
    pub receive_queue: u32,
    /// Bytes that the peer has not acknowledged yet; for a listener, the backlog's limit.
    pub send_queue: u32,
    /// The user it belongs to.
    pub uid: u32,
    /// Its inode number.
    pub inode: u64,
    /// Congestion control, where the kernel said.
    pub congestion: Option<String>,
    /// How the connection does, where the kernel said.
    pub tcp: Option<TcpInfo>,
}

/// A connection's state, as in RFC 9293 and the kernel's numbering.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TcpState(pub u8);

impl TcpState {
    /// The name that ss(8) gives it.
    pub const fn name(self) -> &'static str {
        match self.0 {
            1 => "established",
            2 => "syn-sent",
            3 | 12 => "syn-recv",
            4 => "fin-wait-1",
            5 => "fin-wait-2",
            6 => "time-wait",
            7 => "unconnected",
            8 => "close-wait",
            9 => "last-ack",
            10 => "listen",
            11 => "closing",
            _ => "unknown",
        }
    }
}

impl Serialize for TcpState {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// The part of `tcp_info` (linux/tcp.h) that says how a connection does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TcpInfo {
    /// Smoothed round-trip time, in microseconds.
    pub rtt_us: u32,
    /// Its variation, in microseconds.
    pub rtt_variation_us: u32,
    /// Smallest round-trip time seen, in microseconds.
    pub min_rtt_us: u32,
    /// Retransmission timeout, in microseconds.
    pub rto_us: u32,
    /// Maximum segment size for sending, in bytes.
    pub mss: u32,
    /// Congestion window, in segments.
    pub cwnd: u32,
    /// Segments retransmitted in the connection's life.
    pub retransmits: u32,
    /// Segments deemed lost now.
    pub lost: u32,
    /// Bytes acknowledged by the peer.
    pub bytes_acked: u64,
    /// Bytes received.
    pub bytes_received: u64,
    /// Latest measured rate of delivery, in bytes a second.
    pub delivery_rate: u64,
}

/// The tables of some network namespaces.
pub(super) struct KernelSockets {
    sockets: HashMap<u64, KernelSocket>,
    /// Of sockets that sessions may have.
    others: HashMap<u64, Other>,
    seen: HashSet<u64>,
    own: Option<u64>,
}

impl KernelSockets {
    pub(super) fn new() -> Self {
        let own = Namespace::of("thread-self").map(|namespace| namespace.inode);
        Self {
            sockets: HashMap::new(),
            others: HashMap::new(),
            seen: HashSet::new(),
            own,
        }
    }

    /// Adds the sockets of a process's network namespace, unless they are there already.
    pub(super) fn add_namespace_of(&mut self, pid: u32) {
        match Namespace::of(&pid.to_string()) {
            Some(namespace) => self.add(&namespace, Some(pid)),
            // Which one it is may be hidden while its tables are not.
            None => self.insert(proc_net::sockets(pid), unix::sockets_of(pid)),
        }
    }

    /// Adds the sockets of all namespaces that have a name. Only root may.
    pub(super) fn add_named_namespaces(&mut self) {
        if places::is_root() {
            for namespace in Namespace::named() {
                self.add(&namespace, None);
            }
        }
    }

    /// The socket with this inode number.
    pub(super) fn of(&self, inode: u64) -> Option<&KernelSocket> {
        self.sockets.get(&inode)
    }

    /// What is at the other end of the Unix socket of records with this inode number; `None` if there is
    /// no such socket.
    pub(super) fn other_end(&self, inode: u64) -> Option<Other> {
        self.others.get(&inode).copied()
    }

    fn add(&mut self, namespace: &Namespace, pid: Option<u32>) {
        if !self.seen.insert(namespace.inode) {
            return;
        }
        let (inet, unix) = if self.own == Some(namespace.inode) {
            (diag::sockets(), unix::sockets())
        } else {
            let path = &namespace.path;
            (
                diag::inside(path, diag::sockets),
                diag::inside(path, unix::sockets),
            )
        };
        let inet = inet.unwrap_or_else(|_| pid.map(proc_net::sockets).unwrap_or_default());
        let unix = unix.unwrap_or_else(|_| pid.map(unix::sockets_of).unwrap_or_default());
        self.insert(inet, unix);
    }

    fn insert(&mut self, sockets: Vec<KernelSocket>, unix: Vec<(u64, Other)>) {
        let known = sockets.into_iter().filter(|socket| socket.inode != 0);
        self.sockets
            .extend(known.map(|socket| (socket.inode, socket)));
        self.others.extend(unix);
    }
}
