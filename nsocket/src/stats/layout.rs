//! The bytes of a segment: one definition for the writer, who maps it, and for the reader, who
//! copies pieces of it.
//!
//! Every field is an atomic integer (or an array of them), so every bit pattern is a valid value and
//! the reader may look at whatever a hostile owner wrote. Integers are in the machine's byte order:
//! a segment does not leave its host. Sizes and places are part of the format; [`VERSION`] changes
//! with them.
//!
//! ```text
//! Fixed   header, hash words of names and of series, which pages of the rest exist
//!         stack names | class names | rules | series | histograms
//! then    one SocketRecord for each descriptor number
//! ```
//!
//! The file is sparse. What is behind the header is backed with memory only once it is used, a page
//! at a time, and a page that cannot be had costs its contents, not the program (see `pages`).

use std::sync::atomic::{AtomicI32, AtomicU16, AtomicU32, AtomicU64};

use super::counter::{PROCESS_COUNTERS, SERIES_COUNTERS};
use super::histogram::{BUCKETS, HistogramKind};
use super::record::Counters;
use super::text::Text;

/// First word of a complete segment; written last.
pub(super) const MAGIC: u64 = u64::from_le_bytes(*b"DMMSTAT\0");
/// Version of everything in this file.
pub(super) const VERSION: u32 = 3;
/// Unit in which memory is taken for the segment (the kernel may take more).
pub(super) const PAGE: usize = 4096;

pub(super) const STACKS: usize = 64;
pub(super) const CLASSES: usize = 64;
pub(super) const RULES: usize = 1024;
pub(super) const SERIES: usize = 256;
pub(super) const KINDS: usize = HistogramKind::ALL.len();
/// Most descriptors that a segment has records for.
pub(super) const MAX_SOCKETS: u32 = 1 << 20;
/// Records that are backed with memory at once.
pub(super) const SOCKET_CHUNK: usize = 16 * 1024 / size_of::<SocketRecord>();
const CHUNK_WORDS: usize = MAX_SOCKETS as usize / SOCKET_CHUNK / 64;

/// Reasons that a socket's trail has room for.
pub(super) const TRAIL: usize = 6;
/// Refused options that a socket remembers.
pub(super) const REFUSED: usize = 4;

#[repr(C)]
pub(super) struct Header {
    pub(super) magic: AtomicU64,
    pub(super) version: AtomicU32,
    pub(super) flags: AtomicU32,
    pub(super) total_bytes: AtomicU64,
    /// Number of socket records behind `Fixed`.
    pub(super) sockets: AtomicU32,
    pub(super) pid: AtomicU32,
    pub(super) uid: AtomicU32,
    /// One more than the highest descriptor that was ever recorded.
    pub(super) sockets_used: AtomicU32,
    /// Field 22 of /proc/PID/stat: tells a process from a later one with its number. 0: unknown.
    pub(super) start_ticks: AtomicU64,
    /// `CLOCK_REALTIME` in nanoseconds.
    pub(super) created: AtomicU64,
    /// `CLOCK_REALTIME` in nanoseconds of an orderly end; 0 while it runs.
    pub(super) ended: AtomicU64,
    pub(super) policy_hash: AtomicU64,
    pub(super) run_id: Text<8>,
    pub(super) program: Text<64>,
    pub(super) label: Text<16>,
    pub(super) argv0: Text<32>,
    pub(super) policy_path: Text<64>,
    pub(super) policy_error: Text<128>,
    pub(super) counters: [AtomicU64; PROCESS_COUNTERS],
    pub(super) stack_words: [AtomicU64; STACKS],
    pub(super) class_words: [AtomicU64; CLASSES],
    pub(super) rule_words: [AtomicU64; RULES],
    pub(super) series_words: [AtomicU64; SERIES],
    /// A bit for each chunk of socket records: backed with memory.
    pub(super) chunks_ready: [AtomicU64; CHUNK_WORDS],
    /// A bit for each chunk of socket records: memory was refused.
    pub(super) chunks_refused: [AtomicU64; CHUNK_WORDS],
}

/// `flags`: the file stays when the program ends, as somebody collects it.
pub(super) const FLAG_KEEP: u32 = 1;

#[repr(C)]
pub(super) struct ShortName {
    pub(super) len: AtomicU32,
    pub(super) _reserved: AtomicU32,
    pub(super) bytes: [AtomicU64; 7],
}

