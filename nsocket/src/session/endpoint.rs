//! One end of a session: what a connected socket is on a stack that is not the kernel's.
//!
//! | file | subject |
//! |---|---|
//! | here | reading, writing, the end of the stream |
//! | `notice` | telling the peer, and being told |
//! | `ready` | what poll(2) would say |
//! | `urgent` | the byte that is sent out of band |
//! | `open`, `close` | from an offer to an endpoint, and its end |
//! | `lend` | memory of the rings, for who reads and writes in place |
//! | `share` | endpoints that several processes have after `fork` |
//!
//! An endpoint is memory and states. The Unix socket that stands for it among the program's
//! descriptors belongs to the caller, who passes it to the calls that may have to ring the peer or to
//! look whether it is still there. Nothing here waits; who has to wait asks [`Endpoint::announce`] to
//! be rung for, looks once more, and sleeps in poll(2) on the socket.
//!
//! What it guarantees is what TCP promises: bytes arrive once and in order; what was written before a
//! [`finish`](Endpoint::finish) is read before the end of the stream is; a reset is told once.

#![cfg(not(loom))]

mod close;
mod lend;
mod notice;
mod open;
mod ready;
mod share;
mod urgent;

use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicI32, AtomicPtr};

use super::board::InUse;
use super::lock::{Busy, Identity};
use super::pool::{AcceptPool, Adopted, ConnectPool, Prepared};
use super::rendezvous::{Cookie, Credentials};
use super::ring::{Consumer, ConsumerWords, Corrupt, Exclusive, Producer, ProducerWords};
use super::segment::{Generation, Header, ResetReason, Segment, Side, State};
use crate::sync::{AtomicU32, Ordering};

pub use lend::{GiveBack, Loan};
pub use notice::{Drained, Place, TOKEN};
pub use open::{OpenError, Opening};
pub use ready::Ready;
pub use share::Shared;

/// Segments that a process keeps for the next sessions, on either side.
const POOLED: usize = 32;

/// Bytes of these, at most.
const POOLED_BYTES: usize = 128 << 20;

static CONNECT_POOL: ConnectPool<POOLED> = ConnectPool::new(POOLED_BYTES);
static ACCEPT_POOL: AcceptPool<POOLED> = AcceptPool::new(POOLED_BYTES);

/// One end of a session.
#[derive(Debug)]
pub struct Endpoint {
    lease: Lease,
    side: Side,
    generation: Generation,
    peer: Credentials,
    /// Of the connecting side: the listener.
    listener: Cookie,
    /// `FINISHED`, `GONE` and the others below.
    flags: AtomicU32,
    /// The error that is to be told once; 0 for none.
    error: AtomicI32,
    /// Where the words are if several processes share the end; null if they are the ones below.
    shared: AtomicPtr<Words>,
    own: Words,
    /// The process that `own` is of: a child has only a copy of it.
    maker: u64,
    board: BoardSlot,
}

/// The segment, and where it goes afterwards.
#[derive(Debug)]
enum Lease {
    Connecting(Prepared<'static, POOLED>),
    Accepting(Adopted<'static, POOLED>),
}

/// What the processes that share an end keep of it.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Words {
    producer: ProducerWords,
    consumer: ConsumerWords,
    /// Processes that have the end, as far as is known: one that was killed still counts.
    holders: AtomicU32,
    /// Threads that sleep for this end alone, in whatever process.
    sleepers: AtomicU32,
}

/// The peer's board, once it is known: set once.
#[derive(Debug)]
struct BoardSlot {
    /// `UNKNOWN`, `BUSY`, `KNOWN`.
    state: AtomicU32,
    board: std::cell::UnsafeCell<Option<InUse>>,
}

// SAFETY: `board` is written by whoever has moved the state from UNKNOWN to BUSY, and read only when
// it is KNOWN, after which it stays.
unsafe impl Sync for BoardSlot {}

/// This end sends no more: shutdown(2), or closed.
const FINISHED: u32 = 1 << 0;
/// This end does not want to read: shutdown(2) with SHUT_RD.
const DEAF: u32 = 1 << 1;
/// The peer's socket is closed, by the kernel's word.
const GONE: u32 = 1 << 2;
/// The session is over by a reset, from either side.
const RESET: u32 = 1 << 3;
/// Bytes that did not come through the ring wait in the socket.
const STRAY: u32 = 1 << 4;
/// A write after the peer has closed was swallowed: the next one fails.
const BROKEN: u32 = 1 << 5;
/// The urgent byte is read in line: SO_OOBINLINE.
const INLINE: u32 = 1 << 7;
/// The peer was asleep and was rung for.
const RANG: u32 = 1 << 6;

/// Why nothing was moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Nothing is there to read, or no space to write: wait, or say EAGAIN.
    WouldBlock,
    /// The peer has finished: read(2) returns 0.
    End,
    /// No more can be written: EPIPE, and SIGPIPE where the call does not forbid it.
    Pipe,
    /// The error, told once.
    Error(i32),
    /// Bytes that did not come through the ring are next: to be read from the socket.
    Stray,
    /// A signal handler has interrupted this very thread while it was using this end, or another
    /// thread has been stopped there.
    Busy,
}

