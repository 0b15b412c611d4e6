//! The end that writes.

use std::io::IoSlice;

use crate::sync::Ordering::{Acquire, Relaxed, Release};

use super::stamp;
use super::window::Window;
use super::{Corrupt, PUBLISH_EVERY, ProducerWords, Ring};
#[cfg(not(loom))]
use super::{FIRST_WINDOW, Span};

/// The end of a ring that writes.
///
/// Nothing here waits, and none of it makes a full barrier: who publishes and then looks whether the
/// reader sleeps makes one in between (releasing the end's [lock](super::Exclusive) is one).
#[derive(Debug)]
pub struct Producer<'a> {
    pub(super) ring: Ring<'a>,
    pub(super) own: &'a ProducerWords,
}

impl<'a> Producer<'a> {
    /// The producing end.
    ///
    /// # Safety
    ///
    /// While the value is used no other producer of this ring may be, in any thread or process:
    /// [`Exclusive`](super::Exclusive) sees to that.
    #[inline]
    pub const unsafe fn new(ring: Ring<'a>, own: &'a ProducerWords) -> Self {
        Self { ring, own }
    }

    /// Writes as much as fits, and returns how much that was. Enlarges the window where that helps.
    ///
    /// # Errors
    ///
    /// [`Corrupt`] ends the session.
    #[inline]
    pub fn write(&mut self, bytes: &[u8]) -> Result<usize, Corrupt> {
        // SAFETY: a slice is readable, and no part of the ring.
        unsafe { self.write_from([(bytes.as_ptr(), bytes.len())].into_iter()) }
    }

    /// As [`Producer::write`], from several places (writev(2)).
    ///
    /// # Errors
    ///
    /// [`Corrupt`] ends the session.
    pub fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> Result<usize, Corrupt> {
        // SAFETY: slices are readable, and no part of the ring.
        unsafe { self.write_from(slices.iter().map(|slice| (slice.as_ptr(), slice.len()))) }
    }

    /// As [`Producer::write`], from memory that is given as addresses and lengths, as system calls get
    /// it.
    ///
    /// # Errors
    ///
    /// [`Corrupt`] ends the session.
    ///
    /// # Safety
    ///
    /// The memory must be readable, and no part of the ring. A null address goes with no bytes only.
    #[inline]
    pub unsafe fn write_from(
        &mut self,
        pieces: impl Iterator<Item = (*const u8, usize)> + Clone,
    ) -> Result<usize, Corrupt> {
        let wanted = pieces
            .clone()
            .fold(0, |sum: u64, (_, len)| sum.saturating_add(len as u64));
        let view = self.room_for(wanted)?;
        let mut at = view.head;
        let mut published = at;
        let mut left = view.free().min(wanted) as usize;
        for (mut from, len) in pieces {
            let mut len = len.min(left);
            left -= len;
            while len > 0 {
                let n = len.min(PUBLISH_EVERY);
                // SAFETY: the bytes are free by the view, and readable by the caller's word.
                unsafe { self.copy_in(view.window, at, from, n) };
                at = at.wrapping_add(n as u64);
                len -= n;
                // SAFETY: still within the piece, or at its end.
                from = unsafe { from.add(n) };
                if at.wrapping_sub(published) >= PUBLISH_EVERY as u64 {
                    self.publish(at);
                    published = at;
                }
            }
        }
        if at != published {
            self.publish(at);
        }
        Ok(at.wrapping_sub(view.head) as usize)
    }

    /// The free memory, to be filled in place: two spans, the second of which continues the first.
    /// Enlarges the window if less than `min` bytes are free; there may be fewer all the same, and
    /// there may be more.
    ///
    /// # Errors
    ///
    /// [`Corrupt`] ends the session.
    #[cfg(not(loom))]
    pub fn reserve(&mut self, min: usize) -> Result<[Span; 2], Corrupt> {
        let view = self.room_for(min.max(1) as u64)?;
        let (position, free) = (view.window.position(view.head), view.free());
        let first = free.min(view.window.size() - position);
        // SAFETY: a window is within the memory.
        Ok(unsafe {
            [
                self.ring.memory.span(position as usize, first as usize),
                self.ring.memory.span(0, (free - first) as usize),
            ]
        })
    }

    /// Publishes the first `len` bytes of what was reserved.
    ///
    /// # Errors
    ///
    /// [`Corrupt::Overrun`] if less than that was reserved.
    #[cfg(not(loom))]
    pub fn commit(&mut self, len: usize) -> Result<(), Corrupt> {
        let view = self.view()?;
        let available = view.free() as usize;
        if len > available {
            return Err(Corrupt::Overrun {
                asked: len,
                available,
            });
        }
        self.publish(view.head.wrapping_add(len as u64));
        Ok(())
    }

