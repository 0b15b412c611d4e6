//! Copies that bypass the caches, for large writes.
//!
//! A line that one core has just written lies in that core's own cache, and another core gets it from
//! there one by one. Written past the caches it goes to memory and back, which is longer but wider.
//! Measured on a virtual machine with two cores of a Zen 4, three alternating runs each, writes of
//! 16 KiB and more into rings of 64 KiB to 8 MiB: 14 to 18 GB/s in most phases, 9 in the worst; ordinary
//! copies 8.5 in most, 2.2 in the worst. (What changes between phases is not known; the host may move
//! the cores.) With room for some MiB, ordinary copies reached 11 to 26 now and then, never for long.
//!
//! Few bytes are better off without, although they pass faster in a stream, because who waits for them
//! waits for memory: 4 KiB there and back take 1.8 us instead of 0.95. 16 KiB are even.
//!
//! `cargo bench -p dmm-nsocket --bench ring` measures what is built.

use core::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_sfence, _mm_stream_si128};

/// From so many bytes on.
pub(super) const FROM_LEN: usize = 16 << 10;

/// Bytes of a cache line: written as a whole, it need not be read first.
const LINE: usize = 64;

/// Copies `len` bytes. What is stored after this is seen after them: an ordinary store with release
/// ordering alone would not see to that.
///
/// # Safety
///
/// As for [`core::ptr::copy_nonoverlapping`].
pub(super) unsafe fn copy(to: *mut u8, from: *const u8, len: usize) {
    let before = to.align_offset(LINE).min(len);
    let lines = (len - before) / LINE;
    // SAFETY: the three parts are what the caller has promised, one behind the other.
    unsafe {
        to.copy_from_nonoverlapping(from, before);
        copy_lines(to.add(before), from.add(before), lines);
        let done = before + lines * LINE;
        to.add(done)
            .copy_from_nonoverlapping(from.add(done), len - done);
    }
}

/// # Safety
///
/// As for [`copy`]; `to` is aligned to a line.
unsafe fn copy_lines(to: *mut u8, from: *const u8, lines: usize) {
    const WORDS: usize = LINE / size_of::<__m128i>();
    let (to, from) = (to.cast::<__m128i>(), from.cast::<__m128i>());
    for line in 0..lines {
        let at = line * WORDS;
        // SAFETY: within the lines; the destination is aligned, the source need not be. SSE2 is part
        // of x86-64. The barrier below comes before anything else is stored for others to see.
        unsafe {
            let words = [0, 1, 2, 3].map(|i| _mm_loadu_si128(from.add(at + i)));
            for (i, word) in words.into_iter().enumerate() {
                _mm_stream_si128(to.add(at + i), word);
            }
        }
    }
    // SAFETY: SSE is part of x86-64.
    unsafe { _mm_sfence() };
}

#[cfg(test)]
mod tests {
    #[test]
    fn copies_what_copying_copies() {
        bolero::check!()
            .with_type::<(u8, u8, u16)>()
            .for_each(|&(to, from, len)| {
                let (to, from, len) = (usize::from(to), usize::from(from), usize::from(len) % 3000);
                let source: Vec<u8> = (0..4000usize).map(|n| (n * 7 / 3) as u8).collect();
                let mut copied = vec![0xaa; 4000];
                // SAFETY: neither reaches beyond 255 + 2999 bytes.
                unsafe { super::copy(copied[to..].as_mut_ptr(), source[from..].as_ptr(), len) };
                assert_eq!(copied[to..to + len], source[from..from + len]);
                let around = copied[..to].iter().chain(&copied[to + len..]);
                assert!(around.into_iter().all(|&byte| byte == 0xaa));
            });
    }
}