/// What a read does with the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Take {
    /// Takes them.
    Consume,
    /// Leaves them, and begins so many bytes behind the first (recv(2), `MSG_PEEK`).
    Peek(usize),
    /// Throws them away (recv(2), `MSG_TRUNC`).
    Discard,
    /// Only counts them (recv(2), `MSG_PEEK | MSG_TRUNC`).
    Measure,
}

impl Endpoint {
    /// Reads what is there to the places given.
    ///
    /// # Errors
    ///
    /// [`Stop`] if nothing is there.
    ///
    /// # Safety
    ///
    /// The places must be writable. A null address goes with no bytes only.
    #[inline]
    pub unsafe fn read(
        &self,
        socket: BorrowedFd<'_>,
        places: impl Iterator<Item = (*mut u8, usize)> + Clone,
        take: Take,
    ) -> Result<usize, Stop> {
        let wanted = places
            .clone()
            .fold(0_usize, |sum, (_, len)| sum.saturating_add(len));
        if wanted == 0 {
            return Ok(0);
        }
        let Some(mut end) = self.consumer() else {
            return Err(self.not_to_be_had());
        };
        let read = match take {
            // SAFETY: by the caller's word; the program's memory is no part of the ring.
            Take::Consume => unsafe { end.read_to(places.clone()) },
            // SAFETY: as above.
            Take::Peek(offset) => unsafe { end.peek_to(offset, places.clone()) },
            Take::Measure => end.used().map(|used| used.min(wanted)),
            Take::Discard => end.used().and_then(|used| {
                let n = used.min(wanted);
                end.consume(n).map(|()| n)
            }),
        };
        drop(end);
        match read {
            // SAFETY: by the caller's word. It ends, as each mark is passed once.
            Ok(0) if self.is_at_mark() && self.pass_mark() => unsafe {
                self.read(socket, places, take)
            },
            Ok(0) => match self.nothing_to_read() {
                Some(stop) => Err(stop),
                // SAFETY: by the caller's word. Once only: the peer sends no more.
                None => unsafe { self.read(socket, places, take) },
            },
            Ok(n) => {
                if self.header().ring(self.side.receives()).space_is_awaited() {
                    self.tell(socket);
                }
                Ok(n)
            }
            Err(corrupt) => Err(self.corrupt(socket, corrupt)),
        }
    }

    /// Writes as much as there is space for.
    ///
    /// # Errors
    ///
    /// [`Stop`] if there is none.
    ///
    /// # Safety
    ///
    /// The places must be readable. A null address goes with no bytes only.
    #[inline]
    pub unsafe fn write(
        &self,
        socket: BorrowedFd<'_>,
        places: impl Iterator<Item = (*const u8, usize)> + Clone,
    ) -> Result<usize, Stop> {
        if self.cannot_write() {
            return self.write_in_vain(total(places));
        }
        let Some(mut end) = self.producer() else {
            return Err(self.not_to_be_had());
        };
        // SAFETY: by the caller's word; the program's memory is no part of the ring.
        let written = unsafe { end.write_from(places.clone()) };
        drop(end);
        match written {
            Ok(0) if total(places.clone()) > 0 => Err(Stop::WouldBlock),
            Ok(n) => {
                self.tell(socket);
                Ok(n)
            }
            Err(corrupt) => Err(self.corrupt(socket, corrupt)),
        }
    }

