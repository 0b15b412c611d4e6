//! The end that reads.

use std::io::IoSliceMut;

use crate::sync::Ordering::{Acquire, Relaxed, Release};

#[cfg(not(loom))]
use super::Span;
use super::stamp;
use super::window::Window;
use super::{ConsumerWords, Corrupt, PUBLISH_EVERY, Ring};

/// The end of a ring that reads.
///
/// Nothing here waits, and none of it makes a full barrier: who has read and then looks whether a
/// writer waits for space makes one in between (releasing the end's [lock](super::Exclusive) is one).
#[derive(Debug)]
pub struct Consumer<'a> {
    pub(super) ring: Ring<'a>,
    pub(super) own: &'a ConsumerWords,
}

impl<'a> Consumer<'a> {
    /// The consuming end.
    ///
    /// # Safety
    ///
    /// While the value is used no other consumer of this ring may be, in any thread or process:
    /// [`Exclusive`](super::Exclusive) sees to that.
    #[inline]
    pub const unsafe fn new(ring: Ring<'a>, own: &'a ConsumerWords) -> Self {
        Self { ring, own }
    }

    /// Reads what is there, as much as fits, and returns how much that was.
    ///
    /// # Errors
    ///
    /// [`Corrupt`] ends the session.
    #[inline]
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Corrupt> {
        // SAFETY: a slice is writable, and no part of the ring.
        unsafe { self.read_to([(buffer.as_mut_ptr(), buffer.len())].into_iter()) }
    }

