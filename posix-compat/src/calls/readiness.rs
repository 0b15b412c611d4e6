//! Waiting for several descriptors. A program's epoll instance is the kernel's own; all that is
//! kept here is where a fresh socket is registered, as another may take its place.

use std::ffi::c_int;
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};

use dmm_nsocket::Reason;
use dmm_nsocket::fresh::Watch;
use dmm_nsocket::stats::HistogramKind;
use dmm_nsocket::table::{Entry, State};
use libc::{epoll_event, fd_set, pollfd, sigset_t, size_t, timespec, timeval};

use crate::export::export;
use crate::process::{self, FRESH, TABLE};
use crate::session::poll::{self, Bits, Call};
use crate::session::{self, epoll, nested};
use crate::{clock, real, track};

/// Distinguishes the epoll instances of a process, also those under a reused number.
static GENERATION: AtomicU32 = AtomicU32::new(1);

export! {
    hot;

    /// poll(2).
    also [__poll] fn poll(set: *mut pollfd, count: libc::nfds_t, timeout: c_int) -> c_int {
        if count != 1 || timeout == 0 || !is_timed() {
            return untimed_poll(set, count, timeout);
        }
        let begun = clock::now();
        let ready = untimed_poll(set, count, timeout);
        if ready >= 0 {
            // SAFETY: the kernel has just read the one element.
            waited_for(unsafe { (*set).fd }, begun);
        }
        ready
    }

    /// poll(2), with the set's size checked.
    fn __poll_chk(set: *mut pollfd, count: libc::nfds_t, timeout: c_int, size: size_t) -> c_int {
        let call = || Some(Call { timeout: milliseconds(timeout), ..CALL });
        let real = || unsafe { real::__poll_chk(set, count, timeout, size) };
        if fits(count, size) { poll_by(set, count, call, real) } else { real() }
    }

    /// ppoll(2).
    fn ppoll(set: *mut pollfd, count: libc::nfds_t, timeout: *const timespec, mask: *const sigset_t) -> c_int {
        let call = || Some(Call { timeout: nanoseconds(timeout)?, mask, ..CALL });
        poll_by(set, count, call, || unsafe { real::ppoll(set, count, timeout, mask) })
    }

    /// ppoll(2), with the set's size checked.
    fn __ppoll_chk(set: *mut pollfd, count: libc::nfds_t, timeout: *const timespec, mask: *const sigset_t, size: size_t) -> c_int {
        let call = || Some(Call { timeout: nanoseconds(timeout)?, mask, ..CALL });
        let real = || unsafe { real::__ppoll_chk(set, count, timeout, mask, size) };
        if fits(count, size) { poll_by(set, count, call, real) } else { real() }
    }

    /// select(2). As Linux does, it leaves in the time what is left of it.
    also [__select] fn select(count: c_int, read: *mut fd_set, write: *mut fd_set, except: *mut fd_set, timeout: *mut timeval) -> c_int {
        let bits = Bits { count, read, write, except };
        let call = || Some(Call { timeout: microseconds(timeout)?, ..CALL });
        let rest = |ns| leave(timeout, short_time(ns));
        select_by(bits, call, rest, || unsafe { real::select(count, read, write, except, timeout) })
    }

    /// pselect(2).
    fn pselect(count: c_int, read: *mut fd_set, write: *mut fd_set, except: *mut fd_set, timeout: *const timespec, mask: *const sigset_t) -> c_int {
        let bits = Bits { count, read, write, except };
        let call = || Some(Call { timeout: nanoseconds(timeout)?, mask, ..CALL });
        select_by(bits, call, |_| {}, || unsafe { real::pselect(count, read, write, except, timeout, mask) })
    }

    /// epoll_create(2).
    fn epoll_create(size: c_int) -> c_int {
        created(unsafe { real::epoll_create(size) })
    }

    /// epoll_create1(2).
    fn epoll_create1(flags: c_int) -> c_int {
        created(unsafe { real::epoll_create1(flags) })
    }

    /// epoll_ctl(2).
    fn epoll_ctl(epoll: c_int, operation: c_int, fd: c_int, event: *mut epoll_event) -> c_int {
        control_by(epoll, operation, fd, event, || unsafe {
            real::epoll_ctl(epoll, operation, fd, event)
        })
    }

    /// epoll_wait(2).
    fn epoll_wait(epoll: c_int, events: *mut epoll_event, count: c_int, timeout: c_int) -> c_int {
        let wait = |entry| session_wait(entry, epoll, events, count, milliseconds(timeout), ptr::null());
        with_sessions(epoll, wait, || unsafe { real::epoll_wait(epoll, events, count, timeout) })
    }

    /// epoll_pwait(2).
    fn epoll_pwait(epoll: c_int, events: *mut epoll_event, count: c_int, timeout: c_int, mask: *const sigset_t) -> c_int {
        let wait = |entry| session_wait(entry, epoll, events, count, milliseconds(timeout), mask);
        with_sessions(epoll, wait, || unsafe { real::epoll_pwait(epoll, events, count, timeout, mask) })
    }

    /// epoll_pwait2(2).
    fn epoll_pwait2(epoll: c_int, events: *mut epoll_event, count: c_int, timeout: *const timespec, mask: *const sigset_t) -> c_int {
        let wait = |entry| session_wait(entry, epoll, events, count, nanoseconds(timeout)?, mask);
        with_sessions(epoll, wait, || unsafe { real::epoll_pwait2(epoll, events, count, timeout, mask) })
    }
}

