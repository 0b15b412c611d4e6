//! epoll instances that sessions are registered in.
//!
//! The program's instance stays the kernel's, and the socket of each session is registered there: so
//! a token, or the peer's end, wakes whoever waits for the instance in whatever way. What the program
//! has asked for is kept here, in a *registration*, whose address is the kernel registration's data:
//! no data of the program's can be such an address. Beside the kernel's instance stands a place on the
//! process's [board](super::board), where peers say which session has something to tell.
//!
//! A wait goes through both:
//!
//! 1. what is known to be ready (level-triggered registrations that were reported last time) and what
//!    peers have said: each is looked at, and reported if it is so;
//! 2. the kernel, without waiting, if that has not been looked at for a while: neither side starves;
//! 3. nothing there: look for a while ([`Spin`](dmm_nsocket::session::waiter::Spin)), announce the sleep, look again, and wait in the
//!    kernel.
//!
//! A session in several instances, one that several processes share, and one whose peer is of another
//! user are not listed on the board: their peers ring for everything, and the kernel's instance tells.

use std::ffi::c_int;
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU32, AtomicU64, Ordering};

use dmm_nsocket::session::board::{Board, Waiter};
use dmm_nsocket::session::endpoint::Place;
use dmm_nsocket::session::ready::{ReadyWords, SESSIONS as INDEXES, Taker};
use dmm_nsocket::session::waiter::{Outcome, cores};
use libc::{epoll_event, sigset_t, timespec};
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};

use super::pool::{SESSIONS, Using};
use super::wait::borrow;
use super::{board, listener, nested};
use crate::process::TABLE;
use crate::{clock, errno, real};
use dmm_nsocket::table::{Entry, State};

/// Instances with sessions that a process can have.
const INSTANCES: usize = 256;

/// Registrations that one wait looks at, at most.
const AT_ONCE: usize = 128;

/// How long sessions alone are served before the kernel is looked at, in ns.
const LOOK_EVERY_NS: u64 = 50_000;

/// Looks at the sessions between two looks at the kernel, in a spin.
const LOOKS: u32 = 96;

static PLACES: [Instance; INSTANCES] = [const { Instance::new() }; INSTANCES];

/// An epoll instance of the program's.
pub(super) struct Instance {
    /// The generation of its entry in the table; 0 for a free place.
    generation: AtomicU32,
    /// Its place on the board plus one; 0 if it has none.
    place: AtomicU32,
    /// The number of the board.
    board: AtomicU64,
    /// Registrations: an array of `INDEXES`, touched as used.
    registrations: AtomicPtr<Registration>,
    /// Registrations ever handed out; and the free ones, as in the pool of sessions.
    made: AtomicU32,
    free: AtomicU64,
    /// Descriptors that are none of ours were registered, too.
    has_others: AtomicU32,
    /// When the kernel was looked at last.
    looked: AtomicU64,
    /// The core that the peer heard of last was seen on, plus one.
    core: AtomicU32,
    /// Counts waits, to tell what was reported in this one.
    round: AtomicU32,
    /// What is to be looked at without that a peer has said so. Private.
    pending: AtomicPtr<ReadyWords>,
    taker: Taker,
}

/// What the program has asked for of one descriptor. All zero is a free one.
#[repr(C, align(64))]
struct Registration {
    /// `FREE`, `ACTIVE`, `SPENT` (a one-shot that has fired), `DORMANT`.
    state: AtomicU32,
    /// The program's descriptor.
    fd: AtomicI32,
    /// The session's handle, or the listener's.
    target: AtomicU32,
    /// EPOLL...
    events: AtomicU32,
    data: AtomicU64,
    /// The round in which it was reported last.
    round: AtomicU32,
    next: AtomicU32,
    /// A listener's rendezvous, not a session.
    is_listener: AtomicU32,
}

const FREE: u32 = 0;
const ACTIVE: u32 = 1;
const SPENT: u32 = 2;
/// The program has removed it, the kernel has it still: programs that remove a descriptor often add it
/// again (each time they have something to write, say), which then costs no system call. It reports
/// nothing.
const DORMANT: u32 = 3;

/// What the kernel's registration of a session asks for.
const KERNEL_EVENTS: u32 = (libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLET) as u32;

/// A wait's arguments.
#[derive(Clone, Copy)]
pub(crate) struct Wait {
    /// The program's descriptor of the instance.
    pub(crate) epoll: c_int,
    pub(crate) events: *mut epoll_event,
    pub(crate) count: c_int,
    /// Nanoseconds; `None` is for ever.
    pub(crate) timeout: Option<u64>,
    pub(crate) mask: *const sigset_t,
    /// By epoll_pwait2(2), which has no milliseconds.
    pub(crate) precise: bool,
}

/// epoll_ctl(2) on a session. `None`: it is none any more.
pub(crate) fn control(
    epoll: c_int,
    operation: c_int,
    fd: c_int,
    event: *const epoll_event,
    handle: u32,
) -> Option<c_int> {
    let using = SESSIONS.enter(handle)?;
    Some(control_target(
        epoll,
        operation,
        fd,
        event,
        Target::Session(&using),
    ))
}

/// epoll_ctl(2) on a listener, after the kernel has done its part for the TCP socket.
pub(super) fn control_listener(
    epoll: c_int,
    operation: c_int,
    fd: c_int,
    event: *const epoll_event,
    handle: u32,
    rendezvous: c_int,
) {
    let before = errno::last();
    let target = Target::Listener { handle, rendezvous };
    let _ = control_target(epoll, operation, fd, event, target);
    errno::set(before);
}

/// What is registered.
#[derive(Clone, Copy)]
enum Target<'a> {
    Session(&'a Using),
    Listener { handle: u32, rendezvous: c_int },
}

