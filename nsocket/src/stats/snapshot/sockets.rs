//! Socket records, read while their owner goes on writing them.

use std::fs::File;
use std::sync::atomic::Ordering::Relaxed;

use super::tables::Tables;
use super::text::Name;
use super::view::Copy;
use super::{PassedInfo, RefusedInfo, SeriesInfo, Snapshot, SnapshotError, SocketInfo};
use crate::reason::ReasonCode;
use crate::stats::address::load_address;
use crate::stats::counter::SeriesCounter;
use crate::stats::facts::{SocketRole, SocketState};
use crate::stats::layout::{Fixed, Header, SOCKET_CHUNK, SocketRecord};
use crate::stats::segment::place;

/// How often a record that is just being written is read again.
const ATTEMPTS: usize = 8;

/// Words of a record that change without its sequence number: the two byte counts.
const UNPROTECTED_WORDS: usize = 2;

/// Adds the open sockets to a snapshot, and what they have counted to their series.
pub(super) fn read_sockets(
    file: &File,
    header: &Header,
    tables: &Tables,
    series: &mut [SeriesInfo],
    snapshot: &mut Snapshot,
) -> Result<(), SnapshotError> {
    let sockets = header.sockets.load(Relaxed);
    let used = header.sockets_used.load(Relaxed).min(sockets);
    let mut first = Copy::read(file, 0, 0)?;
    let mut second = Copy::read(file, 0, 0)?;
    for start in (0..used).step_by(SOCKET_CHUNK) {
        let (word, mask) = place(start);
        if header.chunks_ready[word].load(Relaxed) & mask == 0 {
            continue;
        }
        let count = (used - start).min(SOCKET_CHUNK as u32) as usize;
        let offset = record_offset(start);
        first.refill(file, offset, count * size_of::<SocketRecord>())?;
        second.refill(file, offset, count * size_of::<SocketRecord>())?;
        for slot in 0..count {
            let fd = start + slot as u32;
            let stable = if agree(&first, &second, slot) {
                Some(decode(second.part(slot), fd, tables))
            } else {
                settle(file, fd, tables)?
            };
            match stable {
                None => snapshot.torn += 1,
                Some(None) => {}
                Some(Some((number, socket))) => {
                    if let Some(series) = number.and_then(|number| series.get_mut(number)) {
                        series.counters.add(SeriesCounter::BytesSent, socket.sent);
                        series
                            .counters
                            .add(SeriesCounter::BytesReceived, socket.received);
                    }
                    snapshot.sockets.push(socket);
                }
            }
        }
    }
    Ok(())
}

/// Reads a record that was being written until it holds still. The outer `None`: it did not.
#[expect(clippy::option_option, reason = "torn and free are different things")]
fn settle(file: &File, fd: u32, tables: &Tables) -> Result<Option<Option<Decoded>>, SnapshotError> {
    let read = || Copy::read(file, record_offset(fd), size_of::<SocketRecord>());
    let mut before = read()?;
    for _ in 0..ATTEMPTS {
        let after = read()?;
        if agree(&before, &after, 0) {
            return Ok(Some(decode(after.part(0), fd, tables)));
        }
        before = after;
    }
    Ok(None)
}

const fn record_offset(fd: u32) -> usize {
    size_of::<Fixed>() + fd as usize * size_of::<SocketRecord>()
}

/// Two copies of a record, the second made after the first was complete, are equal, and nobody was
/// writing: then the second is one consistent state.
fn agree(first: &Copy, second: &Copy, slot: usize) -> bool {
    let (a, b) = (
        first.words_of::<SocketRecord>(slot),
        second.words_of::<SocketRecord>(slot),
    );
    let seq = second.part::<SocketRecord>(slot).seq.load(Relaxed);
    seq.is_multiple_of(2) && a[UNPROTECTED_WORDS..] == b[UNPROTECTED_WORDS..]
}

/// A socket, and the number of its series.
type Decoded = (Option<usize>, SocketInfo);

fn decode(record: &SocketRecord, fd: u32, tables: &Tables) -> Option<Decoded> {
    let state = SocketState::from_code(record.state.load(Relaxed))?;
    let role = SocketRole::from_code(record.role.load(Relaxed));
    let bound = role.is_some();
    let (rule, rule_line) = if bound {
        tables.rule(record.rule.load(Relaxed))
    } else {
        Default::default()
    };
    let trail = usize::from(record.trail_len.load(Relaxed));
    let refused = usize::from(record.refused_len.load(Relaxed));
    let passed_over: Vec<_> = record
        .trail
        .iter()
        .take(trail)
        .map(|passed| PassedInfo {
            stack: tables.stack(passed.stack.load(Relaxed)),
            reason: ReasonCode(passed.reason.load(Relaxed)),
            errno: passed.errno.load(Relaxed),
        })
        .collect();
    let options_refused: Vec<_> = record
        .refused
        .iter()
        .take(refused)
        .map(|refused| RefusedInfo {
            level: refused.level.load(Relaxed),
            option: refused.option.load(Relaxed),
            errno: refused.errno.load(Relaxed),
        })
        .collect();
    let socket = SocketInfo {
        fd,
        state,
        role,
        family: record.family.load(Relaxed),
        sock_type: record.sock_type.load(Relaxed),
        protocol: record.protocol.load(Relaxed),
        inode: record.inode.load(Relaxed),
        created_ns: record.created.load(Relaxed),
        connect_ns: record.connect_time.load(Relaxed),
        policy_hash: record.policy_hash.load(Relaxed),
        rule,
        rule_line,
        stack: if bound {
            tables.stack(record.stack.load(Relaxed))
        } else {
            Name::default()
        },
        class: tables.class(record.class.load(Relaxed)),
        local: load_address(&record.local),
        remote: load_address(&record.remote),
        sent: record.counters.sent.load(Relaxed),
        received: record.counters.received.load(Relaxed),
        passed_over_unrecorded: (trail - passed_over.len()) as u16,
        passed_over,
        options_applied: record.applied.load(Relaxed),
        options_refused_unrecorded: (refused - options_refused.len()) as u16,
        options_refused,
    };
    Some((
        bound.then(|| usize::from(record.series.load(Relaxed))),
        socket,
    ))
}
