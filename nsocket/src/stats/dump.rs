//! A copy of a segment in a file, as on SIGUSR2: by system calls alone, in a signal handler if need
//! be. The copy is a segment like any other; the tools read it with `--from`.

use std::ffi::CStr;
use std::sync::atomic::Ordering::Relaxed;

use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::counter::Counter;
use super::histogram::HistogramKind;
use super::layout::{Header, PAGE, SOCKET_CHUNK, SocketRecord};
use super::names::is_ready;
use super::process::file_size_allowed;
use super::segment::{Segment, place};

/// Bytes copied at a time, on the stack: signal stacks are small.
const PIECE: usize = 1024;

impl Segment {
    /// Writes a copy to a new file. Holes stay holes.
    ///
    /// # Errors
    ///
    /// Those of open(2) (`EXIST`: a file that is there is not touched: in a directory that others may
    /// write to, it could be theirs), ftruncate(2) and pwrite(2); `FBIG` under a file size limit.
    pub fn dump(&self, path: &CStr) -> Result<(), Errno> {
        if !file_size_allowed(self.pages.len() as u64) {
            return Err(Errno::FBIG);
        }
        let file = rustix::fs::open(
            path,
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::RUSR | Mode::WUSR,
        )?;
        self.add(Counter::HistogramDumps, 1);
        // Holes stay holes: only what is backed with memory is read, and written.
        rustix::fs::ftruncate(&file, self.pages.len() as u64)?;
        self.dump_tables(&file)?;
        self.dump_sockets(&file)?;
        // The header last, so that a copy cut short is not taken for a whole one.
        self.copy_range(&file, 0, size_of::<Header>())
    }

    fn dump_tables(&self, file: &OwnedFd) -> Result<(), Errno> {
        let header = self.pages.header();
        for (slot, word) in header.stack_words.iter().enumerate() {
            if is_ready(word.load(Relaxed)) {
                self.copy_part(file, self.pages.stack(slot))?;
            }
        }
        for (slot, word) in header.class_words.iter().enumerate() {
            if is_ready(word.load(Relaxed)) {
                self.copy_part(file, self.pages.class(slot))?;
            }
        }
        for (slot, word) in header.rule_words.iter().enumerate() {
            if is_ready(word.load(Relaxed)) {
                self.copy_part(file, self.pages.rule(slot))?;
            }
        }
        for (slot, word) in header.series_words.iter().enumerate() {
            if is_ready(word.load(Relaxed)) {
                self.copy_part(file, self.pages.series(slot))?;
                self.dump_histograms(file, slot)?;
            }
        }
        Ok(())
    }

    fn dump_histograms(&self, file: &OwnedFd, series: usize) -> Result<(), Errno> {
        for kind in HistogramKind::ALL {
            let head = &self.pages.series(series).histograms[kind as usize];
            let start = self.pages.offset_of(self.pages.buckets(series, kind));
            let ready = head.pages_ready.load(Relaxed);
            for page in (0..u32::BITS).filter(|page| ready & 1 << page != 0) {
                self.copy_range(file, start + page as usize * PAGE, PAGE)?;
            }
        }
        Ok(())
    }

    fn dump_sockets(&self, file: &OwnedFd) -> Result<(), Errno> {
        let header = self.pages.header();
        let used = header.sockets_used.load(Relaxed).min(self.pages.sockets());
        for start in (0..used).step_by(SOCKET_CHUNK) {
            let (word, mask) = place(start);
            if header.chunks_ready[word].load(Relaxed) & mask == 0 {
                continue;
            }
            let count = (used - start).min(SOCKET_CHUNK as u32) as usize;
            if let Some(record) = self.pages.record(start) {
                let offset = self.pages.offset_of(record);
                self.copy_range(file, offset, count * size_of::<SocketRecord>())?;
            }
        }
        Ok(())
    }

    fn copy_part<T>(&self, file: &OwnedFd, part: &T) -> Result<(), Errno> {
        self.copy_range(file, self.pages.offset_of(part), size_of::<T>())
    }

    fn copy_range(&self, file: &OwnedFd, offset: usize, len: usize) -> Result<(), Errno> {
        let mut piece = [0_u8; PIECE];
        let mut at = offset;
        let end = offset + len;
        while at < end {
            let piece = &mut piece[..(end - at).min(PIECE)];
            for (i, word) in piece.chunks_exact_mut(8).enumerate() {
                word.copy_from_slice(&self.pages.word(at + i * 8).to_ne_bytes());
            }
            write_all(file, piece, at as u64)?;
            at += piece.len();
        }
        Ok(())
    }
}

fn write_all(file: &OwnedFd, mut bytes: &[u8], mut offset: u64) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::pwrite(file, bytes, offset) {
            Ok(0) => return Err(Errno::NOSPC),
            Ok(written) => {
                bytes = &bytes[written..];
                offset += written as u64;
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
