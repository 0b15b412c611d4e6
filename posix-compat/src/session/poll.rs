//! poll(2), select(2) and their kin on sets that sessions, listeners with a rendezvous, or epoll
//! instances with sessions are in; and what a session is ready for, as the kernel's TCP would say.
//!
//! | file | subject |
//! |---|---|
//! | here | what a session is ready for; whether there is anything of ours; poll(2) |
//! | `set` | a call's copy of the set, and what stands in it for ours |
//! | `style` | what counts as ready, for poll(2) and for select(2) |
//! | `wait` | looking, spinning, sleeping |
//! | `select` | bits to entries and back |
//! | `memory` | where the copy lives |
//!
//! A call whose set has nothing of ours is the kernel's, as it was made. Otherwise the kernel gets a
//! copy of the set in which a session is its socket, where the peer rings, and a listener is
//! accompanied by its rendezvous. What the kernel says of all others is passed on as it is.
//!
//! As everywhere, a signal that is handled while a thread looks, before it sleeps, does not end the
//! call: a program that needs that must block the signal and pass a mask.

mod memory;
mod select;
mod set;
mod style;
mod wait;

use std::ffi::c_int;
use std::sync::atomic::{AtomicBool, Ordering};

use dmm_nsocket::table::CAPACITY;
use libc::{pollfd, sigset_t};
use syscalls::{Sysno, syscall};

use self::set::{Room, Set};
use self::style::Style;
use super::pool::Using;
use super::wait::borrow;
use crate::{errno, process, user_memory};

pub(crate) use select::{Bits, select};

/// The bits of poll(2) and epoll(7), which have the same values, for what is so now. Of what costs a
/// lock only what is wanted is looked at.
pub(super) fn events(using: &Using, wanted: u32) -> u32 {
    let wants_write = wanted & WRITABLE != 0;
    let ready = using.endpoint().ready(wants_write);
    let low_water = using.session().options.receive_low_water();
    let readable = ready.readable
        && (low_water <= 1
            || ready.peer_finished
            || using.endpoint().unread() >= low_water as usize);
    let mut bits = 0;
    if readable || ready.peer_finished {
        bits |= READABLE;
    }
    if ready.writable {
        bits |= WRITABLE;
    }
    if ready.peer_finished {
        bits |= libc::EPOLLRDHUP as u32;
    }
    if ready.hung_up {
        bits |= libc::EPOLLHUP as u32;
    }
    if ready.urgent {
        bits |= libc::EPOLLPRI as u32;
    }
    if ready.error {
        bits |= libc::EPOLLERR as u32;
    }
    bits
}

const READABLE: u32 = (libc::EPOLLIN | libc::EPOLLRDNORM) as u32;
const WRITABLE: u32 = (libc::EPOLLOUT | libc::EPOLLWRNORM) as u32;

/// This process, or one that it was forked from, has had a session or a listener with a rendezvous.
static ANY: AtomicBool = AtomicBool::new(false);

/// There is one now. Before its descriptor is in the table.
pub(super) fn begin() {
    if !ANY.load(Ordering::Relaxed) {
        ANY.store(true, Ordering::Relaxed);
    }
}

/// Whether a set may have something of ours: what a call asks first.
#[inline(always)]
pub(crate) fn is_needed() -> bool {
    ANY.load(Ordering::Relaxed)
}

/// What is common to all calls.
#[derive(Clone, Copy)]
pub(crate) struct Call {
    /// Nanoseconds; `None` is for ever.
    pub(crate) timeout: Option<u64>,
    /// The signals to be blocked meanwhile; null leaves them.
    pub(crate) mask: *const sigset_t,
    /// Made by syscall(2), which is no cancellation point.
    pub(crate) by_number: bool,
}

/// poll(2) and ppoll(2). `None`: it is the kernel's, to be made as the program has made it.
#[cold]
pub(crate) fn poll(set: *mut pollfd, count: libc::nfds_t, call: Call) -> Option<c_int> {
    let count = usize::try_from(count)
        .ok()
        .filter(|count| (1..=CAPACITY).contains(count))?;
    if process::is_borrowed() || !user_memory::readable(set.cast(), count * size_of::<pollfd>()) {
        return None;
    }
    // SAFETY: so many elements can be read, as was just asked; any bytes are valid ones.
    let element = |i: usize| unsafe { set.add(i).read_unaligned() };
    let room = Room::of(count, (0..count).map(|i| element(i).fd))?;
    memory::with(room, |work, ours| {
        let mut copy = Set::new(Style::Poll, work, ours);
        for i in 0..count {
            let pollfd { fd, events, .. } = element(i);
            copy.add(fd, events);
        }
        let result = wait::wait(&mut copy, call);
        // As Linux does, also if a signal has ended the wait.
        for (i, outcome) in copy.outcomes().enumerate() {
            // SAFETY: an element of the program's, to be written by its word.
            unsafe { (&raw mut (*set.add(i)).revents).write_unaligned(outcome.revents) };
        }
        result.map_or_else(errno::fail, |ready| ready as c_int)
    })
}

/// Takes tokens out of a session's socket, unless they are to wake a thread that sleeps for it: which
/// may be just about to, having looked for the last time.
pub(super) fn drain(using: &Using, fd: c_int) {
    if using.session().waiting.load(Ordering::Acquire) == 0 {
        using.endpoint().drain(borrow(fd));
        return;
    }
    let mut socket = [pollfd {
        fd,
        events: 0,
        revents: 0,
    }];
    if ask_kernel(&mut socket) && socket[0].revents & libc::POLLHUP != 0 {
        using.endpoint().note_gone();
    }
}

/// Asks the kernel of a set, without waiting; tells whether it has something. No cancellation point,
/// and errno stays.
pub(super) fn ask_kernel(set: &mut [pollfd]) -> bool {
    let now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let (first, len) = (set.as_mut_ptr(), set.len());
    // SAFETY: so many elements, written during the call; without a mask its size is not looked at.
    let ready = unsafe { syscall!(Sysno::ppoll, first, len, &raw const now, 0usize, 0usize) };
    ready.is_ok_and(|ready| ready > 0)
}