/// A call that makes an epoll instance has returned `epoll`.
pub(super) fn created(epoll: c_int) -> c_int {
    if epoll >= 0 {
        is_epoll(epoll);
    }
    epoll
}

/// epoll_ctl(2), by `call` where the kernel's registration is all there is.
pub(super) fn control_by(
    epoll: c_int,
    operation: c_int,
    fd: c_int,
    event: *const epoll_event,
    call: impl FnOnce() -> c_int,
) -> c_int {
    let entry = TABLE.load(fd);
    if entry.is_session()
        && !process::is_borrowed()
        && let Some(result) = epoll::control(epoll, operation, fd, event, entry.slot())
    {
        return result;
    }
    let result = call();
    if result != 0 {
        return result;
    }
    match entry.state() {
        State::Fresh => registered(epoll, operation, fd, event),
        State::Epoll => nested::registered(epoll, operation, fd, event),
        State::Listener if !process::is_borrowed() => {
            session::listener::control(epoll, operation, fd, event, entry.slot());
        }
        _ if operation == libc::EPOLL_CTL_ADD && TABLE.load(epoll).has(Entry::SESSIONS) => {
            epoll::others_registered(epoll);
        }
        _ => {}
    }
    result
}

/// A call of libc's, for ever and with the signals as they are.
const CALL: Call = Call {
    timeout: None,
    mask: ptr::null(),
    by_number: false,
};

#[inline(always)]
fn untimed_poll(set: *mut pollfd, count: libc::nfds_t, timeout: c_int) -> c_int {
    let call = || {
        Some(Call {
            timeout: milliseconds(timeout),
            ..CALL
        })
    };
    // SAFETY: the program's arguments.
    poll_by(set, count, call, || unsafe {
        real::poll(set, count, timeout)
    })
}

/// poll(2) or ppoll(2): by the session layer if there is something of it in the set, and otherwise by
/// `real`. `call` is what the program asks for; `None` for what the kernel has to refuse.
#[inline(always)]
fn poll_by(
    set: *mut pollfd,
    count: libc::nfds_t,
    call: impl FnOnce() -> Option<Call>,
    real: impl FnOnce() -> c_int,
) -> c_int {
    if poll::is_needed()
        && let Some(call) = call()
        && let Some(ready) = poll::poll(set, count, call)
    {
        return ready;
    }
    real()
}

/// select(2) or pselect(2), likewise. `rest` is told what is left of the time.
#[inline(always)]
fn select_by(
    bits: Bits,
    call: impl FnOnce() -> Option<Call>,
    rest: impl FnOnce(u64),
    real: impl FnOnce() -> c_int,
) -> c_int {
    if poll::is_needed()
        && let Some(call) = call()
        && let Some(ready) = select_ours(bits, call, rest)
    {
        return ready;
    }
    real()
}

#[cold]
fn select_ours(bits: Bits, call: Call, rest: impl FnOnce(u64)) -> Option<c_int> {
    let deadline = deadline(call.timeout);
    let ready = poll::select(bits, call)?;
    tell_rest(deadline, rest);
    Some(ready)
}

