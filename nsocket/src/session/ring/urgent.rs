//! The urgent byte (send(2) and recv(2), `MSG_OOB`): one byte of the stream that has a mark.
//!
//! The mark is where the byte is, and is set before the byte is published. So a reader that knows of
//! the byte knows of the mark: it finds the bytes before it first, and has to say that it goes on
//! ([`Consumer::pass_mark`]). A later mark takes the place of an earlier one, as TCP's does (RFC 6093).
//!
//! A mark is not trusted: wherever it is, it only ends a read early.

use crate::sync::Ordering::{Relaxed, Release};

use super::{Consumer, Corrupt, Producer};

impl Producer<'_> {
    /// Writes a byte and marks it; false if there is no space.
    ///
    /// # Errors
    ///
    /// [`Corrupt`] ends the session.
    pub fn write_urgent(&mut self, byte: u8) -> Result<bool, Corrupt> {
        if self.ask_space(1)?.is_some() {
            return Ok(false);
        }
        let mark = self.own.head.load(Relaxed).wrapping_add(1);
        self.ring.words.wanted.urgent.store(mark, Release);
        Ok(self.write(&[byte])? == 1)
    }
}

impl Consumer<'_> {
    /// The head as far as a read may go: to the mark, if it is ahead.
    #[inline]
    pub(super) fn up_to_mark(&self, head: u64) -> u64 {
        // Behind the head, whose load has made it visible.
        match self.ring.words.wanted.urgent.load(Relaxed) {
            0 => head,
            mark => self.limited(head, mark),
        }
    }

    #[cold]
    fn limited(&self, head: u64, mark: u64) -> u64 {
        let tail = self.own.tail.load(Relaxed);
        let at = mark.wrapping_sub(1);
        let is_ahead = at.wrapping_sub(tail) < head.wrapping_sub(tail);
        if is_ahead && self.own.passed.load(Relaxed) != mark {
            at
        } else {
            head
        }
    }

    /// Whether the next byte is the urgent one (sockatmark(3)).
    pub fn is_at_mark(&self) -> bool {
        let mark = self.ring.words.wanted.urgent.load(Relaxed);
        mark != 0 && mark == self.own.tail.load(Relaxed).wrapping_add(1)
    }

    /// Lets reads go beyond the mark that they have come to, without the urgent byte if `skip` says
    /// so. False if there is nothing to go on to.
    ///
    /// # Errors
    ///
    /// [`Corrupt`] ends the session.
    pub fn pass_mark(&mut self, skip: bool) -> Result<bool, Corrupt> {
        let mark = self.ring.words.wanted.urgent.load(Relaxed);
        let before = self.own.passed.load(Relaxed);
        if !self.is_at_mark() || mark == before {
            return Ok(false);
        }
        self.own.passed.store(mark, Relaxed);
        if self.used()? == 0 {
            // Not published yet.
            self.own.passed.store(before, Relaxed);
            return Ok(false);
        }
        if skip {
            self.consume(1)?;
        }
        Ok(true)
    }

    /// Whether the urgent byte has come, and was not taken.
    pub fn has_urgent(&self) -> bool {
        let mark = self.ring.words.wanted.urgent.load(Relaxed);
        let tail = self.own.tail.load(Relaxed);
        let head = self.ring.words.published.head.load(Relaxed);
        let is_ahead = mark.wrapping_sub(1).wrapping_sub(tail) < head.wrapping_sub(tail);
        mark != 0 && is_ahead && self.own.taken.load(Relaxed) != mark
    }

    /// The urgent byte, wherever it is among the unread ones; once, unless it only `peek`s. `None` if
    /// there is none.
    ///
    /// # Errors
    ///
    /// [`Corrupt`] ends the session.
    pub fn urgent(&mut self, peek: bool) -> Result<Option<u8>, Corrupt> {
        if !self.has_urgent() {
            return Ok(None);
        }
        let mark = self.ring.words.wanted.urgent.load(Relaxed);
        let before = self.own.passed.load(Relaxed);
        let offset = mark
            .wrapping_sub(1)
            .wrapping_sub(self.own.tail.load(Relaxed));
        // Looks beyond the mark, for the moment.
        self.own.passed.store(mark, Relaxed);
        let mut byte = [0];
        let found = self.peek(offset as usize, &mut byte);
        self.own.passed.store(before, Relaxed);
        if before != mark {
            // Nor does what was found there stay known.
            let tail = self.own.tail.load(Relaxed);
            self.own.head.store(tail, Relaxed);
        }
        if found? == 0 {
            return Ok(None);
        }
        if !peek {
            self.own.taken.store(mark, Relaxed);
        }
        Ok(Some(byte[0]))
    }
}
