//! Memory of the rings, lent to whoever reads and writes in place over several calls.
//!
//! [`Endpoint::read_in_place`] and [`Endpoint::write_in_place`] keep others away while their closure
//! runs. A C program has no closure: it is lent the memory by one call and gives it back by another,
//! and nobody may hold a lock meanwhile. So a loan takes no lock. It notes where the end was, and giving
//! it back has no effect but [`GiveBack::Moved`] if somebody else has moved the end since. What was
//! read in place is then to be forgotten; what was written there may be anywhere, and was not sent.
//!
//! The memory stays mapped as long as the endpoint lives. Unread bytes stay where they are until the
//! end is moved, whatever the peer does to the size of the window.

use std::os::fd::BorrowedFd;

use super::{Endpoint, Stop};
use crate::session::ring::Span;

/// Memory of a ring: two parts, the second of which continues the first.
#[derive(Clone, Copy, Debug)]
pub struct Loan {
    /// Where it is.
    pub spans: [Span; 2],
    /// Where the end was, and in which window.
    at: (u64, u64),
}

// SAFETY: addresses and numbers; who uses the memory answers for it.
unsafe impl Send for Loan {}

impl Loan {
    /// How many bytes were lent.
    pub const fn len(&self) -> usize {
        self.spans[0].len + self.spans[1].len
    }

    /// Whether nothing was lent: never, as an endpoint has it.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Why a loan could not be given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GiveBack {
    /// Somebody else has moved the end: nothing was done.
    Moved,
    /// More bytes than were lent: nothing was done.
    TooMuch,
    /// As for a read or a write.
    Stop(Stop),
}

impl Endpoint {
    /// Lends the unread bytes.
    ///
    /// # Errors
    ///
    /// [`Stop`] if there are none.
    pub fn lend_unread(&self, socket: BorrowedFd<'_>) -> Result<Loan, Stop> {
        loop {
            let Some(mut end) = self.consumer() else {
                return Err(Stop::Busy);
            };
            let spans = end.readable().map_err(|why| self.corrupt(socket, why))?;
            let at = (end.position(), 0);
            drop(end);
            if spans[0].len > 0 {
                return Ok(Loan { spans, at });
            }
            // `None`: there are some by now, and the peer sends no more.
            if let Some(stop) = self.nothing_to_read() {
                return Err(stop);
            }
        }
    }

    /// The first `used` bytes of a loan of unread ones are read.
    ///
    /// # Errors
    ///
    /// [`GiveBack`] says why not.
    pub fn consume_loan(
        &self,
        socket: BorrowedFd<'_>,
        loan: &Loan,
        used: usize,
    ) -> Result<(), GiveBack> {
        if used > loan.len() {
            return Err(GiveBack::TooMuch);
        }
        let Some(mut end) = self.consumer() else {
            return Err(GiveBack::Stop(Stop::Busy));
        };
        if end.position() != loan.at.0 {
            return Err(GiveBack::Moved);
        }
        let consumed = end.consume(used);
        drop(end);
        consumed.map_err(|why| GiveBack::Stop(self.corrupt(socket, why)))?;
        if self.header().ring(self.side.receives()).space_is_awaited() {
            self.tell(socket);
        }
        Ok(())
    }

    /// Lends free memory: at least `min` bytes if they can be had now.
    ///
    /// # Errors
    ///
    /// [`Stop`] if there is none.
    pub fn lend_free(&self, socket: BorrowedFd<'_>, min: usize) -> Result<Loan, Stop> {
        if self.cannot_write() {
            self.write_in_vain(0)?;
            return Err(Stop::Pipe);
        }
        let Some(mut end) = self.producer() else {
            return Err(Stop::Busy);
        };
        let spans = end.reserve(min).map_err(|why| self.corrupt(socket, why))?;
        if spans[0].len == 0 {
            return Err(Stop::WouldBlock);
        }
        let at = (end.position(), end.window());
        Ok(Loan { spans, at })
    }

    /// Sends the first `filled` bytes of a loan of free memory.
    ///
    /// # Errors
    ///
    /// [`GiveBack`] says why not.
    pub fn commit_loan(
        &self,
        socket: BorrowedFd<'_>,
        loan: &Loan,
        filled: usize,
    ) -> Result<(), GiveBack> {
        if filled > loan.len() {
            return Err(GiveBack::TooMuch);
        }
        if self.cannot_write() {
            let in_vain = self.write_in_vain(filled).map(|_| ());
            return in_vain.map_err(GiveBack::Stop);
        }
        let Some(mut end) = self.producer() else {
            return Err(GiveBack::Stop(Stop::Busy));
        };
        if (end.position(), end.window()) != loan.at {
            return Err(GiveBack::Moved);
        }
        let committed = end.commit(filled);
        drop(end);
        committed.map_err(|why| GiveBack::Stop(self.corrupt(socket, why)))?;
        self.tell(socket);
        Ok(())
    }
}
