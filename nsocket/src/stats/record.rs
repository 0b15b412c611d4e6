//! The record of one descriptor, as its owner writes it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::sync::atomic::Ordering::{Acquire, Relaxed};

use crate::reason::Reason;

use super::counter::{Counter, SeriesCounter};
use super::layout::{Address, SocketRecord, TRAIL};
use super::segment::{ClassName, RuleName, Segment, SeriesId, StackName};
use super::{process, seqlock};

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

/// A descriptor's record in the segment of this process.
#[derive(Clone, Copy)]
pub struct Socket<'a> {
    pub(super) segment: &'a Segment,
    pub(super) record: &'a SocketRecord,
    pub(super) fd: u32,
}

impl<'a> Socket<'a> {
    /// Whether the record describes a socket.
    pub fn is_open(self) -> bool {
        SocketState::from_code(self.record.state.load(Relaxed)).is_some()
    }

    /// The pair of rule and stack, once the socket has been given to one.
    #[inline]
    pub fn series(self) -> Option<SeriesId> {
        let series = self.record.series.load(Relaxed);
        (self.record.role.load(Relaxed) != 0).then_some(SeriesId(series))
    }

    /// Starts a record for a new socket, whatever the number was used for before.
    pub fn open(self, opened: &Opened) {
        self.fold();
        let guard = seqlock::seize(&self.record.seq);
        self.clear();
        let record = self.record;
        record.state.store(SocketState::Unbound as u16, Relaxed);
        record.inode.store(opened.inode, Relaxed);
        record.created.store(process::realtime_ns(), Relaxed);
        record.family.store(opened.family as u16, Relaxed);
        record.sock_type.store(opened.sock_type as u16, Relaxed);
        record.protocol.store(opened.protocol as u16, Relaxed);
        guard.end();
        self.segment.socket_used(self.fd);
    }

    /// The socket under this number is another one now (a bound socket took its place by dup3):
    /// notes its inode and protocol, and leaves the rest.
    pub fn replaced(self, inode: u64, protocol: i32) {
        self.update(|record| {
            record.inode.store(inode, Relaxed);
            record.protocol.store(protocol as u16, Relaxed);
        });
    }

    /// The socket has been given to a stack. Counts it for the rule and the series, which is
    /// returned.
    pub fn select(self, selected: &Selected<'_>) -> SeriesId {
        let segment = self.segment;
        let series = segment.series(selected.rule, selected.stack);
        self.update(|record| {
            record.state.store(SocketState::Bound as u16, Relaxed);
            record.role.store(selected.role as u16, Relaxed);
            record.rule.store(selected.rule.0, Relaxed);
            record.stack.store(selected.stack.0, Relaxed);
            record
                .class
                .store(selected.class.map_or(0, |class| class.0), Relaxed);
            record.policy_hash.store(selected.policy_hash, Relaxed);
            record.series.store(series.0, Relaxed);
            record.trail_len.store(clamp(selected.trail.len()), Relaxed);
            for (place, passed) in record.trail.iter().zip(selected.trail) {
                place.stack.store(passed.stack.0, Relaxed);
                place.reason.store(passed.reason as u16, Relaxed);
                place.errno.store(passed.errno, Relaxed);
            }
            record.applied.store(selected.options_applied, Relaxed);
            record
                .refused_len
                .store(clamp(selected.options_refused.len()), Relaxed);
            for (place, refused) in record.refused.iter().zip(selected.options_refused) {
                place.level.store(refused.level as u16, Relaxed);
                place.option.store(refused.option as u16, Relaxed);
                place.errno.store(refused.errno, Relaxed);
            }
        });
        let fell_back = !selected.trail.is_empty();
        segment.rule_hit(selected.rule, fell_back);
        segment.add(Counter::Selections, 1);
        segment.count(series, SeriesCounter::Sockets, 1);
        if fell_back {
            segment.add(Counter::Fallbacks, 1);
            segment.add(Counter::StacksPassedOver, selected.trail.len() as u64);
            segment.count(series, SeriesCounter::Fallbacks, 1);
        }
        if selected.role == SocketRole::Datagram {
            segment.count(series, SeriesCounter::Datagrams, 1);
        }
        series
    }

    /// A connection that `listener` accepted: has its family, rule, stack and reasons.
    pub fn accepted(self, listener: Self, inode: u64, remote: Option<SocketAddr>) {
        self.fold();
        self.copy(listener, |record| {
            record.state.store(SocketState::Connected as u16, Relaxed);
            record.role.store(SocketRole::Accept as u16, Relaxed);
            record.inode.store(inode, Relaxed);
            record.created.store(process::realtime_ns(), Relaxed);
            store_address(&record.remote, remote);
        });
        if let Some(series) = self.series() {
            self.segment.count(series, SeriesCounter::Sockets, 1);
            self.segment.count(series, SeriesCounter::Accepts, 1);
        }
    }

