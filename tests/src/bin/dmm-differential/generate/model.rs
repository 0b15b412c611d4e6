//! What the generator believes about the descriptors of a sequence.

use libc::c_int;

use crate::op::Slot;

#[derive(Default)]
pub(super) struct Model {
    pub(super) slots: Vec<Known>,
}

/// What is known about the descriptor in a slot.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    pub(super) kind: Kind,
    pub(super) state: State,
    pub(super) nonblocking: bool,
    /// The slot at the other end.
    pub(super) peer: Option<Slot>,
    /// Connections that wait to be accepted, or sends that wait to be received.
    pub(super) waiting: usize,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    Tcp4,
    Tcp6,
    Udp4,
    Udp6,
    UnixStream,
    UnixDatagram,
    UnixPacket,
    Pipe,
    File,
    Epoll,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum State {
    Fresh,
    Bound,
    Listening,
    Connected,
    Closed,
}

impl Model {
    /// A slot for a new descriptor.
    pub(super) fn add(&mut self, kind: Kind, state: State, nonblocking: bool) -> Slot {
        self.slots.push(Known {
            kind,
            state,
            nonblocking,
            peer: None,
            waiting: 0,
        });
        self.slots.len() - 1
    }

    pub(super) fn join(&mut self, a: Slot, b: Slot) {
        for (one, other) in [(a, b), (b, a)] {
            self.slots[one].peer = Some(other);
            self.slots[one].state = State::Connected;
            self.slots[one].waiting = 0;
        }
    }

    /// The open slots that satisfy a condition.
    pub(super) fn open(&self, wanted: impl Fn(&Known) -> bool) -> Vec<Slot> {
        (0..self.slots.len())
            .filter(|&slot| self.slots[slot].state != State::Closed && wanted(&self.slots[slot]))
            .collect()
    }
}

impl Kind {
    pub(super) fn domain(self) -> c_int {
        match self {
            Self::Tcp4 | Self::Udp4 => libc::AF_INET,
            Self::Tcp6 | Self::Udp6 => libc::AF_INET6,
            _ => libc::AF_UNIX,
        }
    }

    pub(super) fn socket_type(self) -> c_int {
        match self {
            Self::Udp4 | Self::Udp6 | Self::UnixDatagram => libc::SOCK_DGRAM,
            Self::UnixPacket => libc::SOCK_SEQPACKET,
            _ => libc::SOCK_STREAM,
        }
    }

    pub(super) fn is_socket(self) -> bool {
        !matches!(self, Self::Pipe | Self::File | Self::Epoll)
    }

    pub(super) fn is_tcp(self) -> bool {
        matches!(self, Self::Tcp4 | Self::Tcp6)
    }

    pub(super) fn is_udp(self) -> bool {
        matches!(self, Self::Udp4 | Self::Udp6)
    }

    pub(super) fn is_unix(self) -> bool {
        self.is_socket() && self.domain() == libc::AF_UNIX
    }

    /// Made of connections that are accepted.
    pub(super) fn listens(self) -> bool {
        self.is_tcp() || matches!(self, Self::UnixStream | Self::UnixPacket)
    }
}