    /// Says that no more will be written: FIN. What was written before is read before.
    pub fn finish(&self, socket: BorrowedFd<'_>) {
        self.flags.fetch_or(FINISHED, Ordering::AcqRel);
        // Only a peer that scribbles makes the word stale, and it is the only one to suffer.
        let _ = self.header().status(self.side).finish(self.generation);
        self.deafen();
        super::waiter::fence::full();
        self.tell(socket);
    }

    /// Says that nothing will be read any more (shutdown(2), `SHUT_RD`): what is there still is. Wakes
    /// whoever waits for the socket here.
    pub fn stop_reading(&self, socket: BorrowedFd<'_>) {
        self.flags.fetch_or(DEAF, Ordering::AcqRel);
        self.deafen();
        let _ = rustix::net::shutdown(socket, rustix::net::Shutdown::Read);
    }

    /// Shut down both ways: lets the peer know, whose next bytes end the session.
    fn deafen(&self) {
        if self.flags.load(Ordering::Acquire) & (DEAF | FINISHED) == DEAF | FINISHED {
            let _ = self.header().status(self.side).deafen(self.generation);
        }
    }

    /// Gives the session up: RST.
    pub fn reset(&self, socket: BorrowedFd<'_>, reason: ResetReason) {
        self.flags.fetch_or(RESET | FINISHED, Ordering::AcqRel);
        let _ = self
            .header()
            .status(self.side)
            .reset(self.generation, reason);
        super::waiter::fence::full();
        self.tell(socket);
    }

    /// The error that waits to be told (SO_ERROR), which is told with that; 0 for none.
    pub fn take_error(&self) -> i32 {
        self.notice_reset();
        self.error.swap(0, Ordering::AcqRel)
    }

    /// Bytes that wait to be read.
    pub fn unread(&self) -> usize {
        self.consumer().map_or(0, |mut end| end.used().unwrap_or(0))
    }

    /// Bytes that the peer has not read.
    pub fn unsent(&self) -> usize {
        self.producer().map_or(0, |end| end.used().unwrap_or(0))
    }

    /// Bytes ever read and ever written.
    pub fn moved(&self) -> (u64, u64) {
        let words = self.words();
        (words.consumer.position(), words.producer.position())
    }

    /// How long a byte has lain in the ring until it was read here, in nanoseconds: the last sample, if
    /// there is one that was not taken yet. See [`ConsumerWords::take_waited`].
    #[inline]
    pub fn take_waited(&self) -> Option<std::num::NonZeroU64> {
        self.words().consumer.take_waited()
    }

    /// Bytes that the rings hold at most: sent, received.
    pub fn capacities(&self) -> (usize, usize) {
        let layout = self.segment().layout();
        (
            layout.capacity(self.side.sends()),
            layout.capacity(self.side.receives()),
        )
    }

    /// Which end this is.
    pub const fn side(&self) -> Side {
        self.side
    }

    /// Lends the unread bytes, where they are, to `f`, which says how many of them it has used.
    ///
    /// # Errors
    ///
    /// [`Stop`] if there are none.
    pub fn read_in_place<R>(
        &self,
        socket: BorrowedFd<'_>,
        f: impl FnOnce([super::ring::Span; 2]) -> (usize, R),
    ) -> Result<R, Stop> {
        let Some(mut end) = self.consumer() else {
            return Err(self.not_to_be_had());
        };
        let spans = end.readable().map_err(|why| self.corrupt(socket, why))?;
        if spans[0].len == 0 {
            drop(end);
            return Err(self.nothing_to_read().unwrap_or(Stop::WouldBlock));
        }
        let (used, result) = f(spans);
        let consumed = end.consume(used);
        drop(end);
        consumed.map_err(|why| self.corrupt(socket, why))?;
        if self.header().ring(self.side.receives()).space_is_awaited() {
            self.tell(socket);
        }
        Ok(result)
    }

