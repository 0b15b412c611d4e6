//! How long bytes lie in a ring, from being published to being read: sampled.
//!
//! Now and then the producer notes, on the line that it is about to publish, the new head and the
//! time. The consumer, which has that line when it looks for bytes, notes on a line of its own how old
//! the stamp is when it reads past that head. What both do for every other call is to count down, and
//! to compare, on a line that is theirs anyway.
//!
//! A stamp stays until it has been read past, so the two words of one are never mixed up, and a reader
//! that is far behind is measured all the same. Nothing of it is trusted: whoever scribbles there
//! falsifies its peer's statistics, by ten seconds at most.
//!
//! The clock is CLOCK_MONOTONIC, which all processes of a host share (but for those in another time
//! namespace, whose samples are meaningless).

use super::{ConsumerWords, ProducerWords, RingWords};
#[cfg(not(loom))]
use crate::sync::Ordering::{Acquire, Relaxed};

/// Publications from one stamp to the next. Odd, so that a program which writes a head and a body in
/// turn has both measured.
#[cfg(not(loom))]
const EVERY: u64 = 257;

/// Older than this, in nanoseconds, no stamp is said to be.
#[cfg(not(loom))]
const OLDEST: u64 = 10_000_000_000;

/// The producer is about to publish this head.
#[inline]
pub(super) fn publishing(own: &ProducerWords, words: &RingWords, head: u64) {
    #[cfg(not(loom))]
    {
        let left = own.unstamped.load(Relaxed);
        own.unstamped.store(left.wrapping_sub(1), Relaxed);
        if left == 0 {
            stamp(own, words, head);
        }
    }
    #[cfg(loom)]
    let _ = (own, words, head);
}

/// The consumer looks at the producer's words.
#[inline]
pub(super) fn looking(own: &ConsumerWords, words: &RingWords) {
    #[cfg(not(loom))]
    own.stamped
        .store(words.published.stamped.load(Relaxed), Relaxed);
    #[cfg(loom)]
    let _ = (own, words);
}

/// The consumer has read up to this tail, and is about to say so.
#[inline]
pub(super) fn reading(own: &ConsumerWords, words: &RingWords, tail: u64) {
    #[cfg(not(loom))]
    {
        let before = own.tail.load(Relaxed);
        let distance = own.stamped.load(Relaxed).wrapping_sub(before);
        // From 1 on: a stamp at `before` has been read past already.
        if distance.wrapping_sub(1) < tail.wrapping_sub(before) {
            note(own, words);
        }
    }
    #[cfg(loom)]
    let _ = (own, words, tail);
}

#[cfg(not(loom))]
#[cold]
fn stamp(own: &ProducerWords, words: &RingWords, head: u64) {
    own.unstamped.store(EVERY - 1, Relaxed);
    let published = &words.published;
    // Acquire: the reader has looked at the time before it said that it had read past it.
    let tail = words.consumed.tail.load(Acquire);
    if tail >= published.stamped.load(Relaxed) {
        published.stamp_time.store(now(), Relaxed);
        // Published together with the head.
        published.stamped.store(head, Relaxed);
    }
}

#[cfg(not(loom))]
#[cold]
fn note(own: &ConsumerWords, words: &RingWords) {
    let age = now().saturating_sub(words.published.stamp_time.load(Relaxed));
    own.waited.store(age.clamp(1, OLDEST), Relaxed);
}

#[cfg(not(loom))]
impl ConsumerWords {
    /// How long a byte has waited from being published to being read, in nanoseconds, at most ten
    /// seconds: the last sample, if there is one that was not taken yet.
    #[inline]
    pub fn take_waited(&self) -> Option<std::num::NonZeroU64> {
        let waited = std::num::NonZeroU64::new(self.waited.load(Relaxed));
        if waited.is_some() {
            self.waited.store(0, Relaxed);
        }
        waited
    }
}

#[cfg(not(loom))]
fn now() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::sync::Ordering::Release;

    struct Ends {
        words: RingWords,
        producer: ProducerWords,
        consumer: ConsumerWords,
    }

    impl Ends {
        fn new() -> Self {
            Self {
                words: RingWords::default(),
                producer: ProducerWords::default(),
                consumer: ConsumerWords::default(),
            }
        }

        fn publish(&self, head: u64) {
            publishing(&self.producer, &self.words, head);
            self.words.published.head.store(head, Release);
        }

        fn read(&self, tail: u64) -> Option<u64> {
            looking(&self.consumer, &self.words);
            reading(&self.consumer, &self.words, tail);
            self.consumer.tail.store(tail, Release);
            self.words.consumed.tail.store(tail, Release);
            self.consumer.take_waited().map(std::num::NonZeroU64::get)
        }
    }

    #[test]
    fn one_in_so_many_is_measured_and_told_once() {
        let ends = Ends::new();
        let samples = (1..=EVERY * 4)
            .filter(|head| {
                ends.publish(*head);
                ends.read(*head).is_some()
            })
            .collect::<Vec<_>>();
        assert_eq!(samples, [1, 1 + EVERY, 1 + 2 * EVERY, 1 + 3 * EVERY]);
        assert_eq!(ends.consumer.take_waited(), None);
    }

    #[test]
    fn a_stamp_that_was_not_read_past_stays() {
        let ends = Ends::new();
        ends.publish(10);
        std::thread::sleep(std::time::Duration::from_millis(5));
        for head in 11..11 + 2 * EVERY {
            ends.publish(head);
        }
        assert_eq!(ends.read(9), None);
        let waited = ends.read(10).unwrap();
        assert!(waited >= 5_000_000, "{waited}");
        assert_eq!(ends.read(11), None);
    }

    #[test]
    fn nonsense_is_bounded() {
        let ends = Ends::new();
        for time in [0, 1, u64::MAX] {
            let before = ends.consumer.tail.load(Relaxed);
            ends.words.published.stamped.store(before + 1, Relaxed);
            ends.words.published.stamp_time.store(time, Relaxed);
            let waited = ends.read(before + 1).unwrap();
            assert!((1..=OLDEST).contains(&waited), "{waited}");
        }
        for stamped in [0, u64::MAX, 1 << 63] {
            ends.words.published.stamped.store(stamped, Relaxed);
            let tail = ends.consumer.tail.load(Relaxed) + 5;
            assert_eq!(ends.read(tail), None);
        }
    }
}
