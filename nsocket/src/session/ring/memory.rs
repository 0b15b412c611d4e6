//! The bytes of a ring: the one place where they are touched.
//!
//! The peer may write all of them at any time. So they are copied by raw pointers, like `read` copies
//! out of a page that another program writes, and no reference to them exists. What an honest peer
//! writes is ordered by the ring's indexes; a dishonest one makes garbage of its own bytes.

#[cfg(all(target_arch = "x86_64", not(miri)))]
mod streaming;

use std::marker::PhantomData;
use std::ptr::NonNull;

use rustix::mm::Advice;

use super::window::FIRST_WINDOW;

/// Some consecutive bytes of a ring, to be filled or read in place.
///
/// The peer can write them at the same time: whoever parses them in place must expect that they
/// change between two looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first of them. Dangling if there are none.
    pub start: NonNull<u8>,
    /// How many.
    pub len: usize,
}

/// The memory of a ring.
#[derive(Clone, Copy, Debug)]
pub struct Memory<'a> {
    start: NonNull<u8>,
    capacity: usize,
    populate: fn(Span) -> bool,
    mapping: PhantomData<&'a [u8]>,
}

// SAFETY: a pointer and a length; what keeps two threads from the same bytes is the contract of the
// two ends.
unsafe impl Send for Memory<'_> {}
// SAFETY: as above.
unsafe impl Sync for Memory<'_> {}

impl<'a> Memory<'a> {
    /// `capacity` bytes from `start` on; `None` if that is not a power of two of at least
    /// [`FIRST_WINDOW`].
    ///
    /// `populate` is called before bytes behind the first window are used for the first time, and
    /// says whether they can be: [`populate`] in general. A ring stays small where it is refused.
    ///
    /// # Safety
    ///
    /// The bytes must be mapped readable and writable for all of `'a`, and be accessed only through
    /// rings, by this process and by others.
    pub const unsafe fn new(
        start: NonNull<u8>,
        capacity: usize,
        populate: fn(Span) -> bool,
    ) -> Option<Self> {
        if !capacity.is_power_of_two() || capacity < FIRST_WINDOW {
            return None;
        }
        Some(Self {
            start,
            capacity,
            populate,
            mapping: PhantomData,
        })
    }

    /// Size in bytes: the largest window.
    #[inline]
    pub const fn capacity(self) -> usize {
        self.capacity
    }

    /// The bytes from `position` on.
    ///
    /// # Safety
    ///
    /// They must be within the capacity.
    #[inline]
    pub(super) const unsafe fn span(self, position: usize, len: usize) -> Span {
        Span {
            // SAFETY: within the mapping, by the caller's word.
            start: unsafe { self.start.add(position) },
            len,
        }
    }

    /// # Safety
    ///
    /// `position + len` must be within the capacity, `from` readable for `len` bytes and elsewhere,
    /// and no honest party may access the destination meanwhile.
    #[inline]
    pub(super) unsafe fn copy_in(self, position: usize, from: *const u8, len: usize) {
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        if len >= streaming::FROM_LEN {
            // SAFETY: by the caller's word, as below.
            unsafe { streaming::copy(self.start.add(position).as_ptr(), from, len) };
            return;
        }
        // SAFETY: by the caller's word. A dishonest peer may write the destination meanwhile, which
        // changes bytes that are its own to read.
        unsafe {
            self.start
                .add(position)
                .as_ptr()
                .copy_from_nonoverlapping(from, len);
        }
    }

    /// # Safety
    ///
    /// As [`Memory::copy_in`], the other way round.
    #[inline]
    pub(super) unsafe fn copy_out(self, position: usize, to: *mut u8, len: usize) {
        // SAFETY: by the caller's word. A dishonest peer may write the source meanwhile: the copy
        // holds some bytes or others, which it could have sent as well.
        unsafe {
            self.start
                .add(position)
                .as_ptr()
                .copy_to_nonoverlapping(to, len);
        }
    }

    /// Copies the first `len` bytes to `position`.
    ///
    /// # Safety
    ///
    /// `position + len` must be within the capacity and `len <= position`; nobody honest may access
    /// the destination or write the source meanwhile.
    pub(super) unsafe fn copy_start(self, position: usize, len: usize) {
        // SAFETY: by the caller's word the two do not overlap.
        unsafe { self.copy_in(position, self.start.as_ptr(), len) };
    }

    /// Makes the bytes between usable. The first window always is.
    ///
    /// # Safety
    ///
    /// `to` must be within the capacity and not less than `from`.
    pub(super) unsafe fn populate(self, from: usize, to: usize) -> bool {
        // SAFETY: by the caller's word.
        (self.populate)(unsafe { self.span(from, to - from) })
    }
}

/// Backs pages with memory (madvise(2), `MADV_POPULATE_WRITE`, Linux 5.14) and tells whether that has
/// succeeded. To write a page of a memfd for which there is no memory would be a SIGBUS.
pub fn populate(span: Span) -> bool {
    let (start, len) = (span.start.as_ptr().cast(), span.len);
    loop {
        // SAFETY: the pages are mapped, and their content stays.
        match unsafe { rustix::mm::madvise(start, len, Advice::LinuxPopulateWrite) } {
            Err(rustix::io::Errno::INTR) => {}
            result => return result.is_ok(),
        }
    }
}
