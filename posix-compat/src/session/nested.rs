//! Epoll instances with sessions that are registered in other epoll instances.
//!
//! The kernel knows the registration, as the program has made it, and reports the inner instance if
//! one of its own descriptors is ready, or a peer has rung. What is ready there without that the kernel
//! knows, bytes in a ring that nobody was woken for, is added here: a wait on the *outer* instance
//! looks into the inner ones before it asks the kernel, and asks their peers to ring before it sleeps.
//! For that every registration of an instance in another is remembered, from the beginning: the inner
//! one may get its first session later.

use std::ffi::c_int;
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};

use dmm_nsocket::stats::Counter;
use dmm_nsocket::table::{Entry, State};
use libc::epoll_event;

use super::{epoll, kick};
use crate::process::{self, TABLE};
use crate::{errno, real, track, user_memory};

/// Registrations of instances in instances that a process can have.
const NESTS: usize = 64;

/// Instances within instances that the kernel allows at most, and a loop of them never (EP_MAX_NESTS).
const DEEPEST: u32 = 5;

static PLACES: [Nest; NESTS] = [const { Nest::new() }; NESTS];

/// Nests that there are: most programs have none.
static COUNT: AtomicU32 = AtomicU32::new(0);

/// An inner instance in an outer one.
struct Nest {
    /// `FREE`, `BUSY`, `ACTIVE`, `SPENT` (a one-shot that has fired).
    state: AtomicU32,
    /// Generations.
    outer: AtomicU32,
    inner: AtomicU32,
    /// The number that the inner one was registered under.
    fd: AtomicI32,
    /// EPOLL...
    events: AtomicU32,
    data: AtomicU64,
    /// Reported, and not waited for since: an edge is not reported twice.
    told: AtomicU32,
}

const FREE: u32 = 0;
const BUSY: u32 = 1;
const ACTIVE: u32 = 2;
const SPENT: u32 = 3;

/// What an instance is ready for.
const READABLE: u32 = (libc::EPOLLIN | libc::EPOLLRDNORM) as u32;

/// epoll_ctl(2) on an epoll instance has succeeded.
#[cold]
pub(crate) fn registered(epoll: c_int, operation: c_int, fd: c_int, event: *const epoll_event) {
    if process::is_borrowed() {
        return;
    }
    if TABLE.load(epoll).state() != State::Epoll {
        crate::calls::readiness::is_epoll(epoll);
    }
    let (outer, inner) = (TABLE.load(epoll), TABLE.load(fd));
    let known = PLACES.iter().find(|nest| {
        nest.is_in(outer.slot())
            && nest.inner.load(Ordering::Relaxed) == inner.slot()
            && nest.fd.load(Ordering::Relaxed) == fd
    });
    if operation == libc::EPOLL_CTL_DEL {
        if let Some(nest) = known {
            nest.free();
        }
        return;
    }
    // SAFETY: any bytes are a valid event.
    let Some(event) = (unsafe { user_memory::read(event) }) else {
        return;
    };
    let Some(nest) = known.or_else(Nest::take) else {
        track::count(Counter::SessionsUnsupported);
        return;
    };
    nest.outer.store(outer.slot(), Ordering::Relaxed);
    nest.inner.store(inner.slot(), Ordering::Relaxed);
    nest.fd.store(fd, Ordering::Relaxed);
    nest.events.store(event.events, Ordering::Relaxed);
    nest.data.store(event.u64, Ordering::Relaxed);
    nest.told.store(0, Ordering::Relaxed);
    nest.state.store(ACTIVE, Ordering::Release);
    if is_ours(inner) {
        mark(outer.slot(), DEEPEST);
    }
}

/// An instance has its first session: those that it is in have, too. Whoever sleeps there already has
/// not asked the peers to ring, and is woken.
pub(super) fn has_sessions(generation: u32, epoll: c_int) {
    let mut any = false;
    for nest in nests(|nest| &nest.inner, generation) {
        mark(nest.outer.load(Ordering::Relaxed), DEEPEST);
        any = true;
    }
    if any {
        kick::kick(epoll);
    }
}

/// Whether an instance is registered in another.
pub(crate) fn are_any() -> bool {
    COUNT.load(Ordering::Relaxed) != 0
}

