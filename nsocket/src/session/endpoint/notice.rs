//! Telling the peer that there are bytes, or space, or an end; and being told.
//!
//! Each end says in one word of the header, its *interest*, how it wants to be told:
//!
//! ```text
//! bits  0..16  index of the session in the ready set    (with LISTED)
//! bits 16..24  place of the waiter on the end's board   (with LISTED)
//! bit      32  LISTED   set the bit; ring if that waiter sleeps
//! bit      33  ONCE     somebody sleeps for this session alone: ring, and clear this
//! bit      34  ALWAYS   ring for everything
//! ```
//!
//! To ring is to send a *token*, a record of its own kind, over the session's Unix socket. It makes
//! that socket readable, so that it wakes whoever waits for it in whatever way the kernel knows: in
//! poll(2), in an epoll instance, in another process after fork(2). The socket is of records
//! (`SOCK_SEQPACKET`), so that a token is told from bytes that somebody has written there without us.
//!
//! An end that has nobody waiting has an interest of zero, and telling it costs its peer one load.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

use super::{DEAF, Endpoint, GONE, RANG, STRAY};
use crate::session::board::PeerBoard;
use crate::session::waiter::fence;
use crate::sync::Ordering;

/// What is sent to ring.
pub const TOKEN: [u8; 8] = *b"\0DMMring";

const LISTED: u64 = 1 << 32;
const ONCE: u64 = 1 << 33;
const ALWAYS: u64 = 1 << 34;

/// Tokens that one call takes at most: a flood of them must not hold up the caller.
const DRAINED_AT_ONCE: usize = 32;

/// Where a waiter wants to be told of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The number of this process's board.
    pub board: u64,
    /// The waiter's place on it.
    pub waiter: u8,
    /// The session's index in the waiter's ready set.
    pub session: u16,
}

/// What was found in the socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// The peer has rung.
    pub rung: bool,
    /// The peer's socket is closed.
    pub gone: bool,
    /// Bytes wait there that did not come through the ring.
    pub stray: bool,
}

impl Endpoint {
    /// From now on a bit is set at that place for everything that happens. The caller sets the bit
    /// itself once afterwards, for what has happened before.
    pub fn list(&self, place: Place) {
        let own = self.header();
        own.board(self.side).store(place.board, Ordering::Release);
        let word = LISTED | u64::from(place.waiter) << 16 | u64::from(place.session);
        self.change_interest(LISTED | 0xff_ffff, word);
    }

    /// No bit is set any more.
    pub fn unlist(&self) {
        self.change_interest(LISTED | 0xff_ffff, 0);
    }

    /// Whether the peer rings for everything: for a session that several waiters, or waiters that the
    /// peer cannot know of, want to be told of.
    pub fn ring_always(&self, on: bool) {
        self.change_interest(ALWAYS, if on { ALWAYS } else { 0 });
    }

    /// Asks to be rung for, once. The caller then looks once more (a barrier is made), and may sleep on
    /// the socket.
    pub fn announce(&self) {
        self.header()
            .interest(self.side)
            .fetch_or(ONCE, Ordering::AcqRel);
        fence::after_update();
    }

    /// Tells the peer that something has happened. After publishing it and a barrier.
    #[inline]
    pub(super) fn tell(&self, socket: BorrowedFd<'_>) {
        let interest = self.header().interest(self.side.other());
        let word = interest.load(Ordering::Relaxed);
        if word != 0 {
            self.tell_by(word, socket);
        }
    }

    #[inline]
    fn tell_by(&self, word: u64, socket: BorrowedFd<'_>) {
        if word & LISTED != 0 {
            match self.board() {
                Some(board) => {
                    let ring = || self.ring(socket);
                    // A peer that is gone need not be told.
                    let _ = board.tell((word >> 16) as usize & 0xff, word as u16, ring);
                }
                None => self.tell_unknown(word, socket),
            }
        }
        if word & (ONCE | ALWAYS) != 0 {
            self.ring_once(word, socket);
        }
    }

    /// Sets the peer's bit, and does not ring: the socket is about to be closed, which wakes it.
    pub(super) fn tell_quietly(&self) {
        let word = self
            .header()
            .interest(self.side.other())
            .load(Ordering::Relaxed);
        if word & LISTED != 0
            && let Some(board) = self.board()
        {
            board.mark((word >> 16) as usize & 0xff, word as u16);
        }
    }

    /// The peer wants to be told on a board that is not known here, or not yet.
    #[cold]
    fn tell_unknown(&self, word: u64, socket: BorrowedFd<'_>) {
        self.learn_board(socket);
        let told = self.board().is_some_and(|board| {
            let ring = || self.ring(socket);
            board
                .tell((word >> 16) as usize & 0xff, word as u16, ring)
                .is_ok()
        });
        if !told {
            let _ = self.ring(socket);
        }
    }

    #[cold]
    fn ring_once(&self, word: u64, socket: BorrowedFd<'_>) {
        let interest = self.header().interest(self.side.other());
        let asked = word & ONCE != 0 && interest.fetch_and(!ONCE, Ordering::AcqRel) & ONCE != 0;
        if asked || word & ALWAYS != 0 {
            let _ = self.ring(socket);
        }
    }

