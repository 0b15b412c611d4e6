//! Reading and writing in place: memory of a session's rings, lent to the program (`dmm.h`).
//!
//! What a thread has borrowed is noted by that thread, one loan a direction, and checked when it is
//! given back; see [`Loan`] for what happens if somebody else has moved the end meanwhile. Nothing is
//! held in between: a thread may be cancelled, or never come back.

use std::cell::Cell;
use std::ffi::c_int;
use std::thread::LocalKey;

use dmm_nsocket::session::endpoint::{GiveBack, Loan, Stop};
use libc::{iovec, ssize_t};

use super::data::{self, Call};
use super::pool::{SESSIONS, Using};
use super::wait::{self, For, borrow};
use crate::errno;

/// A loan, and the session that it is of.
#[derive(Clone, Copy)]
struct Borrowed {
    handle: u32,
    loan: Loan,
}

type Slot = Cell<Option<Borrowed>>;

thread_local! {
    static UNREAD: Slot = const { Cell::new(None) };
    static FREE: Slot = const { Cell::new(None) };
}

/// Lends the unread bytes: how many there are, 0 at the end.
pub(crate) fn peek(call: Call, vector: *mut iovec) -> Option<ssize_t> {
    let mut using = SESSIONS.enter(call.handle)?;
    if data::is_bad(vector, 2 * size_of::<iovec>()) {
        return Some(errno::fail(libc::EFAULT));
    }
    UNREAD.set(None);
    let endpoint = using.endpoint();
    loop {
        match endpoint.lend_unread(borrow(call.fd)) {
            Ok(loan) => return Some(lend(&UNREAD, call, loan, vector)),
            Err(Stop::End | Stop::Pipe) => return Some(nothing(vector)),
            Err(Stop::Error(code)) => return Some(errno::fail(code)),
            Err(Stop::Stray) => return Some(errno::fail(libc::ENOTSUP)),
            Err(Stop::Busy) => return Some(errno::fail(libc::EAGAIN)),
            Err(Stop::WouldBlock) if !data::may_wait(call) => {
                endpoint.drain(borrow(call.fd));
                return Some(match endpoint.lend_unread(borrow(call.fd)) {
                    Err(Stop::End) => nothing(vector),
                    _ => errno::fail(libc::EAGAIN),
                });
            }
            Err(Stop::WouldBlock) => {}
        }
        let waited;
        let timeout = using.session().options.receive_timeout_ns();
        (using, waited) = wait::wait(using, call.fd, For::Bytes, timeout);
        if let Err(code) = waited {
            return Some(errno::fail(code));
        }
    }
}

/// So many bytes of what was lent are read.
pub(crate) fn consume(call: Call, used: usize) -> Option<ssize_t> {
    let using = SESSIONS.enter(call.handle)?;
    let given = give_back(&UNREAD, &using, used, |loan| {
        using.endpoint().consume_loan(borrow(call.fd), loan, used)
    });
    data::sample(&using, call.fd);
    Some(finish(given, used))
}

/// Lends free memory: how many bytes.
pub(crate) fn reserve(call: Call, min: usize, vector: *mut iovec) -> Option<ssize_t> {
    let mut using = SESSIONS.enter(call.handle)?;
    if data::is_bad(vector, 2 * size_of::<iovec>()) {
        return Some(errno::fail(libc::EFAULT));
    }
    FREE.set(None);
    let endpoint = using.endpoint();
    let min = min.clamp(1, endpoint.capacities().0);
    let waits = data::may_wait(call);
    loop {
        let lent = match endpoint.lend_free(borrow(call.fd), min) {
            Ok(loan) => Some(loan),
            Err(Stop::WouldBlock) if waits => None,
            Err(stop) => return Some(errno::fail(errno_of(stop))),
        };
        let enough = lent.is_some_and(|loan| loan.len() >= min || !waits);
        // As long as one that sends so many bytes would.
        let awaited = match enough {
            true => None,
            false => endpoint.awaited_tail(min),
        };
        let Some(tail) = awaited else {
            match lent {
                Some(loan) => return Some(lend(&FREE, call, loan, vector)),
                None => continue,
            }
        };
        let waited;
        let timeout = using.session().options.send_timeout_ns();
        (using, waited) = wait::wait(using, call.fd, For::Space(tail), timeout);
        if let Err(code) = waited {
            return Some(errno::fail(code));
        }
    }
}

/// So many bytes of what was lent are filled, and sent.
pub(crate) fn commit(call: Call, filled: usize) -> Option<ssize_t> {
    let using = SESSIONS.enter(call.handle)?;
    let given = give_back(&FREE, &using, filled, |loan| {
        using.endpoint().commit_loan(borrow(call.fd), loan, filled)
    });
    Some(finish(given, filled))
}

fn lend(slot: &'static LocalKey<Slot>, call: Call, loan: Loan, vector: *mut iovec) -> ssize_t {
    slot.set(Some(Borrowed {
        handle: call.handle,
        loan,
    }));
    let parts = loan.spans.map(|span| iovec {
        iov_base: span.start.as_ptr().cast(),
        iov_len: span.len,
    });
    tell(vector, parts);
    loan.len() as ssize_t
}

/// The end: two empty parts.
fn nothing(vector: *mut iovec) -> ssize_t {
    let part = iovec {
        iov_base: std::ptr::null_mut(),
        iov_len: 0,
    };
    tell(vector, [part; 2]);
    0
}

fn tell(vector: *mut iovec, parts: [iovec; 2]) {
    // SAFETY: the program says that there is room for two parts.
    unsafe { vector.cast::<[iovec; 2]>().write_unaligned(parts) };
}

/// Gives back what this thread has borrowed of the session. A loan that was refused for the length, or
/// by an end that is in use below a signal handler, stays.
fn give_back(
    slot: &'static LocalKey<Slot>,
    using: &Using,
    len: usize,
    how: impl FnOnce(&Loan) -> Result<(), GiveBack>,
) -> Result<(), c_int> {
    let borrowed = slot.get();
    let Some(Borrowed { loan, .. }) = borrowed.filter(|of| of.handle == using.handle()) else {
        return Err(libc::EINVAL);
    };
    if len > loan.len() {
        return Err(libc::EINVAL);
    }
    let given = how(&loan);
    if given != Err(GiveBack::Stop(Stop::Busy)) {
        slot.set(None);
    }
    given.map_err(|why| match why {
        GiveBack::Moved => libc::EBUSY,
        GiveBack::TooMuch => libc::EINVAL,
        GiveBack::Stop(stop) => errno_of(stop),
    })
}

fn finish(given: Result<(), c_int>, len: usize) -> ssize_t {
    match given {
        Ok(()) => len as ssize_t,
        Err(code) => errno::fail(code),
    }
}

/// No SIGPIPE: who asks for this knows of errors.
const fn errno_of(stop: Stop) -> c_int {
    match stop {
        Stop::Error(code) => code,
        Stop::WouldBlock | Stop::Busy => libc::EAGAIN,
        Stop::Pipe | Stop::End | Stop::Stray => libc::EPIPE,
    }
}
