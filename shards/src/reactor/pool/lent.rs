//! A piece of received data, without a copy.

use std::fmt;
use std::ops::Deref;
use std::ptr::NonNull;
use std::rc::Rc;

use super::Pool;

/// Received bytes, in the buffer that the kernel has put them in. Dropping it gives the buffer back.
///
/// It belongs to its shard. Who keeps it long keeps a buffer from being used for others; copy what has
/// to stay.
pub struct Lent {
    memory: Memory,
    /// The bytes that are left, in that memory.
    start: NonNull<u8>,
    len: u32,
}

enum Memory {
    Provided(Rc<Pool>, u16),
    /// The address, and the capacity, of a vector.
    Private(Vec<u8>),
}

impl Lent {
    /// A piece that is counted as a user of `buffer`.
    pub(super) fn provided(pool: Rc<Pool>, buffer: u16, start: NonNull<u8>, len: u32) -> Self {
        Self {
            memory: Memory::Provided(pool, buffer),
            start,
            len,
        }
    }

    /// A piece in memory of its own.
    pub(crate) fn private(mut data: Vec<u8>) -> Self {
        let len = data.len() as u32;
        Self {
            start: NonNull::new(data.as_mut_ptr()).unwrap_or(NonNull::dangling()),
            memory: Memory::Private(data),
            len,
        }
    }

    /// Forgets the first `count` bytes, or all.
    pub fn advance(&mut self, count: usize) {
        let count = count.min(self.len as usize);
        // SAFETY: not beyond the end.
        self.start = unsafe { self.start.add(count) };
        self.len -= count as u32;
    }

    /// Keeps the first `count` bytes only.
    pub fn truncate(&mut self, count: usize) {
        self.len = self.len.min(u32::try_from(count).unwrap_or(u32::MAX));
    }
}

impl Deref for Lent {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: these bytes have been written by the kernel (or into the vector), nobody writes to
        // them while this piece is a user of the buffer (or holds the vector), and the pool's memory
        // stays as long as there is a pool.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len as usize) }
    }
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Drop for Lent {
    #[inline]
    fn drop(&mut self) {
        match &mut self.memory {
            Memory::Provided(pool, buffer) => pool.release(*buffer),
            Memory::Private(data) => data.clear(),
        }
    }
}

impl fmt::Debug for Lent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let private = matches!(self.memory, Memory::Private(_));
        f.debug_struct("Lent")
            .field("len", &self.len)
            .field("private", &private)
            .finish()
    }
}
