//! Endpoints that several processes have after `fork`.
//!
//! What an end keeps to itself (how far it has read and written, who is just doing so) must be one
//! thing for all processes that have the end, and nobody else's: not in the segment, where the peer
//! could lock us out of our own end. So it is private memory at first, and moves to memory that is
//! shared with children just before the process forks. The kernel frees that memory when the last
//! process has unmapped it.
//!
//! A shared endpoint's segment is not used again. Whoever closes it says nothing to the peer unless it
//! is the last process of those that are counted; one that was killed stays counted, and then it is the
//! kernel that tells the peer, by the socket.
//!
//! Tokens are for all processes, and wake one sleeper. So those who sleep for the end alone are counted,
//! too: the first of them has the tokens.

use std::ptr::NonNull;

use rustix::mm::{MapFlags, ProtFlags};

use super::{Endpoint, Stop, Words};
use crate::session::lock::Identity;
use crate::sync::Ordering;

/// Memory for the words of endpoints that a child is to share. Unmapped when dropped.
#[derive(Debug)]
pub struct Shared {
    start: NonNull<Words>,
    count: usize,
}

// SAFETY: the mapping belongs to the value, and its words are atomics.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    /// Memory for so many endpoints, shared with every child that is forked from now on.
    pub fn new(count: usize) -> Option<Self> {
        let len = count.checked_mul(size_of::<Words>())?.max(1);
        // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing.
        let start = unsafe {
            rustix::mm::mmap_anonymous(
                std::ptr::null_mut(),
                len,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
            )
        }
        .ok()?;
        Some(Self {
            start: NonNull::new(start.cast())?,
            count,
        })
    }

    fn words(&self, at: usize) -> Option<&Words> {
        // SAFETY: inside the mapping; zeroed memory is a valid value, made of atomics.
        (at < self.count).then(|| unsafe { self.start.add(at).as_ref() })
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let len = (self.count * size_of::<Words>()).max(1);
        // SAFETY: the mapping is ours, and who drops it has stopped using its endpoints.
        let _ = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), len) };
    }
}

impl Endpoint {
    /// Whether other processes have this end, too, or have had it.
    #[inline]
    pub fn is_shared(&self) -> bool {
        !self.shared.load(Ordering::Acquire).is_null()
    }

    /// Whether this process has but a copy of what its parent keeps of the end: it was made out of our
    /// sight, or sharing has failed. It must not use the end, and every call says ECONNRESET.
    #[inline]
    pub fn is_foreign(&self) -> bool {
        !self.is_shared() && Identity::incarnation().is_none_or(|now| now != self.maker)
    }

    /// Before a fork: moves what this end keeps to itself to the place of that number, so that the
    /// child has it, too. `shared` must outlive the endpoint. False if a thread cannot be kept from
    /// using the end, which the child then must not use.
    ///
    /// # Safety
    ///
    /// `shared` is not dropped as long as this endpoint is used.
    pub unsafe fn share(&self, shared: &Shared, at: usize) -> bool {
        let header = self.header();
        header.mark_shared();
        if self.is_shared() {
            return true;
        }
        let Some(words) = shared.words(at) else {
            return false;
        };
        let (Some(consumer), Some(producer)) = (self.consumer(), self.producer()) else {
            return false;
        };
        words.consumer.copy_from(&self.own.consumer);
        words.producer.copy_from(&self.own.producer);
        words.holders.store(1, Ordering::Relaxed);
        // Whoever waits for the old locks gets them, finds that the words have moved, and begins anew.
        self.shared
            .store(std::ptr::from_ref(words).cast_mut(), Ordering::Release);
        drop((consumer, producer));
        true
    }

    /// One more process is about to have a shared end.
    pub fn join(&self) {
        if let Some(words) = self.shared_words() {
            words.holders.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// A process does not have a shared end any more. Says whether it was the last one that is known;
    /// a process that was killed leaves its part behind, and then the kernel says who was the last.
    pub fn leave(&self) -> bool {
        self.shared_words()
            .is_some_and(|words| words.holders.fetch_sub(1, Ordering::AcqRel) == 1)
    }

    /// Processes that have the end, as far as is known.
    pub fn holders(&self) -> u32 {
        self.shared_words()
            .map_or(1, |words| words.holders.load(Ordering::Acquire))
    }

    /// A thread is about to sleep for this end alone. Says whether it is the only one: a token wakes one
    /// sleeper, and whoever is not the first must look by itself now and then, and leave the tokens to
    /// the first. Undone by [`rise`](Self::rise).
    pub fn lie_down(&self) -> bool {
        self.shared_words()
            .is_none_or(|words| words.sleepers.fetch_add(1, Ordering::AcqRel) == 0)
    }

    /// After [`lie_down`](Self::lie_down).
    pub fn rise(&self) {
        if let Some(words) = self.shared_words() {
            // It may have been shared in between.
            let less = |n: u32| n.checked_sub(1);
            let _ = words
                .sleepers
                .fetch_update(Ordering::AcqRel, Ordering::Relaxed, less);
        }
    }

    /// Whether threads sleep for this end alone, and are to have its tokens.
    pub(super) fn has_sleepers(&self) -> bool {
        self.shared_words()
            .is_some_and(|words| words.sleepers.load(Ordering::Acquire) > 0)
    }

    /// Whether another process that has the end has finished or reset it.
    #[inline]
    pub(super) fn is_finished_elsewhere(&self) -> bool {
        self.is_shared()
            && self
                .header()
                .status(self.side)
                .load(self.generation)
                .is_ok_and(|state| state.is_finished() || state.is_reset())
    }

    /// Why an end's lock was not to be had.
    #[cold]
    pub(super) fn not_to_be_had(&self) -> Stop {
        if self.is_foreign() {
            Stop::Error(libc::ECONNRESET)
        } else {
            Stop::Busy
        }
    }

    fn shared_words(&self) -> Option<&Words> {
        // SAFETY: null, or memory that is mapped as long as the endpoint lives.
        unsafe { self.shared.load(Ordering::Acquire).as_ref() }
    }
}