impl Target<'_> {
    fn handle(self) -> u32 {
        match self {
            Self::Session(using) => using.handle(),
            Self::Listener { handle, .. } => handle,
        }
    }
}

fn control_target(
    epoll: c_int,
    operation: c_int,
    fd: c_int,
    event: *const epoll_event,
    target: Target<'_>,
) -> c_int {
    let wanted = match operation {
        libc::EPOLL_CTL_DEL => (0, 0),
        _ if super::data::is_bad(event, size_of::<epoll_event>()) => {
            return errno::fail(libc::EFAULT);
        }
        _ => {
            // SAFETY: the program hands over an event, which may be packed as it likes.
            let event = unsafe { event.read_unaligned() };
            (event.events, event.u64)
        }
    };
    match operation {
        libc::EPOLL_CTL_ADD => add(epoll, fd, wanted, target),
        libc::EPOLL_CTL_MOD => modify(epoll, fd, wanted, target),
        libc::EPOLL_CTL_DEL => delete(epoll, fd, target),
        // The kernel says what is wrong.
        _ => kernel_control(epoll, operation, fd, 0, 0),
    }
}

fn add(epoll: c_int, fd: c_int, (events, data): (u32, u64), target: Target<'_>) -> c_int {
    const EXCLUSIVE: u32 = libc::EPOLLEXCLUSIVE as u32;
    const WITH_EXCLUSIVE: u32 = EXCLUSIVE
        | (libc::EPOLLIN
            | libc::EPOLLOUT
            | libc::EPOLLERR
            | libc::EPOLLHUP
            | libc::EPOLLWAKEUP
            | libc::EPOLLET) as u32;
    if events & EXCLUSIVE != 0 && events & !WITH_EXCLUSIVE != 0 {
        return errno::fail(libc::EINVAL);
    }
    let Some(instance) = Instance::of_or_new(epoll, fd) else {
        // No instance, or too many of them: the kernel says which.
        return match TABLE.load(epoll).state() {
            State::Epoll => errno::fail(libc::ENOSPC),
            _ => kernel_control(epoll, libc::EPOLL_CTL_ADD, fd, KERNEL_EVENTS, 0),
        };
    };
    if instance.is_inherited() {
        instance.inherit();
    }
    if let Target::Session(using) = target
        && let Some((index, registration)) = instance.dormant(fd, using)
    {
        registration.data.store(data, Ordering::Relaxed);
        registration.events.store(events, Ordering::Relaxed);
        registration.state.store(ACTIVE, Ordering::Release);
        instance.list(index, using);
        instance.look_at(index);
        instance.wake_others(epoll);
        return 0;
    }
    let Some((index, registration)) = instance.take() else {
        return errno::fail(libc::ENOSPC);
    };
    let address = ptr::from_ref(registration) as u64;
    let (number, kernel_events) = match target {
        Target::Session(_) => (fd, KERNEL_EVENTS | events & EXCLUSIVE_FOR_SESSIONS),
        Target::Listener { rendezvous, .. } => (rendezvous, for_rendezvous(events)),
    };
    registration.fd.store(fd, Ordering::Relaxed);
    registration
        .target
        .store(target.handle(), Ordering::Relaxed);
    registration.events.store(events, Ordering::Relaxed);
    registration.data.store(data, Ordering::Relaxed);
    registration.is_listener.store(
        u32::from(matches!(target, Target::Listener { .. })),
        Ordering::Relaxed,
    );
    registration.state.store(ACTIVE, Ordering::Release);
    let result = kernel_control(epoll, libc::EPOLL_CTL_ADD, number, kernel_events, address);
    if result < 0 {
        registration.state.store(FREE, Ordering::Release);
        instance.give_back(index);
        return result;
    }
    if let Target::Session(using) = target {
        instance.list(index, using);
        instance.look_at(index);
        instance.wake_others(epoll);
    }
    result
}

/// A session is registered with EPOLLRDHUP, which does not go with EPOLLEXCLUSIVE. One wake-up wakes
/// one sleeper all the same: the registration is edge-triggered.
const EXCLUSIVE_FOR_SESSIONS: u32 = 0;

fn modify(epoll: c_int, fd: c_int, (events, data): (u32, u64), target: Target<'_>) -> c_int {
    let found = Instance::of(epoll).and_then(|instance| {
        let (index, registration) = instance.find(fd, target)?;
        Some((instance, index, registration))
    });
    let Some((instance, index, registration)) = found else {
        if is_dormant(epoll, fd, target) {
            return errno::fail(libc::ENOENT);
        }
        // Not registered, or no instance: the kernel says which.
        let events = KERNEL_EVENTS | events & libc::EPOLLEXCLUSIVE as u32;
        return kernel_control(epoll, libc::EPOLL_CTL_MOD, fd, events, 0);
    };
    let exclusive = libc::EPOLLEXCLUSIVE as u32;
    if (events | registration.events.load(Ordering::Relaxed)) & exclusive != 0 {
        return errno::fail(libc::EINVAL);
    }
    registration.data.store(data, Ordering::Relaxed);
    registration.events.store(events, Ordering::Relaxed);
    registration.state.store(ACTIVE, Ordering::Release);
    match target {
        Target::Session(_) => instance.look_at(index),
        Target::Listener { rendezvous, .. } => {
            let address = ptr::from_ref(registration) as u64;
            let events = for_rendezvous(events);
            return kernel_control(epoll, libc::EPOLL_CTL_MOD, rendezvous, events, address);
        }
    }
    instance.wake_others(epoll);
    0
}