    /// How many bytes a write would take at most, now.
    ///
    /// # Errors
    ///
    /// [`Corrupt`] ends the session.
    pub fn free(&self) -> Result<usize, Corrupt> {
        let mut view = self.view()?;
        self.look(&mut view)?;
        let free = match self.size_for(&view, u64::MAX) {
            Some(size) => size - view.unread_end(),
            None => view.free(),
        };
        Ok(free as usize)
    }

    /// How many bytes the reader has not read (ioctl(2), `SIOCOUTQ`).
    ///
    /// # Errors
    ///
    /// [`Corrupt`] ends the session.
    pub fn used(&self) -> Result<usize, Corrupt> {
        let mut view = self.view()?;
        self.look(&mut view)?;
        Ok(view.used() as usize)
    }

    /// How many bytes have ever been written.
    pub fn position(&self) -> u64 {
        self.own.head.load(Relaxed)
    }

    /// Which window it writes to: as long as this and the position are the same, free memory is where
    /// it was.
    pub fn window(&self) -> u64 {
        self.own.window.load(Relaxed)
    }

    /// Asks the reader to say when there is space for `want` bytes, or for half of the window if that
    /// is less, so that a writer of much is not woken for little. `None` if there is, now; else the
    /// tail to wait for, with [`RingWords::tail_has_reached`](super::RingWords::tail_has_reached) as
    /// the last look before one sleeps.
    ///
    /// # Errors
    ///
    /// [`Corrupt`] ends the session.
    pub fn ask_space(&mut self, want: usize) -> Result<Option<u64>, Corrupt> {
        let mut view = self.view()?;
        let useful = (want as u64).clamp(1, view.window.size() / 2);
        if view.free() < useful {
            self.make_room(&mut view, useful)?;
        }
        if view.free() >= useful {
            return Ok(None);
        }
        let at = view
            .head
            .wrapping_add(useful)
            .wrapping_sub(view.window.size());
        let at = if view.pending() == 0 {
            at
        } else {
            // As signed numbers, as `at` may be before the first byte of all.
            (at as i64).max(view.base as i64) as u64
        };
        let at = self.tail_to_grow(&view, useful, at);
        self.ring.words.want_tail_at(at, view.tail);
        Ok(Some(at))
    }

    /// Goes back to the first window, if the reader has read everything: a session that idles then
    /// needs its first page only, and the caller may give the others back.
    ///
    /// # Errors
    ///
    /// [`Corrupt`] ends the session.
    pub fn shrink(&mut self) -> Result<bool, Corrupt> {
        let mut view = self.view()?;
        self.look(&mut view)?;
        if view.used() != 0 {
            return Ok(false);
        }
        self.change_window(&view, Window::first(view.head));
        Ok(true)
    }

    /// Publishes what a holder that has died had completed.
    #[cfg(not(loom))]
    pub(super) fn recover(&self) {
        self.ring
            .words
            .published
            .window
            .store(self.own.window.load(Relaxed), Release);
        self.publish(self.own.head.load(Relaxed));
    }

    /// A view with `wanted` bytes free, or as many as can be had.
    #[inline]
    fn room_for(&self, wanted: u64) -> Result<View, Corrupt> {
        let mut view = self.view()?;
        if view.free() < wanted {
            self.make_room(&mut view, wanted)?;
        }
        Ok(view)
    }

    fn make_room(&self, view: &mut View, wanted: u64) -> Result<(), Corrupt> {
        self.look(view)?;
        if view.free() < wanted
            && let Some(size) = self.size_for(view, wanted)
        {
            self.grow(view, size);
        }
        Ok(())
    }

    /// The size to which the window should grow for `wanted` bytes; `None` if it cannot, or if that
    /// would gain less than a quarter of what may have to be copied.
    fn size_for(&self, view: &View, wanted: u64) -> Option<u64> {
        let capacity = self.ring.memory.capacity() as u64;
        let old = view.window.size();
        let worthwhile = view.free() + old / 4;
        let needed = view.unread_end().saturating_add(wanted.max(worthwhile));
        let size = needed.min(capacity).next_power_of_two().max(2 * old);
        (size <= capacity && size - view.unread_end() >= worthwhile).then_some(size)
    }

