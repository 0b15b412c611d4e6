//! The ring through which buffers are provided to the kernel (io_uring_register_buf_ring(3)).

use std::cell::Cell;
use std::io;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;

use super::memory::Region;

/// A ring of buffer entries that the kernel takes from the front of.
///
/// Entries that the kernel has taken stay readable until they are overwritten, a whole turn later:
/// that is how the buffers of a bundle are found, of which the kernel names the first only.
#[derive(Debug)]
pub(crate) struct BufferRing {
    memory: Region,
    entries: u16,
    tail: Cell<u16>,
    /// Where each buffer was last put.
    places: Box<[Cell<u16>]>,
    /// What is at each place.
    order: Box<[Cell<u16>]>,
}

impl BufferRing {
    /// Room for `entries` buffers, a power of two.
    pub(super) fn new(entries: u16) -> io::Result<Self> {
        debug_assert!(entries.is_power_of_two());
        let cells = || (0..entries).map(|_| Cell::new(0)).collect();
        Ok(Self {
            memory: Region::new(usize::from(entries) * size_of::<BufRingEntry>())?,
            entries,
            tail: Cell::new(0),
            places: cells(),
            order: cells(),
        })
    }

    /// Its address and length, for registering it.
    pub(crate) fn registration(&self) -> (u64, u16) {
        (self.base() as u64, self.entries)
    }

    /// The buffer that was provided next after this one.
    ///
    /// # Panics
    ///
    /// If `buffer` is none of the ring's.
    pub(super) fn after(&self, buffer: u16) -> u16 {
        let place = self.places[usize::from(buffer)].get().wrapping_add(1);
        self.order[usize::from(place & (self.entries - 1))].get()
    }

    /// Provides `len` bytes at `address` as `buffer`. There must be room, that is: no more than
    /// `entries` different buffers, and each is provided only when it has been used.
    pub(super) fn provide(&self, buffer: u16, address: u64, len: u32) {
        let tail = self.tail.get();
        let place = tail & (self.entries - 1);
        // SAFETY: the place is inside of the region, and the kernel does not read what is at or
        // behind the tail that it has been shown.
        let entry = unsafe { &mut *self.base().add(usize::from(place)) };
        entry.set_addr(address);
        entry.set_len(len);
        entry.set_bid(buffer);
        self.places[usize::from(buffer)].set(place);
        self.order[usize::from(place)].set(buffer);
        let tail = tail.wrapping_add(1);
        self.tail.set(tail);
        self.shared_tail().store(tail, Ordering::Release);
    }

    fn base(&self) -> *mut BufRingEntry {
        self.memory.at(0).cast().as_ptr()
    }

    fn shared_tail(&self) -> &AtomicU16 {
        // SAFETY: the region begins with an entry, in whose unused part the tail lies (it is aligned
        // for it); this process changes it only here, as an atomic.
        unsafe {
            let tail: *const u16 = BufRingEntry::tail(self.base());
            AtomicU16::from_ptr(tail.cast_mut())
        }
    }
}
