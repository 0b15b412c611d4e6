//! Tables of names in the segment: rules, stacks and QoS classes become small numbers.
//!
//! A table has a hash word for each name. Names are taken in order, so that a program with few of
//! them touches little memory, and searched from the start, which is fast for the handful that a
//! process meets. No lock: a slot is claimed by a compare-and-swap; a writer that dies halfway
//! wastes its slot. Two threads that intern one name at the same instant may get a slot each; the
//! reader merges equal names.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Release};

/// Name number of everything that found its table full. Always slot 0.
pub(super) const OTHER: u16 = 0;
/// How the number [`OTHER`] is shown.
pub(super) const OTHER_NAME: &str = "(other)";

const EMPTY: u64 = 0;
const STATE: u64 = 3;
const WRITING: u64 = 1;
const READY: u64 = 2;
const WASTED: u64 = 3;

/// Whether a hash word says that its slot may be read.
pub(super) const fn is_ready(word: u64) -> bool {
    word & STATE == READY
}

/// Finds the slot of a name, or fills a new one. `equals` compares a ready slot with the name;
/// `fill` writes a new one, or says that there is no memory for it. `None` if the table is full.
pub(super) fn intern(
    words: &[AtomicU64],
    hash: u64,
    equals: impl Fn(usize) -> bool,
    fill: impl Fn(usize) -> bool,
) -> Option<usize> {
    let ready = (hash & !STATE) | READY;
    let writing = (hash & !STATE) | WRITING;
    let mut slot = 0;
    while slot < words.len() {
        let word = words[slot].load(Acquire);
        if word == ready && equals(slot) {
            return Some(slot);
        }
        if word == EMPTY {
            if words[slot]
                .compare_exchange(EMPTY, writing, AcqRel, Acquire)
                .is_err()
            {
                continue; // Somebody took it: perhaps for this very name.
            }
            if fill(slot) {
                words[slot].store(ready, Release);
                return Some(slot);
            }
            words[slot].store(WASTED, Release);
            return None;
        }
        slot += 1;
    }
    None
}

/// FNV-1a, 64 bits: short names, no state, no allocation.
pub(super) fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_its_slot_and_a_full_table_says_so() {
        let words: [AtomicU64; 3] = std::array::from_fn(|_| AtomicU64::new(EMPTY));
        let slot = |name: &str| intern(&words, hash(name.as_bytes()), |_| true, |_| true);
        assert_eq!(slot("a"), Some(0));
        assert_eq!(slot("b"), Some(1));
        assert_eq!(slot("a"), Some(0));
        assert_eq!(slot("c"), Some(2));
        assert_eq!(slot("d"), None);
    }

    #[test]
    fn a_slot_without_memory_is_wasted() {
        let words: [AtomicU64; 2] = std::array::from_fn(|_| AtomicU64::new(EMPTY));
        assert_eq!(intern(&words, hash(b"a"), |_| true, |_| false), None);
        assert_eq!(intern(&words, hash(b"a"), |_| true, |_| true), Some(1));
    }
}
