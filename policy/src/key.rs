//! What a socket looks like to the policy: the key of a lookup and what comes back.

use std::net::SocketAddr;

use serde::Serialize;

/// What the program is about to do with the socket. It decides when a socket is bound to a stack:
/// at `connect`, at `listen`, or at the first datagram (or a `bind` to a specific address).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Role {
    /// A passive socket: `listen`, and every connection accepted from it.
    Listen = 1,
    /// An active connection: `connect` on a stream socket.
    Connect = 2,
    /// A datagram socket, connected or not.
    Datagram = 3,
}

/// Address family. A v4-mapped IPv6 address (RFC 4291, 2.5.5.2) is matched as the IPv4 address it
/// holds; the family stays `Inet6`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Family {
    /// `AF_INET`.
    Inet = 1,
    /// `AF_INET6`.
    Inet6 = 2,
}

/// Socket type, as in socket(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum SockType {
    /// `SOCK_STREAM`.
    Stream = 1,
    /// `SOCK_DGRAM`.
    Datagram = 2,
    /// `SOCK_RAW`.
    Raw = 3,
    /// `SOCK_SEQPACKET`.
    SeqPacket = 4,
}

/// What is constant for a process (until it execs): the part of a key that a [`crate::Matcher`] is
/// prepared with, so that globs are not matched again for every socket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Process {
    /// Path of the executable (`/usr/bin/redis-server`), empty where it is unknown.
    pub path: String,
    /// Base name that the program was executed by (of a script, the script's; of a link, the
    /// link's); a `program` pattern without a slash is matched against it.
    pub name: String,
    /// The application label, `DMM_LABEL`; empty where there is none.
    pub label: String,
    /// The cgroup v2 path below the mount point (`/system.slice/redis.service`), or empty.
    pub cgroup: String,
}

/// One socket, at the moment it has to be bound to a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Key {
    /// What the program is about to do.
    pub role: Role,
    /// The socket's address family.
    pub family: Family,
    /// The socket's type.
    pub sock_type: SockType,
    /// IP protocol number: 6 TCP, 17 UDP, 262 MPTCP, ... (never 0: the type's default is filled in).
    pub protocol: u16,
    /// Local address, where it is bound; the address may be unspecified and the port 0.
    pub local: Option<SocketAddr>,
    /// Remote address; `None` for a listener and for a datagram socket that is only bound.
    pub remote: Option<SocketAddr>,
    /// Effective user id of the process.
    pub uid: u32,
    /// `SO_PRIORITY`, where the program has set it.
    pub priority: Option<u32>,
    /// DSCP (the upper six bits of `IP_TOS` or `IPV6_TCLASS`), where the program has set it.
    pub dscp: Option<u8>,
}

/// Index of a rule in its policy, counted from 0 in the order of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct RuleId(pub u32);

impl RuleId {
    /// The `[default]` section: no rule matched.
    pub const DEFAULT: Self = Self(u32::MAX);
}

/// Index of a stack instance in its policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct StackId(pub u16);

/// The names that TOML, tools and JSON use.
macro_rules! names {
    ($type:ident { $($variant:ident = $name:literal),+ }) => {
        impl $type {
            /// All values.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The name in TOML and in what tools print.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name),+
                }
            }
        }

        impl Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.name())
            }
        }
    };
}

names!(Role { Listen = "listen", Connect = "connect", Datagram = "datagram" });
names!(Family { Inet = "inet", Inet6 = "inet6" });
names!(SockType { Stream = "stream", Datagram = "datagram", Raw = "raw", SeqPacket = "seqpacket" });
