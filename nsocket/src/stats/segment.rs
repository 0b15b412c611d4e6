//! The writer's side: a process's own segment.

use std::ffi::CStr;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use rustix::io::Errno;

use super::counter::{Counter, SeriesCounter};
use super::histogram::{HistogramKind, bucket_of};
use super::layout::{
    Buckets, FLAG_KEEP, MAGIC, MAX_SOCKETS, PAGE, SOCKET_CHUNK, SocketRecord, VERSION, total_bytes,
};
use super::names::{self, OTHER, OTHER_NAME};
use super::pages::Pages;
use super::path::SegmentPath;
use super::process;
use super::record::Socket;
use super::tables::{RuleName, SeriesId, StackName};

/// What a segment says of its process, for good.
#[derive(Clone, Copy, Debug)]
pub struct CreateInfo<'a> {
    /// Directory of the file: [`DEFAULT_DIR`](super::DEFAULT_DIR), or `$DMM_SHM_DIR`.
    pub dir: &'a CStr,
    /// `$DMM_RUN_ID`, or empty.
    pub run_id: &'a [u8],
    /// Path of the executable.
    pub program: &'a [u8],
    /// `$DMM_LABEL`, or empty.
    pub label: &'a [u8],
    /// The name that the program was called by.
    pub argv0: &'a [u8],
    /// Hash of the policy's text (`dmm_policy::text_hash`).
    pub policy_hash: u64,
    /// File of the policy; empty for the built-in one.
    pub policy_path: &'a [u8],
    /// The file outlives the process, as a collector (`dmm run --hist`) will read and remove it.
    pub keep: bool,
}

/// The segment of this process. All methods may be called from any thread and from signal
/// handlers; none allocates, locks or waits.
pub struct Segment {
    pub(super) pages: Pages,
    path: SegmentPath,
    pid: u32,
}

impl Segment {
    /// Creates the file `DIR/dmm.PID.RANDOM` and publishes it.
    ///
    /// # Errors
    ///
    /// Those of open(2), ftruncate(2), mmap(2); `FBIG` under a file size limit, `NOSPC` where there
    /// is no memory for the first pages (or no `MADV_POPULATE_WRITE`). The program then runs
    /// without statistics.
    pub fn create(info: &CreateInfo<'_>) -> Result<Self, Errno> {
        Self::with_sockets(info, socket_limit())
    }

    /// As [`create`](Self::create), in a child of the process whose segment is `parent`: of the same
    /// size, so that it can [take its place](Self::take_place_of).
    ///
    /// # Errors
    ///
    /// Those of [`create`](Self::create).
    pub fn create_in_child(info: &CreateInfo<'_>, parent: &Self) -> Result<Self, Errno> {
        Self::with_sockets(info, parent.pages.sockets())
    }

    fn with_sockets(info: &CreateInfo<'_>, sockets: u32) -> Result<Self, Errno> {
        let pid = rustix::process::getpid()
            .as_raw_nonzero()
            .get()
            .cast_unsigned();
        let mut attempts = 0;
        let (path, pages) = loop {
            let path = SegmentPath::random(info.dir, pid)?;
            match Pages::create(path.as_c_str(), sockets) {
                Err(Errno::EXIST) if attempts < 16 => attempts += 1,
                result => break (path, result?),
            }
        };
        let segment = Self { pages, path, pid };
        if !segment.fill_in(info) {
            segment.unlink();
            return Err(Errno::NOSPC);
        }
        segment.pages.header().magic.store(MAGIC, Release);
        Ok(segment)
    }

    fn fill_in(&self, info: &CreateInfo<'_>) -> bool {
        let header = self.pages.header();
        header.version.store(VERSION, Relaxed);
        header
            .total_bytes
            .store(total_bytes(self.pages.sockets()) as u64, Relaxed);
        header.sockets.store(self.pages.sockets(), Relaxed);
        header
            .flags
            .store(if info.keep { FLAG_KEEP } else { 0 }, Relaxed);
        header.pid.store(self.pid, Relaxed);
        header
            .uid
            .store(rustix::process::geteuid().as_raw(), Relaxed);
        header
            .start_ticks
            .store(process::own_start_ticks().unwrap_or(0), Relaxed);
        header.created.store(process::realtime_ns(), Relaxed);
        header.run_id.set(info.run_id);
        header.program.set(info.program);
        header.label.set(info.label);
        header.argv0.set(info.argv0);
        self.set_policy(info.policy_hash, info.policy_path);
        // Slot 0 of every table stands for what does not fit.
        self.rule(OTHER_NAME, 0).0 == OTHER
            && self.rule_slot_exists(OTHER)
            && self.stack(OTHER_NAME).0 == OTHER
            && self.class(OTHER_NAME).0 == OTHER
            && self.series(RuleName(OTHER), StackName(OTHER)).0 == OTHER
            && names::is_ready(header.stack_words[0].load(Relaxed))
            && names::is_ready(header.class_words[0].load(Relaxed))
            && names::is_ready(header.series_words[0].load(Relaxed))
    }

