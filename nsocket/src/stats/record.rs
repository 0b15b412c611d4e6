//! The record of one descriptor, as its owner writes it.

use std::net::SocketAddr;
use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::sync::atomic::{AtomicU32, AtomicU64};

use super::address::{load_address, store_address};
use super::counter::{Counter, SeriesCounter};
use super::facts::{Opened, Selected, SocketRole, SocketState};
use super::histogram::HistogramKind;
use super::layout::SocketRecord;
use super::segment::Segment;
use super::tables::{SeriesId, StackName};
use super::{process, seqlock};

/// How often a record that somebody else is just writing is copied again. After that its copy may be
/// a mixture of two states; the next update of the descriptor puts it right.
const ATTEMPTS: u32 = 16;

/// What a data path touches of a record: some words of one cache line.
#[repr(C)]
pub struct Counters {
    pub(super) sent: AtomicU64,
    pub(super) received: AtomicU64,
    untimed: AtomicU32,
    _reserved: AtomicU32,
}

impl Counters {
    /// Bytes were sent.
    #[inline(always)]
    pub fn add_sent(&self, bytes: u64) {
        self.sent.fetch_add(bytes, Relaxed);
    }

    /// Bytes were received.
    #[inline(always)]
    pub fn add_received(&self, bytes: u64) {
        self.received.fetch_add(bytes, Relaxed);
    }

    /// Whether a call that may block is one of those that are not timed; if so, it is counted off.
    #[inline(always)]
    pub fn passes_untimed(&self) -> bool {
        // Two steps on purpose: a count that another thread's is lost in does no harm.
        let untimed = self.untimed.load(Relaxed);
        if untimed != 0 {
            self.untimed.store(untimed - 1, Relaxed);
        }
        untimed != 0
    }

    /// A call was timed; the next `calls` will not be. That holds for the number, whatever sockets
    /// come to be under it.
    pub fn leave_untimed(&self, calls: u32) {
        self.untimed.store(calls, Relaxed);
    }
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

    /// The stack instance that carries the socket, once there is one.
    pub fn stack(self) -> Option<StackName> {
        let stack = self.record.stack.load(Relaxed);
        (self.record.role.load(Relaxed) != 0).then_some(StackName(stack))
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

    /// As [`accepted`](Self::accepted), on another stack than the listener's first.
    pub fn accepted_on(
        self,
        listener: Self,
        inode: u64,
        remote: Option<SocketAddr>,
        stack: StackName,
    ) {
        self.fold();
        let rule = super::tables::RuleName(listener.record.rule.load(Relaxed));
        let series = self.segment.series(rule, stack);
        self.copy(listener, |record| {
            record.state.store(SocketState::Connected as u16, Relaxed);
            record.role.store(SocketRole::Accept as u16, Relaxed);
            record.inode.store(inode, Relaxed);
            record.created.store(process::realtime_ns(), Relaxed);
            record.stack.store(stack.0, Relaxed);
            record.series.store(series.0, Relaxed);
            store_address(&record.remote, remote);
        });
        self.segment.count(series, SeriesCounter::Sockets, 1);
        self.segment.count(series, SeriesCounter::Accepts, 1);
    }

    /// The number refers to the socket of `other` too (dup), or `other` is the parent's record of
    /// it (fork). Byte counts start at zero.
    pub fn adopt(self, other: Self) {
        if std::ptr::eq(self.record, other.record) {
            return; // dup2 of a descriptor onto itself.
        }
        self.fold();
        self.copy(other, |record| {
            if !std::ptr::eq(self.segment, other.segment) {
                renumber(record, other.segment, self.segment);
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
                self.segment.record_time(series, HistogramKind::Connect, ns);
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

    /// The part for data paths. It has memory for as long as the segment is mapped.
    #[inline]
    pub fn counters(self) -> &'a Counters {
        &self.record.counters
    }

    /// A call took this long; counts once the socket has been given to a stack.
    pub fn took(self, kind: HistogramKind, ns: u64) {
        if let Some(series) = self.series() {
            self.segment.record_time(series, kind, ns);
        }
    }

    /// Bytes were sent.
    #[inline]
    pub fn add_sent(self, bytes: u64) {
        self.counters().add_sent(bytes);
    }

    /// Bytes were received.
    #[inline]
    pub fn add_received(self, bytes: u64) {
        self.counters().add_received(bytes);
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
        let sent = self.record.counters.sent.swap(0, Relaxed);
        let received = self.record.counters.received.swap(0, Relaxed);
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
        record.counters.sent.store(0, Relaxed);
        record.counters.received.store(0, Relaxed);
    }

    /// Copies another record (not the byte counts), then lets `change` differ from it.
    fn copy(self, from: Self, change: impl FnOnce(&SocketRecord)) {
        let (to, from) = (self.record, from.record);
        let guard = seqlock::seize(&to.seq);
        self.clear();
        for _ in 0..ATTEMPTS {
            let before = from.seq.load(Acquire);
            copy_fields(to, from);
            if seqlock::unchanged(&from.seq, before) {
                break;
            }
        }
        change(to);
        guard.end();
        self.segment.socket_used(self.fd);
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

/// Copies all that the sequence lock protects.
fn copy_fields(to: &SocketRecord, from: &SocketRecord) {
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
}

/// Turns the numbers of one segment's names into another's.
fn renumber(record: &SocketRecord, from: &Segment, to: &Segment) {
    for passed in &record.trail {
        let stack = from.copy_stack(passed.stack.load(Relaxed), to);
        passed.stack.store(stack.0, Relaxed);
    }
    if record.role.load(Relaxed) == 0 {
        return;
    }
    let rule = from.copy_rule(record.rule.load(Relaxed), to);
    let stack = from.copy_stack(record.stack.load(Relaxed), to);
    record.rule.store(rule.0, Relaxed);
    record.stack.store(stack.0, Relaxed);
    record.series.store(to.series(rule, stack).0, Relaxed);
    let class = record.class.load(Relaxed);
    if class != 0 {
        record.class.store(from.copy_class(class, to).0, Relaxed);
    }
}