/// An instance's last descriptor is closed.
pub(crate) fn closed(generation: u32) {
    for nest in nests(|nest| &nest.inner, generation) {
        nest.free();
    }
    for nest in nests(|nest| &nest.outer, generation) {
        nest.free();
    }
}

/// Whether sessions in inner instances are ready.
pub(super) fn is_ready(outer: u32) -> bool {
    nests(|nest| &nest.outer, outer).any(Nest::is_ready)
}

/// Somebody is about to wait for the outer instance: peers ring.
pub(super) fn lie_down(outer: u32) {
    for nest in nests(|nest| &nest.outer, outer) {
        epoll::lie_down(nest.inner.load(Ordering::Relaxed));
    }
}

/// After [`lie_down`].
pub(super) fn rise(outer: u32) {
    for nest in nests(|nest| &nest.outer, outer) {
        epoll::rise(nest.inner.load(Ordering::Relaxed));
    }
}

/// Takes away what peers have sent to wake us, in all inner instances.
pub(super) fn drain(outer: u32) {
    for nest in nests(|nest| &nest.outer, outer) {
        epoll::drain(nest.inner.load(Ordering::Relaxed));
    }
}

/// A wait on an instance: edges of it count anew.
pub(super) fn waited(generation: u32) {
    for nest in nests(|nest| &nest.inner, generation) {
        nest.told.store(0, Ordering::Relaxed);
    }
}

/// epoll_wait(2) on an instance that instances with sessions are in. `plain` waits for what is in the
/// outer one itself: for `count` events at most, to be written to `events`.
pub(super) fn wait(outer: u32, call: epoll::Wait, plain: impl Fn(epoll::Wait) -> c_int) -> c_int {
    let mut reported = report(outer, &call);
    if reported == 0 {
        drain(outer);
        if call.timeout != Some(0) {
            lie_down(outer);
            reported = report(outer, &call);
            if reported == 0 {
                let got = plain(call);
                rise(outer);
                spend(outer, &call, got);
                // Time is up, or a peer rings at this very moment.
                return if got == 0 { report(outer, &call) } else { got };
            }
            rise(outer);
        }
    }
    if reported == call.count {
        return reported;
    }
    let before = errno::last();
    let rest = epoll::Wait {
        // SAFETY: the program says that there is room for so many.
        events: unsafe { call.events.add(reported as usize) },
        count: call.count - reported,
        timeout: Some(0),
        ..call
    };
    let got = plain(rest);
    if reported == 0 {
        spend(outer, &call, got);
        return got;
    }
    errno::set(before);
    spend(outer, &rest, got);
    reported + without_repeated(&call, reported, got.max(0))
}

/// Writes an event for each inner instance in which sessions are ready.
fn report(outer: u32, call: &epoll::Wait) -> c_int {
    let mut count = 0;
    for nest in nests(|nest| &nest.outer, outer) {
        if count == call.count {
            break;
        }
        if let Some(event) = nest.fires(call.epoll) {
            // SAFETY: the program says that there is room for so many.
            unsafe { call.events.add(count as usize).write_unaligned(event) };
            count += 1;
        }
    }
    count
}

/// Takes out of the `got` events behind the first `reported` those that are among these: the kernel
/// says the same. Returns how many are left.
fn without_repeated(call: &epoll::Wait, reported: c_int, got: c_int) -> c_int {
    // SAFETY: an event that was written just now, here and below.
    let at = |i: c_int| unsafe { call.events.add(i as usize).read_unaligned() };
    let mut kept = 0;
    for i in reported..reported + got {
        let event = at(i);
        let is_known = (0..reported).map(at).any(|known| {
            let (data, events) = (known.u64, known.events);
            data == event.u64 && event.events & !events == 0
        });
        if !is_known {
            let place = (reported + kept) as usize;
            // SAFETY: at or before the place that was read.
            unsafe { call.events.add(place).write_unaligned(event) };
            kept += 1;
        }
    }
    kept
}

