//! What kinds of stack an instance can be of.

use serde::Serialize;

/// A kind of stack. Kinds that this build cannot run are known to the policy all the same, so that
/// one policy file serves hosts of different ages: their instances are passed over, with a reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum StackKind {
    /// The operating system's own stack.
    Kernel = 0,
    /// Shared memory to another process on the same host.
    Local = 1,
    /// The user-space TCP/IP stack smoltcp.
    Smoltcp = 2,
    /// A stack that somebody plugged in.
    Plugin = 3,
}

impl StackKind {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::Kernel, Self::Local, Self::Smoltcp, Self::Plugin];

    /// The name in TOML.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Local => "local",
            Self::Smoltcp => "smoltcp",
            Self::Plugin => "plugin",
        }
    }

    /// Whether this build can run instances of the kind.
    pub fn in_this_build(self) -> bool {
        matches!(self, Self::Kernel | Self::Local)
    }

    pub(crate) fn from_word(word: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u32 == word)
    }
}

/// What carries a program's TCP sockets on a kernel instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum KernelProtocol {
    /// TCP, as the program asked.
    Tcp = 1,
    /// Multipath TCP (RFC 8684).
    Mptcp = 2,
}

impl KernelProtocol {
    /// The name in TOML.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Mptcp => "mptcp",
        }
    }

    pub(crate) fn from_word(word: u32) -> Option<Self> {
        [Self::Tcp, Self::Mptcp]
            .into_iter()
            .find(|protocol| *protocol as u32 == word)
    }
}
