//! The bytes of a ring under the model checker: each one a cell that loom watches, so that two
//! accesses which the indexes do not order are reported.

use loom::cell::UnsafeCell;

/// The memory of a ring.
#[derive(Clone, Copy, Debug)]
pub struct Memory<'a> {
    bytes: &'a [Byte],
}

/// One of them.
#[derive(Debug, Default)]
pub struct Byte(UnsafeCell<u8>);

// SAFETY: what makes the accesses safe is what the model checker is to find out.
unsafe impl Sync for Byte {}

impl<'a> Memory<'a> {
    /// These bytes; as many as a power of two.
    pub fn new(bytes: &'a [Byte]) -> Self {
        assert!(bytes.len().is_power_of_two());
        Self { bytes }
    }

    /// Size in bytes.
    pub const fn capacity(self) -> usize {
        self.bytes.len()
    }

    pub(super) unsafe fn copy_in(self, position: usize, from: *const u8, len: usize) {
        for (i, byte) in self.bytes[position..position + len].iter().enumerate() {
            // SAFETY: by the caller's word there are `len` bytes at `from`.
            byte.0.with_mut(|to| unsafe { *to = *from.add(i) });
        }
    }

    pub(super) unsafe fn copy_out(self, position: usize, to: *mut u8, len: usize) {
        for (i, byte) in self.bytes[position..position + len].iter().enumerate() {
            // SAFETY: by the caller's word there is room for `len` bytes at `to`.
            byte.0.with(|from| unsafe { *to.add(i) = *from });
        }
    }

    pub(super) unsafe fn copy_start(self, position: usize, len: usize) {
        for i in 0..len {
            // SAFETY: loom checks that nobody writes it meanwhile.
            let byte = self.bytes[i].0.with(|from| unsafe { *from });
            // SAFETY: loom checks that nobody accesses it meanwhile.
            self.bytes[position + i]
                .0
                .with_mut(|to| unsafe { *to = byte });
        }
    }

    pub(super) unsafe fn populate(self, _from: usize, _to: usize) -> bool {
        true
    }
}
