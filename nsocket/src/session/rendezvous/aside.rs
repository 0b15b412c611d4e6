//! Connections whose offer has not come yet: a small table that threads share without a lock.
//!
//! Between connect(2) and the offer lies one system call of the peer, and a peer may take as long as
//! it wants for it. It waits here, at most for [`PATIENCE_MS`], while others are served.

use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};

use crate::sync::{AtomicU64, Ordering};

/// How many connections may wait.
pub(super) const SLOTS: usize = 32;

/// How long one may wait, in milliseconds.
pub(super) const PATIENCE_MS: u32 = 1000;

/// How long one waits whose offer has come when the process had no descriptors left. It is not the
/// peer's fault, and with TCP it would wait as long as it likes.
pub(super) const PATIENCE_WITHOUT_ROOM_MS: u32 = 60_000;

/// A slot is empty (0), or owns a descriptor: its number plus one in the upper half, the deadline in
/// the lower one. Whoever swaps a word out owns what it says.
#[derive(Debug)]
pub(super) struct Aside([AtomicU64; SLOTS]);

/// A connection and when its time is up, in milliseconds of a clock that wraps around.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) connection: OwnedFd,
    pub(super) deadline: u32,
}

impl Waiting {
    pub(super) const fn is_late(&self, now: u32) -> bool {
        now.wrapping_sub(self.deadline) as i32 >= 0
    }
}

impl Aside {
    pub(super) fn new() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }

    /// Takes the connection of a slot out; whoever gets it is alone with it.
    pub(super) fn take(&self, slot: usize) -> Option<Waiting> {
        let place = &self.0[slot];
        if place.load(Ordering::Relaxed) == 0 {
            return None;
        }
        unpack(place.swap(0, Ordering::Acquire))
    }

    /// Puts a connection aside. If the table is full, the one that waits longest makes room and is
    /// returned.
    pub(super) fn put(&self, waiting: Waiting) -> Option<Waiting> {
        let deadline = waiting.deadline;
        let word = pack(waiting);
        for place in &self.0 {
            if place
                .compare_exchange(0, word, Ordering::Release, Ordering::Relaxed)
                .is_ok()
            {
                return None;
            }
        }
        let oldest = self.0.iter().max_by_key(|place| {
            let word = place.load(Ordering::Relaxed);
            deadline.wrapping_sub(word as u32) as i32
        });
        match oldest {
            Some(place) => unpack(place.swap(word, Ordering::AcqRel)),
            None => unpack(word),
        }
    }

    /// The numbers of the descriptors that wait.
    pub(super) fn descriptors(&self) -> impl Iterator<Item = i32> + '_ {
        self.0.iter().filter_map(|place| {
            let word = place.load(Ordering::Relaxed);
            (word != 0).then(|| (word >> 32) as i32 - 1)
        })
    }

    pub(super) fn clear(&self) {
        for slot in 0..SLOTS {
            drop(self.take(slot));
        }
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        self.clear();
    }
}

fn pack(waiting: Waiting) -> u64 {
    let fd = waiting.connection.into_raw_fd();
    (fd as u64 + 1) << 32 | u64::from(waiting.deadline)
}

fn unpack(word: u64) -> Option<Waiting> {
    if word == 0 {
        return None;
    }
    let fd = (word >> 32) as i32 - 1;
    // SAFETY: the word was made by `pack`, which gave the descriptor up to it, and has been swapped
    // out, so that nobody else has it.
    let connection = unsafe { OwnedFd::from_raw_fd(fd) };
    Some(Waiting {
        connection,
        deadline: word as u32,
    })
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_full_table_gives_up_the_oldest() {
        let aside = Aside::new();
        let mut peers = Vec::new();
        // The clock wraps around in the middle.
        let start = u32::MAX - 10;
        for i in 0..SLOTS as u32 {
            let (ours, theirs) = UnixStream::pair().unwrap();
            peers.push(theirs);
            let waiting = Waiting {
                connection: ours.into(),
                deadline: start.wrapping_add((i + 7) % SLOTS as u32),
            };
            assert!(aside.put(waiting).is_none());
        }
        assert_eq!(aside.descriptors().count(), SLOTS);
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let number = ours.as_raw_fd();
        let waiting = Waiting {
            connection: ours.into(),
            deadline: start.wrapping_add(1000),
        };
        let gone = aside.put(waiting).unwrap();
        assert_eq!(gone.deadline, start);
        assert!(gone.is_late(start) && !gone.is_late(start.wrapping_sub(1)));
        assert!(aside.descriptors().any(|fd| fd == number));
        drop(gone);
        assert_eq!(peers[SLOTS - 7].read(&mut [0]).unwrap(), 0, "closed");
        drop(aside);
        for mut peer in peers {
            assert_eq!(peer.read(&mut [0]).unwrap(), 0, "closed");
        }
    }
}
