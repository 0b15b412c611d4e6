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
use crate::session::{self, epoll};
use crate::{clock, real, track};

/// Distinguishes the epoll instances of a process, also those under a reused number.
static GENERATION: AtomicU32 = AtomicU32::new(1);

export! {
    hot;

    /// poll(2).
    also [__poll] fn poll(set: *mut pollfd, count: libc::nfds_t, timeout: c_int) -> c_int {
        if count != 1 || timeout == 0 || !is_timed() {
            return unsafe { real::poll(set, count, timeout) };
        }
        let begun = clock::now();
        let ready = unsafe { real::poll(set, count, timeout) };
        if ready >= 0 {
            // SAFETY: the kernel has just read the one element.
            waited_for(unsafe { (*set).fd }, begun);
        }
        ready
    }

    /// poll(2), with the set's size checked.
    fn __poll_chk(set: *mut pollfd, count: libc::nfds_t, timeout: c_int, size: size_t) -> c_int {
        unsafe { real::__poll_chk(set, count, timeout, size) }
    }

    /// ppoll(2).
    fn ppoll(set: *mut pollfd, count: libc::nfds_t, timeout: *const timespec, mask: *const sigset_t) -> c_int {
        unsafe { real::ppoll(set, count, timeout, mask) }
    }

    /// ppoll(2), with the set's size checked.
    fn __ppoll_chk(set: *mut pollfd, count: libc::nfds_t, timeout: *const timespec, mask: *const sigset_t, size: size_t) -> c_int {
        unsafe { real::__ppoll_chk(set, count, timeout, mask, size) }
    }

    /// select(2).
    also [__select] fn select(count: c_int, read: *mut fd_set, write: *mut fd_set, except: *mut fd_set, timeout: *mut timeval) -> c_int {
        unsafe { real::select(count, read, write, except, timeout) }
    }

    /// pselect(2).
    fn pselect(count: c_int, read: *mut fd_set, write: *mut fd_set, except: *mut fd_set, timeout: *const timespec, mask: *const sigset_t) -> c_int {
        unsafe { real::pselect(count, read, write, except, timeout, mask) }
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

/// A wait on an epoll instance: by `sessions` if there are some in it, and otherwise by `call`.
#[inline(always)]
fn with_sessions(
    epoll: c_int,
    sessions: impl FnOnce(Entry) -> Option<c_int>,
    call: impl FnOnce() -> c_int,
) -> c_int {
    let entry = TABLE.load(epoll);
    if entry.has(Entry::SESSIONS)
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
