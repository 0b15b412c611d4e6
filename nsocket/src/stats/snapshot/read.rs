//! From the bytes of a segment to a [`Snapshot`].

use std::fs::File;
use std::mem::offset_of;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use super::text::Name;
use super::view::Copy;
use super::{
    HistogramInfo, PassedInfo, PolicyInfo, RefusedInfo, RuleInfo, SeriesInfo, Snapshot,
    SnapshotError, SocketInfo,
};
use crate::reason::ReasonCode;
use crate::stats::counter::{Counts, SeriesCounter, SeriesCounts};
use crate::stats::histogram::{BUCKETS, HistogramKind};
use crate::stats::layout::{
    Buckets, CLASSES, FLAG_KEEP, Fixed, Header, HistogramHead, KINDS, MAGIC, MAX_SOCKETS, PAGE,
    RULES, Rule, SERIES, SOCKET_CHUNK, STACKS, Series, ShortName, SocketRecord, VERSION,
    total_bytes,
};
use crate::stats::names::{OTHER_NAME, is_ready};
use crate::stats::record::{SocketRole, SocketState, load_address};
use crate::stats::segment::place;
use crate::stats::text::load_bytes;

/// How often something that is just being written is read again.
const ATTEMPTS: usize = 8;

/// Words of a socket record that change without its sequence number: the two byte counts.
const UNPROTECTED_WORDS: usize = 2;

pub(super) fn snapshot(file: &File) -> Result<Snapshot, SnapshotError> {
    let metadata = file.metadata().map_err(SnapshotError::Read)?;
    if !metadata.is_file() {
        return Err(SnapshotError::NotAFile);
    }
    let (copy, texts) = read_header(file, metadata.len())?;
    let header = copy.part::<Header>(0);
    let tables = Tables::read(file, header)?;
    let [run_id, program, label, argv0, path, error] = texts.map(|text| Name::from_bytes(&text));
    let mut snapshot = Snapshot {
        pid: header.pid.load(Relaxed),
        uid: header.uid.load(Relaxed),
        owner: metadata.uid(),
        start_ticks: header.start_ticks.load(Relaxed),
        created_ns: header.created.load(Relaxed),
        ended_ns: header.ended.load(Relaxed),
        keep: header.flags.load(Relaxed) & FLAG_KEEP != 0,
        run_id,
        program,
        label,
        argv0,
        policy: PolicyInfo {
            hash: header.policy_hash.load(Relaxed),
            path,
            error,
        },
        counters: Counts(std::array::from_fn(|i| header.counters[i].load(Relaxed))),
        rules: Vec::new(),
        series: Vec::new(),
        sockets: Vec::new(),
        torn: 0,
    };
    let mut series = read_series(file, header, &tables)?;
    read_sockets(file, header, &tables, &mut series, &mut snapshot)?;
    snapshot.series = merge_series(series);
    snapshot.rules = merge_rules(tables.rules);
    Ok(snapshot)
}

type Texts = [Vec<u8>; 6];

/// Reads the header until two copies in a row agree on its texts.
fn read_header(file: &File, file_len: u64) -> Result<(Copy, Texts), SnapshotError> {
    let read = || Copy::read(file, 0, size_of::<Header>());
    let mut copy = read()?;
    check_header(copy.part(0), file_len)?;
    let mut before = texts_of(copy.part(0));
    for _ in 0..ATTEMPTS {
        copy = read()?;
        check_header(copy.part(0), file_len)?;
        let after = texts_of(copy.part(0));
        if before.is_some() && before == after {
            break;
        }
        before = after;
    }
    let texts = before.unwrap_or_default();
    Ok((copy, texts))
}

fn check_header(header: &Header, file_len: u64) -> Result<(), SnapshotError> {
    match header.magic.load(Relaxed) {
        MAGIC => {}
        0 => return Err(SnapshotError::NotReady),
        _ => return Err(SnapshotError::NotASegment),
    }
    let version = header.version.load(Relaxed);
    if version != VERSION {
        return Err(SnapshotError::Version {
            found: version,
            expected: VERSION,
        });
    }
    let sockets = header.sockets.load(Relaxed);
    let total = total_bytes(sockets.min(MAX_SOCKETS)) as u64;
    if sockets > MAX_SOCKETS || header.total_bytes.load(Relaxed) != total {
        return Err(SnapshotError::NotASegment);
    }
    if file_len < total {
        Err(SnapshotError::Truncated)
    } else {
        Ok(())
    }
}

