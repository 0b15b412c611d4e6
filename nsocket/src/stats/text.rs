//! A short text that one process replaces and others read: length and bytes under a sequence lock.

use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::sync::atomic::{AtomicU32, AtomicU64};

use super::seqlock;

/// Room for `8 * WORDS` bytes.
#[repr(C)]
pub(super) struct Text<const WORDS: usize> {
    seq: AtomicU32,
    len: AtomicU32,
    bytes: [AtomicU64; WORDS],
}

impl<const WORDS: usize> Text<WORDS> {
    /// Replaces the text, cut to the room that there is. Gives up (and says so) while another
    /// thread, or the code that this signal handler interrupted, is at it.
    pub(super) fn set(&self, text: &[u8]) -> bool {
        let text = &text[..text.len().min(WORDS * 8)];
        let Some(guard) = seqlock::begin(&self.seq) else {
            return false;
        };
        self.len.store(text.len() as u32, Relaxed);
        store_bytes(&self.bytes, text);
        guard.end();
        true
    }

    /// The text, or `None` while it is being replaced.
    pub(super) fn load(&self) -> Option<Vec<u8>> {
        let before = self.seq.load(Acquire);
        let len = (self.len.load(Relaxed) as usize).min(WORDS * 8);
        let text = load_bytes(&self.bytes, len);
        seqlock::unchanged(&self.seq, before).then_some(text)
    }
}

/// Writes bytes into words; the rest of the last word used is zero.
pub(super) fn store_bytes(words: &[AtomicU64], bytes: &[u8]) {
    for (word, chunk) in words.iter().zip(bytes.chunks(8)) {
        let mut value = [0; 8];
        value[..chunk.len()].copy_from_slice(chunk);
        word.store(u64::from_ne_bytes(value), Relaxed);
    }
}

/// Reads `len` bytes (at most what there is) out of words.
pub(super) fn load_bytes(words: &[AtomicU64], len: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = words
        .iter()
        .take(len.div_ceil(8))
        .flat_map(|word| word.load(Relaxed).to_ne_bytes())
        .collect();
    bytes.truncate(len);
    bytes
}

/// Reads `len` bytes into a buffer of the caller's; returns how many there were. Allocates nothing.
pub(super) fn copy_bytes(words: &[AtomicU64], len: u32, buffer: &mut [u8]) -> usize {
    let len = (len as usize).min(words.len() * 8).min(buffer.len());
    for (chunk, word) in buffer[..len].chunks_mut(8).zip(words) {
        chunk.copy_from_slice(&word.load(Relaxed).to_ne_bytes()[..chunk.len()]);
    }
    len
}

/// Whether words hold exactly these bytes. Allocates nothing.
pub(super) fn bytes_equal(words: &[AtomicU64], bytes: &[u8]) -> bool {
    bytes.len() <= words.len() * 8
        && words
            .iter()
            .zip(bytes.chunks(8))
            .all(|(word, chunk)| word.load(Relaxed).to_ne_bytes()[..chunk.len()] == *chunk)
}
