//! Waking whoever sleeps in an epoll instance, for reasons that no session has.
//!
//! One eventfd that is always readable: registered edge-triggered, it wakes one sleeper each time its
//! registration is made or renewed.

use std::ffi::c_int;
use std::os::fd::{AsRawFd, IntoRawFd};
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};

use dmm_nsocket::hidden::Hidden;
use rustix::event::EventfdFlags;

use crate::{errno, process, real};

/// The eventfd's number plus one, and whose it is.
static BELL: AtomicI32 = AtomicI32::new(0);
static OWNER: AtomicU32 = AtomicU32::new(0);

/// Its address is the registration's data.
static MARK: u8 = 0;

fn mark() -> u64 {
    std::ptr::from_ref(&MARK) as u64
}

/// Whether an event is a kick.
pub(super) fn is_kick(data: u64) -> bool {
    data == mark()
}

/// Wakes one sleeper of the instance.
pub(super) fn kick(epoll: c_int) {
    let Some(bell) = bell() else { return };
    let before = errno::last();
    for operation in [libc::EPOLL_CTL_MOD, libc::EPOLL_CTL_ADD] {
        let mut event = libc::epoll_event {
            events: (libc::EPOLLIN | libc::EPOLLET) as u32,
            u64: mark(),
        };
        // SAFETY: the event is read during the call.
        if unsafe { real::epoll_ctl(epoll, operation, bell, &raw mut event) } == 0 {
            break;
        }
    }
    errno::set(before);
}

fn bell() -> Option<c_int> {
    let pid = process::pid();
    if OWNER.load(Ordering::Acquire) != pid {
        let made =
            rustix::event::eventfd(1, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).ok()?;
        let made = Hidden::new(made);
        // That of a parent stays open: whoever sleeps there is the parent's concern.
        BELL.store(made.as_raw_fd() + 1, Ordering::Release);
        OWNER.store(pid, Ordering::Release);
        let _ = made.into_raw_fd();
    }
    BELL.load(Ordering::Acquire).checked_sub(1)
}