fn texts_of(header: &Header) -> Option<Texts> {
    Some([
        header.run_id.load()?,
        header.program.load()?,
        header.label.load()?,
        header.argv0.load()?,
        header.policy_path.load()?,
        header.policy_error.load()?,
    ])
}

/// The names that numbers stand for. Slots that hold nothing are "(other)".
struct Tables {
    stacks: Vec<Name>,
    classes: Vec<Name>,
    rules: Vec<RuleInfo>,
}

impl Tables {
    fn read(file: &File, header: &Header) -> Result<Self, SnapshotError> {
        Ok(Self {
            stacks: short_names(file, &header.stack_words, offset_of!(Fixed, stacks))?,
            classes: short_names(file, &header.class_words, offset_of!(Fixed, classes))?,
            rules: rules(file, &header.rule_words)?,
        })
    }

    fn stack(&self, number: u16) -> Name {
        name_at(&self.stacks, number)
    }

    fn class(&self, number: u16) -> Name {
        if number == 0 {
            Name::default()
        } else {
            name_at(&self.classes, number)
        }
    }

    fn rule(&self, number: u16) -> (Name, u32) {
        self.rules.get(usize::from(number)).map_or_else(
            || (OTHER_NAME.into(), 0),
            |rule| (rule.name.clone(), rule.line),
        )
    }
}

fn name_at(names: &[Name], number: u16) -> Name {
    names
        .get(usize::from(number))
        .cloned()
        .unwrap_or_else(|| OTHER_NAME.into())
}

/// How many slots of a table have been taken: they are taken in order.
fn used(words: &[AtomicU64]) -> usize {
    words
        .iter()
        .rposition(|word| word.load(Relaxed) != 0)
        .map_or(0, |last| last + 1)
}

fn short_names(
    file: &File,
    words: &[AtomicU64; STACKS],
    offset: usize,
) -> Result<Vec<Name>, SnapshotError> {
    const { assert!(STACKS == CLASSES) };
    let used = used(words);
    let copy = Copy::read(file, offset, used * size_of::<ShortName>())?;
    let name = |slot| {
        let entry = copy.part::<ShortName>(slot);
        Name::from_bytes(&load_bytes(&entry.bytes, entry.len.load(Relaxed) as usize))
    };
    Ok((0..used)
        .map(|slot| {
            if is_ready(words[slot].load(Relaxed)) {
                name(slot)
            } else {
                OTHER_NAME.into()
            }
        })
        .collect())
}

fn rules(file: &File, words: &[AtomicU64; RULES]) -> Result<Vec<RuleInfo>, SnapshotError> {
    let used = used(words);
    let copy = Copy::read(file, offset_of!(Fixed, rules), used * size_of::<Rule>())?;
    Ok((0..used)
        .map(|slot| {
            let rule = copy.part::<Rule>(slot);
            let ready = is_ready(words[slot].load(Relaxed));
            let name = load_bytes(&rule.bytes, rule.len.load(Relaxed) as usize);
            RuleInfo {
                name: if ready {
                    Name::from_bytes(&name)
                } else {
                    OTHER_NAME.into()
                },
                line: rule.line.load(Relaxed),
                hits: rule.hits.load(Relaxed),
                fallbacks: rule.fallbacks.load(Relaxed),
                failures: rule.failures.load(Relaxed),
            }
        })
        .collect())
}

/// One entry a slot, also for slots that hold nothing, so that numbers stay numbers.
fn read_series(
    file: &File,
    header: &Header,
    tables: &Tables,
) -> Result<Vec<SeriesInfo>, SnapshotError> {
    let used = used(&header.series_words).min(SERIES);
    let copy = Copy::read(file, offset_of!(Fixed, series), used * size_of::<Series>())?;
    (0..used)
        .map(|slot| {
            let series = copy.part::<Series>(slot);
            let key = header.series_words[slot].load(Relaxed) >> 2;
            let (rule, line) = tables.rule((key >> 16) as u16);
            let histograms = HistogramKind::ALL
                .into_iter()
                .filter_map(|kind| {
                    let head = &series.histograms[kind as usize];
                    read_histogram(file, slot, kind, head).transpose()
                })
                .collect::<Result<_, _>>()?;
            Ok(SeriesInfo {
                rule,
                line,
                stack: tables.stack(key as u16),
                counters: SeriesCounts(std::array::from_fn(|i| series.counters[i].load(Relaxed))),
                histograms,
            })
        })
        .collect()
}

