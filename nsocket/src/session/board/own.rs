//! This process's own board.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::Errno;
use rustix::rand::GetRandomFlags;

use super::WAITERS;
use super::memory::Sets;
use crate::hidden::Hidden;
use crate::session::ready::{ReadyWords, Taker};
use crate::session::waiter::{PageError, SleepWord, Spin, WaiterPage};
use crate::sync::{AtomicBool, Ordering};

/// The board of this process. A child of `fork` must make its own: peers that ring at this one wake
/// the parent.
#[derive(Debug)]
pub struct Board {
    number: u64,
    page: WaiterPage,
    sets: Sets,
    sets_file: Hidden,
    places: [Place; WAITERS],
}

/// What only the owner knows of a place.
#[derive(Debug)]
struct Place {
    taken: AtomicBool,
    taker: Taker,
    spin: Spin,
}

impl Board {
    /// An empty board.
    ///
    /// # Errors
    ///
    /// [`PageError::System`]: no descriptors or memory are left, or the kernel is older than 5.14.
    pub fn create() -> Result<Self, PageError> {
        let page = WaiterPage::create()?;
        let (sets, sets_file) = Sets::create()?;
        Ok(Self {
            number: draw_number()?,
            page,
            sets,
            sets_file,
            places: std::array::from_fn(|_| Place {
                taken: AtomicBool::new(false),
                taker: Taker::new(),
                spin: Spin::new(),
            }),
        })
    }

    /// What peers know it by. Never 0.
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// What is handed to a peer: the file of the sleep words, and that of the ready sets.
    pub fn files(&self) -> [BorrowedFd<'_>; 2] {
        [self.page.as_fd(), self.sets_file.as_fd()]
    }

    /// A place for a waiter; `None` if all are taken, or memory is lacking.
    pub fn take_place(&self) -> Option<usize> {
        let free = |place: &Place| !place.taken.swap(true, Ordering::AcqRel);
        let at = self.places.iter().position(free)?;
        if self.sets.populate(at, 64).is_err() {
            self.leave_place(at);
            return None;
        }
        Some(at)
    }

    /// The waiter of a place is gone. Bits that are still set, or will be, are looks in vain of the
    /// next one.
    pub fn leave_place(&self, at: usize) {
        if let Some(place) = self.places.get(at) {
            place.taken.store(false, Ordering::Release);
        }
    }

    /// The waiter at a place.
    #[inline]
    pub fn waiter(&self, at: usize) -> Option<Waiter<'_>> {
        let place = self.places.get(at)?;
        Some(Waiter {
            board: self,
            at,
            words: self.sets.set(at)?,
            sleep: self.page.sleep(at)?,
            taker: &place.taker,
            spin: &place.spin,
        })
    }
}

/// A waiter of this process.
#[derive(Clone, Copy, Debug)]
pub struct Waiter<'a> {
    board: &'a Board,
    at: usize,
    /// The ready set that peers write.
    pub words: &'a ReadyWords,
    /// Who sleeps.
    pub sleep: &'a SleepWord,
    /// Takes from the ready set.
    pub taker: &'a Taker,
    /// How long to look before sleeping.
    pub spin: &'a Spin,
}

impl Waiter<'_> {
    /// Sessions below `limit` may be ready from now on.
    ///
    /// # Errors
    ///
    /// Those of madvise(2): no memory for the set.
    pub fn admit(&self, limit: u32) -> Result<(), Errno> {
        self.board.sets.populate(self.at, limit as usize)?;
        self.taker.admit(limit);
        Ok(())
    }
}

fn draw_number() -> Result<u64, PageError> {
    let mut bytes = [0; 8];
    loop {
        match rustix::rand::getrandom(&mut bytes, GetRandomFlags::empty()) {
            Ok(8) if bytes != [0; 8] => return Ok(u64::from_ne_bytes(bytes)),
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => {
                return Err(PageError::System {
                    call: "getrandom",
                    errno,
                });
            }
        }
    }
}
