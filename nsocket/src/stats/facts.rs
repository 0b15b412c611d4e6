//! What is said of a socket: its state, how it was selected, and what was passed over.

use crate::reason::Reason;

use super::tables::{ClassName, RuleName, StackName};

/// What a socket is doing, as the library knows it. The kernel's own state (`TIME_WAIT` and the
/// like) is looked up by the tools.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
#[repr(u16)]
pub enum SocketState {
    /// Made, and not yet given to a stack.
    Unbound = 1,
    /// Given to a stack.
    Bound = 2,
    /// A `connect` is under way.
    Connecting = 3,
    /// Connected (for a datagram socket: has a default peer).
    Connected = 4,
    /// Listening.
    Listening = 5,
}

impl SocketState {
    pub(super) const fn from_code(code: u16) -> Option<Self> {
        Some(match code {
            1 => Self::Unbound,
            2 => Self::Bound,
            3 => Self::Connecting,
            4 => Self::Connected,
            5 => Self::Listening,
            _ => return None,
        })
    }
}

/// How a socket came to its stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
#[repr(u16)]
pub enum SocketRole {
    /// By `listen`.
    Listen = 1,
    /// By `connect`.
    Connect = 2,
    /// A datagram socket.
    Datagram = 3,
    /// By `accept`, from a listener whose stack and rule it has.
    Accept = 4,
}

impl SocketRole {
    pub(super) const fn from_code(code: u16) -> Option<Self> {
        Some(match code {
            1 => Self::Listen,
            2 => Self::Connect,
            3 => Self::Datagram,
            4 => Self::Accept,
            _ => return None,
        })
    }
}

/// A new socket, by the arguments of socket(2).
#[derive(Clone, Copy, Debug)]
pub struct Opened {
    /// `AF_...`.
    pub family: i32,
    /// `SOCK_...`, without flags.
    pub sock_type: i32,
    /// IP protocol number, 0 for the type's own.
    pub protocol: i32,
    /// Inode number of the socket, 0 where it was not looked up: tells a record from a later file
    /// that took its descriptor behind our back.
    pub inode: u64,
}

/// A stack instance that did not get the socket.
#[derive(Clone, Copy, Debug)]
pub struct PassedOver {
    /// Its name.
    pub stack: StackName,
    /// Why.
    pub reason: Reason,
    /// The error behind it, 0 if there was none.
    pub errno: i32,
}

/// An option that the policy sets on a stack instance and that was refused.
#[derive(Clone, Copy, Debug)]
pub struct OptionRefusal {
    /// `SOL_...`.
    pub level: i32,
    /// The option's number at that level.
    pub option: i32,
    /// The error.
    pub errno: i32,
}

/// The outcome of a selection.
#[derive(Clone, Copy, Debug)]
pub struct Selected<'a> {
    /// What the socket is for.
    pub role: SocketRole,
    /// The rule that decided.
    pub rule: RuleName,
    /// The stack that carries it.
    pub stack: StackName,
    /// Its QoS class.
    pub class: Option<ClassName>,
    /// Version of the policy that decided (`dmm_policy::text_hash`).
    pub policy_hash: u64,
    /// Those passed over before, in order. Six are kept; the rest is counted.
    pub trail: &'a [PassedOver],
    /// How many options of the instance were applied.
    pub options_applied: u16,
    /// Those refused. Four are kept; the rest is counted.
    pub options_refused: &'a [OptionRefusal],
}