    /// The number refers to the socket of `other` too (dup), or `other` is the parent's record of
    /// it (fork). Byte counts start at zero.
    pub fn adopt(self, other: Self) {
        self.fold();
        if std::ptr::eq(self.segment, other.segment) {
            self.copy(other, |_| {});
            return;
        }
        // Another segment numbers its names in another way.
        let (rule, stack, class) = other.names_in(self.segment);
        let series = match (rule, stack) {
            (Some(rule), Some(stack)) => self.segment.series(rule, stack).0,
            _ => 0,
        };
        let trail: [u16; TRAIL] = std::array::from_fn(|i| {
            other
                .stack_in(self.segment, other.record.trail[i].stack.load(Relaxed))
                .0
        });
        self.copy(other, |record| {
            record.rule.store(rule.map_or(0, |rule| rule.0), Relaxed);
            record
                .stack
                .store(stack.map_or(0, |stack| stack.0), Relaxed);
            record
                .class
                .store(class.map_or(0, |class| class.0), Relaxed);
            record.series.store(series, Relaxed);
            for (place, stack) in record.trail.iter().zip(trail) {
                place.stack.store(stack, Relaxed);
            }
        });
    }

    /// The local address is known.
    pub fn local(self, local: SocketAddr) {
        self.update(|record| store_address(&record.local, Some(local)));
    }

    /// A `connect` has been started.
    pub fn connecting(self, remote: SocketAddr) {
        self.update(|record| {
            record.state.store(SocketState::Connecting as u16, Relaxed);
            store_address(&record.remote, Some(remote));
        });
    }

    /// The connection stands; `connect_ns` is how long it took, where that was measured.
    pub fn connected(self, connect_ns: Option<u64>) {
        self.update(|record| {
            record.state.store(SocketState::Connected as u16, Relaxed);
            record.connect_time.store(connect_ns.unwrap_or(0), Relaxed);
        });
        if let Some(series) = self.series() {
            self.segment.count(series, SeriesCounter::Connects, 1);
            if let Some(ns) = connect_ns {
                self.segment
                    .record_time(series, super::HistogramKind::Connect, ns);
            }
        }
    }

    /// A `connect` failed; the socket is as before.
    pub fn connect_failed(self) {
        self.update(|record| record.state.store(SocketState::Bound as u16, Relaxed));
        if let Some(series) = self.series() {
            self.segment.count(series, SeriesCounter::ConnectErrors, 1);
        }
    }

    /// A datagram socket has got, or lost, its default peer. No connection is counted.
    pub fn peer(self, remote: Option<SocketAddr>) {
        self.update(|record| {
            let state = if remote.is_some() {
                SocketState::Connected
            } else {
                SocketState::Bound
            };
            record.state.store(state as u16, Relaxed);
            store_address(&record.remote, remote);
        });
    }

    /// The socket listens.
    pub fn listening(self) {
        let before = self.record.state.load(Relaxed);
        self.update(|record| record.state.store(SocketState::Listening as u16, Relaxed));
        if before != SocketState::Listening as u16
            && let Some(series) = self.series()
        {
            self.segment.count(series, SeriesCounter::Listens, 1);
        }
    }

    /// Bytes were sent.
    #[inline]
    pub fn add_sent(self, bytes: u64) {
        self.record.sent.fetch_add(bytes, Relaxed);
    }

    /// Bytes were received.
    #[inline]
    pub fn add_received(self, bytes: u64) {
        self.record.received.fetch_add(bytes, Relaxed);
    }

    /// The descriptor is closed. Does nothing where there was no socket.
    pub fn close(self) {
        if !self.is_open() {
            return;
        }
        self.fold();
        let guard = seqlock::seize(&self.record.seq);
        self.record.state.store(0, Relaxed);
        self.record.role.store(0, Relaxed);
        guard.end();
    }

    /// What an open record has counted goes to its series.
    fn fold(self) {
        if !self.is_open() {
            return;
        }
        let sent = self.record.sent.swap(0, Relaxed);
        let received = self.record.received.swap(0, Relaxed);
        if let Some(series) = self.series() {
            self.segment.count(series, SeriesCounter::Closes, 1);
            self.segment.count(series, SeriesCounter::BytesSent, sent);
            self.segment
                .count(series, SeriesCounter::BytesReceived, received);
        }
    }

    fn update(self, write: impl FnOnce(&SocketRecord)) {
        match seqlock::begin(&self.record.seq) {
            Some(guard) => {
                write(self.record);
                guard.end();
            }
            None => self.segment.add(Counter::UpdatesDropped, 1),
        }
    }