    fn rule_slot_exists(&self, slot: u16) -> bool {
        names::is_ready(self.pages.header().rule_words[usize::from(slot)].load(Relaxed))
    }

    /// The process that made the segment. After fork the child still sees its parent's: it makes
    /// one of its own, and [takes over](Self::inherit) the records.
    pub const fn pid(&self) -> u32 {
        self.pid
    }

    /// Moves the segment to the addresses where this process still sees that of its parent, which is
    /// gone from it then. So an address in the parent's that somebody kept across the fork is the same
    /// place in the child's, and never one without a mapping. Says whether that was possible; both stay
    /// where they are if not.
    ///
    /// # Safety
    /// `parent` is neither used as that segment nor dropped any more, and nothing borrows from `self`.
    pub unsafe fn take_place_of(&mut self, parent: &Self) -> bool {
        // SAFETY: promised by the caller.
        unsafe { self.pages.move_over(&parent.pages) }
    }

    /// Addresses of the segment's mapping: large, and hardly any of it memory.
    pub fn range(&self) -> std::ops::Range<usize> {
        self.pages.range()
    }

    /// Path of the segment's file.
    pub const fn path(&self) -> &CStr {
        self.path.as_c_str()
    }

    /// Whether the file is meant to outlive the process ([`CreateInfo::keep`]).
    pub fn is_kept(&self) -> bool {
        self.pages.header().flags.load(Relaxed) & FLAG_KEEP != 0
    }

    /// Removes the file, as before an exec. The mapping stays usable.
    pub fn unlink(&self) {
        // Nobody could do anything about a file that cannot be removed; the sweep tries again.
        let _ = rustix::fs::unlink(self.path());
    }

    /// To be called at an orderly exit of the process: notes the time, and removes the file unless
    /// it is [kept](Self::is_kept). Does nothing in a child that has not made its own segment.
    pub fn finish(&self) {
        if rustix::process::getpid()
            .as_raw_nonzero()
            .get()
            .cast_unsigned()
            != self.pid
        {
            return;
        }
        self.pages
            .header()
            .ended
            .store(process::realtime_ns(), Relaxed);
        if !self.is_kept() {
            self.unlink();
        }
    }

    /// Counts something of the whole process.
    #[inline]
    pub fn add(&self, counter: Counter, n: u64) {
        self.pages.header().counters[counter as usize].fetch_add(n, Relaxed);
    }

    /// Says which policy is in force from now on, and forgets the last refusal.
    pub fn set_policy(&self, hash: u64, path: &[u8]) {
        let header = self.pages.header();
        header.policy_hash.store(hash, Relaxed);
        header.policy_path.set(path);
        header.policy_error.set(b"");
    }

    /// Says why the last edit of the policy was refused (cut at 1 KiB); empty when all is well.
    pub fn set_policy_error(&self, error: &[u8]) {
        self.pages.header().policy_error.set(error);
    }

    /// Counts a socket that the rule decided.
    pub fn rule_hit(&self, rule: RuleName, fell_back: bool) {
        let rule = self.pages.rule(usize::from(rule.0));
        rule.hits.fetch_add(1, Relaxed);
        if fell_back {
            rule.fallbacks.fetch_add(1, Relaxed);
        }
    }

    /// Counts a socket that the rule decided and that no stack could carry.
    pub fn rule_failed(&self, rule: RuleName) {
        let rule = self.pages.rule(usize::from(rule.0));
        rule.hits.fetch_add(1, Relaxed);
        rule.failures.fetch_add(1, Relaxed);
    }

    /// Counts something of a pair of rule and stack.
    #[inline]
    pub fn count(&self, series: SeriesId, counter: SeriesCounter, n: u64) {
        self.pages.series(usize::from(series.0)).counters[counter as usize].fetch_add(n, Relaxed);
    }

    /// Records a duration in nanoseconds.
    #[inline]
    pub fn record_time(&self, series: SeriesId, kind: HistogramKind, ns: u64) {
        let slot = usize::from(series.0);
        let head = &self.pages.series(slot).histograms[kind as usize];
        let bucket = bucket_of(ns);
        let page = 1 << (bucket * size_of::<u64>() / PAGE);
        if head.pages_ready.load(Relaxed) & page == 0 && !self.populate_bucket(slot, kind, bucket) {
            self.add(Counter::SamplesLost, 1);
            return;
        }
        self.pages.buckets(slot, kind)[bucket].fetch_add(1, Relaxed);
        head.sum.fetch_add(ns, Relaxed);
        if ns > head.max.load(Relaxed) {
            head.max.fetch_max(ns, Relaxed);
        }
        if u64::MAX - ns > head.inverse_min.load(Relaxed) {
            head.inverse_min.fetch_max(u64::MAX - ns, Relaxed);
        }
    }