/// When time is up, if a rest of it may be left.
fn deadline(timeout: Option<u64>) -> Option<u64> {
    timeout
        .filter(|ns| *ns != 0)
        .map(|ns| clock::now().saturating_add(ns))
}

fn tell_rest(deadline: Option<u64>, rest: impl FnOnce(u64)) {
    if let Some(at) = deadline {
        rest(at.saturating_sub(clock::now()));
    }
}

/// Leaves the rest of the time where the time was.
fn leave<T>(place: *mut T, time: T) {
    // SAFETY: there is a time there, as it was read, and the call is one that writes to it.
    unsafe { place.write_unaligned(time) };
}

/// Whether an array of the caller's is as long as is said: glibc ends the program if not.
const fn fits(count: libc::nfds_t, size: size_t) -> bool {
    size as u64 / size_of::<pollfd>() as u64 >= count
}

/// ppoll(2) by its number: the kernel leaves in the time what is left of it.
pub(super) fn ppoll_by_number(
    set: *mut pollfd,
    count: libc::nfds_t,
    timeout: *mut timespec,
    mask: *const sigset_t,
    mask_len: usize,
) -> Option<c_int> {
    let call = numbered(nanoseconds(timeout)?, mask, mask_len)?;
    let deadline = deadline(call.timeout);
    let ready = poll::poll(set, count, call)?;
    tell_rest(deadline, |ns| leave(timeout, time(ns)));
    Some(ready)
}

/// poll(2) by its number.
#[cfg(target_arch = "x86_64")]
pub(super) fn poll_by_number(
    set: *mut pollfd,
    count: libc::nfds_t,
    timeout: c_int,
) -> Option<c_int> {
    poll::poll(set, count, numbered(milliseconds(timeout), ptr::null(), 0)?)
}

/// pselect6(2): the mask and its size are behind one pointer.
pub(super) fn pselect_by_number(
    bits: Bits,
    timeout: *mut timespec,
    mask: *const (*const sigset_t, usize),
) -> Option<c_int> {
    let (mask, mask_len) = if mask.is_null() {
        (ptr::null(), 0)
    } else {
        // SAFETY: any bytes are an address and a number.
        unsafe { crate::user_memory::read(mask) }?
    };
    let call = numbered(nanoseconds(timeout)?, mask, mask_len)?;
    select_ours(bits, call, |ns| leave(timeout, time(ns)))
}

/// select(2) by its number.
#[cfg(target_arch = "x86_64")]
pub(super) fn select_by_number(bits: Bits, timeout: *mut timeval) -> Option<c_int> {
    let call = numbered(microseconds(timeout)?, ptr::null(), 0)?;
    select_ours(bits, call, |ns| leave(timeout, short_time(ns)))
}

/// A call by its number. `None` where there is nothing of ours, or the kernel refuses the mask.
fn numbered(timeout: Option<u64>, mask: *const sigset_t, mask_len: usize) -> Option<Call> {
    const MASK_LEN: usize = 8;
    let is_good = mask.is_null() || mask_len == MASK_LEN;
    (poll::is_needed() && is_good).then_some(Call {
        timeout,
        mask,
        by_number: true,
    })
}

const fn time(ns: u64) -> timespec {
    timespec {
        tv_sec: (ns / 1_000_000_000) as i64,
        tv_nsec: (ns % 1_000_000_000) as i64,
    }
}

const fn short_time(ns: u64) -> timeval {
    timeval {
        tv_sec: (ns / 1_000_000_000) as i64,
        tv_usec: (ns % 1_000_000_000 / 1000) as i64,
    }
}

/// A timeout of select(2), of which the microseconds may be a second and more. `None` for one that
/// has to be refused.
fn microseconds(timeout: *const timeval) -> Option<Option<u64>> {
    if timeout.is_null() {
        return Some(None);
    }
    // SAFETY: any bytes are a valid time.
    let time = unsafe { crate::user_memory::read(timeout) }?;
    let (seconds, rest) = (
        u64::try_from(time.tv_sec).ok()?,
        u64::try_from(time.tv_usec).ok()?,
    );
    let seconds = seconds.saturating_mul(1_000_000_000);
    Some(Some(seconds.saturating_add(rest.saturating_mul(1000))))
}

