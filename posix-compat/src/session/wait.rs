//! Waiting for one session: a blocking read or write.
//!
//! First it is looked for as long as that pays ([`Spin`](dmm_nsocket::session::waiter::Spin)); then the thread sleeps in recv(2) on the
//! session's socket, which the peer makes readable. recv(2) and not poll(2): the kernel restarts it
//! after a signal if the program's handler says so (SA_RESTART), as it would TCP's, and ends it after
//! SO_RCVTIMEO. A second thread that waits for the same session looks again every few milliseconds: a
//! token wakes one sleeper, which may be the wrong one of the two.

use std::ffi::c_int;
use std::os::fd::BorrowedFd;
use std::sync::atomic::Ordering;

use dmm_nsocket::session::endpoint::Endpoint;
use dmm_nsocket::session::waiter::{Outcome, cores};

use super::pool::Using;
use crate::{clock, errno, real};

/// What a call waits for.
#[derive(Clone, Copy, Debug)]
pub(super) enum For {
    /// That a read does not wait.
    Bytes,
    /// That this many bytes are there, or the end.
    SoMany(usize),
    /// That there is space: the peer has read so far.
    Space(u64),
}

impl For {
    #[inline]
    pub(super) fn is_met(self, endpoint: &Endpoint) -> bool {
        match self {
            Self::Bytes => endpoint.is_readable(),
            Self::SoMany(n) => {
                endpoint.is_readable()
                    && (endpoint.unread() >= n || endpoint.ready(false).peer_finished)
            }
            Self::Space(tail) => endpoint.tail_is_at(tail),
        }
    }
}

/// How long the second and further sleepers sleep at a time, at first and at most.
const NAP_MS: (c_int, c_int) = (1, 16);

/// Waits until `what` is there. An error is an `errno`: EINTR, or EAGAIN when `timeout` (in ns) is
/// over.
pub(super) fn wait(
    using: Using,
    fd: c_int,
    what: For,
    timeout: Option<u64>,
) -> (Using, Result<(), c_int>) {
    let (session, endpoint) = (using.session(), using.endpoint());
    endpoint.publish_core(cores::current());
    if endpoint.take_rang() {
        session.spin.rang();
    }
    let outcome = session
        .spin
        .wait(endpoint.peer_core(), || what.is_met(endpoint));
    let began = match outcome {
        Outcome::Ready => return (using, Ok(())),
        Outcome::Sleep(began) => began,
    };
    let deadline = timeout.map(|ns| clock::now().saturating_add(ns));
    let first_here = session.waiting.fetch_add(1, Ordering::AcqRel) == 0;
    let first = endpoint.lie_down() && first_here;
    let mut nap = NAP_MS.0;
    let mut using = using;
    let result = loop {
        endpoint.announce();
        if what.is_met(endpoint) {
            break Ok(());
        }
        let slept;
        (using, slept) = sleep(using, fd, first, what, deadline, nap);
        if let Err(code) = slept {
            break Err(code);
        }
        // Of those who sleep in several processes the first has the tokens, unless it has died.
        if first || !endpoint.is_shared() || nap == NAP_MS.1 {
            endpoint.drain_after_sleep(borrow(fd));
        }
        nap = (nap * 2).min(NAP_MS.1);
        if what.is_met(endpoint) {
            break Ok(());
        }
        if deadline.is_some_and(|deadline| clock::now() >= deadline) {
            break Err(libc::EAGAIN);
        }
    };
    session.waiting.fetch_sub(1, Ordering::AcqRel);
    endpoint.rise();
    session.spin.slept(began);
    (using, result)
}

/// Sleeps until the socket is readable, a signal comes, or time is up. What wakes it stays there.
fn sleep(
    using: Using,
    fd: c_int,
    first: bool,
    what: For,
    deadline: Option<u64>,
    nap: c_int,
) -> (Using, Result<(), c_int>) {
    let before = errno::last();
    let not_ours = !first && using.endpoint().is_shared();
    let never_quiet = using.endpoint().is_never_quiet() || not_ours;
    let plain = first && !never_quiet && (deadline.is_none() || matches!(what, For::Bytes));
    let kept = using.suspend();
    let result = if plain {
        let mut record = [0u8; 8];
        // SAFETY: a buffer of that size. A thread may be cancelled here; nothing needs dropping.
        let got =
            unsafe { real::recv(fd, record.as_mut_ptr().cast(), record.len(), libc::MSG_PEEK) };
        match (got, errno::last()) {
            (0.., _) | (_, libc::ECONNRESET) => Ok(()),
            // SO_RCVTIMEO, or the program has made the descriptor non-blocking meanwhile.
            (_, code) => Err(code),
        }
    } else {
        let left =
            deadline.map(|deadline| deadline.saturating_sub(clock::now()).div_ceil(1_000_000));
        let left = left.map_or(c_int::MAX, |ms| ms.min(1 << 30) as c_int);
        let nap = if first && !never_quiet {
            left
        } else {
            left.min(nap)
        };
        let mut set = libc::pollfd {
            fd,
            // What is there anyway would end the sleep at once.
            events: if never_quiet { 0 } else { libc::POLLIN },
            revents: 0,
        };
        let nap = if nap == c_int::MAX { -1 } else { nap };
        // SAFETY: one element. A thread may be cancelled here; nothing needs dropping.
        match unsafe { real::poll(&raw mut set, 1, nap) } {
            -1 => Err(errno::last()),
            _ => Ok(()),
        }
    };
    errno::set(before);
    (Using::resume(kept), result)
}

/// A descriptor of the program's, for a call.
pub(super) fn borrow(fd: c_int) -> BorrowedFd<'static> {
    // SAFETY: a non-negative number (it has an entry in the table) that is only used for system calls;
    // one that the program closes meanwhile is refused by them.
    unsafe { BorrowedFd::borrow_raw(fd) }
}