fn delete(epoll: c_int, fd: c_int, target: Target<'_>) -> c_int {
    let number = match target {
        Target::Session(_) => fd,
        Target::Listener { rendezvous, .. } => rendezvous,
    };
    let found = Instance::of(epoll).and_then(|instance| {
        let (index, registration) = instance.find(fd, target)?;
        Some((instance, index, registration))
    });
    if let (Target::Session(using), Some((instance, index, registration))) = (target, found)
        && instance.lies_down(index, using)
    {
        registration.state.store(DORMANT, Ordering::Release);
        using.endpoint().unlist();
        instance.wake_others(epoll);
        return 0;
    }
    if found.is_none() && is_dormant(epoll, fd, target) {
        return errno::fail(libc::ENOENT);
    }
    let result = kernel_control(epoll, libc::EPOLL_CTL_DEL, number, 0, 0);
    if result == 0
        && let Some((instance, index, registration)) = found
    {
        registration.state.store(FREE, Ordering::Release);
        if let Target::Session(using) = target {
            instance.unlist(index, using);
        }
        instance.give_back(index);
        instance.wake_others(epoll);
    }
    result
}

/// Whether the program has removed the descriptor, and the kernel has it still.
fn is_dormant(epoll: c_int, fd: c_int, target: Target<'_>) -> bool {
    match (Instance::of(epoll), target) {
        (Some(instance), Target::Session(using)) => instance.dormant(fd, using).is_some(),
        _ => false,
    }
}

/// A session ends in this process: its registrations go with it, as the kernel's do.
pub(super) fn unregister(using: &Using) {
    let word = using.session().registered.load(Ordering::Acquire);
    if word == 0 {
        return;
    }
    if using.endpoint().is_shared() && board::existing().is_some() && word & SEVERAL == 0 {
        // Other processes have the session still.
        using.endpoint().unlist();
    }
    for instance in &PLACES {
        if instance.generation.load(Ordering::Acquire) == 0 {
            continue;
        }
        let only = (word & SEVERAL == 0).then_some(word as u32 & 0xffff);
        instance.each(only, |index, registration| {
            if registration.state.load(Ordering::Acquire) != FREE
                && registration.is_listener.load(Ordering::Relaxed) == 0
                && registration.target.load(Ordering::Relaxed) == using.handle()
            {
                registration.state.store(FREE, Ordering::Release);
                instance.give_back(index);
            }
        });
    }
}

/// Where a session that is about to be the kernel's is registered.
pub(super) struct Watched {
    places: [Option<(c_int, c_int, epoll_event)>; 8],
}

impl Watched {
    /// Takes the session out of all instances.
    pub(super) fn of(using: &Using) -> Self {
        let mut places = [None; 8];
        let mut free = places.iter_mut();
        for (epoll, entry) in TABLE.managed(0, u32::MAX) {
            if entry.state() != State::Epoll || !entry.has(Entry::SESSIONS) {
                continue;
            }
            let Some(instance) = Instance::of(epoll) else {
                continue;
            };
            instance.each(None, |_, registration| {
                if registration.state.load(Ordering::Acquire) != ACTIVE
                    || registration.is_listener.load(Ordering::Relaxed) == 1
                    || registration.target.load(Ordering::Relaxed) != using.handle()
                {
                    return;
                }
                let fd = registration.fd.load(Ordering::Relaxed);
                let event = epoll_event {
                    events: registration.events.load(Ordering::Relaxed),
                    u64: registration.data.load(Ordering::Relaxed),
                };
                if kernel_control(epoll, libc::EPOLL_CTL_DEL, fd, 0, 0) == 0
                    && let Some(place) = free.next()
                {
                    *place = Some((epoll, fd, event));
                }
            });
        }
        Self { places }
    }

    /// Registers what is under the numbers now.
    pub(super) fn renew(&self) {
        for (epoll, fd, event) in self.places.iter().flatten() {
            others_registered(*epoll);
            kernel_control(*epoll, libc::EPOLL_CTL_ADD, *fd, event.events, event.u64);
        }
    }
}

/// A child is about to be made, which may ask that the peers of sessions ring for everything.
pub(super) fn before_fork() {
    for instance in &PLACES {
        if instance.generation.load(Ordering::Acquire) != 0 {
            instance.has_others.store(1, Ordering::Relaxed);
        }
    }
}

/// A listener has closed.
pub(super) fn unregister_listener(handle: u32) {
    for instance in &PLACES {
        if instance.generation.load(Ordering::Acquire) == 0 {
            continue;
        }
        instance.each(None, |index, registration| {
            if registration.state.load(Ordering::Acquire) != FREE
                && registration.is_listener.load(Ordering::Relaxed) == 1
                && registration.target.load(Ordering::Relaxed) == handle
            {
                registration.state.store(FREE, Ordering::Release);
                instance.give_back(index);
            }
        });
    }
}

/// A connection at a listener's rendezvous has no offer yet: it is watched wherever the listener is,
/// or not any more.
pub(super) fn watch_aside(handle: u32, aside: c_int, on: bool) {
    let before = errno::last();
    for (epoll, entry) in TABLE.managed(0, u32::MAX) {
        if entry.state() != State::Epoll || !entry.has(Entry::SESSIONS) {
            continue;
        }
        let Some(instance) = Instance::of(epoll) else {
            continue;
        };
        instance.each(None, |_, registration| {
            if registration.state.load(Ordering::Acquire) == FREE
                || registration.is_listener.load(Ordering::Relaxed) == 0
                || registration.target.load(Ordering::Relaxed) != handle
            {
                return;
            }
            let (operation, events) = if on {
                (libc::EPOLL_CTL_ADD, (libc::EPOLLIN | libc::EPOLLET) as u32)
            } else {
                (libc::EPOLL_CTL_DEL, 0)
            };
            let address = ptr::from_ref(registration) as u64;
            kernel_control(epoll, operation, aside, events, address);
        });
    }
    errno::set(before);
}

/// A descriptor that is none of ours was registered.
pub(crate) fn others_registered(epoll: c_int) {
    let Some(instance) = Instance::of(epoll) else {
        return;
    };
    instance.has_others.store(1, Ordering::Relaxed);
}

