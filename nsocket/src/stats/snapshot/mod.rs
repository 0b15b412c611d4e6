//! The reader's side: what a segment says, as plain values.
//!
//! The file may belong to anybody and change all the time. Whatever its bytes are, reading ends in
//! bounded time, with a [`Snapshot`] or a [`SnapshotError`]: no index, length or offset from the file is
//! used unchecked, text comes out printable (control characters escaped), and the memory taken is
//! at most a few times what the owner has really put in the file.

mod read;
mod sockets;
mod tables;
mod text;
mod view;

use std::net::SocketAddr;
use std::path::Path;

use serde::{Serialize, Serializer};

use super::counter::{Counts, SeriesCounts};
use super::facts::{SocketRole, SocketState};
use super::histogram::HistogramKind;
use crate::reason::ReasonCode;

pub use text::Name;

/// What a process said of itself at one moment.
#[derive(Clone, Debug, Serialize)]
pub struct Snapshot {
    /// Its number, in its own pid namespace.
    pub pid: u32,
    /// Its effective user when the segment was made.
    pub uid: u32,
    /// Owner of the file: the one thing here that the kernel vouches for.
    pub owner: u32,
    /// Start time in clock ticks since boot (field 22 of /proc/PID/stat); 0 if unknown.
    pub start_ticks: u64,
    /// When the segment was made, in nanoseconds since the epoch.
    pub created_ns: u64,
    /// When the process ended in an orderly way; 0 if it has not.
    pub ended_ns: u64,
    /// The file waits for a collector after the process's end.
    pub keep: bool,
    /// `DMM_RUN_ID`, or empty.
    pub run_id: Name,
    /// Path of the executable.
    pub program: Name,
    /// `DMM_LABEL`, or empty.
    pub label: Name,
    /// The name that the program was called by.
    pub argv0: Name,
    /// The policy in force.
    pub policy: PolicyInfo,
    /// What is counted once a process.
    pub counters: Counts,
    /// Rules that decided something.
    pub rules: Vec<RuleInfo>,
    /// Pairs of rule and stack that carried something.
    pub series: Vec<SeriesInfo>,
    /// Open sockets, by descriptor.
    pub sockets: Vec<SocketInfo>,
    /// Records left out because they were being written all the while.
    pub torn: u32,
}

/// The policy that a process follows.
#[derive(Clone, Debug, Serialize)]
pub struct PolicyInfo {
    /// Hash of its text.
    #[serde(serialize_with = "hex")]
    pub hash: u64,
    /// Its file; empty for the built-in policy.
    pub path: Name,
    /// Why the last edit was refused; empty if it was not.
    pub error: Name,
}

/// A rule, and how often it decided.
#[derive(Clone, Debug, Serialize)]
pub struct RuleInfo {
    /// Its name.
    pub name: Name,
    /// Its line in the policy file; 0 if it has none.
    pub line: u32,
    /// Sockets that it decided.
    pub hits: u64,
    /// Of these, sockets that did not get its first stack.
    pub fallbacks: u64,
    /// Of these, sockets that no stack could carry.
    pub failures: u64,
}

/// A pair of rule and stack.
#[derive(Clone, Debug, Serialize)]
pub struct SeriesInfo {
    /// The rule's name.
    pub rule: Name,
    /// The rule's line in its file.
    pub line: u32,
    /// The stack instance.
    pub stack: Name,
    /// Totals, those of open sockets included.
    pub counters: SeriesCounts,
    /// Histograms that hold something.
    pub histograms: Vec<HistogramInfo>,
}

impl SeriesInfo {
    /// One of the histograms, if it holds something.
    pub fn histogram(&self, kind: HistogramKind) -> Option<&HistogramInfo> {
        self.histograms
            .iter()
            .find(|histogram| histogram.kind == kind)
    }
}

impl SeriesInfo {
    /// Adds the counts and samples of another.
    pub fn merge(&mut self, other: &Self) {
        self.counters.merge(&other.counters);
        for histogram in &other.histograms {
            match self
                .histograms
                .iter_mut()
                .find(|mine| mine.kind == histogram.kind)
            {
                Some(mine) => mine.merge(histogram),
                None => self.histograms.push(histogram.clone()),
            }
        }
    }
}

impl HistogramInfo {
    /// Adds the samples of another.
    pub fn merge(&mut self, other: &Self) {
        self.count = self.count.saturating_add(other.count);
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        self.sum = self.sum.wrapping_add(other.sum);
        let mut buckets: std::collections::BTreeMap<u16, u64> =
            self.buckets.iter().copied().collect();
        for (bucket, count) in &other.buckets {
            let sum = buckets.entry(*bucket).or_default();
            *sum = sum.saturating_add(*count);
        }
        self.buckets = buckets.into_iter().collect();
    }
}

