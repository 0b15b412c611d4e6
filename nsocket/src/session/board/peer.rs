//! The boards of peers, each mapped once.

use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};

use super::WAITERS;
use super::memory::Sets;
use crate::session::ready::ReadyWords;
use crate::session::rendezvous::Credentials;
use crate::session::waiter::{PageError, PeerPage, PeerSlot, Ringer};
use crate::sync::{AtomicU32, Ordering};

/// Boards that a process can know at a time. Sessions with further peers ring by their own sockets.
const BOARDS: usize = 256;

/// Boards without sessions that are kept mapped: the next session with their owner is cheaper.
const IDLE: u32 = 8;

/// A peer's board.
#[derive(Debug)]
pub struct PeerBoard {
    number: u64,
    peer: Credentials,
    page: PeerPage,
    sets: Sets,
    ringers: [Ringer; WAITERS],
}

impl PeerBoard {
    /// Maps the files that a peer has handed over.
    ///
    /// # Errors
    ///
    /// [`PageError`]: they are not what they should be, or memory is lacking.
    pub fn adopt(
        number: u64,
        peer: Credentials,
        page: impl AsFd,
        sets: impl AsFd,
    ) -> Result<Self, PageError> {
        Ok(Self {
            number,
            peer,
            page: PeerPage::adopt(page)?,
            sets: Sets::adopt(sets)?,
            ringers: std::array::from_fn(|_| Ringer::new()),
        })
    }

    /// Sets the bit of a session in a waiter's set, and calls `ring` if the waiter sleeps and has not
    /// been rung for. A place that the board does not have is ignored. To be called after publishing
    /// and a barrier.
    ///
    /// # Errors
    ///
    /// Those of `ring`.
    #[inline]
    pub fn tell<E>(
        &self,
        waiter: usize,
        session: u16,
        ring: impl FnOnce() -> Result<(), E>,
    ) -> Result<bool, E> {
        let (Some(set), Some(ringer)) = (self.set(waiter), self.ringers.get(waiter)) else {
            return Ok(false);
        };
        set.set(session);
        match self.page.slot(waiter) {
            Some(slot) => slot.ring_if_asleep(ringer, ring),
            None => Ok(false),
        }
    }

    /// Sets the bit of a session in a waiter's set, and rings for nobody: what happens next wakes it.
    #[inline]
    pub fn mark(&self, waiter: usize, session: u16) {
        if let Some(set) = self.set(waiter) {
            set.set(session);
        }
    }

    /// What a waiter has published of itself.
    pub fn slot(&self, waiter: usize) -> Option<PeerSlot<'_>> {
        self.page.slot(waiter)
    }

    /// Whose board it is.
    pub const fn peer(&self) -> Credentials {
        self.peer
    }

    #[inline]
    fn set(&self, waiter: usize) -> Option<&ReadyWords> {
        self.sets.set(waiter)
    }
}

/// The boards that this process knows. Shared by threads without waiting.
pub struct PeerBoards {
    places: [Place; BOARDS],
    /// Places that hold a board without sessions.
    idle: AtomicU32,
}

struct Place {
    /// `FREE`, `BUSY`, or the number of users plus `USERS`.
    state: AtomicU32,
    board: UnsafeCell<MaybeUninit<PeerBoard>>,
}

const FREE: u32 = 0;
const BUSY: u32 = 1;
const USERS: u32 = 2;

// SAFETY: `board` is written by whoever has made the state BUSY, and shared only while it counts users.
unsafe impl Sync for PeerBoards {}

/// A board in use. Released when dropped.
#[derive(Debug)]
pub struct InUse {
    boards: &'static PeerBoards,
    at: usize,
}

impl PeerBoards {
    /// None is known.
    #[expect(clippy::new_without_default, reason = "only ever a static")]
    pub const fn new() -> Self {
        Self {
            places: [const {
                Place {
                    state: AtomicU32::new(FREE),
                    board: UnsafeCell::new(MaybeUninit::uninit()),
                }
            }; BOARDS],
            idle: AtomicU32::new(0),
        }
    }

    /// The board of that number, if that peer has sent it.
    pub fn find(&'static self, number: u64, peer: Credentials) -> Option<InUse> {
        (0..BOARDS).find_map(|at| {
            let found = self.use_at(at)?;
            let board = found.board();
            (board.number == number && board.peer.pid == peer.pid && board.peer.uid == peer.uid)
                .then_some(found)
        })
    }

    /// Keeps a board; `None` if there is no room for it.
    pub fn keep(&'static self, board: PeerBoard) -> Option<InUse> {
        let at = self.places.iter().position(|place| {
            place
                .state
                .compare_exchange(FREE, BUSY, Ordering::Acquire, Ordering::Relaxed)
                .is_ok()
        })?;
        // SAFETY: BUSY makes this thread the only one to touch the place.
        unsafe { (*self.places[at].board.get()).write(board) };
        self.places[at].state.store(USERS + 1, Ordering::Release);
        Some(InUse { boards: self, at })
    }

    /// Maps what a peer has handed over, or finds it mapped already.
    ///
    /// # Errors
    ///
    /// [`PageError`]; `Ok(None)` if there is no room.
    pub fn adopt(
        &'static self,
        number: u64,
        peer: Credentials,
        page: BorrowedFd<'_>,
        sets: BorrowedFd<'_>,
    ) -> Result<Option<InUse>, PageError> {
        match self.find(number, peer) {
            Some(known) => Ok(Some(known)),
            None => Ok(self.keep(PeerBoard::adopt(number, peer, page, sets)?)),
        }
    }

    fn use_at(&'static self, at: usize) -> Option<InUse> {
        let place = &self.places[at];
        let mut state = place.state.load(Ordering::Relaxed);
        loop {
            if state < USERS {
                return None;
            }
            match place.state.compare_exchange(
                state,
                state + 1,
                Ordering::Acquire,
                Ordering::Relaxed,
            ) {
                Ok(before) => {
                    if before == USERS {
                        self.idle.fetch_sub(1, Ordering::Relaxed);
                    }
                    return Some(InUse { boards: self, at });
                }
                Err(now) => state = now,
            }
        }
    }

    fn release(&self, at: usize) {
        let place = &self.places[at];
        if place.state.fetch_sub(1, Ordering::AcqRel) != USERS + 1 {
            return;
        }
        if self.idle.fetch_add(1, Ordering::Relaxed) < IDLE {
            return;
        }
        // Enough are kept without sessions: this one goes, unless somebody has just come back to it.
        if place
            .state
            .compare_exchange(USERS, BUSY, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
        {
            self.idle.fetch_sub(1, Ordering::Relaxed);
            // SAFETY: BUSY makes this thread the only one to touch the place, which holds a board.
            unsafe { (*place.board.get()).assume_init_drop() };
            place.state.store(FREE, Ordering::Release);
        }
    }
}

impl std::fmt::Debug for PeerBoards {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PeerBoards").finish_non_exhaustive()
    }
}

impl InUse {
    /// The board.
    #[inline]
    pub fn board(&self) -> &PeerBoard {
        // SAFETY: the place holds a board while its state counts this user.
        unsafe { (*self.boards.places[self.at].board.get()).assume_init_ref() }
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.boards.release(self.at);
    }
}
