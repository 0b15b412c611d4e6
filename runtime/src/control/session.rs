//! Sessions among the sockets: both ends of each, brought together.
//!
//! A session's descriptor is a Unix socket, and the kernel says which one is its peer. Where it does
//! not (a kernel without unix_diag, a namespace that we may not enter), the two ends are known by
//! their addresses, each having the other's the wrong way round. Source ports of sessions are no
//! kernel's, so two may be alike: then nobody is named rather than perhaps the wrong one.

use std::collections::HashMap;
use std::net::SocketAddr;

use serde::Serialize;

use super::SocketEntry;
use super::kernel::Other;

/// A socket that shared memory carries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Session {
    /// The peer has closed its end.
    pub peer_closed: bool,
    /// Who has the other end: several after a fork; nobody where the process is hidden from us, or
    /// has closed it.
    pub peers: Vec<Peer>,
}

/// A descriptor at the other end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Peer {
    /// Its process.
    pub pid: u32,
    /// Base name of the process's executable.
    pub program: String,
    /// Its number there.
    pub fd: u32,
}

/// Finds out which sockets are sessions, and who is at their other ends. `other_end` says what is at
/// the other end of the Unix socket with an inode number.
pub(super) fn join_sessions(entries: &mut [SocketEntry], other_end: impl Fn(u64) -> Option<Other>) {
    let mut others = Vec::with_capacity(entries.len());
    let mut by_inode: HashMap<u64, Vec<Peer>> = HashMap::new();
    let mut by_addresses: HashMap<(SocketAddr, SocketAddr), Vec<u64>> = HashMap::new();
    for entry in &*entries {
        // An Internet socket to the program, and a Unix one to the kernel.
        let other = match entry.kernel {
            None => other_end(entry.socket.inode),
            Some(_) => None,
        };
        others.push(other);
        if other.is_none() {
            continue;
        }
        let inode = entry.socket.inode;
        by_inode.entry(inode).or_default().push(Peer {
            pid: entry.pid,
            program: entry.program.clone(),
            fd: entry.socket.fd,
        });
        if let Some(addresses) = addresses(entry) {
            let inodes = by_addresses.entry(addresses).or_default();
            if !inodes.contains(&inode) {
                inodes.push(inode);
            }
        }
    }
    for (entry, other) in entries.iter_mut().zip(others) {
        let Some(other) = other else { continue };
        let peer = match other {
            Other::Inode(inode) => Some(inode),
            Other::Closed => None,
            Other::Unknown => addresses(entry)
                .and_then(|(local, remote)| by_addresses.get(&(remote, local)))
                .and_then(|inodes| <[u64; 1]>::try_from(&inodes[..]).ok())
                .map(|[inode]| inode),
        };
        entry.session = Some(Session {
            peer_closed: other == Other::Closed,
            peers: peer
                .and_then(|inode| by_inode.get(&inode))
                .cloned()
                .unwrap_or_default(),
        });
    }
}

/// Local and remote; a v4-mapped address is the IPv4 address that it holds.
fn addresses(entry: &SocketEntry) -> Option<(SocketAddr, SocketAddr)> {
    let canonical =
        |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
    Some((
        canonical(entry.socket.local?),
        canonical(entry.socket.remote?),
    ))
}

#[cfg(test)]
mod tests {
    use dmm_nsocket::stats::{Name, SocketInfo, SocketState};

    use super::*;

    fn entry(pid: u32, inode: u64, local: &str, remote: &str) -> SocketEntry {
        let name = || Name::from_bytes(b"");
        SocketEntry {
            pid,
            program: format!("program{pid}"),
            label: String::new(),
            socket: SocketInfo {
                fd: 7,
                state: SocketState::Connected,
                role: None,
                family: 2,
                sock_type: 1,
                protocol: 6,
                inode,
                created_ns: 0,
                connect_ns: 0,
                policy_hash: 0,
                rule: name(),
                rule_line: 0,
                stack: name(),
                class: name(),
                local: Some(local.parse().unwrap()),
                remote: Some(remote.parse().unwrap()),
                sent: 0,
                received: 0,
                passed_over: Vec::new(),
                passed_over_unrecorded: 0,
                options_applied: 0,
                options_refused: Vec::new(),
                options_refused_unrecorded: 0,
            },
            kernel: None,
            session: None,
            age_s: 0,
        }
    }

    fn peers(entry: &SocketEntry) -> Vec<u32> {
        let session = entry.session.as_ref().expect("a session");
        session.peers.iter().map(|peer| peer.pid).collect()
    }

    #[test]
    fn the_kernels_word_counts_whatever_the_addresses_say() {
        let mut entries = [
            entry(1, 11, "127.0.0.1:4000", "127.0.0.1:80"),
            entry(2, 12, "127.0.0.1:80", "127.0.0.1:4000"),
            // A child of 2 has the descriptor, too.
            entry(3, 12, "127.0.0.1:80", "127.0.0.1:4000"),
            entry(4, 14, "127.0.0.1:4001", "127.0.0.1:80"),
            entry(5, 15, "127.0.0.1:4002", "127.0.0.1:80"),
        ];
        join_sessions(&mut entries, |inode| match inode {
            11 => Some(Other::Inode(12)),
            12 => Some(Other::Inode(11)),
            14 => Some(Other::Closed),
            _ => None,
        });
        assert_eq!(peers(&entries[0]), [2, 3]);
        assert_eq!(peers(&entries[1]), [1]);
        assert_eq!(entries[0].state(), "established");
        assert_eq!(peers(&entries[3]), [] as [u32; 0]);
        assert_eq!(entries[3].state(), "close-wait");
        assert_eq!(entries[4].session, None, "no Unix socket is behind it");
    }

    #[test]
    fn without_it_addresses_do_if_they_are_unmistakable() {
        let mut entries = [
            entry(1, 11, "[::ffff:127.0.0.1]:4000", "[::ffff:127.0.0.1]:80"),
            entry(2, 12, "127.0.0.1:80", "127.0.0.1:4000"),
            entry(3, 13, "127.0.0.1:4001", "127.0.0.1:80"),
            entry(4, 14, "127.0.0.1:80", "127.0.0.1:4001"),
            entry(5, 15, "127.0.0.1:80", "127.0.0.1:4001"),
        ];
        join_sessions(&mut entries, |_| Some(Other::Unknown));
        assert_eq!(peers(&entries[0]), [2]);
        assert_eq!(peers(&entries[1]), [1]);
        assert_eq!(peers(&entries[2]), [] as [u32; 0], "4 or 5?");
        assert_eq!(peers(&entries[3]), [3]);
    }
}