/// An epoll instance's last descriptor is closed.
pub(crate) fn closed(entry: Entry) {
    let Some(instance) = PLACES
        .iter()
        .find(|place| place.generation.load(Ordering::Acquire) == entry.slot())
    else {
        return;
    };
    instance.each(None, |index, registration| {
        let state = registration.state.swap(FREE, Ordering::AcqRel);
        if state == FREE {
            return;
        }
        if registration.is_listener.load(Ordering::Relaxed) == 0
            && let Some(using) = SESSIONS.enter(registration.target.load(Ordering::Relaxed))
        {
            instance.unlist(index, &using);
        }
        instance.give_back(index);
    });
    let place = instance.place.swap(0, Ordering::AcqRel);
    if let Some(board) = board::existing()
        && board.number() == instance.board.load(Ordering::Relaxed)
        && place != 0
    {
        board.leave_place(place as usize - 1);
    }
    instance.generation.store(0, Ordering::Release);
}

/// Whether a wait on the instance of that generation would find a session ready: for those who wait
/// for the instance in another way. The kernel's part is not looked at.
pub(super) fn is_ready(generation: u32) -> bool {
    Instance::of_generation(generation).is_some_and(Instance::peek) || nested::is_ready(generation)
}

/// Whether peers have said something of sessions in the instance that nobody has looked at.
pub(super) fn has_news(generation: u32) -> bool {
    Instance::of_generation(generation)
        .and_then(Instance::waiter)
        .is_some_and(|waiter| waiter.taker.is_ready(waiter.words))
}

/// Takes away what peers have sent to the instance's sessions to wake us.
pub(super) fn drain(generation: u32) {
    if let Some(instance) = Instance::of_generation(generation) {
        instance.drain();
    }
    nested::drain(generation);
}

/// The kernel has said that an instance is readable: whether it still is when what peers have sent to
/// its sessions, to wake us, is taken away.
pub(super) fn is_readable_by_others(generation: u32, epoll: c_int) -> bool {
    drain(generation);
    is_readable(epoll)
}

/// Somebody is about to wait for the kernel's instance to be readable, and looks once more: peers ring.
/// To be ended by [`rise`].
pub(super) fn lie_down(generation: u32) {
    if let Some(waiter) = Instance::of_generation(generation).and_then(Instance::waiter) {
        // A thread may be cancelled in its sleep: nothing may need dropping.
        std::mem::forget(waiter.sleep.prepare(|| false));
    }
    nested::lie_down(generation);
}

/// After [`lie_down`].
pub(super) fn rise(generation: u32) {
    if let Some(waiter) = Instance::of_generation(generation).and_then(Instance::waiter) {
        waiter.sleep.rise();
    }
    nested::rise(generation);
}

/// epoll_wait(2) and its kin on an instance that has sessions. `None`: it has none.
pub(crate) fn wait(call: Wait) -> Option<c_int> {
    if call.count <= 0 || (call.events as usize) < 4096 {
        return None;
    }
    let entry = TABLE.load(call.epoll);
    nested::waited(entry.slot());
    let instance = Instance::of(call.epoll);
    if entry.has(Entry::NESTS) {
        return Some(nested::wait(entry.slot(), call, |call| match instance {
            Some(instance) => instance.wait(call),
            None => kernel_wait(call, call.events, call.count, call.timeout),
        }));
    }
    Some(instance?.wait(call))
}

impl Instance {
    const fn new() -> Self {
        Self {
            generation: AtomicU32::new(0),
            place: AtomicU32::new(0),
            board: AtomicU64::new(0),
            registrations: AtomicPtr::new(ptr::null_mut()),
            made: AtomicU32::new(0),
            free: AtomicU64::new(0),
            has_others: AtomicU32::new(0),
            looked: AtomicU64::new(0),
            core: AtomicU32::new(0),
            round: AtomicU32::new(0),
            pending: AtomicPtr::new(ptr::null_mut()),
            taker: Taker::new(),
        }
    }

