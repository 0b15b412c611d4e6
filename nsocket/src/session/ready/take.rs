//! The owner's side: taking what is ready, in turn.

use core::ops::Range;

use crate::sync::{AtomicU32, AtomicU64, Ordering};

use super::{BITS, ReadyWords, fence};

/// What the owner of a set remembers of it, in memory of its own: how many sessions it has handed
/// out, and whose turn is next. Threads that wait at one epoll instance share a taker; each bit is
/// taken by one of them.
#[derive(Debug)]
pub struct Taker {
    limit: AtomicU32,
    next: AtomicU32,
}

impl Taker {
    /// The taker of a set that has no sessions yet.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self {
            limit: AtomicU32::new(0),
            next: AtomicU32::new(0),
        }
    }

    /// The taker of a set that has no sessions yet.
    #[cfg(loom)]
    pub fn new() -> Self {
        Self {
            limit: AtomicU32::new(0),
            next: AtomicU32::new(0),
        }
    }

    /// Sessions below `limit` may be ready from now on; bits from there on are not looked at. To be
    /// called before a session's number is told to its peer.
    pub fn admit(&self, limit: u32) {
        self.limit.fetch_max(limit, Ordering::Relaxed);
    }

    /// Whether there may be something to take: one load.
    #[inline]
    pub fn is_ready<const G: usize, const S: usize>(&self, words: &ReadyWords<G, S>) -> bool {
        let groups = groups::<G, S>(self.limit.load(Ordering::Relaxed));
        words.top.load(Ordering::Acquire) & groups != 0
    }

    /// Takes ready sessions into `out`; returns how many. Each bit is cleared before this returns,
    /// with a barrier, so what a writer tells from here on sets it anew; look at the sessions
    /// afterwards, and expect that one has nothing.
    ///
    /// Starts behind the session that was taken last: nobody is taken twice before everybody else
    /// that was ready has been taken once.
    pub fn take<const G: usize, const S: usize>(
        &self,
        words: &ReadyWords<G, S>,
        out: &mut [u16],
    ) -> usize {
        let limit = self
            .limit
            .load(Ordering::Relaxed)
            .min((G * S * BITS) as u32);
        let ready = words.top.load(Ordering::Acquire) & groups::<G, S>(limit);
        if ready == 0 || out.is_empty() {
            return 0;
        }
        let limit = limit as usize;
        let start = self.next.load(Ordering::Relaxed) as usize % limit;
        let first = start / (S * BITS);
        let behind = u64::MAX << first;

        let mut found = Found {
            out,
            taken: 0,
            limit,
        };
        if ready == 1 << first {
            found.group(words, first, [start..limit, 0..start]);
        } else {
            // From the start to the end, from the beginning up to the start's group, and what of that
            // group lies before the start.
            found.groups(words, ready & behind, start..limit);
            found.groups(words, ready & !behind, 0..limit);
            found.groups(words, 1 << first, 0..start);
        }
        if let Some(&last) = found.out[..found.taken].last() {
            self.next.store(u32::from(last) + 1, Ordering::Relaxed);
        }
        fence::after_update();
        found.taken
    }
}

impl Default for Taker {
    fn default() -> Self {
        Self::new()
    }
}

/// The bits of the top word that groups with sessions below `limit` have.
#[inline]
fn groups<const G: usize, const S: usize>(limit: u32) -> u64 {
    below((limit as usize).div_ceil(S * BITS).min(G))
}

/// A word with the lowest `count` bits set.
#[inline]
fn below(count: usize) -> u64 {
    match count {
        0 => 0,
        1..BITS => (1 << count) - 1,
        _ => u64::MAX,
    }
}

/// The lowest `room` bits of those that are set in `word`.
#[inline]
fn lowest(word: u64, room: usize) -> u64 {
    if word.count_ones() as usize <= room {
        return word;
    }
    let mut rest = word;
    for _ in 0..room {
        rest &= rest - 1;
    }
    word ^ rest
}

struct Found<'a> {
    out: &'a mut [u16],
    taken: usize,
    /// Bits from here on do not exist, whatever a peer has set.
    limit: usize,
}

impl Found<'_> {
    /// Visits the groups of `set`, in order, and takes the sessions of `range` from them.
    fn groups<const G: usize, const S: usize>(
        &mut self,
        words: &ReadyWords<G, S>,
        mut set: u64,
        range: Range<usize>,
    ) {
        while set != 0 && !self.is_full() && !range.is_empty() {
            let group = set.trailing_zeros() as usize;
            set &= set - 1;
            self.group(words, group, [range.clone(), 0..0]);
        }
    }

    /// Takes the sessions of two ranges, one after the other, from a group.
    fn group<const G: usize, const S: usize>(
        &mut self,
        words: &ReadyWords<G, S>,
        group: usize,
        ranges: [Range<usize>; 2],
    ) {
        let bit = 1 << group;
        let Some(leaves) = words.leaves.get(group) else {
            return;
        };
        if words.top.load(Ordering::Acquire) & bit == 0 {
            return;
        }
        // Cleared first: who sets a leaf bit behind the scan finds it clear and sets it again.
        words.top.fetch_and(!bit, Ordering::AcqRel);
        fence::after_update();
        let base = group * S * BITS;
        for range in ranges {
            self.leaves(leaves, base, range);
        }
        if self.is_left(leaves, base) {
            words.top.fetch_or(bit, Ordering::AcqRel);
        }
    }

    /// Takes the sessions of a range from the leaves of a group, whose first session is `base`.
    fn leaves<const S: usize>(
        &mut self,
        leaves: &[AtomicU64; S],
        base: usize,
        range: Range<usize>,
    ) {
        let start = range.start.saturating_sub(base);
        let end = range.end.saturating_sub(base).min(S * BITS);
        for index in start / BITS..end.div_ceil(BITS) {
            let Some(leaf) = leaves.get(index) else {
                return;
            };
            let word = leaf.load(Ordering::Acquire);
            if word == 0 {
                continue;
            }
            let first = index * BITS;
            let inside = below(end - first) & !below(start.saturating_sub(first));
            let mine = lowest(word & inside, self.out.len() - self.taken);
            if mine == 0 {
                continue;
            }
            let mut got = leaf.fetch_and(!mine, Ordering::AcqRel) & mine;
            while got != 0 {
                self.out[self.taken] = (base + first + got.trailing_zeros() as usize) as u16;
                self.taken += 1;
                got &= got - 1;
            }
        }
    }

    /// Whether bits of sessions that exist are set in a group: not taken, or set meanwhile.
    fn is_left<const S: usize>(&self, leaves: &[AtomicU64; S], base: usize) -> bool {
        let end = self.limit.saturating_sub(base);
        leaves
            .iter()
            .zip((0..end).step_by(BITS))
            .any(|(leaf, first)| leaf.load(Ordering::Acquire) & below(end - first) != 0)
    }

    fn is_full(&self) -> bool {
        self.taken == self.out.len()
    }
}