#[repr(C)]
pub(super) struct Rule {
    pub(super) len: AtomicU32,
    /// Line in the policy file.
    pub(super) line: AtomicU32,
    /// Sockets that the rule decided, whatever stack they got.
    pub(super) hits: AtomicU64,
    /// Of these, sockets that did not get the rule's first stack.
    pub(super) fallbacks: AtomicU64,
    /// Of these, sockets that no stack could carry.
    pub(super) failures: AtomicU64,
    pub(super) bytes: [AtomicU64; 16],
    pub(super) _reserved: [AtomicU64; 12],
}

/// Summary of a histogram, and which of its pages exist.
#[repr(C)]
pub(super) struct HistogramHead {
    pub(super) pages_ready: AtomicU32,
    pub(super) pages_refused: AtomicU32,
    /// `u64::MAX - smallest value`, so that zero is "none yet".
    pub(super) inverse_min: AtomicU64,
    pub(super) max: AtomicU64,
    pub(super) sum: AtomicU64,
}

#[repr(C)]
pub(super) struct Series {
    pub(super) counters: [AtomicU64; SERIES_COUNTERS],
    pub(super) histograms: [HistogramHead; KINDS],
}

#[repr(C)]
pub(super) struct Buckets(pub(super) [AtomicU64; BUCKETS]);

/// An address: family, port, scope and the bytes of an IPv6 or IPv4 address.
#[repr(C)]
pub(super) struct Address {
    /// 0: none; 4: IPv4; 6: IPv6.
    pub(super) kind: AtomicU16,
    pub(super) port: AtomicU16,
    pub(super) scope: AtomicU32,
    pub(super) high: AtomicU64,
    pub(super) low: AtomicU64,
}

#[repr(C)]
pub(super) struct Passed {
    pub(super) stack: AtomicU16,
    pub(super) reason: AtomicU16,
    pub(super) errno: AtomicI32,
}

#[repr(C)]
pub(super) struct RefusedOption {
    pub(super) level: AtomicU16,
    pub(super) option: AtomicU16,
    pub(super) errno: AtomicI32,
}

/// One descriptor. The counters are outside what `seq` protects.
#[repr(C)]
pub(super) struct SocketRecord {
    pub(super) counters: Counters,
    /// Odd while somebody writes (see `seqlock`).
    pub(super) seq: AtomicU32,
    pub(super) state: AtomicU16,
    pub(super) role: AtomicU16,
    pub(super) inode: AtomicU64,
    pub(super) created: AtomicU64,
    pub(super) policy_hash: AtomicU64,
    /// Nanoseconds from `connect` until the connection stood; 0: unknown.
    pub(super) connect_time: AtomicU64,
    pub(super) family: AtomicU16,
    pub(super) sock_type: AtomicU16,
    pub(super) protocol: AtomicU16,
    pub(super) series: AtomicU16,
    pub(super) rule: AtomicU16,
    pub(super) stack: AtomicU16,
    pub(super) class: AtomicU16,
    pub(super) trail_len: AtomicU16,
    pub(super) local: Address,
    pub(super) remote: Address,
    pub(super) trail: [Passed; TRAIL],
    pub(super) refused: [RefusedOption; REFUSED],
    pub(super) refused_len: AtomicU16,
    pub(super) applied: AtomicU16,
    pub(super) _reserved16: [AtomicU16; 2],
    pub(super) _reserved: [AtomicU64; 5],
}

#[repr(C, align(4096))]
pub(super) struct Aligned<T>(pub(super) T);

#[repr(C)]
pub(super) struct Fixed {
    pub(super) header: Aligned<Header>,
    pub(super) stacks: Aligned<[ShortName; STACKS]>,
    pub(super) classes: Aligned<[ShortName; CLASSES]>,
    pub(super) rules: Aligned<[Rule; RULES]>,
    pub(super) series: Aligned<[Series; SERIES]>,
    pub(super) histograms: Aligned<[[Buckets; KINDS]; SERIES]>,
}

/// Bytes of a segment with this many socket records.
pub(super) const fn total_bytes(sockets: u32) -> usize {
    size_of::<Fixed>() + sockets as usize * size_of::<SocketRecord>()
}

const _: () = {
    assert!(size_of::<ShortName>() == 64);
    assert!(size_of::<Rule>() == 256);
    assert!(size_of::<Series>() == 256);
    assert!(size_of::<SocketRecord>() == 256);
    assert!(size_of::<Buckets>().is_multiple_of(PAGE));
    assert!(size_of::<Fixed>().is_multiple_of(PAGE));
    assert!(CHUNK_WORDS * 64 * SOCKET_CHUNK == MAX_SOCKETS as usize);
};