    /// The tail at which the window could grow and have `useful` bytes free then, if the reader comes
    /// there before `at`; else `at`. Where the unread bytes end in a larger window only changes when
    /// the first of them is at the start of the memory.
    fn tail_to_grow(&self, view: &View, useful: u64, at: u64) -> u64 {
        let to_start = view.window.size() - view.window.position(view.tail);
        if to_start >= at.wrapping_sub(view.tail) {
            return at;
        }
        let then = View {
            tail: view.tail.wrapping_add(to_start),
            ..*view
        };
        match self.size_for(&then, useful) {
            Some(size) if size - then.unread_end() >= useful => then.tail,
            _ => at,
        }
    }

    #[cold]
    fn grow(&self, view: &mut View, size: u64) {
        let old = view.window.size() as usize;
        // SAFETY: both are within the capacity.
        if !unsafe { self.ring.memory.populate(old, size as usize) } {
            return;
        }
        let grown = view.window.grown(size, view.tail, view.used());
        if grown.wrapped > 0 {
            // SAFETY: less than `old` bytes have wrapped, and the new window is at least twice the
            // old one. What is behind the old window is nobody's yet; the source is not written until
            // it has been read.
            unsafe { self.ring.memory.copy_start(old, grown.wrapped as usize) };
        }
        self.change_window(view, grown.window);
        view.window = grown.window;
        view.base = view.head;
    }

    /// Publishes another window: after what was copied for it, before any byte that needs it.
    fn change_window(&self, view: &View, window: Window) {
        self.own.base.store(view.head, Relaxed);
        self.own.window.store(window.word(), Release);
        self.ring
            .words
            .published
            .window
            .store(window.word(), Release);
    }

    /// Looks how far the reader is.
    fn look(&self, view: &mut View) -> Result<(), Corrupt> {
        // Acquire: what was read before is not overwritten before it was read.
        view.tail = self.ring.words.consumed.tail.load(Acquire);
        view.check()?;
        self.own.tail.store(view.tail, Relaxed);
        Ok(())
    }

    /// What this end knows.
    #[inline]
    fn view(&self) -> Result<View, Corrupt> {
        let view = View {
            head: self.own.head.load(Relaxed),
            tail: self.own.tail.load(Relaxed),
            base: self.own.base.load(Relaxed),
            window: Window::parse(
                self.own.window.load(Relaxed),
                self.ring.memory.capacity() as u64,
            )?,
        };
        view.check()?;
        Ok(view)
    }

    /// The private word first: see "Death of a holder".
    #[inline]
    fn publish(&self, head: u64) {
        self.own.head.store(head, Release);
        stamp::publishing(self.own, self.ring.words, head);
        self.ring.words.published.head.store(head, Release);
    }

    /// # Safety
    ///
    /// As many bytes must be free from `at` on, and readable from `from` on.
    #[inline]
    unsafe fn copy_in(&self, window: Window, at: u64, from: *const u8, len: usize) {
        let (position, size) = (window.position(at) as usize, window.size() as usize);
        let first = len.min(size - position);
        let memory = self.ring.memory;
        // SAFETY: a window is within the memory, and `len` is not larger than it.
        unsafe {
            memory.copy_in(position, from, first);
            if first < len {
                memory.copy_in(0, from.add(first), len - first);
            }
        }
    }
}

/// One consistent look at the words, on which everything else is computed.
#[derive(Clone, Copy, Debug)]
struct View {
    head: u64,
    tail: u64,
    base: u64,
    window: Window,
}

impl View {
    #[inline]
    const fn used(&self) -> u64 {
        self.head.wrapping_sub(self.tail)
    }

    #[inline]
    const fn check(&self) -> Result<(), Corrupt> {
        if self.used() > self.window.size() {
            return Err(Corrupt::Indexes {
                head: self.head,
                tail: self.tail,
                window: self.window.size(),
            });
        }
        Ok(())
    }

    /// Unread bytes from before the window was changed last.
    #[inline]
    const fn pending(&self) -> u64 {
        let pending = self.base.wrapping_sub(self.tail);
        if pending > self.used() { 0 } else { pending }
    }

    /// Bytes that may be written in this window.
    #[inline]
    const fn free(&self) -> u64 {
        let used = self.used();
        if self.pending() == 0 {
            return self.window.size() - used;
        }
        // Only what lies behind the bytes from before the change.
        let next = self.window.position(self.base) + (used - self.pending());
        self.window.size().saturating_sub(next)
    }

    /// Where the unread bytes end when the window grows.
    const fn unread_end(&self) -> u64 {
        self.window.start(self.tail, self.used()) + self.used()
    }
}

#[cfg(not(loom))]
const _: () = assert!(PUBLISH_EVERY >= FIRST_WINDOW);
