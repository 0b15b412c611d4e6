//! The sockets of processes under DMM, joined with what the kernel knows of them.

use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use dmm_nsocket::stats::{SocketInfo, SocketState};

use super::kernel::{KernelSocket, KernelSockets};
use super::proc::{self, Descriptor};
use super::processes::Process;
use super::session::{Session, join_sessions};

/// A socket of a process under DMM.
#[derive(Clone, Debug)]
pub struct SocketEntry {
    /// Its process.
    pub pid: u32,
    /// Base name of the process's executable.
    pub program: String,
    /// The process's label, or empty.
    pub label: String,
    /// What the process's segment says of it.
    pub socket: SocketInfo,
    /// What the kernel says; `None` for a socket that is in no table of the kernel's (not bound yet, not
    /// the kernel's, or in a namespace that we cannot look into).
    pub kernel: Option<KernelSocket>,
    /// What it is if shared memory carries it.
    pub session: Option<Session>,
    /// Seconds since it was made.
    pub age_s: u64,
}

/// The sockets of these processes. A record whose descriptor has been closed or taken by something
/// else behind the library's back is left out.
pub fn sockets(processes: &[Process]) -> Vec<SocketEntry> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let mut entries = Vec::new();
    for process in processes {
        let Some(snapshot) = &process.snapshot else {
            continue;
        };
        for socket in &snapshot.sockets {
            let Some(inode) = current_inode(process.pid, socket) else {
                continue;
            };
            let age = now.as_nanos().saturating_sub(u128::from(socket.created_ns));
            entries.push(SocketEntry {
                pid: process.pid,
                program: process.name().to_owned(),
                label: snapshot.label.to_string(),
                socket: SocketInfo {
                    inode,
                    ..socket.clone()
                },
                kernel: None,
                session: None,
                age_s: u64::try_from(age / 1_000_000_000).unwrap_or(u64::MAX),
            });
        }
    }
    join_kernel(&mut entries, processes);
    entries
}

impl SocketEntry {
    /// `tcp`, `udp`, `mptcp`, or the protocol's number.
    pub fn protocol(&self) -> String {
        let protocol = match (self.socket.protocol, self.socket.sock_type) {
            (0, 1) => 6,
            (0, 2) => 17,
            (protocol, _) => protocol,
        };
        // What carries it counts, not what was asked for: a rule may have made TCP MPTCP.
        match self
            .kernel
            .as_ref()
            .map_or(protocol, |kernel| kernel.protocol)
        {
            6 => "tcp".to_owned(),
            17 => "udp".to_owned(),
            262 => "mptcp".to_owned(),
            other => other.to_string(),
        }
    }

    /// The state: the kernel's where it has one, else what the library knows.
    pub fn state(&self) -> &'static str {
        if let Some(kernel) = &self.kernel {
            return kernel.state.name();
        }
        if self
            .session
            .as_ref()
            .is_some_and(|session| session.peer_closed)
        {
            return "close-wait";
        }
        match self.socket.state {
            SocketState::Unbound => "unbound",
            SocketState::Bound => "bound",
            SocketState::Connecting => "syn-sent",
            SocketState::Connected => "established",
            SocketState::Listening => "listen",
        }
    }

    /// Local address, the kernel's word before the library's.
    pub fn local(&self) -> Option<SocketAddr> {
        self.kernel
            .as_ref()
            .map(|kernel| kernel.local)
            .or(self.socket.local)
    }

    /// Remote address; `None` for a listener.
    pub fn remote(&self) -> Option<SocketAddr> {
        self.kernel
            .as_ref()
            .map(|kernel| kernel.remote)
            .filter(|remote| remote.port() != 0 || !remote.ip().is_unspecified())
            .or(self.socket.remote)
    }
}

/// The inode number behind a record's descriptor, or `None` if the record is out of date.
fn current_inode(pid: u32, socket: &SocketInfo) -> Option<u64> {
    match proc::descriptor(pid, socket.fd) {
        Descriptor::Socket(inode) => (socket.inode == 0 || socket.inode == inode).then_some(inode),
        Descriptor::Other => None,
        Descriptor::Hidden => Some(socket.inode),
    }
}

fn join_kernel(entries: &mut [SocketEntry], processes: &[Process]) {
    if entries.is_empty() {
        return;
    }
    let mut kernel = KernelSockets::new();
    for process in processes {
        kernel.add_namespace_of(process.pid);
    }
    let missing = |entries: &[SocketEntry], kernel: &KernelSockets| {
        entries.iter().any(|entry| {
            let inode = entry.socket.inode;
            entry.socket.state != SocketState::Unbound
                && kernel.of(inode).is_none()
                && kernel.other_end(inode).is_none()
        })
    };
    // An instance in a namespace of its own has sockets that the process's namespace does not know.
    if missing(entries, &kernel) {
        kernel.add_named_namespaces();
    }
    for entry in entries.iter_mut() {
        entry.kernel = kernel.of(entry.socket.inode).cloned();
    }
    join_sessions(entries, |inode| kernel.other_end(inode));
}