/// The kernel has reported `got` events: one-shot registrations of inner instances are spent by that.
fn spend(outer: u32, call: &epoll::Wait, got: c_int) {
    for nest in nests(|nest| &nest.outer, outer) {
        if nest.events.load(Ordering::Relaxed) & libc::EPOLLONESHOT as u32 == 0 {
            continue;
        }
        let data = nest.data.load(Ordering::Relaxed);
        // SAFETY: the kernel has just written so many.
        let mut all =
            (0..got.max(0) as usize).map(|i| unsafe { call.events.add(i).read_unaligned() });
        if all.any(|event| { event.u64 } == data) {
            nest.state.store(SPENT, Ordering::Release);
        }
    }
}

/// The nests of which one end is that instance.
fn nests(
    end: impl Fn(&'static Nest) -> &'static AtomicU32,
    generation: u32,
) -> impl Iterator<Item = &'static Nest> {
    let there: &[Nest] = if are_any() { &PLACES } else { &[] };
    there.iter().filter(move |nest| {
        nest.state.load(Ordering::Acquire) >= ACTIVE
            && end(nest).load(Ordering::Relaxed) == generation
    })
}

/// Whether sessions are, or were, in an instance or in those within it.
const fn is_ours(entry: Entry) -> bool {
    entry.has(Entry::SESSIONS) || entry.has(Entry::NESTS)
}

/// Marks an instance, and those that it is in, as one that has an instance with sessions in it.
fn mark(generation: u32, depth: u32) {
    for (fd, entry) in TABLE.managed(0, u32::MAX) {
        if entry.state() == State::Epoll && entry.slot() == generation {
            TABLE.exchange(fd, entry, entry.with(Entry::NESTS, true));
        }
    }
    if depth > 0 {
        for nest in nests(|nest| &nest.inner, generation) {
            mark(nest.outer.load(Ordering::Relaxed), depth - 1);
        }
    }
}

impl Nest {
    const fn new() -> Self {
        Self {
            state: AtomicU32::new(FREE),
            outer: AtomicU32::new(0),
            inner: AtomicU32::new(0),
            fd: AtomicI32::new(0),
            events: AtomicU32::new(0),
            data: AtomicU64::new(0),
            told: AtomicU32::new(0),
        }
    }

    fn take() -> Option<&'static Self> {
        let nest = PLACES.iter().find(|nest| {
            nest.state
                .compare_exchange(FREE, BUSY, Ordering::Acquire, Ordering::Relaxed)
                .is_ok()
        })?;
        COUNT.fetch_add(1, Ordering::Relaxed);
        Some(nest)
    }

    fn free(&self) {
        if self.state.swap(FREE, Ordering::AcqRel) >= ACTIVE {
            COUNT.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn is_in(&self, outer: u32) -> bool {
        self.state.load(Ordering::Acquire) >= ACTIVE && self.outer.load(Ordering::Relaxed) == outer
    }

    fn is_ready(&self) -> bool {
        self.state.load(Ordering::Acquire) == ACTIVE
            && self.events.load(Ordering::Relaxed) & READABLE != 0
            && epoll::is_ready(self.inner.load(Ordering::Relaxed))
    }

    /// The event to report in the outer instance; a one-shot registration is spent by it.
    fn fires(&self, epoll: c_int) -> Option<epoll_event> {
        let events = self.events.load(Ordering::Relaxed);
        let is_edge = events & libc::EPOLLET as u32 != 0;
        let has_news = is_edge && epoll::has_news(self.inner.load(Ordering::Relaxed));
        if !self.is_ready() {
            return None;
        }
        if self.told.swap(1, Ordering::Relaxed) == 1 && is_edge && !has_news {
            return None;
        }
        let data = self.data.load(Ordering::Relaxed);
        if events & libc::EPOLLONESHOT as u32 != 0 {
            let fired =
                self.state
                    .compare_exchange(ACTIVE, SPENT, Ordering::AcqRel, Ordering::Relaxed);
            if fired.is_err() {
                return None;
            }
            // For the kernel as well.
            let mut nothing = epoll_event {
                events: libc::EPOLLONESHOT as u32,
                u64: data,
            };
            let before = errno::last();
            let (operation, fd) = (libc::EPOLL_CTL_MOD, self.fd.load(Ordering::Relaxed));
            // SAFETY: the event is read during the call.
            unsafe { real::epoll_ctl(epoll, operation, fd, &raw mut nothing) };
            errno::set(before);
        }
        Some(epoll_event {
            events: events & READABLE,
            u64: data,
        })
    }
}
