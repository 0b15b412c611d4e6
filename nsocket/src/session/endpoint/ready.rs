//! What poll(2) would say of an endpoint.

use super::{BROKEN, DEAF, Endpoint, FINISHED, GONE, RESET, STRAY};
use crate::sync::Ordering;

/// The state of an endpoint as poll(2) shows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ready {
    /// A read would not wait.
    pub readable: bool,
    /// A write would not wait.
    pub writable: bool,
    /// The peer sends no more.
    pub peer_finished: bool,
    /// Neither side sends any more.
    pub hung_up: bool,
    /// An error waits to be told.
    pub error: bool,
    /// An urgent byte waits.
    pub urgent: bool,
}

/// A write is worth while, and a socket writable, from so much space on (or from half of the window).
/// Less is left for the reader to add to.
const USEFUL_SPACE: usize = 16 << 10;

impl Endpoint {
    /// Whether a read would not wait: bytes, the end, or an error. Loads only, no lock.
    #[inline]
    pub fn is_readable(&self) -> bool {
        let tail = self.words().consumer.position();
        let ring = self.header().ring(self.side.receives());
        ring.head_is_beyond(tail) && (!ring.has_had_urgent() || self.is_readable_at_mark())
            || self.is_at_end()
    }

    /// Whether a read would report the end, an error or bytes that came another way.
    #[inline]
    fn is_at_end(&self) -> bool {
        if self.has(GONE | RESET | DEAF | STRAY) {
            return true;
        }
        match self
            .header()
            .status(self.side.other())
            .load(self.generation)
        {
            Ok(state) => state.is_finished() || state.is_reset() || state.is_closed(),
            Err(_) => true,
        }
    }

    /// Whether a write would not wait. If it would, the peer is asked to tell when there is space
    /// again: an endpoint that was found not writable makes itself heard when it is.
    pub fn is_writable(&self) -> bool {
        self.awaited_tail(USEFUL_SPACE).is_none()
    }

    /// What a writer that has found no space waits for, after it has asked the peer to tell: `None` if
    /// there is something to do now. `want` is how many bytes it has; see
    /// [`Producer::ask_space`](crate::session::ring::Producer::ask_space).
    pub fn awaited_tail(&self, want: usize) -> Option<u64> {
        if self.cannot_write() {
            return None;
        }
        let mut end = self.producer()?;
        let awaited = end.ask_space(want).ok().flatten();
        // The lock is released with a barrier between the question and the look that follows.
        drop(end);
        awaited.filter(|tail| !self.tail_is_at(*tail))
    }

    /// Whether a writer that waits for [`awaited_tail`](Self::awaited_tail) can go on. Loads only.
    #[inline]
    pub fn tail_is_at(&self, awaited: u64) -> bool {
        self.header()
            .ring(self.side.sends())
            .tail_has_reached(awaited)
            || self.cannot_write()
    }

    /// Whether neither side sends any more.
    pub fn is_over(&self) -> bool {
        self.has(RESET) || (self.has(FINISHED | BROKEN) && self.peer_is_done())
    }

    /// Whether TCP would have no connection any more: both ends have finished, or one was reset.
    pub fn is_closed(&self) -> bool {
        self.notice_reset();
        self.is_over()
    }

    /// The number that TCP has for the state, as in TCP_INFO (include/net/tcp_states.h).
    pub fn tcp_state(&self) -> u8 {
        const ESTABLISHED: u8 = 1;
        const FIN_WAIT_2: u8 = 5;
        const CLOSE: u8 = 7;
        const CLOSE_WAIT: u8 = 8;
        self.notice_reset();
        match (self.has(FINISHED | BROKEN), self.peer_is_done()) {
            _ if self.has(RESET) => CLOSE,
            (false, false) => ESTABLISHED,
            (true, false) => FIN_WAIT_2,
            (false, true) => CLOSE_WAIT,
            (true, true) => CLOSE,
        }
    }

    /// Everything that poll(2) would say.
    pub fn ready(&self, wants_write: bool) -> Ready {
        self.notice_reset();
        let flags = self.flags.load(Ordering::Acquire);
        let peer = self
            .header()
            .status(self.side.other())
            .load(self.generation);
        let peer_finished = flags & (GONE | RESET | DEAF) != 0
            || peer.is_ok_and(|state| state.is_finished() || state.is_closed());
        Ready {
            readable: self.is_readable(),
            writable: wants_write && self.is_writable(),
            peer_finished,
            hung_up: flags & RESET != 0 || (peer_finished && flags & (FINISHED | BROKEN) != 0),
            error: self.error.load(Ordering::Acquire) != 0,
            urgent: self.has_urgent(),
        }
    }
}
