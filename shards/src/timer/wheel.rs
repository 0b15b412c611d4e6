//! A hierarchical timer wheel: deadlines in, what is due out; no clock of its own.
//!
//! Eleven wheels of 64 slots stand for the 64 bits of a time, six bits each. A timer is on the wheel of
//! the highest digit in which its deadline differs from now; when that digit's slot comes up, its timers
//! move to finer wheels. Adding and cancelling take constant time, and each timer moves at most ten
//! times. A word of bits a wheel tells which slots are occupied, so that empty time is skipped.

const BITS: u32 = 6;
const SLOTS: usize = 1 << BITS;
const WHEELS: usize = 11;
const NONE: u32 = u32::MAX;

/// Names a timer. A key of one that is over finds nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimerKey {
    index: u32,
    generation: u32,
}

/// Timers that carry a `T` each. Times are ticks, of whatever length.
#[derive(Debug)]
pub(crate) struct Wheel<T> {
    now: u64,
    heads: [[u32; SLOTS]; WHEELS],
    occupied: [u64; WHEELS],
    timers: Vec<Timer<T>>,
    free: u32,
    len: usize,
}

#[derive(Debug)]
struct Timer<T> {
    deadline: u64,
    value: Option<T>,
    generation: u32,
    /// Neighbours in the slot's list; `next` also links the free ones.
    next: u32,
    previous: u32,
}

impl<T> Wheel<T> {
    pub(crate) fn new() -> Self {
        Self {
            now: 0,
            heads: [[NONE; SLOTS]; WHEELS],
            occupied: [0; WHEELS],
            timers: Vec::new(),
            free: NONE,
            len: 0,
        }
    }

    /// Adds a timer. It is due at the first [`advance`](Self::advance) to `deadline` or beyond that goes
    /// on from `now`: not in the tick that is now.
    pub(crate) fn insert(&mut self, now: u64, deadline: u64, value: T) -> TimerKey {
        if self.len == 0 {
            // Nothing happened since: time may jump.
            self.now = self.now.max(now);
        }
        let deadline = deadline.max(self.now + 1);
        let index = self.allocate(deadline, value);
        self.link(index);
        self.len += 1;
        TimerKey {
            index,
            generation: self.timers[index as usize].generation,
        }
    }

    /// What a timer carries, if it is not over.
    pub(crate) fn find_mut(&mut self, key: TimerKey) -> Option<&mut T> {
        let timer = self.timers.get_mut(key.index as usize)?;
        timer
            .value
            .as_mut()
            .filter(|_| timer.generation == key.generation)
    }