/// A histogram; values are nanoseconds.
#[derive(Clone, Debug, Serialize)]
pub struct HistogramInfo {
    /// What it measures.
    pub kind: HistogramKind,
    /// Samples in it.
    pub count: u64,
    /// Smallest sample, exactly.
    pub min: u64,
    /// Largest sample, exactly.
    pub max: u64,
    /// Sum of all samples, modulo 2^64.
    pub sum: u64,
    /// Buckets that hold something, in order: number (see [`super::lowest_of`]) and samples.
    #[serde(skip)]
    pub buckets: Vec<(u16, u64)>,
}

/// An open socket.
#[derive(Clone, Debug, Serialize)]
pub struct SocketInfo {
    /// Descriptor number.
    pub fd: u32,
    /// What it is doing.
    pub state: SocketState,
    /// How it came to its stack; `None` while it is unbound.
    pub role: Option<SocketRole>,
    /// `AF_...`.
    pub family: u16,
    /// `SOCK_...`.
    pub sock_type: u16,
    /// IP protocol number, 0 for the type's own.
    pub protocol: u16,
    /// Its inode number; 0 if it was not looked up.
    pub inode: u64,
    /// When it was made, in nanoseconds since the epoch.
    pub created_ns: u64,
    /// How long its `connect` took; 0 if unknown.
    pub connect_ns: u64,
    /// The policy that decided.
    #[serde(serialize_with = "hex")]
    pub policy_hash: u64,
    /// The rule that decided; empty while it is unbound.
    pub rule: Name,
    /// The rule's line in the policy file.
    pub rule_line: u32,
    /// The stack that carries it; empty while it is unbound.
    pub stack: Name,
    /// QoS class, or empty.
    pub class: Name,
    /// Local address, where it is known.
    pub local: Option<SocketAddr>,
    /// Remote address, where it is known.
    pub remote: Option<SocketAddr>,
    /// Bytes sent through this descriptor.
    pub sent: u64,
    /// Bytes received through this descriptor.
    pub received: u64,
    /// Stacks passed over, in order.
    pub passed_over: Vec<PassedInfo>,
    /// How many more were passed over than there was room for.
    pub passed_over_unrecorded: u16,
    /// Options of the stack instance that were applied.
    pub options_applied: u16,
    /// Options of the stack instance that were refused.
    pub options_refused: Vec<RefusedInfo>,
    /// How many more were refused than there was room for.
    pub options_refused_unrecorded: u16,
}

/// A stack instance that was passed over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PassedInfo {
    /// Its name.
    pub stack: Name,
    /// Why.
    pub reason: ReasonCode,
    /// The error behind it; 0 for none.
    pub errno: i32,
}

/// An option that was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct RefusedInfo {
    /// `SOL_...`.
    pub level: u16,
    /// The option's number.
    pub option: u16,
    /// The error.
    pub errno: i32,
}

/// Why a file gives no snapshot.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// It cannot be opened.
    #[error("cannot open: {0}")]
    Open(std::io::Error),
    /// It cannot be read.
    #[error("cannot read: {0}")]
    Read(std::io::Error),
    /// It is a directory, a device or the like.
    #[error("not a regular file")]
    NotAFile,
    /// It does not start as a segment does.
    #[error("not a stats segment of DMM")]
    NotASegment,
    /// Its process is just making it.
    #[error("the segment is not complete yet; try again")]
    NotReady,
    /// It was written by another version of the library.
    #[error(
        "the segment has format {found}, this tool reads format {expected}: use the `dmm` that belongs to the preloaded library"
    )]
    Version {
        /// The file's format.
        found: u32,
        /// This build's.
        expected: u32,
    },
    /// It is shorter than it says.
    #[error("the segment is cut short")]
    Truncated,
}

impl Snapshot {
    /// Reads a segment, or a copy of one.
    ///
    /// # Errors
    ///
    /// See [`SnapshotError`].
    pub fn read(path: &Path) -> Result<Self, SnapshotError> {
        use std::os::unix::fs::OpenOptionsExt;
        let file = std::fs::OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC)
            .open(path)
            .map_err(SnapshotError::Open)?;
        Self::read_file(&file)
    }

    /// Reads a segment from an open file.
    ///
    /// # Errors
    ///
    /// See [`SnapshotError`].
    pub fn read_file(file: &std::fs::File) -> Result<Self, SnapshotError> {
        read::snapshot(file)
    }
}

fn hex<S: Serializer>(value: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{value:016x}"))
}
