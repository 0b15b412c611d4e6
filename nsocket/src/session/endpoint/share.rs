//! Endpoints that several processes have after `fork`.
//!
//! What an end keeps to itself (how far it has read and written, who is just doing so) must be one
//! thing for all processes that have the end, and nobody else's: not in the segment, where the peer
//! could lock us out of our own end. So it is private memory at first, and moves to memory that is
//! shared with children just before the process forks. The kernel frees that memory when the last
//! process has unmapped it.
//!
//! A shared endpoint's segment is not used again, and nobody says that the end has finished or closed
//! by closing a descriptor: who is the last to do so only the kernel knows, and it tells the peer by
//! the socket.

use std::ptr::NonNull;

use rustix::mm::{MapFlags, ProtFlags};

use super::{Endpoint, Words};
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
    /// Whether other processes have this end, too.
    pub fn is_shared(&self) -> bool {
        !self.shared.load(Ordering::Acquire).is_null()
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
        let (Some(words), Some(_)) = (shared.words(at), Identity::current()) else {
            return false;
        };
        let (Some(consumer), Some(producer)) = (self.consumer(), self.producer()) else {
            return false;
        };
        words.consumer.copy_from(&self.own.consumer);
        words.producer.copy_from(&self.own.producer);
        // Whoever waits for the old locks gets them, finds that the words have moved, and begins anew.
        self.shared
            .store(std::ptr::from_ref(words).cast_mut(), Ordering::Release);
        drop((consumer, producer));
        true
    }
}