    /// Lends free memory of the ring to `f`, which says how many bytes of it, from the start, it has
    /// filled. There are `min` bytes if they can be had.
    ///
    /// # Errors
    ///
    /// [`Stop`] if there are none.
    pub fn write_in_place<R>(
        &self,
        socket: BorrowedFd<'_>,
        min: usize,
        f: impl FnOnce([super::ring::Span; 2]) -> (usize, R),
    ) -> Result<R, Stop> {
        if self.cannot_write() {
            return self.write_in_place_in_vain(f);
        }
        let Some(mut end) = self.producer() else {
            return Err(self.not_to_be_had());
        };
        let spans = end.reserve(min).map_err(|why| self.corrupt(socket, why))?;
        if spans[0].len == 0 {
            return Err(Stop::WouldBlock);
        }
        let (filled, result) = f(spans);
        let committed = end.commit(filled);
        drop(end);
        committed.map_err(|why| self.corrupt(socket, why))?;
        self.tell(socket);
        Ok(result)
    }

    #[inline]
    fn header(&self) -> &Header {
        self.segment().header()
    }

    #[inline]
    fn segment(&self) -> &Segment {
        match &self.lease {
            Lease::Connecting(prepared) => prepared.segment(),
            Lease::Accepting(adopted) => adopted.segment(),
        }
    }

    #[inline]
    fn words(&self) -> &Words {
        // SAFETY: null, or memory that is mapped as long as the endpoint lives (`share`).
        unsafe { self.shared.load(Ordering::Acquire).as_ref() }.unwrap_or(&self.own)
    }

    /// The reading end, alone.
    #[inline]
    fn consumer(&self) -> Option<Exclusive<'_, Consumer<'_>>> {
        let who = Identity::current()?;
        loop {
            let words = self.words();
            if std::ptr::eq(words, &raw const self.own) && self.is_foreign() {
                return None;
            }
            let ring = self.segment().ring(self.side.receives());
            // SAFETY: everybody who has this end uses these words: see `share`.
            let end: Result<_, Busy> = unsafe { Exclusive::consumer(ring, &words.consumer, who) };
            let end = end.ok()?;
            if std::ptr::eq(words, self.words()) {
                return Some(end);
            }
        }
    }

    /// The writing end, alone.
    #[inline]
    fn producer(&self) -> Option<Exclusive<'_, Producer<'_>>> {
        let who = Identity::current()?;
        loop {
            let words = self.words();
            if std::ptr::eq(words, &raw const self.own) && self.is_foreign() {
                return None;
            }
            let ring = self.segment().ring(self.side.sends());
            // SAFETY: everybody who has this end uses these words: see `share`.
            let end: Result<_, Busy> = unsafe { Exclusive::producer(ring, &words.producer, who) };
            let end = end.ok()?;
            if std::ptr::eq(words, self.words()) {
                return Some(end);
            }
        }
    }

    #[inline]
    fn has(&self, flags: u32) -> bool {
        self.flags.load(Ordering::Acquire) & flags != 0
    }

    /// The ring was found empty: why? `None` if it no longer is.
    #[cold]
    fn nothing_to_read(&self) -> Option<Stop> {
        let over = self.peer_is_done();
        // The peer has published its bytes before it said that it was done.
        if over && self.unread() > 0 {
            return None;
        }
        if self.has(STRAY) {
            return Some(Stop::Stray);
        }
        self.notice_reset();
        // A broken pipe is for writers to hear of.
        let told = self.error.load(Ordering::Acquire);
        if told != 0 && told != libc::EPIPE {
            self.error.store(0, Ordering::Release);
            return Some(Stop::Error(told));
        }
        Some(if over || self.has(DEAF | RESET) {
            Stop::End
        } else {
            Stop::WouldBlock
        })
    }