/// A wait on an epoll instance: by `sessions` if there are some in it, and otherwise by `call`.
#[inline(always)]
fn with_sessions(
    epoll: c_int,
    sessions: impl FnOnce(Entry) -> Option<c_int>,
    call: impl FnOnce() -> c_int,
) -> c_int {
    let entry = TABLE.load(epoll);
    if (entry.has(Entry::SESSIONS) || entry.has(Entry::NESTS))
        && entry.state() == State::Epoll
        && let Some(ready) = sessions(entry)
    {
        return ready;
    }
    call()
}

#[cold]
fn session_wait(
    _: Entry,
    epoll: c_int,
    events: *mut epoll_event,
    count: c_int,
    timeout: Option<u64>,
    mask: *const sigset_t,
) -> Option<c_int> {
    epoll::wait(epoll::Wait {
        epoll,
        events,
        count,
        timeout,
        mask,
        precise: timeout.is_some_and(|ns| !ns.is_multiple_of(1_000_000)),
    })
}

/// A timeout in milliseconds: negative is for ever.
fn milliseconds(timeout: c_int) -> Option<u64> {
    u64::try_from(timeout).ok().map(|ms| ms * 1_000_000)
}

/// A timeout as a time: null is for ever. `None` for one that the kernel has to refuse.
fn nanoseconds(timeout: *const timespec) -> Option<Option<u64>> {
    if timeout.is_null() {
        return Some(None);
    }
    // SAFETY: any bytes are a valid time.
    let time = unsafe { crate::user_memory::read(timeout) }?;
    let (seconds, rest) = (
        u64::try_from(time.tv_sec).ok()?,
        u64::try_from(time.tv_nsec).ok()?,
    );
    (rest < 1_000_000_000).then(|| Some(seconds.saturating_mul(1_000_000_000).saturating_add(rest)))
}

/// A new epoll instance, or one that was not known.
pub(crate) fn is_epoll(epoll: c_int) {
    if process::is_borrowed() {
        return;
    }
    track::forget(epoll);
    TABLE.swap(epoll, new_instance());
}

fn new_instance() -> Entry {
    Entry::new(State::Epoll, 0, GENERATION.fetch_add(1, Ordering::Relaxed))
}

#[cold]
fn registered(epoll: c_int, operation: c_int, fd: c_int, event: *const epoll_event) {
    let Some(fresh) = FRESH.slot(TABLE.load(fd).slot()) else {
        return;
    };
    let instance = TABLE.load(epoll);
    if instance.state() != State::Epoll {
        // It was made out of our sight. Another thread may be finding that out as well.
        TABLE.exchange(epoll, instance, new_instance());
    }
    let generation = TABLE.load(epoll).slot();
    if operation == libc::EPOLL_CTL_DEL {
        if fresh
            .with(|details| details.unwatch(fd, generation))
            .is_none()
        {
            fresh.pin(Reason::UnreplayableOption);
        }
        return;
    }
    // SAFETY: the kernel has just read the event; it may be packed as the program likes.
    let event = unsafe { event.read_unaligned() };
    let watch = Watch {
        fd,
        generation,
        events: event.events,
        data: event.u64,
    };
    match fresh.with(|details| details.watch(watch)) {
        Some(true) => {}
        Some(false) => fresh.pin(Reason::LimitReached),
        None => fresh.pin(Reason::UnreplayableOption),
    }
}

/// Whether a wait for one descriptor is timed, of which nothing is known yet: a process's first ones,
/// then as few as blocking calls (see [`next_timed`](super::data)).
fn is_timed() -> bool {
    const TIMED_FIRST: u32 = 256;
    const EVERY: u32 = 257;
    static WAITS: AtomicU32 = AtomicU32::new(0);
    // Two steps on purpose: a count that another thread's is lost in does no harm.
    let waits = WAITS.load(Ordering::Relaxed);
    WAITS.store(waits.wrapping_add(1), Ordering::Relaxed);
    waits < TIMED_FIRST || waits.is_multiple_of(EVERY)
}

/// A wait for one socket is as good as a blocking call on it.
#[cold]
fn waited_for(fd: c_int, begun: u64) {
    if TABLE.load(fd).is_socket()
        && let Some(record) = track::existing_record(fd)
    {
        record.took(HistogramKind::Blocking, clock::now() - begun);
    }
}
