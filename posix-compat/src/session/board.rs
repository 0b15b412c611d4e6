//! This process's board: made when the first session is, and anew in the child of a fork.

use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use dmm_nsocket::session::board::Board;
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};

use crate::process;

/// The board made last, by this process or an ancestor.
static LATEST: AtomicPtr<Made> = AtomicPtr::new(ptr::null_mut());

/// The process that is making a board just now.
static MAKING: AtomicU32 = AtomicU32::new(0);

struct Made {
    pid: u32,
    board: UnsafeCell<MaybeUninit<Board>>,
}

/// The board, if this process has one.
#[inline]
pub(super) fn existing() -> Option<&'static Board> {
    // SAFETY: null, or a board that is never taken away.
    let made = unsafe { LATEST.load(Ordering::Acquire).as_ref() }?;
    if made.pid != process::pid() {
        return None;
    }
    // SAFETY: written before it was published.
    Some(unsafe { (*made.board.get()).assume_init_ref() })
}

/// The board, made if need be. `None` while another thread makes it, and where that is not possible:
/// sessions ring each time then.
pub(super) fn own() -> Option<&'static Board> {
    existing().or_else(make)
}

#[cold]
fn make() -> Option<&'static Board> {
    let pid = process::pid();
    // A child may have been forked while its parent was at it.
    if MAKING.swap(pid, Ordering::Acquire) == pid {
        return None;
    }
    let board = existing().or_else(|| {
        // SAFETY: a new private mapping at an address of the kernel's choice.
        let memory = unsafe {
            mmap_anonymous(
                ptr::null_mut(),
                size_of::<Made>(),
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE,
            )
        };
        let made: *mut Made = memory.ok()?.cast();
        let board = Board::create().ok()?;
        // SAFETY: memory for one, which nobody else knows yet.
        unsafe {
            made.write(Made {
                pid,
                board: UnsafeCell::new(MaybeUninit::new(board)),
            });
        }
        LATEST.store(made, Ordering::Release);
        existing()
    });
    MAKING.store(0, Ordering::Release);
    board
}