    /// The record of a descriptor. `None` beyond the table, or without memory for it; that is
    /// counted, and the program goes on.
    #[inline]
    pub fn socket(&self, fd: i32) -> Option<Socket<'_>> {
        let record = u32::try_from(fd).ok().and_then(|fd| {
            (self.chunk_ready(fd) || self.populate_chunk(fd)).then(|| self.pages.record(fd))?
        });
        if record.is_none() {
            self.add(Counter::SocketsUnrecorded, 1);
        }
        Some(Socket {
            segment: self,
            record: record?,
            fd: fd.cast_unsigned(),
        })
    }

    /// The record of a descriptor if there has ever been one near it: for the data path, which
    /// does not take memory.
    #[inline]
    pub fn existing_socket(&self, fd: i32) -> Option<Socket<'_>> {
        let fd = u32::try_from(fd).ok()?;
        let record = self.chunk_ready(fd).then(|| self.pages.record(fd))??;
        Some(Socket {
            segment: self,
            record,
            fd,
        })
    }

    /// Takes over the records of a parent's segment after fork, for all descriptors for which
    /// `held` says that the child still has them. Byte counts start at zero.
    pub fn inherit(&self, parent: &Self, held: impl Fn(i32) -> bool) {
        let used = parent
            .pages
            .header()
            .sockets_used
            .load(Relaxed)
            .min(parent.pages.sockets());
        let mut fd = 0;
        while fd < used {
            if !parent.chunk_ready(fd) {
                fd = (fd / SOCKET_CHUNK as u32 + 1) * SOCKET_CHUNK as u32;
                continue;
            }
            let number = fd.cast_signed();
            if let Some(from) = parent.existing_socket(number)
                && from.is_open()
                && held(number)
                && let Some(to) = self.socket(number)
            {
                to.adopt(from);
                self.add(Counter::SocketsInherited, 1);
            }
            fd += 1;
        }
    }

    pub(super) fn socket_used(&self, fd: u32) {
        let used = &self.pages.header().sockets_used;
        if used.load(Relaxed) <= fd {
            used.fetch_max(fd + 1, Relaxed);
        }
    }

    #[cold]
    fn populate_bucket(&self, series: usize, kind: HistogramKind, bucket: usize) -> bool {
        let head = &self.pages.series(series).histograms[kind as usize];
        let page = bucket * size_of::<u64>() / PAGE;
        if head.pages_refused.load(Relaxed) & 1 << page != 0 {
            return false;
        }
        let start = self.pages.offset_of(self.pages.buckets(series, kind)) + page * PAGE;
        debug_assert!((page + 1) * PAGE <= size_of::<Buckets>());
        let backed = self.pages.populate(start, PAGE);
        let pages = if backed {
            &head.pages_ready
        } else {
            &head.pages_refused
        };
        pages.fetch_or(1 << page, Release);
        backed
    }

    #[inline]
    fn chunk_ready(&self, fd: u32) -> bool {
        fd < self.pages.sockets() && bit(&self.pages.header().chunks_ready, fd)
    }

    #[cold]
    fn populate_chunk(&self, fd: u32) -> bool {
        let header = self.pages.header();
        if fd >= self.pages.sockets() || bit(&header.chunks_refused, fd) {
            return false;
        }
        let first = fd / SOCKET_CHUNK as u32 * SOCKET_CHUNK as u32;
        let count = (self.pages.sockets() - first).min(SOCKET_CHUNK as u32) as usize;
        let backed = self.pages.record(first).is_some_and(|record| {
            self.pages.populate(
                self.pages.offset_of(record),
                count * size_of::<SocketRecord>(),
            )
        });
        let bits = if backed {
            &header.chunks_ready
        } else {
            &header.chunks_refused
        };
        let (word, mask) = place(fd);
        bits[word].fetch_or(mask, Release);
        backed
    }
}

impl std::fmt::Debug for Segment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Segment")
            .field("path", &self.path())
            .field("pid", &self.pid)
            .finish_non_exhaustive()
    }
}

/// Word and mask of the bit for a descriptor's chunk of records.
pub(super) const fn place(fd: u32) -> (usize, u64) {
    let chunk = fd as usize / SOCKET_CHUNK;
    (chunk / 64, 1 << (chunk % 64))
}

fn bit(words: &[AtomicU64], fd: u32) -> bool {
    let (word, mask) = place(fd);
    words
        .get(word)
        .is_some_and(|word| word.load(Acquire) & mask != 0)
}

/// Records that this process can need: it may raise its soft limit up to the hard one.
fn socket_limit() -> u32 {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit
        .maximum
        .and_then(|limit| u32::try_from(limit).ok())
        .map_or(MAX_SOCKETS, |limit| limit.clamp(64, MAX_SOCKETS))
}