    /// As [`Consumer::read`], to several places (readv(2)).
    ///
    /// # Errors
    ///
    /// [`Corrupt`] ends the session.
    pub fn read_vectored(&mut self, slices: &mut [IoSliceMut<'_>]) -> Result<usize, Corrupt> {
        // SAFETY: slices are writable, and no part of the ring.
        unsafe {
            self.read_to(
                slices
                    .iter()
                    .map(|slice| (slice.as_ptr().cast_mut(), slice.len())),
            )
        }
    }

    /// As [`Consumer::read`], to memory that is given as addresses and lengths, as system calls get it.
    ///
    /// # Errors
    ///
    /// [`Corrupt`] ends the session.
    ///
    /// # Safety
    ///
    /// The memory must be writable, and no part of the ring. A null address goes with no bytes only.
    #[inline]
    pub unsafe fn read_to(
        &mut self,
        pieces: impl Iterator<Item = (*mut u8, usize)> + Clone,
    ) -> Result<usize, Corrupt> {
        let wanted = sum(pieces.clone());
        let view = self.look_for(wanted)?;
        let mut at = view.tail;
        let mut published = at;
        let mut left = view.used().min(wanted) as usize;
        for (mut to, len) in pieces {
            let mut len = len.min(left);
            left -= len;
            while len > 0 {
                let n = len.min(PUBLISH_EVERY);
                // SAFETY: the bytes are there by the view, and writable by the caller's word.
                unsafe { self.copy_out(view.window, at, to, n) };
                at = at.wrapping_add(n as u64);
                len -= n;
                // SAFETY: still within the piece, or at its end.
                to = unsafe { to.add(n) };
                if at.wrapping_sub(published) >= PUBLISH_EVERY as u64 {
                    self.publish(at);
                    published = at;
                }
            }
        }
        if at != published {
            self.publish(at);
        }
        Ok(at.wrapping_sub(view.tail) as usize)
    }

    /// Reads without consuming (recv(2), `MSG_PEEK`; with an offset: `SO_PEEK_OFF`), and returns how
    /// much there was.
    ///
    /// # Errors
    ///
    /// [`Corrupt`] ends the session.
    pub fn peek(&mut self, offset: usize, buffer: &mut [u8]) -> Result<usize, Corrupt> {
        // SAFETY: a slice is writable, and no part of the ring.
        unsafe { self.peek_to(offset, [(buffer.as_mut_ptr(), buffer.len())].into_iter()) }
    }

    /// As [`Consumer::peek`], to memory that is given as addresses and lengths.
    ///
    /// # Errors
    ///
    /// [`Corrupt`] ends the session.
    ///
    /// # Safety
    ///
    /// As for [`Consumer::read_to`].
    pub unsafe fn peek_to(
        &mut self,
        offset: usize,
        pieces: impl Iterator<Item = (*mut u8, usize)> + Clone,
    ) -> Result<usize, Corrupt> {
        let wanted = sum(pieces.clone());
        let view = self.look_for(wanted.saturating_add(offset as u64))?;
        let available = view.used().saturating_sub(offset as u64).min(wanted) as usize;
        let mut at = view.tail.wrapping_add(offset as u64);
        let mut left = available;
        for (to, len) in pieces {
            let len = len.min(left);
            left -= len;
            if len > 0 {
                // SAFETY: the bytes are there by the view, and writable by the caller's word.
                unsafe { self.copy_out(view.window, at, to, len) };
                at = at.wrapping_add(len as u64);
            }
        }
        Ok(available)
    }

    /// The unread bytes, to be read in place: two spans, the second of which continues the first. They
    /// stay there until they are consumed.
    ///
    /// # Errors
    ///
    /// [`Corrupt`] ends the session.
    #[cfg(not(loom))]
    pub fn readable(&mut self) -> Result<[Span; 2], Corrupt> {
        let view = self.look_for(u64::MAX)?;
        let (position, used) = (view.window.position(view.tail), view.used());
        let first = used.min(view.window.size() - position);
        // SAFETY: a window is within the memory.
        Ok(unsafe {
            [
                self.ring.memory.span(position as usize, first as usize),
                self.ring.memory.span(0, (used - first) as usize),
            ]
        })
    }

    /// Consumes the first `len` unread bytes, read in place or not at all (recv(2), `MSG_TRUNC`).
    ///
    /// # Errors
    ///
    /// [`Corrupt::Overrun`] if there are fewer.
    pub fn consume(&mut self, len: usize) -> Result<(), Corrupt> {
        let view = self.look_for(len as u64)?;
        let available = view.used() as usize;
        if len > available {
            return Err(Corrupt::Overrun {
                asked: len,
                available,
            });
        }
        self.publish(view.tail.wrapping_add(len as u64));
        Ok(())
    }

    /// How many bytes are unread (ioctl(2), `FIONREAD`).
    ///
    /// # Errors
    ///
    /// [`Corrupt`] ends the session.
    #[inline]
    pub fn used(&mut self) -> Result<usize, Corrupt> {
        Ok(self.look_for(u64::MAX)?.used() as usize)
    }

    /// How many bytes have ever been read: the tail.
    pub fn position(&self) -> u64 {
        self.own.tail.load(Relaxed)
    }

    /// Publishes what a holder that has died had completed.
    #[cfg(not(loom))]
    pub(super) fn recover(&self) {
        self.publish(self.own.tail.load(Relaxed));
    }

    /// What is there, looking at the producer's words if this end does not know of `wanted` bytes.
    #[inline]
    fn look_for(&self, wanted: u64) -> Result<View, Corrupt> {
        let view = self.view(self.own.head.load(Relaxed), self.own.window.load(Relaxed))?;
        if view.used() >= wanted {
            return Ok(view);
        }
        let published = &self.ring.words.published;
        // In this order: the window is that of the head, or a later one. Acquire: the bytes, and what
        // was copied for a window, are there.
        let head = published.head.load(Acquire);
        let window = published.window.load(Acquire);
        let head = self.up_to_mark(head);
        let view = self.view(head, window)?;
        self.own.head.store(head, Relaxed);
        self.own.window.store(window, Relaxed);
        stamp::looking(self.own, self.ring.words);
        Ok(view)
    }

    #[inline]
    fn view(&self, head: u64, window: u64) -> Result<View, Corrupt> {
        let view = View {
            head,
            tail: self.own.tail.load(Relaxed),
            window: Window::parse(window, self.ring.memory.capacity() as u64)?,
        };
        view.check()
    }

    /// The private word first: see "Death of a holder".
    #[inline]
    fn publish(&self, tail: u64) {
        stamp::reading(self.own, self.ring.words, tail);
        self.own.tail.store(tail, Release);
        self.ring.words.consumed.tail.store(tail, Release);
    }

    /// # Safety
    ///
    /// As many bytes must be unread from `at` on, and writable from `to` on.
    #[inline]
    unsafe fn copy_out(&self, window: Window, at: u64, to: *mut u8, len: usize) {
        let position = window.position(at) as usize;
        let first = len.min(window.size() as usize - position);
        // SAFETY: a window is within the memory, and `len` is not larger than it.
        unsafe {
            self.ring.memory.copy_out(position, to, first);
            if first < len {
                self.ring.memory.copy_out(0, to.add(first), len - first);
            }
        }
    }
}

fn sum(pieces: impl Iterator<Item = (*mut u8, usize)>) -> u64 {
    pieces.fold(0, |sum: u64, (_, len)| sum.saturating_add(len as u64))
}

/// One consistent look at the words, on which everything else is computed.
#[derive(Clone, Copy, Debug)]
struct View {
    head: u64,
    tail: u64,
    window: Window,
}

impl View {
    #[inline]
    const fn used(&self) -> u64 {
        self.head.wrapping_sub(self.tail)
    }

    #[inline]
    const fn check(self) -> Result<Self, Corrupt> {
        if self.used() > self.window.size() {
            return Err(Corrupt::Indexes {
                head: self.head,
                tail: self.tail,
                window: self.window.size(),
            });
        }
        Ok(self)
    }
}
