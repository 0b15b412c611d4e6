//! From the bytes of a segment to a [`Snapshot`].

use std::fs::File;
use std::mem::offset_of;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::Ordering::Relaxed;

use super::sockets::read_sockets;
use super::tables::{Tables, used};
use super::text::Name;
use super::view::Copy;
use super::{HistogramInfo, PolicyInfo, RuleInfo, SeriesInfo, Snapshot, SnapshotError};
use crate::stats::counter::{Counts, SeriesCounts};
use crate::stats::histogram::{BUCKETS, HistogramKind};
use crate::stats::layout::{
    Buckets, FLAG_KEEP, Fixed, Header, HistogramHead, KINDS, MAGIC, MAX_SOCKETS, PAGE, SERIES,
    Series, VERSION, total_bytes,
};

/// How often a header whose texts are just being written is read again.
const ATTEMPTS: usize = 8;

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
    use crate::stats::layout::{CLASSES, RULES, SOCKET_CHUNK, STACKS};

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