    /// Whether the peer sends no more: finished, reset, closed, or gone.
    #[inline]
    fn peer_is_done(&self) -> bool {
        if self.has(GONE | RESET) {
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

    /// Whether a write would go nowhere: this end has finished, or the peer reads no more.
    #[inline]
    pub fn cannot_write(&self) -> bool {
        if self.has(FINISHED | GONE | RESET | BROKEN) || self.is_finished_elsewhere() {
            return true;
        }
        match self
            .header()
            .status(self.side.other())
            .load(self.generation)
        {
            Ok(state) => state.is_reset() || state.is_closed() || state.is_deaf(),
            Err(_) => true,
        }
    }

    /// A write that nobody will read. As with TCP, the first one after the peer has closed is not an
    /// error (its answer, a reset, comes later), and the next one is.
    #[cold]
    fn write_in_vain(&self, len: usize) -> Result<usize, Stop> {
        self.notice_reset();
        let error = self.error.swap(0, Ordering::AcqRel);
        if error != 0 && error != libc::EPIPE {
            return Err(Stop::Error(error));
        }
        if error != 0 || self.has(FINISHED | RESET | BROKEN) || self.is_finished_elsewhere() {
            return Err(Stop::Pipe);
        }
        if len == 0 {
            return Ok(0);
        }
        self.flags.fetch_or(BROKEN, Ordering::AcqRel);
        self.error.store(libc::EPIPE, Ordering::Release);
        let header = self.header();
        let peer = header.status(self.side.other()).load(self.generation);
        if peer.is_ok_and(State::is_deaf) {
            // These bytes have made it reset the connection, which it hears of, too.
            self.flags.fetch_or(RESET, Ordering::AcqRel);
            let _ = header
                .status(self.side)
                .reset(self.generation, ResetReason::Aborted);
            super::waiter::fence::full();
            self.tell_quietly();
        }
        Ok(len)
    }

    /// As [`write_in_vain`](Self::write_in_vain): what `f` writes goes nowhere.
    #[cold]
    fn write_in_place_in_vain<R>(
        &self,
        f: impl FnOnce([super::ring::Span; 2]) -> (usize, R),
    ) -> Result<R, Stop> {
        if self.has(FINISHED | RESET | BROKEN) {
            self.write_in_vain(0)?;
            return Err(Stop::Pipe);
        }
        let mut nowhere = [0_u8; 4096];
        let start = std::ptr::NonNull::from(&mut nowhere).cast();
        let span = |len| super::ring::Span { start, len };
        let (filled, result) = f([span(nowhere.len()), span(0)]);
        if filled > 0 {
            self.write_in_vain(filled)?;
        }
        Ok(result)
    }

    /// Looks whether the peer has given the session up, and notes the error to be told of that.
    fn notice_reset(&self) {
        if self.has(RESET) {
            return;
        }
        let state = self
            .header()
            .status(self.side.other())
            .load(self.generation);
        let reset = match state {
            Ok(state) => state.is_reset(),
            // It speaks of another session: it has scribbled.
            Err(_) => true,
        };
        // A peer that was killed with bytes unread has, as TCP sees it, reset the connection; and so has
        // a listener that closed without having accepted it.
        let dropped = || {
            let accepted = self.side == Side::Accepting || state.is_ok_and(State::is_answered);
            self.has(GONE) && (!accepted || self.unsent() > 0)
        };
        let finished = state.is_ok_and(State::is_finished);
        if finished && self.has(FINISHED | BROKEN) {
            // Both ends had finished: TCP has no connection any more that could be reset.
            return;
        }
        if (reset || dropped()) && self.flags.fetch_or(RESET, Ordering::AcqRel) & RESET == 0 {
            // A reset after the end of the stream is a broken pipe (tcp_reset in the kernel).
            let error = if finished {
                libc::EPIPE
            } else {
                libc::ECONNRESET
            };
            self.error.store(error, Ordering::Release);
        }
    }

    /// The peer's words are impossible: the session is over, for it as for us.
    #[cold]
    fn corrupt(&self, socket: BorrowedFd<'_>, _why: Corrupt) -> Stop {
        self.reset(socket, ResetReason::Corrupt);
        Stop::Error(libc::ECONNRESET)
    }
}

fn total<P>(places: impl Iterator<Item = (P, usize)>) -> usize {
    places.fold(0, |sum, (_, len)| sum.saturating_add(len))
}