    /// Ends a timer before its time.
    pub(crate) fn cancel(&mut self, key: TimerKey) -> Option<T> {
        self.find_mut(key)?;
        self.unlink(key.index);
        self.release(key.index)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// When there will be something to do: the first deadline, or a time before it.
    pub(crate) fn next(&self) -> Option<u64> {
        (0..WHEELS)
            .find_map(|wheel| self.next_on(wheel))
            .map(|(time, _, _)| time)
    }

    /// Goes on to `now`, and gives out what has become due, in the order of ticks.
    pub(crate) fn advance(&mut self, now: u64, mut due: impl FnMut(T)) {
        while let Some((time, wheel, slot)) = (0..WHEELS).find_map(|wheel| self.next_on(wheel)) {
            if time > now {
                break;
            }
            self.now = self.now.max(time);
            self.occupied[wheel] &= !(1 << slot);
            let mut index = std::mem::replace(&mut self.heads[wheel][slot], NONE);
            while index != NONE {
                let next = self.timers[index as usize].next;
                if self.timers[index as usize].deadline <= self.now {
                    if let Some(value) = self.release(index) {
                        due(value);
                    }
                } else {
                    self.link(index);
                }
                index = next;
            }
        }
        self.now = self.now.max(now);
    }

    /// The first occupied slot of a wheel, and when it comes up. All that is on a finer wheel comes
    /// before.
    fn next_on(&self, wheel: usize) -> Option<(u64, usize, usize)> {
        let occupied = self.occupied[wheel];
        if occupied == 0 {
            return None;
        }
        // All slots are ahead of now's digit: a timer differs from now in this digit first.
        let slot = occupied.trailing_zeros() as usize;
        let shift = BITS * wheel as u32;
        let above = self.now.checked_shr(shift + BITS).unwrap_or(0);
        let above = above.checked_shl(shift + BITS).unwrap_or(0);
        Some((above | (slot as u64) << shift, wheel, slot))
    }

    /// Puts a timer into the slot of its deadline.
    fn link(&mut self, index: u32) {
        let (wheel, slot) = self.place(self.timers[index as usize].deadline);
        let next = std::mem::replace(&mut self.heads[wheel][slot], index);
        self.occupied[wheel] |= 1 << slot;
        let timer = &mut self.timers[index as usize];
        timer.next = next;
        timer.previous = NONE;
        if next != NONE {
            self.timers[next as usize].previous = index;
        }
    }

    fn unlink(&mut self, index: u32) {
        let Timer {
            next,
            previous,
            deadline,
            ..
        } = self.timers[index as usize];
        if next != NONE {
            self.timers[next as usize].previous = previous;
        }
        if previous != NONE {
            self.timers[previous as usize].next = next;
            return;
        }
        // It has stayed where it was put: time has not passed its slot, and until then the first digit in
        // which its deadline differs from now is the same.
        let (wheel, slot) = self.place(deadline);
        self.heads[wheel][slot] = next;
        if next == NONE {
            self.occupied[wheel] &= !(1 << slot);
        }
    }

    fn place(&self, deadline: u64) -> (usize, usize) {
        let differing = (deadline ^ self.now) | (SLOTS as u64 - 1);
        let wheel = (63 - differing.leading_zeros()) / BITS;
        let slot = (deadline >> (wheel * BITS)) & (SLOTS as u64 - 1);
        (wheel as usize, slot as usize)
    }

    fn allocate(&mut self, deadline: u64, value: T) -> u32 {
        if self.free == NONE {
            self.timers.push(Timer {
                deadline,
                value: Some(value),
                generation: 0,
                next: NONE,
                previous: NONE,
            });
            return (self.timers.len() - 1) as u32;
        }
        let index = self.free;
        let timer = &mut self.timers[index as usize];
        self.free = timer.next;
        timer.deadline = deadline;
        timer.value = Some(value);
        index
    }

    /// Frees a timer that is in no list.
    fn release(&mut self, index: u32) -> Option<T> {
        let timer = &mut self.timers[index as usize];
        timer.generation = timer.generation.wrapping_add(1);
        timer.next = self.free;
        self.free = index;
        self.len -= 1;
        timer.value.take()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn fired(wheel: &mut Wheel<u32>, now: u64) -> Vec<u32> {
        let mut due = Vec::new();
        wheel.advance(now, |value| due.push(value));
        due
    }

    #[test]
    fn timers_fire_at_their_tick_and_not_before() {
        let mut wheel = Wheel::new();
        for (value, deadline) in [5, 64, 65, 4096, 300_000].into_iter().enumerate() {
            wheel.insert(0, deadline, value as u32);
        }
        assert_eq!(fired(&mut wheel, 4), []);
        assert_eq!(fired(&mut wheel, 5), [0]);
        assert_eq!(fired(&mut wheel, 63), []);
        assert_eq!(fired(&mut wheel, 4095), [1, 2]);
        assert_eq!(fired(&mut wheel, 299_999), [3]);
        assert_eq!(fired(&mut wheel, u64::MAX), [4]);
        assert!(wheel.is_empty());
    }

    #[test]
    fn a_cancelled_timer_is_gone() {
        let mut wheel = Wheel::new();
        let key = wheel.insert(0, 100, 1);
        wheel.insert(0, 100, 2);
        assert_eq!(wheel.cancel(key), Some(1));
        assert_eq!(wheel.cancel(key), None);
        let next = wheel.insert(0, 50, 3);
        assert_eq!(wheel.find_mut(key), None, "its place was used again");
        assert_eq!(wheel.find_mut(next), Some(&mut 3));
        assert_eq!(fired(&mut wheel, 100), [3, 2]);
    }

    #[test]
    fn an_empty_wheel_follows_the_clock() {
        let mut wheel = Wheel::new();
        wheel.insert(1 << 40, (1 << 40) + 3, 1);
        assert_eq!(
            wheel.next(),
            Some((1 << 40) + 3),
            "and not a coarser time before it"
        );
    }

    proptest! {
        /// The wheel against a sorted map, under anything that can be done to it.
        #[test]
        fn the_wheel_is_a_sorted_map(steps in proptest::collection::vec((0..4u8, 0..40u32, any::<u64>()), 1..200)) {
            let mut wheel = Wheel::new();
            let mut model: BTreeMap<(u64, u32), TimerKey> = BTreeMap::new();
            let mut now = 0u64;
            for (id, (what, bits, number)) in (0u32..).zip(steps) {
                let span = number & ((1 << bits) - 1);
                match what {
                    0 | 1 => {
                        let deadline = (now + span).max(now + 1);
                        model.insert((deadline, id), wheel.insert(now, now + span, id));
                    }
                    2 => {
                        let nth = number as usize % (model.len() + 1);
                        if let Some((&(deadline, id), &key)) = model.iter().nth(nth) {
                            prop_assert_eq!(wheel.cancel(key), Some(id));
                            model.remove(&(deadline, id));
                        }
                    }
                    _ => {
                        if let (Some(next), Some((&(first, _), _))) = (wheel.next(), model.first_key_value()) {
                            prop_assert!(next <= first && next > now);
                        }
                        now += span;
                        let mut due = fired(&mut wheel, now);
                        let later = model.split_off(&(now + 1, 0));
                        let mut expected: Vec<_> = model.keys().map(|&(_, id)| id).collect();
                        model = later;
                        due.sort_unstable();
                        expected.sort_unstable();
                        prop_assert_eq!(due, expected);
                    }
                }
                prop_assert_eq!(wheel.is_empty(), model.is_empty());
            }
        }
    }
}
