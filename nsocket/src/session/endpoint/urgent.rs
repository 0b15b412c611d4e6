//! The urgent byte (send(2) and recv(2), `MSG_OOB`), as TCP has it: see the ring's `urgent`.
//!
//! Without SO_OOBINLINE it is taken out of the stream: recv(2) with `MSG_OOB` has it, and a read that
//! comes to its place goes on behind it. A read does not go beyond the mark together with bytes before
//! it.

use std::os::fd::BorrowedFd;

use super::{Endpoint, INLINE, Stop};
use crate::sync::Ordering;

impl Endpoint {
    /// Sends a byte with the mark.
    ///
    /// # Errors
    ///
    /// As for [`write`](Self::write).
    pub fn write_urgent(&self, socket: BorrowedFd<'_>, byte: u8) -> Result<usize, Stop> {
        if self.cannot_write() {
            return self.write_in_vain(1);
        }
        let Some(mut end) = self.producer() else {
            return Err(self.not_to_be_had());
        };
        let written = end.write_urgent(byte);
        drop(end);
        match written {
            Ok(false) => Err(Stop::WouldBlock),
            Ok(true) => {
                self.tell(socket);
                Ok(1)
            }
            Err(corrupt) => Err(self.corrupt(socket, corrupt)),
        }
    }

    /// Takes the urgent byte out of band, or looks at it.
    ///
    /// # Errors
    ///
    /// [`Stop::Error`] with EINVAL if there is none (none has come, it was taken, or it is in the stream).
    pub fn read_urgent(&self, socket: BorrowedFd<'_>, peek: bool) -> Result<u8, Stop> {
        let none = Stop::Error(libc::EINVAL);
        if self.has(INLINE) || !self.header().ring(self.side.receives()).has_had_urgent() {
            return Err(none);
        }
        let Some(mut end) = self.consumer() else {
            return Err(self.not_to_be_had());
        };
        let found = end.urgent(peek);
        drop(end);
        match found {
            Ok(byte) => byte.ok_or(none),
            Err(corrupt) => Err(self.corrupt(socket, corrupt)),
        }
    }

    /// SO_OOBINLINE: the urgent byte stays in the stream.
    pub fn keep_urgent_inline(&self, on: bool) {
        if on {
            self.flags.fetch_or(INLINE, Ordering::AcqRel);
        } else {
            self.flags.fetch_and(!INLINE, Ordering::AcqRel);
        }
    }

    /// Whether the urgent byte waits to be taken (poll(2), `POLLPRI`).
    #[inline]
    pub fn has_urgent(&self) -> bool {
        self.header().ring(self.side.receives()).has_had_urgent()
            && self.consumer().is_some_and(|end| end.has_urgent())
    }

    /// Whether the next byte is the urgent one (sockatmark(3)): a read stops here.
    #[inline]
    pub fn is_at_mark(&self) -> bool {
        self.header().ring(self.side.receives()).has_had_urgent()
            && self.consumer().is_some_and(|end| end.is_at_mark())
    }

    /// Reads have come to a mark: goes beyond it, if there is anything.
    #[cold]
    pub(super) fn pass_mark(&self) -> bool {
        let skip = !self.has(INLINE);
        self.consumer()
            .is_some_and(|mut end| end.pass_mark(skip) == Ok(true))
    }

    /// Of a stream that has a mark: whether a read would find a byte.
    #[cold]
    pub(super) fn is_readable_at_mark(&self) -> bool {
        let Some(mut end) = self.consumer() else {
            return true;
        };
        let unread = end.used().unwrap_or(1);
        if unread > 0 || !end.is_at_mark() {
            return unread > 0;
        }
        // The byte itself counts in line only.
        let (tail, skipped) = (end.position(), u64::from(!self.has(INLINE)));
        let ring = self.header().ring(self.side.receives());
        ring.head_is_beyond(tail) && ring.head_is_beyond(tail.wrapping_add(skipped))
    }
}
