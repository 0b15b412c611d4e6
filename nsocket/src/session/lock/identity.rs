//! What a holder of a lock is known by.
//!
//! A thread ID alone is not enough: it is used again when the thread has ended. So the word also says
//! *when* the thread was seen to have that ID. If the thread that has the ID now began later than
//! that, it is another one. And IDs differ between PID namespaces, so a few bits tell from which one
//! it is: whoever is in another cannot judge.
//!
//! ```text
//! bits  0..22  thread ID (Linux has no larger ones)
//! bits 22..31  time, lower part                 bit 31  somebody sleeps (the lock's)
//! bits 32..57  time, upper part: hundredths of a second since the machine was started, 5 years
//! bits 57..64  hash of the PID namespace
//! ```
//!
//! The lower half is what a sleeper's futex(2) compares.

use super::SLEEPERS;

const TID_BITS: u32 = 22;
const TIME_LOW_BITS: u32 = 9;
const TIME_HIGH_BITS: u32 = 25;

const TID: u64 = (1 << TID_BITS) - 1;
const TIME_LOW: u64 = (1 << TIME_LOW_BITS) - 1;
const TIME_HIGH: u64 = (1 << TIME_HIGH_BITS) - 1;

/// A thread, as it is known to all processes of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity(u64);

impl Identity {
    /// A thread that exists at `time`, in hundredths of a second since the machine was started, and
    /// whose ID is `tid`, in the PID namespace with that hash. `None` if there is no such ID.
    pub const fn new(tid: u32, time: u64, namespace: u8) -> Option<Self> {
        if tid == 0 || tid as u64 > TID {
            return None;
        }
        let low = time & TIME_LOW;
        let high = time >> TIME_LOW_BITS & TIME_HIGH;
        Some(Self(
            tid as u64 | low << TID_BITS | high << 32 | (namespace as u64) << (32 + TIME_HIGH_BITS),
        ))
    }

    /// The one in a lock's word. `None` if there is none, or none that is possible.
    pub(super) const fn of(word: u64) -> Option<Self> {
        if word & TID == 0 {
            None
        } else {
            Some(Self(word & !SLEEPERS))
        }
    }

    /// The thread ID in a lock's word.
    pub(super) const fn tid_of(word: u64) -> u32 {
        (word & TID) as u32
    }

    #[inline]
    pub(super) const fn word(self) -> u64 {
        self.0
    }

    /// The thread ID.
    pub const fn tid(self) -> u32 {
        Self::tid_of(self.0)
    }

    /// When it was alive, in hundredths of a second since the machine was started.
    pub const fn time(self) -> u64 {
        self.0 >> TID_BITS & TIME_LOW | (self.0 >> 32 & TIME_HIGH) << TIME_LOW_BITS
    }

    /// The hash of its PID namespace: 7 bits.
    pub const fn namespace(self) -> u8 {
        (self.0 >> (32 + TIME_HIGH_BITS)) as u8
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_in_comes_out() {
        bolero::check!()
            .with_type::<(u32, u64, u8)>()
            .for_each(|&(tid, time, namespace)| {
                let (time, namespace) = (time % (1 << 34), namespace % 128);
                let Some(identity) = Identity::new(tid, time, namespace) else {
                    assert!(tid == 0 || tid >= 1 << 22);
                    return;
                };
                assert_eq!(
                    (identity.tid(), identity.time(), identity.namespace()),
                    (tid, time, namespace)
                );
                assert_eq!(identity.word() & SLEEPERS, 0);
                assert_eq!(Identity::of(identity.word() | SLEEPERS), Some(identity));
            });
    }
}