fn read_histogram(
    file: &File,
    series: usize,
    kind: HistogramKind,
    head: &HistogramHead,
) -> Result<Option<HistogramInfo>, SnapshotError> {
    const BUCKETS_A_PAGE: usize = PAGE / 8;
    let pages = head.pages_ready.load(Relaxed);
    let start =
        offset_of!(Fixed, histograms) + (series * KINDS + kind as usize) * size_of::<Buckets>();
    let mut buckets = Vec::new();
    for page in 0..BUCKETS / BUCKETS_A_PAGE {
        if pages & 1 << page == 0 {
            continue;
        }
        let copy = Copy::read(file, start + page * PAGE, PAGE)?;
        let counts = copy
            .words()
            .iter()
            .enumerate()
            .filter(|(_, count)| **count != 0);
        buckets.extend(counts.map(|(i, count)| ((page * BUCKETS_A_PAGE + i) as u16, *count)));
    }
    let count = buckets
        .iter()
        .fold(0_u64, |sum, (_, count)| sum.saturating_add(*count));
    Ok((count > 0).then(|| HistogramInfo {
        kind,
        count,
        min: u64::MAX - head.inverse_min.load(Relaxed),
        max: head.max.load(Relaxed),
        sum: head.sum.load(Relaxed),
        buckets,
    }))
}

fn read_sockets(
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
        sent: record.sent.load(Relaxed),
        received: record.received.load(Relaxed),
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

/// Adds up pairs that two threads have entered at the same time, and drops those without anything.
fn merge_series(all: Vec<SeriesInfo>) -> Vec<SeriesInfo> {
    let mut merged: Vec<SeriesInfo> = Vec::new();
    let mut places = std::collections::HashMap::new();
    for series in all {
        if series.counters == SeriesCounts::default() && series.histograms.is_empty() {
            continue;
        }
        let key = (series.rule.clone(), series.line, series.stack.clone());
        match places.get(&key) {
            None => {
                places.insert(key, merged.len());
                merged.push(series);
            }
            Some(place) => merged[*place].merge(&series),
        }
    }
    merged
}

fn merge_rules(all: Vec<RuleInfo>) -> Vec<RuleInfo> {
    let mut merged: Vec<RuleInfo> = Vec::new();
    let mut places = std::collections::HashMap::new();
    for rule in all {
        if rule.hits == 0 {
            continue;
        }
        let key = (rule.name.clone(), rule.line);
        match places.get(&key) {
            None => {
                places.insert(key, merged.len());
                merged.push(rule);
            }
            Some(place) => {
                let into: &mut RuleInfo = &mut merged[*place];
                into.hits = into.hits.saturating_add(rule.hits);
                into.fallbacks = into.fallbacks.saturating_add(rule.fallbacks);
                into.failures = into.failures.saturating_add(rule.failures);
            }
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    /// All tables full, all pages and sockets said to be there, and a file that is one hole: the longest
    /// way through the reader, at no cost to the owner.
    #[test]
    fn a_segment_that_claims_everything_is_read_in_bounded_time() {
        let file = tempfile::tempfile().unwrap();
        let total = total_bytes(MAX_SOCKETS) as u64;
        file.set_len(total).unwrap();
        let put = |offset: usize, bytes: &[u8]| file.write_all_at(bytes, offset as u64).unwrap();
        let ready = |slots: usize| {
            u64::from_ne_bytes(*b"\x02ready!!")
                .to_ne_bytes()
                .repeat(slots)
        };
        put(offset_of!(Header, magic), &MAGIC.to_ne_bytes());
        put(offset_of!(Header, version), &VERSION.to_ne_bytes());
        put(offset_of!(Header, total_bytes), &total.to_ne_bytes());
        put(offset_of!(Header, sockets), &MAX_SOCKETS.to_ne_bytes());
        put(offset_of!(Header, sockets_used), &u32::MAX.to_ne_bytes());
        put(offset_of!(Header, stack_words), &ready(STACKS));
        put(offset_of!(Header, class_words), &ready(CLASSES));
        put(offset_of!(Header, rule_words), &ready(RULES));
        put(offset_of!(Header, series_words), &ready(SERIES));
        let chunks = size_of_val(&[0_u64; MAX_SOCKETS as usize / SOCKET_CHUNK / 64]);
        put(offset_of!(Header, chunks_ready), &vec![0xff; chunks]);
        put(
            offset_of!(Fixed, series),
            &vec![0xff; SERIES * size_of::<Series>()],
        );
        let start = std::time::Instant::now();
        let snapshot = snapshot(&file).unwrap();
        assert!(start.elapsed().as_secs() < 30, "{:?}", start.elapsed());
        assert!(snapshot.sockets.is_empty());
        assert!(
            snapshot
                .series
                .iter()
                .all(|series| series.histograms.is_empty())
        );
    }
}