    fn clear(self) {
        let record = self.record;
        for word in [
            &record.inode,
            &record.created,
            &record.policy_hash,
            &record.connect_time,
        ] {
            word.store(0, Relaxed);
        }
        for half in [
            &record.state,
            &record.role,
            &record.family,
            &record.sock_type,
            &record.protocol,
            &record.series,
            &record.rule,
            &record.stack,
            &record.class,
            &record.trail_len,
            &record.refused_len,
            &record.applied,
        ] {
            half.store(0, Relaxed);
        }
        store_address(&record.local, None);
        store_address(&record.remote, None);
        record.sent.store(0, Relaxed);
        record.received.store(0, Relaxed);
    }

    /// Copies another record (not the byte counts), then lets `change` differ from it.
    fn copy(self, from: Self, change: impl FnOnce(&SocketRecord)) {
        let (to, from) = (self.record, from.record);
        let guard = seqlock::seize(&to.seq);
        self.clear();
        for (to, from) in [
            (&to.inode, &from.inode),
            (&to.created, &from.created),
            (&to.policy_hash, &from.policy_hash),
            (&to.connect_time, &from.connect_time),
        ] {
            to.store(from.load(Relaxed), Relaxed);
        }
        for (to, from) in [
            (&to.state, &from.state),
            (&to.role, &from.role),
            (&to.family, &from.family),
            (&to.sock_type, &from.sock_type),
            (&to.protocol, &from.protocol),
            (&to.series, &from.series),
            (&to.rule, &from.rule),
            (&to.stack, &from.stack),
            (&to.class, &from.class),
            (&to.trail_len, &from.trail_len),
            (&to.refused_len, &from.refused_len),
            (&to.applied, &from.applied),
        ] {
            to.store(from.load(Relaxed), Relaxed);
        }
        store_address(&to.local, load_address(&from.local));
        store_address(&to.remote, load_address(&from.remote));
        for (to, from) in to.trail.iter().zip(&from.trail) {
            to.stack.store(from.stack.load(Relaxed), Relaxed);
            to.reason.store(from.reason.load(Relaxed), Relaxed);
            to.errno.store(from.errno.load(Relaxed), Relaxed);
        }
        for (to, from) in to.refused.iter().zip(&from.refused) {
            to.level.store(from.level.load(Relaxed), Relaxed);
            to.option.store(from.option.load(Relaxed), Relaxed);
            to.errno.store(from.errno.load(Relaxed), Relaxed);
        }
        change(to);
        guard.end();
        self.segment.socket_used(self.fd);
    }

    /// The numbers that this record's names have in another segment.
    fn names_in(
        self,
        target: &Segment,
    ) -> (Option<RuleName>, Option<StackName>, Option<ClassName>) {
        if self.record.role.load(Acquire) == 0 {
            return (None, None, None);
        }
        let rule = self
            .segment
            .copy_rule(self.record.rule.load(Relaxed), target);
        let stack = self.stack_in(target, self.record.stack.load(Relaxed));
        let class = match self.record.class.load(Relaxed) {
            0 => None,
            class => Some(self.segment.copy_class(class, target)),
        };
        (Some(rule), Some(stack), class)
    }

    fn stack_in(self, target: &Segment, stack: u16) -> StackName {
        self.segment.copy_stack(stack, target)
    }
}

impl std::fmt::Debug for Socket<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Socket")
            .field("fd", &self.fd)
            .finish_non_exhaustive()
    }
}

fn clamp(len: usize) -> u16 {
    u16::try_from(len).unwrap_or(u16::MAX)
}

fn store_address(place: &Address, address: Option<SocketAddr>) {
    let (kind, high, low) = match address.map(|address| address.ip()) {
        None => (0, 0, 0),
        Some(IpAddr::V4(ip)) => (4, 0, u64::from(u32::from(ip))),
        Some(IpAddr::V6(ip)) => (6, (u128::from(ip) >> 64) as u64, u128::from(ip) as u64),
    };
    place.kind.store(kind, Relaxed);
    place
        .port
        .store(address.map_or(0, |address| address.port()), Relaxed);
    let scope = match address {
        Some(SocketAddr::V6(address)) => address.scope_id(),
        _ => 0,
    };
    place.scope.store(scope, Relaxed);
    place.high.store(high, Relaxed);
    place.low.store(low, Relaxed);
}

pub(super) fn load_address(place: &Address) -> Option<SocketAddr> {
    let port = place.port.load(Relaxed);
    let (high, low) = (place.high.load(Relaxed), place.low.load(Relaxed));
    match place.kind.load(Relaxed) {
        4 => Some(SocketAddr::from((Ipv4Addr::from(low as u32), port))),
        6 => {
            let ip = Ipv6Addr::from(u128::from(high) << 64 | u128::from(low));
            Some(SocketAddr::V6(SocketAddrV6::new(
                ip,
                port,
                0,
                place.scope.load(Relaxed),
            )))
        }
        _ => None,
    }
}
