//! Why a stack instance was passed over: what an operator reads in `dmm why`.
//!
//! A reason travels as a number (in the stats segment, in JSON) and is shown as a name, a sentence
//! and a remedy. Numbers are never reused, so that a tool may read the segment of a program that
//! preloaded another version of the library; [`ReasonCode`] keeps a number that this build does
//! not know.

use std::fmt;

use serde::{Serialize, Serializer};

macro_rules! reasons {
    ($($(#[doc = $doc:literal])* $variant:ident = $code:literal, $name:literal, $sentence:literal, $remedy:literal;)*) => {
        /// Why a stack instance did not get a socket.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u16)]
        pub enum Reason {
            $($(#[doc = $doc])* $variant = $code,)*
        }

        impl Reason {
            /// Every reason, in the order of their codes.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The reason with this code, where this build knows it.
            pub const fn from_code(code: u16) -> Option<Self> {
                match code {
                    $($code => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// Short name for tables and JSON: `no-route`.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// One sentence for people, without the final full stop.
            pub const fn sentence(self) -> &'static str {
                match self { $(Self::$variant => $sentence,)* }
            }

            /// What an operator can do about it.
            pub const fn remedy(self) -> &'static str {
                match self { $(Self::$variant => $remedy,)* }
            }
        }
    };
}

reasons! {
    /// The policy names a kind of stack that this build does not contain.
    NotInThisBuild = 1, "not-in-build",
        "this build of DMM has no stack of that kind",
        "install a build with it, or take the stack out of the rule";
    /// The instance exists in the policy, but whatever runs it is not there.
    NotRunning = 2, "not-running",
        "the stack instance is not running",
        "start its stack host";
    /// The instance has no route to the remote address, or not the local one.
    NoRoute = 3, "no-route",
        "the stack instance has no route to the address",
        "add a route to the instance, or narrow the rule's `remote`";
    /// Nobody at the other end speaks this stack (for `local`: no listener on this host).
    PeerNotHere = 4, "peer-not-here",
        "the peer cannot be reached over this stack",
        "run the peer under DMM too, with this stack in the list of its rule: dmm run -- PROGRAM";
    /// The program set an option before the socket was bound, and the stack cannot honour it.
    UnsupportedOption = 5, "unsupported-option",
        "the program uses a socket option that this stack does not have",
        "see which in `dmm why`; match such programs with a rule of their own";
    /// Health checks or measurements have taken the instance out of service.
    Unhealthy = 6, "unhealthy",
        "the stack instance is marked unhealthy",
        "look at its errors with `dmm top`; it returns by itself once it is well";
    /// The network namespace of the instance does not exist.
    NoSuchNamespace = 7, "no-such-namespace",
        "the network namespace does not exist",
        "create it: ip netns add NAME";
    /// The namespace exists, but this process may not make sockets in it.
    NamespaceDenied = 8, "namespace-denied",
        "making a socket in another network namespace needs CAP_SYS_ADMIN",
        "run the program as root or with that capability";
    /// The kernel refused the protocol, as it does for MPTCP where it is switched off.
    ProtocolRefused = 9, "protocol-refused",
        "the kernel refused the protocol",
        "for MPTCP: sysctl net.mptcp.enabled=1";
    /// The congestion control is not loaded, or not allowed to this user.
    CongestionUnavailable = 10, "congestion-unavailable",
        "the congestion control is not available",
        "modprobe tcp_NAME, and add it to sysctl net.ipv4.tcp_allowed_congestion_control";
    /// The instance's device does not exist, or may not be used.
    DeviceUnavailable = 11, "device-unavailable",
        "the network device is not available",
        "check its name with `ip link`; binding to it may need CAP_NET_RAW";
    /// The kernel refused an option that the policy sets on the instance.
    OptionRefused = 12, "option-refused",
        "the kernel refused an option of the stack instance",
        "the errno says why; options such as `mark` need CAP_NET_ADMIN";
    /// The socket was inherited, duplicated or passed on before it was bound: others hold it.
    SharedDescriptor = 13, "shared-descriptor",
        "another descriptor refers to the same socket, so it cannot be replaced",
        "nothing to do: such sockets stay where they are";
    /// More options were set before binding than DMM records for a replay.
    TooManyOptions = 14, "too-many-options",
        "the program set more options than can be replayed on another stack",
        "nothing to do: such sockets stay with the kernel";
    /// An option or a state of the socket cannot be carried over to another one.
    UnreplayableOption = 15, "unreplayable-option",
        "the socket has a state that cannot be carried over to another stack",
        "see which option in `dmm why`; match such programs with a rule of their own";
    /// The stack does not speak this address family.
    UnsupportedFamily = 16, "unsupported-family",
        "the stack does not carry this address family",
        "add `family` to the rule's match";
    /// The stack does not have this socket type (or protocol).
    UnsupportedType = 17, "unsupported-type",
        "the stack does not carry this socket type or protocol",
        "add `type` or `protocol` to the rule's match";
    /// A limit of the process or of the instance is reached (descriptors, memory, sockets).
    LimitReached = 18, "limit-reached",
        "a limit on descriptors, memory or sockets is reached",
        "raise the limit; the errno says which";
    /// The socket was bound to its stack before this policy came into force.
    AlreadyBound = 19, "already-bound",
        "the socket was bound to a stack before",
        "a change of policy moves new sockets only: let the program reconnect";
    /// The local address that the program bound is not one of the instance's.
    AddressUnavailable = 20, "address-unavailable",
        "the local address cannot be bound on this stack",
        "give the address to the instance, or narrow the rule's `local`";
    /// Making the instance's socket failed for another cause; the errno says which.
    SystemError = 21, "system-error",
        "the stack failed to make the socket",
        "the errno says why";
    /// The program has bound the connecting socket to a port of its own.
    BoundPort = 22, "bound-port",
        "the program has bound its end to a port, which only the kernel can keep for it",
        "nothing to do: such sockets stay with the kernel";
    /// The rendezvous is another user's than the port.
    WrongOwner = 23, "wrong-owner",
        "somebody else than the port's owner stands at the rendezvous",
        "find out who: sudo ss -xlp | grep dmm/1/tcp; perhaps a program that changes its user between socket and listen";
    /// The listener has as many sessions waiting as it wants.
    BacklogFull = 24, "backlog-full",
        "as many sessions as the listener wants wait to be accepted",
        "give the listening program a larger backlog or more workers, as for TCP (ListenOverflows)";
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.sentence())
    }
}

/// A reason's number as found in a segment, known to this build or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ReasonCode(pub u16);

impl ReasonCode {
    /// The reason behind the number, where this build knows it.
    pub const fn known(self) -> Option<Reason> {
        Reason::from_code(self.0)
    }

    /// What an operator can do about it; empty for an unknown reason.
    pub fn remedy(self) -> &'static str {
        self.known().map_or("", Reason::remedy)
    }

    /// Short name; `reason N` for an unknown one.
    pub fn name(self) -> String {
        self.known()
            .map_or_else(|| format!("reason {}", self.0), |r| r.name().to_owned())
    }
}

impl From<Reason> for ReasonCode {
    fn from(reason: Reason) -> Self {
        Self(reason as u16)
    }
}

impl fmt::Display for ReasonCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.known() {
            Some(reason) => reason.fmt(f),
            None => write!(f, "reason {}", self.0),
        }
    }
}

impl Serialize for ReasonCode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.name())
    }
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_names_are_unique() {
        for (i, a) in Reason::ALL.iter().enumerate() {
            assert_eq!(Reason::from_code(*a as u16), Some(*a));
            for b in &Reason::ALL[i + 1..] {
                assert_ne!(a.name(), b.name());
            }
        }
    }

    #[test]
    fn an_unknown_code_prints_as_its_number() {
        assert_eq!(ReasonCode(999).to_string(), "reason 999");
        assert_eq!(ReasonCode(999).name(), "reason 999");
        assert_eq!(ReasonCode::from(Reason::NoRoute).name(), "no-route");
    }
}
