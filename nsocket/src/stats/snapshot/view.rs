//! Pieces of a segment, copied out of its file and looked at through the layout.
//!
//! Copies, by pread(2), and never a mapping: the owner of the file could cut it short at any moment,
//! and a page beyond the end of a mapped file is a SIGBUS.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::SnapshotError;
use crate::stats::layout::{Buckets, Header, Rule, Series, ShortName, SocketRecord};

/// A part of the layout that may be looked at in any bytes.
///
/// # Safety
///
/// The type consists of atomic integers alone, without padding that matters, so that every bit
/// pattern is a valid value, and its alignment is at most eight.
pub(super) unsafe trait Part {}

// SAFETY: atomic integers alone (see `layout`), aligned to eight.
unsafe impl Part for Header {}
// SAFETY: as above.
unsafe impl Part for ShortName {}
// SAFETY: as above.
unsafe impl Part for Rule {}
// SAFETY: as above.
unsafe impl Part for Series {}
// SAFETY: as above.
unsafe impl Part for Buckets {}
// SAFETY: as above.
unsafe impl Part for SocketRecord {}

/// A private copy of some bytes of a segment.
pub(super) struct Copy {
    words: Vec<u64>,
}

impl Copy {
    /// Reads `bytes` (a multiple of eight) at `offset`.
    pub(super) fn read(file: &File, offset: usize, bytes: usize) -> Result<Self, SnapshotError> {
        let mut copy = Self { words: Vec::new() };
        copy.refill(file, offset, bytes)?;
        Ok(copy)
    }

    /// Reads other bytes into the same memory.
    pub(super) fn refill(
        &mut self,
        file: &File,
        offset: usize,
        bytes: usize,
    ) -> Result<(), SnapshotError> {
        assert!(bytes.is_multiple_of(8));
        self.words.clear();
        self.words.resize(bytes / 8, 0);
        // SAFETY: the words are initialised memory of exactly this many bytes, borrowed mutably, and
        // a byte has no alignment and no invalid value.
        let buffer =
            unsafe { std::slice::from_raw_parts_mut(self.words.as_mut_ptr().cast::<u8>(), bytes) };
        file.read_exact_at(buffer, offset as u64)
            .map_err(|error| match error.kind() {
                std::io::ErrorKind::UnexpectedEof => SnapshotError::Truncated,
                _ => SnapshotError::Read(error),
            })
    }

    /// The part at the `index`-th place of an array of such parts.
    pub(super) fn part<T: Part>(&self, index: usize) -> &T {
        const { assert!(align_of::<T>() <= 8 && size_of::<T>().is_multiple_of(8)) };
        let start = index * size_of::<T>() / 8;
        let words = &self.words[start..start + size_of::<T>() / 8];
        // SAFETY: the slice is as long as the part and aligned to eight; `Part` says that any bytes
        // will do. Nobody writes through the reference: the reader only loads.
        unsafe { &*words.as_ptr().cast::<T>() }
    }

    /// All words.
    pub(super) fn words(&self) -> &[u64] {
        &self.words
    }

    /// The words of the part at the `index`-th place.
    pub(super) fn words_of<T: Part>(&self, index: usize) -> &[u64] {
        let start = index * size_of::<T>() / 8;
        &self.words[start..start + size_of::<T>() / 8]
    }
}