    /// The instance of a descriptor, if sessions were registered in it.
    fn of(epoll: c_int) -> Option<&'static Self> {
        let entry = TABLE.load(epoll);
        if entry.state() != State::Epoll || !entry.has(Entry::SESSIONS) {
            return None;
        }
        Self::of_generation(entry.slot())
    }

    fn of_generation(generation: u32) -> Option<&'static Self> {
        // Nearly always the first: programs have few, and this is done for each wait.
        PLACES
            .iter()
            .find(|place| place.generation.load(Ordering::Acquire) == generation)
    }

    #[cold]
    fn of_or_new(epoll: c_int, fd: c_int) -> Option<&'static Self> {
        if let Some(instance) = Self::of(epoll) {
            return Some(instance);
        }
        let mut entry = TABLE.load(epoll);
        if entry.state() != State::Epoll {
            // Made out of our sight, or none at all: then the kernel says so later.
            if !is_epoll(epoll, fd) {
                return None;
            }
            crate::calls::readiness::is_epoll(epoll);
            entry = TABLE.load(epoll);
        }
        let place = PLACES.iter().find(|place| {
            place
                .generation
                .compare_exchange(0, u32::MAX, Ordering::Acquire, Ordering::Relaxed)
                .is_ok()
        })?;
        if !place.prepare() {
            place.generation.store(0, Ordering::Release);
            return None;
        }
        place.generation.store(entry.slot(), Ordering::Release);
        for (fd, named) in TABLE.managed(0, u32::MAX) {
            if named.state() == State::Epoll && named.slot() == entry.slot() {
                TABLE.exchange(fd, named, named.with(Entry::SESSIONS, true));
            }
        }
        nested::has_sessions(entry.slot(), epoll);
        Some(place)
    }

    fn prepare(&self) -> bool {
        if self.registrations.load(Ordering::Acquire).is_null() {
            let Some(memory) = map(INDEXES * size_of::<Registration>()) else {
                return false;
            };
            self.registrations.store(memory.cast(), Ordering::Release);
        }
        if self.pending.load(Ordering::Acquire).is_null() {
            let Some(memory) = map(ReadyWords::BYTES) else {
                return false;
            };
            self.pending.store(memory.cast(), Ordering::Release);
        }
        // What was registered before is not known to be only ours.
        self.has_others.store(1, Ordering::Relaxed);
        if let Some(board) = board::own()
            && let Some(at) = board.take_place()
        {
            self.board.store(board.number(), Ordering::Relaxed);
            self.place.store(at as u32 + 1, Ordering::Release);
        }
        true
    }

    fn pending(&self) -> &ReadyWords {
        // SAFETY: made by `prepare` before the instance was published, never unmapped; zeroed memory
        // is an empty set.
        unsafe { &*self.pending.load(Ordering::Acquire) }
    }

    fn waiter(&self) -> Option<Waiter<'static>> {
        let place = self.place.load(Ordering::Acquire).checked_sub(1)?;
        self.own_board()?.waiter(place as usize)
    }

    /// The board that the instance has its place on, unless that is a parent's.
    fn own_board(&self) -> Option<&'static Board> {
        board::existing().filter(|board| board.number() == self.board.load(Ordering::Relaxed))
    }

    fn at(&self, index: u32) -> Option<&'static Registration> {
        if index as usize >= INDEXES {
            return None;
        }
        let start = self.registrations.load(Ordering::Acquire);
        // SAFETY: an array of so many, never unmapped; zeroed memory is free registrations.
        unsafe { start.add(index as usize).as_ref() }
    }

    /// The registration whose address the kernel has told.
    fn by_address(&self, address: u64) -> Option<(u32, &'static Registration)> {
        let start = self.registrations.load(Ordering::Acquire) as u64;
        let offset = address.checked_sub(start)?;
        let size = size_of::<Registration>() as u64;
        if offset >= INDEXES as u64 * size || !offset.is_multiple_of(size) {
            return None;
        }
        let index = (offset / size) as u32;
        Some((index, self.at(index)?))
    }

    fn each(&self, only: Option<u32>, mut f: impl FnMut(u32, &'static Registration)) {
        let range = match only {
            Some(index) => index..index + 1,
            None => 0..self.made.load(Ordering::Acquire),
        };
        for index in range {
            if let Some(registration) = self.at(index) {
                f(index, registration);
            }
        }
    }

    fn find(&self, fd: c_int, target: Target<'_>) -> Option<(u32, &'static Registration)> {
        let is_it = |registration: &Registration| {
            !matches!(registration.state.load(Ordering::Acquire), FREE | DORMANT)
                && registration.fd.load(Ordering::Relaxed) == fd
                && registration.target.load(Ordering::Relaxed) == target.handle()
                && (registration.is_listener.load(Ordering::Relaxed) == 1)
                    == matches!(target, Target::Listener { .. })
        };
        if let Target::Session(using) = target {
            let word = using.session().registered.load(Ordering::Acquire);
            let index = word as u32 & 0xffff;
            if word != 0
                && let Some(registration) = self.at(index)
                && is_it(registration)
            {
                return Some((index, registration));
            }
        }
        let mut found = None;
        self.each(None, |index, registration| {
            if found.is_none() && is_it(registration) {
                found = Some((index, registration));
            }
        });
        found
    }

    /// The registration of a session that the program has removed and the kernel has not.
    fn dormant(&self, fd: c_int, using: &Using) -> Option<(u32, &'static Registration)> {
        let word = using.session().registered.load(Ordering::Acquire);
        if word & REGISTERED == 0 || word & SEVERAL != 0 {
            return None;
        }
        let index = word as u32 & 0xffff;
        let registration = self.at(index)?;
        (registration.state.load(Ordering::Acquire) == DORMANT
            && registration.is_listener.load(Ordering::Relaxed) == 0
            && registration.fd.load(Ordering::Relaxed) == fd
            && registration.target.load(Ordering::Relaxed) == using.handle())
        .then_some((index, registration))
    }

    /// Whether a registration that the program removes may lie dormant: it is the session's only one,
    /// and no other process has it.
    fn lies_down(&self, index: u32, using: &Using) -> bool {
        let word = using.session().registered.load(Ordering::Acquire);
        word == REGISTERED | u64::from(index)
            && !using.endpoint().is_shared()
            && !self.is_inherited()
    }

    fn take(&self) -> Option<(u32, &'static Registration)> {
        let mut head = self.free.load(Ordering::Acquire);
        while let Some(index) = (head as u32).checked_sub(1) {
            let registration = self.at(index)?;
            let next = registration.next.load(Ordering::Relaxed);
            let new = ((head >> 32) + 1) << 32 | u64::from(next);
            match self
                .free
                .compare_exchange(head, new, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => return Some((index, registration)),
                Err(now) => head = now,
            }
        }
        let index = self
            .made
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |made| {
                ((made as usize) < INDEXES).then_some(made + 1)
            })
            .ok()?;
        self.taker.admit(index + 1);
        if let Some(waiter) = self.waiter()
            && waiter.admit(index + 1).is_err()
        {
            return None;
        }
        Some((index, self.at(index)?))
    }

    fn give_back(&self, index: u32) {
        let Some(registration) = self.at(index) else {
            return;
        };
        let mut head = self.free.load(Ordering::Acquire);
        loop {
            registration.next.store(head as u32, Ordering::Relaxed);
            let new = ((head >> 32) + 1) << 32 | u64::from(index + 1);
            match self
                .free
                .compare_exchange(head, new, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    /// Tells the peer how to tell us of a session.
    fn list(&self, index: u32, using: &Using) {
        let (session, endpoint) = (using.session(), using.endpoint());
        let word = REGISTERED | u64::from(index);
        let first =
            match session
                .registered
                .compare_exchange(0, word, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => true,
                // It was dormant.
                Err(before) => before == word,
            };
        let place = self
            .own_board()
            .zip(self.place.load(Ordering::Acquire).checked_sub(1));
        match place {
            Some((board, waiter)) if first && !endpoint.is_shared() => endpoint.list(Place {
                board: board.number(),
                waiter: waiter as u8,
                session: index as u16,
            }),
            _ => {
                self.has_others.store(1, Ordering::Relaxed);
                self.rely_on_tokens(using);
            }
        }
    }

    /// The peer rings for everything: no waiter is known to it.
    fn rely_on_tokens(&self, using: &Using) {
        using
            .session()
            .registered
            .fetch_or(REGISTERED | SEVERAL, Ordering::AcqRel);
        using.endpoint().unlist();
        using.endpoint().ring_always(true);
    }

    /// The instance is an ancestor's, and this process waits for it, too: it has a place on this
    /// process's board from now on, and what is registered already is told by tokens, to both.
    #[cold]
    fn inherit(&self) {
        self.place.store(0, Ordering::Release);
        self.has_others.store(1, Ordering::Relaxed);
        self.each(None, |index, registration| {
            if registration.state.load(Ordering::Acquire) != FREE
                && registration.is_listener.load(Ordering::Relaxed) == 0
                && let Some(using) = SESSIONS.enter(registration.target.load(Ordering::Relaxed))
                && using.endpoint().is_shared()
            {
                self.rely_on_tokens(&using);
                self.look_at(index);
            }
        });
        if let Some(board) = board::own()
            && let Some(at) = board.take_place()
        {
            self.board.store(board.number(), Ordering::Relaxed);
            let admitted = board
                .waiter(at)
                .is_some_and(|waiter| waiter.admit(self.made.load(Ordering::Acquire)).is_ok());
            if admitted {
                self.place.store(at as u32 + 1, Ordering::Release);
            } else {
                board.leave_place(at);
            }
        }
    }

    fn is_inherited(&self) -> bool {
        self.place.load(Ordering::Acquire) != 0 && self.own_board().is_none()
    }

    fn unlist(&self, index: u32, using: &Using) {
        let (session, endpoint) = (using.session(), using.endpoint());
        let word = REGISTERED | u64::from(index);
        // One of several stays rung for always: to count them would not pay. And what a parent has been
        // told on its board is the parent's.
        if self.own_board().is_some()
            && session
                .registered
                .compare_exchange(word, 0, Ordering::AcqRel, Ordering::Acquire)
                .is_ok()
        {
            endpoint.unlist();
        }
    }

    /// What happened before we were told is to be found by the next wait.
    fn look_at(&self, index: u32) {
        self.pending().set(index as u16);
    }

    /// Another thread may be asleep in the instance, and what it would have been rung by is gone or
    /// was not there when it lay down.
    fn wake_others(&self, epoll: c_int) {
        if self
            .waiter()
            .is_some_and(|waiter| waiter.sleep.sleepers() > 0)
        {
            super::kick::kick(epoll);
        }
    }

    fn is_ready(&self, waiter: Option<&Waiter<'_>>) -> bool {
        self.taker.is_ready(self.pending())
            || waiter.is_some_and(|waiter| waiter.taker.is_ready(waiter.words))
    }

    fn wait(&self, call: Wait) -> c_int {
        let mut out = Out {
            events: call.events,
            room: call.count as usize,
            filled: 0,
        };
        let mut waiter = self.waiter();
        if waiter.is_none() && self.is_inherited() {
            self.inherit();
            waiter = self.waiter();
        }
        let deadline = call
            .timeout
            .map(|timeout| (timeout, clock::now().saturating_add(timeout)));
        loop {
            self.harvest(waiter.as_ref(), &mut out);
            if out.filled > 0 {
                if out.filled < out.room && self.kernel_is_due() {
                    self.look_at_kernel(call, &mut out);
                }
                return out.filled as c_int;
            }
            if call.timeout == Some(0) {
                return match self.ask_kernel(call, Some(0), &mut out) {
                    Err(code) => errno::fail(code),
                    Ok(()) => {
                        self.harvest(waiter.as_ref(), &mut out);
                        out.filled as c_int
                    }
                };
            }
            let mut began = None;
            if let Some(waiter) = &waiter {
                match self.spin(call.epoll, waiter) {
                    Outcome::Ready => {
                        if self.is_ready(Some(waiter)) {
                            continue;
                        }
                        // The kernel has something.
                        self.look_at_kernel(call, &mut out);
                        self.harvest(Some(waiter), &mut out);
                        if out.filled > 0 {
                            return out.filled as c_int;
                        }
                        continue;
                    }
                    Outcome::Sleep(at) => began = Some(at),
                }
                match waiter.sleep.prepare(|| self.is_ready(Some(waiter))) {
                    // Ended by `rise`: a thread may be cancelled in between.
                    Some(asleep) => std::mem::forget(asleep),
                    None => continue,
                }
            }
            let left = deadline.map(|(_, at)| at.saturating_sub(clock::now()));
            let asked = self.ask_kernel(call, left, &mut out);
            if let (Some(waiter), Some(began)) = (&waiter, began) {
                waiter.sleep.rise();
                waiter.spin.slept(began);
            }
            if let Err(code) = asked {
                return errno::fail(code);
            }
            self.harvest(waiter.as_ref(), &mut out);
            if out.filled > 0 || left.is_some_and(|_| over(deadline)) {
                return out.filled as c_int;
            }
        }
    }

    /// Looks for a while. The kernel's instance is looked at in between, if there are others in it.
    fn spin(&self, epoll: c_int, waiter: &Waiter<'_>) -> Outcome {
        let peer = self.core.load(Ordering::Relaxed).checked_sub(1);
        let others = self.has_others.load(Ordering::Relaxed) != 0;
        let mut looks = 0_u32;
        waiter.spin.wait(peer, || {
            if self.is_ready(Some(waiter)) {
                return true;
            }
            looks += 1;
            others && looks.is_multiple_of(LOOKS) && is_readable(epoll)
        })
    }

    fn kernel_is_due(&self) -> bool {
        if self.has_others.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let now = clock::now();
        let last = self.looked.load(Ordering::Relaxed);
        if now.wrapping_sub(last) < LOOK_EVERY_NS {
            return false;
        }
        self.looked.store(now, Ordering::Relaxed);
        true
    }

    /// Takes what the kernel has, without waiting. What it fails with is for the next wait to find.
    fn look_at_kernel(&self, call: Wait, out: &mut Out) {
        let before = errno::last();
        let _ = self.ask_kernel(call, Some(0), out);
        errno::set(before);
    }

    /// Waits in the kernel, and sorts what it reports: others' events as they are, sessions to be
    /// looked at.
    fn ask_kernel(&self, call: Wait, timeout: Option<u64>, out: &mut Out) -> Result<(), c_int> {
        // SAFETY: the program says that there is room for `count` events.
        let place = unsafe { call.events.add(out.filled) };
        let room = (out.room - out.filled) as c_int;
        let got = kernel_wait(call, place, room, timeout);
        if got < 0 {
            return Err(errno::last());
        }
        self.looked.store(clock::coarse(), Ordering::Relaxed);
        let mut kept = out.filled;
        for i in 0..got as usize {
            // SAFETY: the kernel has just written so many.
            let event = unsafe { place.add(i).read_unaligned() };
            let Some((index, registration)) = self.by_address(event.u64) else {
                if super::kick::is_kick(event.u64) {
                    continue;
                }
                // SAFETY: at or before the place that was read.
                unsafe { call.events.add(kept).write_unaligned(event) };
                kept += 1;
                continue;
            };
            if registration.state.load(Ordering::Acquire) == FREE {
                continue;
            }
            let target = registration.target.load(Ordering::Relaxed);
            if registration.is_listener.load(Ordering::Relaxed) == 1 {
                let wanted = registration.events.load(Ordering::Relaxed);
                if listener::is_waiting(target)
                    && let Some(event) = registration.fires(wanted & LISTENER_READY)
                {
                    // SAFETY: as above.
                    unsafe { call.events.add(kept).write_unaligned(event) };
                    kept += 1;
                }
                continue;
            }
            if let Some(using) = SESSIONS.enter(target) {
                super::poll::drain(&using, registration.fd.load(Ordering::Relaxed));
                self.look_at(index);
            }
        }
        out.filled = kept;
        Ok(())
    }

    /// Looks at the sessions that are said to be ready, and reports those that are.
    fn harvest(&self, waiter: Option<&Waiter<'_>>, out: &mut Out) {
        if !self.is_ready(waiter) {
            return;
        }
        let mut taken = [0_u16; AT_ONCE];
        let room = AT_ONCE.min(out.room - out.filled);
        if room == 0 {
            return;
        }
        let mut count = self.taker.take(self.pending(), &mut taken[..room]);
        if let Some(waiter) = waiter {
            count += waiter.taker.take(waiter.words, &mut taken[count..room]);
        }
        let round = self.round.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        let core = cores::current();
        for &index in &taken[..count] {
            let Some(registration) = self.at(u32::from(index)) else {
                continue;
            };
            // Said by a peer and known from the last time: once is enough.
            if registration.round.swap(round, Ordering::Relaxed) == round {
                continue;
            }
            if let Some(event) = self.look(registration, index, core) {
                // SAFETY: the program says that there is room.
                unsafe { out.events.add(out.filled).write_unaligned(event) };
                out.filled += 1;
            }
        }
    }

    /// Whether one of the sessions that are said to be ready is so. Those stay what they are.
    fn peek(&self) -> bool {
        let waiter = self.waiter();
        while self.is_ready(waiter.as_ref()) {
            let mut taken = [0_u16; AT_ONCE];
            let mut count = self.taker.take(self.pending(), &mut taken);
            if let Some(waiter) = &waiter {
                count += waiter.taker.take(waiter.words, &mut taken[count..]);
            }
            let mut any = false;
            for &index in &taken[..count] {
                if self.has_event(u32::from(index)) {
                    self.look_at(u32::from(index));
                    any = true;
                }
            }
            if any || count == 0 {
                return any;
            }
        }
        false
    }

    fn has_event(&self, index: u32) -> bool {
        let Some(registration) = self.at(index) else {
            return false;
        };
        if registration.state.load(Ordering::Acquire) != ACTIVE {
            return false;
        }
        let Some(using) = SESSIONS.enter(registration.target.load(Ordering::Relaxed)) else {
            return false;
        };
        let wanted = registration.events.load(Ordering::Relaxed);
        super::poll::events(&using, wanted) & (wanted | ALWAYS_REPORTED) != 0
    }

    /// Takes the tokens of the first sessions away, and notes these sessions as to be looked at. Of
    /// more than that an instance is for a while readable without that a wait finds something.
    fn drain(&self) {
        const AT_MOST: usize = 64;
        let mut set = [libc::pollfd {
            fd: -1,
            events: libc::POLLIN,
            revents: 0,
        }; AT_MOST];
        let mut indexes = [0; AT_MOST];
        let mut count = 0;
        self.each(None, |index, registration| {
            if count < AT_MOST
                && registration.state.load(Ordering::Acquire) == ACTIVE
                && registration.is_listener.load(Ordering::Relaxed) == 0
            {
                set[count].fd = registration.fd.load(Ordering::Relaxed);
                indexes[count] = index;
                count += 1;
            }
        });
        super::poll::ask_kernel(&mut set[..count]);
        for (element, index) in set[..count].iter().zip(indexes) {
            if element.revents != 0
                && let Some(registration) = self.at(index)
                && let Some(using) = SESSIONS.enter(registration.target.load(Ordering::Relaxed))
            {
                super::poll::drain(&using, element.fd);
                self.look_at(index);
            }
        }
    }

    fn look(&self, registration: &Registration, index: u16, core: u32) -> Option<epoll_event> {
        if registration.state.load(Ordering::Acquire) != ACTIVE {
            return None;
        }
        let using = SESSIONS.enter(registration.target.load(Ordering::Relaxed))?;
        let endpoint = using.endpoint();
        endpoint.publish_core(core);
        if let Some(peer) = endpoint.peer_core() {
            self.core.store(peer + 1, Ordering::Relaxed);
        }
        let wanted = registration.events.load(Ordering::Relaxed);
        let bits = super::poll::events(&using, wanted) & (wanted | ALWAYS_REPORTED);
        let event = registration.fires(bits)?;
        if wanted & (libc::EPOLLET | libc::EPOLLONESHOT) as u32 == 0 {
            // It is to be reported again as long as it is so.
            self.look_at(u32::from(index));
        }
        Some(event)
    }
}

/// What the kernel's registration of a rendezvous asks for where the program asks for this of its
/// listener: a connection there must not wake who does not want to hear of one.
const fn for_rendezvous(events: u32) -> u32 {
    const HOW: u32 = (libc::EPOLLET | libc::EPOLLONESHOT | libc::EPOLLEXCLUSIVE) as u32;
    let wanted = if events & LISTENER_READY != 0 {
        libc::EPOLLIN as u32
    } else {
        0
    };
    wanted | events & HOW
}

/// What a listener with a connection waiting is ready for.
const LISTENER_READY: u32 = (libc::EPOLLIN | libc::EPOLLRDNORM) as u32;

/// EPOLLERR and EPOLLHUP are reported whether or not they were asked for.
const ALWAYS_REPORTED: u32 = (libc::EPOLLERR | libc::EPOLLHUP) as u32;

/// The session is registered: the index is in the lower half.
const REGISTERED: u64 = 1 << 32;
/// In several instances, or under several descriptors, or in no place that a peer can be told.
const SEVERAL: u64 = 1 << 33;

impl Registration {
    /// The event to report; a one-shot registration is spent by it.
    fn fires(&self, bits: u32) -> Option<epoll_event> {
        if bits == 0 {
            return None;
        }
        let one_shot = self.events.load(Ordering::Relaxed) & libc::EPOLLONESHOT as u32 != 0;
        if one_shot
            && self
                .state
                .compare_exchange(ACTIVE, SPENT, Ordering::AcqRel, Ordering::Relaxed)
                .is_err()
        {
            return None;
        }
        if matches!(self.state.load(Ordering::Acquire), FREE | DORMANT) {
            return None;
        }
        Some(epoll_event {
            events: bits,
            u64: self.data.load(Ordering::Relaxed),
        })
    }
}

/// What is reported to the program.
struct Out {
    events: *mut epoll_event,
    room: usize,
    filled: usize,
}

fn over(deadline: Option<(u64, u64)>) -> bool {
    deadline.is_some_and(|(_, at)| clock::now() >= at)
}

fn kernel_wait(call: Wait, events: *mut epoll_event, room: c_int, timeout: Option<u64>) -> c_int {
    let ms = match timeout {
        None => -1,
        Some(0) => 0,
        Some(ns) => i32::try_from(ns.div_ceil(1_000_000)).unwrap_or(i32::MAX),
    };
    // A wait of less than a millisecond, or not of whole ones, by the call that has them.
    if let Some(ns) = timeout
        && ns != 0
        && !ns.is_multiple_of(1_000_000)
        && call.precise
    {
        let time = timespec {
            tv_sec: (ns / 1_000_000_000) as i64,
            tv_nsec: (ns % 1_000_000_000) as i64,
        };
        // SAFETY: the program's arguments, but for the time.
        return unsafe { real::epoll_pwait2(call.epoll, events, room, &raw const time, call.mask) };
    }
    // SAFETY: the program's arguments.
    unsafe {
        if call.mask.is_null() {
            real::epoll_wait(call.epoll, events, room, ms)
        } else {
            real::epoll_pwait(call.epoll, events, room, ms, call.mask)
        }
    }
}

fn kernel_control(epoll: c_int, operation: c_int, fd: c_int, events: u32, data: u64) -> c_int {
    let mut event = epoll_event { events, u64: data };
    // SAFETY: the event is read during the call.
    unsafe { real::epoll_ctl(epoll, operation, fd, &raw mut event) }
}

fn is_readable(epoll: c_int) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let epoll = borrow(epoll);
    let mut set = [PollFd::new(&epoll, PollFlags::IN)];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    poll(&mut set, Some(&now)).is_ok_and(|ready| ready > 0)
}

/// Whether a descriptor is an epoll instance: one says ENOENT of what is not registered in it. `fd` is
/// not, as it is about to be.
fn is_epoll(epoll: c_int, fd: c_int) -> bool {
    if epoll < 0 {
        return false;
    }
    let before = errno::last();
    let is =
        kernel_control(epoll, libc::EPOLL_CTL_DEL, fd, 0, 0) == 0 || errno::last() == libc::ENOENT;
    errno::set(before);
    is
}

fn map(len: usize) -> Option<*mut std::ffi::c_void> {
    // SAFETY: a new private mapping at an address of the kernel's choice.
    let memory = unsafe {
        mmap_anonymous(
            ptr::null_mut(),
            len,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::PRIVATE | MapFlags::NORESERVE,
        )
    };
    memory.ok()
}
