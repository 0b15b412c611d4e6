//! select(2): three sets of bits, of which each bit is an entry for poll(2).

use std::ffi::{c_int, c_short};

use dmm_nsocket::table::CAPACITY;
use libc::fd_set;

use super::set::{Room, Set};
use super::style::{self, Style};
use super::{Call, memory, wait};
use crate::{errno, process, user_memory};

/// The arguments of select(2) but for the time. Each set is null, or has `count` bits, rounded up to
/// whole words: more than FD_SETSIZE if the program has made room for them.
#[derive(Clone, Copy)]
pub(crate) struct Bits {
    pub(crate) count: c_int,
    pub(crate) read: *mut fd_set,
    pub(crate) write: *mut fd_set,
    pub(crate) except: *mut fd_set,
}

const WORD: usize = u64::BITS as usize;

/// What is asked of poll(2) for each set, and what of its answers counts there.
const MEANINGS: [(c_short, c_short); 3] = [
    (style::ASK_READ, style::READ_SET),
    (style::ASK_WRITE, style::WRITE_SET),
    (style::ASK_EXCEPT, style::EXCEPT_SET),
];

/// select(2) and pselect(2). `None`: it is the kernel's, to be made as the program has made it.
#[cold]
pub(crate) fn select(bits: Bits, call: Call) -> Option<c_int> {
    let count = usize::try_from(bits.count)
        .ok()
        .filter(|count| (1..=CAPACITY).contains(count))?;
    let words = count.div_ceil(WORD);
    let sets = [bits.read, bits.write, bits.except].map(<*mut fd_set>::cast::<u64>);
    let is_good = |set: &*mut u64| {
        set.is_null() || user_memory::readable(set.cast(), words * size_of::<u64>())
    };
    if process::is_borrowed() || !sets.iter().all(is_good) {
        return None;
    }
    let entries = Entries { sets, count };
    let room = Room::of(entries.each().count(), entries.each().map(|(fd, _)| fd))?;
    memory::with(room, |work, ours| {
        let mut copy = Set::new(Style::Select, work, ours);
        for (fd, wanted) in entries.each() {
            copy.add(fd, wanted);
        }
        let ready = match wait::wait(&mut copy, call) {
            Ok(ready) => ready,
            Err(code) => return errno::fail(code),
        };
        entries.answer(words, &copy);
        ready as c_int
    })
}

struct Entries {
    sets: [*mut u64; 3],
    count: usize,
}

impl Entries {
    /// The descriptors of which a bit is set, ascending, with what poll(2) is asked of each.
    fn each(&self) -> impl Iterator<Item = (c_int, c_short)> + '_ {
        (0..self.count.div_ceil(WORD)).flat_map(move |at| {
            let words = self.sets.map(|set| self.word(set, at));
            let all = words.into_iter().fold(0, |all, word| all | word);
            ones(all).map(move |bit| {
                let wanted = words
                    .into_iter()
                    .zip(MEANINGS)
                    .filter(|(word, _)| word >> bit & 1 != 0)
                    .fold(0, |wanted, (_, (ask, _))| wanted | ask);
                ((at * WORD) as c_int + bit as c_int, wanted)
            })
        })
    }

    /// A word of a set, without the bits that do not count.
    fn word(&self, set: *mut u64, at: usize) -> u64 {
        if set.is_null() {
            return 0;
        }
        let rest = self.count - at * WORD;
        let mask = if rest < WORD {
            (1 << rest) - 1
        } else {
            u64::MAX
        };
        // SAFETY: so many words can be read, as was asked.
        unsafe { set.add(at).read_unaligned() & mask }
    }

    /// Writes what has come of it.
    fn answer(&self, words: usize, copy: &Set<'_>) {
        for set in self.sets.into_iter().filter(|set| !set.is_null()) {
            for at in 0..words {
                // SAFETY: the program's, to be written by its word.
                unsafe { set.add(at).write_unaligned(0) };
            }
        }
        for outcome in copy.outcomes() {
            let (fd, wanted) = (outcome.fd as usize, outcome.wanted);
            for (set, (ask, counts)) in self.sets.into_iter().zip(MEANINGS) {
                if wanted & ask != 0 && outcome.revents & counts != 0 && !set.is_null() {
                    // SAFETY: as above; the descriptor has a bit there.
                    unsafe {
                        let word = set.add(fd / WORD);
                        word.write_unaligned(word.read_unaligned() | 1 << (fd % WORD));
                    }
                }
            }
        }
    }
}

/// The numbers of the bits that are set, ascending.
fn ones(mut word: u64) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || {
        let bit = (word != 0).then(|| word.trailing_zeros())?;
        word &= word - 1;
        Some(bit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_become_entries() {
        let (mut read, mut write) = ([1 | 1 << 63, 1 << 5], [1_u64 << 63, 1 << 6]);
        let mut entries = |count| Entries {
            sets: [read.as_mut_ptr(), write.as_mut_ptr(), std::ptr::null_mut()],
            count,
        };
        let of = |entries: Entries| entries.each().collect::<Vec<_>>();
        let both = style::ASK_READ | style::ASK_WRITE;
        assert_eq!(of(entries(63)), [(0, style::ASK_READ)]);
        assert_eq!(of(entries(64)), [(0, style::ASK_READ), (63, both)]);
        // The bits from `count` on do not count.
        assert_eq!(
            of(entries(70)),
            [(0, style::ASK_READ), (63, both), (69, style::ASK_READ)]
        );
        assert_eq!(of(entries(71)).last(), Some(&(70, style::ASK_WRITE)));
    }

    #[test]
    fn all_bits_of_a_word_are_found() {
        assert_eq!(ones(u64::MAX).count(), WORD);
        assert_eq!(ones(0).next(), None);
        assert_eq!(ones(1 << 63).collect::<Vec<_>>(), [63]);
    }
}