    #[cold]
    fn ring(&self, socket: BorrowedFd<'_>) -> Result<(), Errno> {
        self.flags.fetch_or(RANG, Ordering::AcqRel);
        let sent = send_token(socket);
        if matches!(sent, Err(Errno::PIPE | Errno::CONNRESET)) && self.is_hung_up(socket) {
            // It has died in its sleep, and has not just shut its socket for reading: writes need not
            // fill the ring to find out.
            self.note_gone();
        }
        sent
    }

    /// Takes tokens out of the socket, and looks whether the peer is still there. To be called when
    /// the socket was found readable, or when nothing has come for a while; never waits.
    ///
    /// Of an end that several processes have the tokens are left alone while a thread sleeps for it,
    /// which they are to wake.
    pub fn drain(&self, socket: BorrowedFd<'_>) -> Drained {
        if self.has_sleepers() {
            let gone = self.is_hung_up(socket);
            if gone {
                self.note_gone();
            }
            return Drained {
                gone,
                ..Drained::default()
            };
        }
        self.drain_after_sleep(socket)
    }

    /// The same, by the first of those that sleep for this end alone.
    pub fn drain_after_sleep(&self, socket: BorrowedFd<'_>) -> Drained {
        let mut found = Drained::default();
        for _ in 0..DRAINED_AT_ONCE {
            let mut record = [0; 64];
            let flags = RecvFlags::DONTWAIT | RecvFlags::PEEK | RecvFlags::TRUNC;
            match rustix::net::recv(socket, &mut record, flags) {
                Ok((_, 0)) => {
                    // The end, or a record without bytes, which nobody has a use for.
                    if self.is_hung_up(socket) {
                        found.gone = true;
                        break;
                    }
                    take_record(socket);
                }
                Ok((_, len)) if len == TOKEN.len() && record[..len] == TOKEN => {
                    take_record(socket);
                    found.rung = true;
                }
                Ok((_, len)) if self.is_answer(&record[..len.min(64)]) => self.learn_board(socket),
                Ok(_) => {
                    found.stray = true;
                    break;
                }
                // The peer has closed with tokens of ours unread. What follows is the end.
                Err(Errno::CONNRESET) => {}
                Err(Errno::INTR) => {}
                Err(_) => break,
            }
        }
        let gone = if found.gone { GONE } else { 0 };
        let stray = if found.stray { STRAY } else { 0 };
        if gone | stray != 0 {
            self.flags.fetch_or(gone | stray, Ordering::AcqRel);
        }
        if !found.stray && self.has(STRAY) {
            self.flags.fetch_and(!STRAY, Ordering::AcqRel);
        }
        found
    }

    /// Whether the socket is readable without that the peer has rung, and stays so: bytes that did not
    /// come through the ring wait there, or it was shut down for reading.
    pub fn is_never_quiet(&self) -> bool {
        self.has(STRAY | DEAF)
    }

    /// Whether the peer was asleep and has been rung for since this was asked last.
    #[inline]
    pub fn take_rang(&self) -> bool {
        self.has(RANG) && self.flags.fetch_and(!RANG, Ordering::AcqRel) & RANG != 0
    }

    /// The kernel has said that the peer's socket is closed.
    pub fn note_gone(&self) {
        self.flags.fetch_or(GONE, Ordering::AcqRel);
    }

    /// Whether the peer's socket is closed, as far as is known.
    pub fn is_gone(&self) -> bool {
        self.has(GONE)
    }

    /// The core that the peer was seen on last, if it has told.
    #[inline]
    pub fn peer_core(&self) -> Option<u32> {
        self.header()
            .core(self.side.other())
            .load(Ordering::Relaxed)
            .checked_sub(1)
    }

    /// Tells the core that this end is used on; a store only if that has changed.
    #[inline]
    pub fn publish_core(&self, core: u32) {
        let place = self.header().core(self.side);
        let core = core.wrapping_add(1);
        if place.load(Ordering::Relaxed) != core {
            place.store(core, Ordering::Relaxed);
        }
    }

    /// Whether the peer's socket is closed, by the kernel's word. Where this end does not listen any
    /// more, the kernel says so of reading in any case.
    fn is_hung_up(&self, socket: BorrowedFd<'_>) -> bool {
        let says_so = if self.has(DEAF) {
            PollFlags::HUP
        } else {
            PollFlags::RDHUP | PollFlags::HUP
        };
        let mut set = [PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::RDHUP)];
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        rustix::event::poll(&mut set, Some(&now)).is_ok() && set[0].revents().intersects(says_so)
    }

    #[inline]
    fn board(&self) -> Option<&PeerBoard> {
        self.board.get()
    }

    fn change_interest(&self, mask: u64, bits: u64) {
        // The peer only ever clears ONCE, so this ends soon.
        let _ = self.header().interest(self.side).fetch_update(
            Ordering::AcqRel,
            Ordering::Relaxed,
            |word| Some(word & !mask | bits),
        );
        fence::after_update();
    }
}

/// Sends a token, without waiting. One that does not fit because many others wait is not needed.
fn send_token(socket: BorrowedFd<'_>) -> Result<(), Errno> {
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    match rustix::net::send(socket, &TOKEN, flags) {
        Ok(_) | Err(Errno::AGAIN) => Ok(()),
        Err(errno) => Err(errno),
    }
}

fn take_record(socket: BorrowedFd<'_>) {
    let _ = rustix::net::recv(socket, &mut [0u8; 8], RecvFlags::DONTWAIT);
}
