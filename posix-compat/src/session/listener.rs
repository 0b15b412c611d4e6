//! Listeners that take sessions beside the kernel's connections.
//!
//! The program's descriptor stays the kernel's TCP socket. Beside it there is a
//! [rendezvous](dmm_nsocket::session::rendezvous), a Unix socket that the program does not see, named
//! for the TCP socket's cookie. accept(2) takes from both, by turns; what waits for the descriptor
//! waits for both.
//!
//! A child of fork has the rendezvous too, as it has the listener: whoever accepts first has the
//! session. It closes when the last descriptor of the listener in the last process does.

use std::cell::UnsafeCell;
use std::ffi::c_int;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};

use dmm_nsocket::session::endpoint::Endpoint;
use dmm_nsocket::session::rendezvous::{AcceptError, Cookie, Name, Rendezvous};
use dmm_nsocket::stats::Counter;
use dmm_nsocket::sys;
use dmm_nsocket::table::{Entry, State};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::options::Inherited;
use super::pool::{Addresses, SESSIONS};
use super::wait::borrow;
use super::{board, epoll};
use crate::process::TABLE;
use crate::{process, real, track};

/// Listeners with a rendezvous that a process can have; further ones are the kernel's alone.
const LISTENERS: usize = 128;

/// Connections without an offer that are watched: as many as a rendezvous keeps.
const WATCHED: usize = 32;

static PLACES: [Place; LISTENERS] = [const { Place::new() }; LISTENERS];

/// A listener, or a free place for one.
struct Place {
    /// Descriptors that name it plus calls that use it; 0 for a free place.
    users: AtomicU32,
    /// Descriptors alone.
    names: AtomicU32,
    generation: AtomicU32,
    /// Whether the kernel's socket was asked first the last time.
    kernel_first: AtomicBool,
    /// The rule has no kernel: connections by TCP are turned away.
    alone: AtomicBool,
    domain: AtomicI32,
    /// A child of fork has it, too.
    shared: AtomicBool,
    /// The kernel's socket has been made non-blocking by us; the program has not asked for it.
    made_nonblocking: AtomicBool,
    /// The process whose connections without an offer are kept aside.
    pid: AtomicU32,
    /// Those that were put aside and are watched wherever the listener is: numbers plus one.
    watched: [AtomicI32; WATCHED],
    details: UnsafeCell<MaybeUninit<Details>>,
}

struct Details {
    rendezvous: Rendezvous,
    inherited: Inherited,
}

// SAFETY: `details` is written by whoever has taken the place, before it counts users, and taken out
// by the last of them.
unsafe impl Sync for Place {}

const GENERATION_BITS: u32 = 8;

/// A listener in use.
struct Using {
    place: &'static Place,
    handle: u32,
}

impl Using {
    fn details(&self) -> &'static Details {
        // SAFETY: there are details as long as there are users; what is borrowed is not kept.
        unsafe { (*self.place.details.get()).assume_init_ref() }
    }
}

impl Drop for Using {
    fn drop(&mut self) {
        if self.place.users.fetch_sub(1, Ordering::AcqRel) == 1 {
            // SAFETY: nobody uses it any more.
            drop(unsafe { (*self.place.details.get()).assume_init_read() });
            self.place.generation.fetch_add(1, Ordering::Release);
            self.place.names.store(0, Ordering::Release);
        }
    }
}

impl Place {
    const fn new() -> Self {
        Self {
            users: AtomicU32::new(0),
            names: AtomicU32::new(0),
            generation: AtomicU32::new(0),
            kernel_first: AtomicBool::new(false),
            alone: AtomicBool::new(false),
            shared: AtomicBool::new(false),
            domain: AtomicI32::new(0),
            made_nonblocking: AtomicBool::new(false),
            pid: AtomicU32::new(0),
            watched: [const { AtomicI32::new(0) }; WATCHED],
            details: UnsafeCell::new(MaybeUninit::uninit()),
        }
    }
}

fn enter(handle: u32) -> Option<Using> {
    let at = handle >> GENERATION_BITS;
    let place = PLACES.get(at as usize)?;
    place
        .users
        .fetch_update(Ordering::Acquire, Ordering::Relaxed, |users| {
            (users > 0).then_some(users + 1)
        })
        .ok()?;
    let using = Using { place, handle };
    let generation = place.generation.load(Ordering::Acquire);
    (self::handle(at, generation) == handle).then_some(using)
}

const fn handle(at: u32, generation: u32) -> u32 {
    at << GENERATION_BITS | generation & ((1 << GENERATION_BITS) - 1)
}

/// A socket listens now: makes its rendezvous, and returns the listener's handle. `None` where there
/// can be none (somebody has the name: another process that had the listener before); then the kernel
/// serves it alone.
pub(crate) fn listen(fd: c_int, backlog: c_int, domain: c_int, alone: bool) -> Option<u32> {
    let cookie = Cookie::of(borrow(fd)).ok()?;
    let rendezvous = Rendezvous::listen(&Name::listener(cookie), backlog).ok()?;
    let (at, place) = PLACES.iter().enumerate().find(|(_, place)| {
        place
            .names
            .compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
    })?;
    let details = Details {
        rendezvous,
        inherited: Inherited::of(borrow(fd), domain),
    };
    // SAFETY: `names` made this thread the only one to have the place.
    unsafe { (*place.details.get()).write(details) };
    super::poll::begin();
    place.domain.store(domain, Ordering::Relaxed);
    place.alone.store(alone, Ordering::Relaxed);
    place.made_nonblocking.store(false, Ordering::Relaxed);
    place.shared.store(false, Ordering::Relaxed);
    place.pid.store(process::pid(), Ordering::Relaxed);
    place.users.store(1, Ordering::Release);
    Some(handle(at as u32, place.generation.load(Ordering::Acquire)))
}

/// epoll_ctl(2) on a listener: the kernel has done its part for the TCP socket.
pub(crate) fn control(
    epoll: c_int,
    operation: c_int,
    fd: c_int,
    event: *const libc::epoll_event,
    handle: u32,
) {
    if let Some(rendezvous) = rendezvous(handle) {
        epoll::control_listener(epoll, operation, fd, event, handle, rendezvous);
    }
}

/// listen(2) was called again.
pub(crate) fn set_backlog(handle: u32, backlog: c_int) {
    if let Some(using) = enter(handle) {
        // The kernel's listen has succeeded with the same arguments.
        let _ = using.details().rendezvous.set_backlog(backlog);
    }
}

/// One more descriptor names the listener.
pub(crate) fn name(handle: u32) -> bool {
    enter(handle).is_some_and(|using| {
        using
            .place
            .names
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |names| {
                (names > 0).then_some(names + 1)
            })
            .is_ok()
    })
}

/// A descriptor does not name it any more.
pub(crate) fn unname(handle: u32) {
    let Some(using) = enter(handle) else { return };
    let one_less = |names: u32| (names > 1).then(|| names - 1);
    let names = &using.place.names;
    if names
        .fetch_update(Ordering::AcqRel, Ordering::Acquire, one_less)
        .is_ok()
    {
        return;
    }
    epoll::unregister_listener(handle);
    if !using.place.shared.load(Ordering::Acquire) {
        turn_away(&using);
    }
    using.place.users.fetch_sub(1, Ordering::AcqRel);
}

/// shutdown(2) was called on a listener, or connect(2) without an address: it listens no more.
pub(crate) fn stopped(handle: u32) {
    if let Some(using) = enter(handle) {
        turn_away(&using);
    }
}

/// Status flags of a descriptor as the program has set them (fcntl(2), `F_GETFL`).
pub(crate) fn flags(entry: Entry, flags: c_int) -> c_int {
    let ours = entry.state() == State::Listener
        && !entry.has(Entry::NONBLOCKING)
        && enter(entry.slot())
            .is_some_and(|using| using.place.made_nonblocking.load(Ordering::Acquire));
    if ours {
        flags & !libc::O_NONBLOCK
    } else {
        flags
    }
}

/// Nobody accepts any more: resets the sessions that wait, as the kernel resets connections. Their
/// owners would hear of it by their sockets as well, but later.
#[cold]
fn turn_away(using: &Using) {
    let rendezvous = &using.details().rendezvous;
    while let Ok(accepted) = rendezvous.accept(&mut |_| {}) {
        if let Ok((_socket, endpoint)) = Endpoint::accept(accepted, None) {
            endpoint.close(true);
        }
    }
}

/// A child is about to be made, which has the listeners, too.
pub(super) fn before_fork() {
    for place in &PLACES {
        if place.users.load(Ordering::Acquire) > 0 {
            place.shared.store(true, Ordering::Release);
        }
    }
}

/// The rendezvous of a listener, to be waited for along with it.
pub(crate) fn rendezvous(handle: u32) -> Option<c_int> {
    enter(handle).map(|using| using.details().rendezvous.as_fd().as_raw_fd())
}

/// Calls `f` with each descriptor that is to be waited for along with a listener: the rendezvous, and
/// connections there whose offer has not come yet.
pub(super) fn each_beside(handle: u32, mut f: impl FnMut(c_int)) {
    let Some(using) = enter(handle) else { return };
    let rendezvous = &using.details().rendezvous;
    f(rendezvous.as_fd().as_raw_fd());
    rendezvous.aside().for_each(f);
}

/// Whether a connection waits at the rendezvous, or one with an offer aside.
pub(super) fn is_waiting(handle: u32) -> bool {
    let Some(using) = enter(handle) else {
        return false;
    };
    let rendezvous = &using.details().rendezvous;
    is_readable(rendezvous.as_fd()) || rendezvous.aside().any(|fd| is_readable(borrow(fd)))
}

/// What an accept has come to.
pub(crate) enum Accepted {
    /// A session, under this new descriptor.
    Session(c_int, u32, Addresses),
    /// The kernel's connection, or error: what the call has returned.
    Kernel(c_int),
    /// An error of ours.
    Failed(c_int),
}

/// accept4(2) on a listener: `call` is the program's own, on the kernel's socket.
pub(crate) fn accept(
    handle: u32,
    fd: c_int,
    flags: c_int,
    blocking: bool,
    call: impl Fn() -> c_int,
) -> Accepted {
    let Some(using) = enter(handle) else {
        return Accepted::Kernel(call());
    };
    let place = using.place;
    let pid = process::pid();
    if place.pid.swap(pid, Ordering::AcqRel) != pid {
        using.details().rendezvous.after_fork_in_child();
    }
    let (mut newcomer, mut has_waited) = (false, false);
    loop {
        let kernel_first = !place.kernel_first.fetch_xor(true, Ordering::Relaxed);
        for kernel in [kernel_first, !kernel_first] {
            if kernel {
                if !is_readable(borrow(fd)) {
                    continue;
                }
                if blocking {
                    // Others accept, too: who comes late must not wait for TCP alone.
                    make_nonblocking(place, fd);
                }
                let accepted = call();
                if accepted < 0 && crate::errno::last() == libc::EAGAIN {
                    continue;
                }
                if accepted >= 0 && place.alone.load(Ordering::Relaxed) {
                    // SAFETY: a descriptor that was made just now.
                    unsafe { real::close(accepted) };
                    continue;
                }
                return Accepted::Kernel(accepted);
            }
            match take(&using, flags, &mut newcomer) {
                Ok(Some((fd, handle, addresses))) => {
                    return Accepted::Session(fd, handle, addresses);
                }
                Ok(None) => {}
                Err(code) => return Accepted::Failed(code),
            }
        }
        if !blocking {
            if newcomer && !has_waited {
                has_waited = true;
                if offer_comes(&using) {
                    continue;
                }
            }
            // Also for what else is wrong: the kernel says it.
            let accepted = call();
            return Accepted::Kernel(accepted);
        }
        if let Err(code) = wait(&using, fd) {
            return Accepted::Failed(code);
        }
    }
}

/// The next session that is offered, if there is one.
/// `newcomer`: a connection has come whose offer has not.
fn take(
    using: &Using,
    flags: c_int,
    newcomer: &mut bool,
) -> Result<Option<(c_int, u32, Addresses)>, c_int> {
    let details = using.details();
    loop {
        let mut watch = |aside: BorrowedFd<'_>| {
            *newcomer = true;
            watch_aside(using, aside.as_raw_fd());
        };
        let accepted = match details.rendezvous.accept(&mut watch) {
            Ok(accepted) => accepted,
            Err(AcceptError::WouldBlock) => return Ok(None),
            Err(AcceptError::SentAway(_)) => {
                track::count(Counter::OffersRefused);
                continue;
            }
            Err(AcceptError::System(errno)) => return Err(errno.raw_os_error()),
            Err(_) => return Ok(None),
        };
        unwatch_aside(using, accepted.connection.as_raw_fd());
        let addresses = Addresses {
            local: accepted.offer.to,
            remote: accepted.offer.from,
        };
        let Ok((socket, endpoint)) = Endpoint::accept(accepted, board::own()) else {
            track::count(Counter::OffersRefused);
            continue;
        };
        let domain = using.place.domain.load(Ordering::Relaxed);
        let Some(socket) = with_flags(socket, flags) else {
            continue;
        };
        let inode = track::inode(socket.as_raw_fd());
        match SESSIONS.keep(endpoint, addresses, domain, inode) {
            Some(handle) => {
                if let Some(using) = SESSIONS.enter(handle) {
                    let options = &using.session().options;
                    options.inherit(&details.inherited);
                    super::control::linger_follows(&using);
                    super::control::urgent_follows(&using);
                    super::timeouts_follow(&using, socket.as_raw_fd());
                }
                return Ok(Some((socket.into_raw_fd(), handle, addresses)));
            }
            None => return Err(libc::ENFILE),
        }
    }
}

/// A connection whose offer has not come yet is watched wherever the listener is.
#[cold]
fn watch_aside(using: &Using, fd: c_int) {
    for place in &using.place.watched {
        // A number that is there already is of a connection that was sent away.
        let there = place.load(Ordering::Relaxed);
        if there == fd + 1
            || there == 0
                && place
                    .compare_exchange(0, fd + 1, Ordering::AcqRel, Ordering::Relaxed)
                    .is_ok()
        {
            break;
        }
    }
    epoll::watch_aside(using.handle, fd, true);
}

/// Its offer has come: from now on it is a session's.
fn unwatch_aside(using: &Using, fd: c_int) {
    let is_it = |place: &&AtomicI32| place.load(Ordering::Relaxed) == fd + 1;
    if let Some(place) = using.place.watched.iter().find(is_it) {
        epoll::watch_aside(using.handle, fd, false);
        place.store(0, Ordering::Release);
    }
}

/// The socket of an accepted session is non-blocking and close-on-exec; the program gets what it asks.
fn with_flags(socket: OwnedFd, flags: c_int) -> Option<OwnedFd> {
    if flags & libc::SOCK_NONBLOCK == 0 {
        let now = rustix::fs::fcntl_getfl(&socket).ok()?;
        rustix::fs::fcntl_setfl(&socket, now - OFlags::NONBLOCK).ok()?;
    }
    if flags & libc::SOCK_CLOEXEC == 0 {
        rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::empty()).ok()?;
    }
    Some(socket)
}

/// Gives the offer of a connection that has just come a moment: between the two the peer looks who
/// listens here. What poll(2) has reported is there then, for programs that do not expect EAGAIN. Who
/// connects and makes no offer costs the listener that moment once.
fn offer_comes(using: &Using) -> bool {
    const MOMENT: Timespec = Timespec {
        tv_sec: 0,
        tv_nsec: 2_000_000,
    };
    let mut fds = [None; WATCHED];
    for (place, fd) in fds.iter_mut().zip(using.details().rendezvous.aside()) {
        *place = Some(borrow(fd));
    }
    let count = fds.iter().flatten().count();
    let Some(first) = fds[0] else { return false };
    let mut set = fds.map(|fd| PollFd::from_borrowed_fd(fd.unwrap_or(first), PollFlags::IN));
    poll(&mut set[..count], Some(&MOMENT)).is_ok_and(|ready| ready > 0)
}

/// Waits for the kernel's socket, the rendezvous, and what was put aside there.
fn wait(using: &Using, fd: c_int) -> Result<(), c_int> {
    let rendezvous = &using.details().rendezvous;
    let mut set = [libc::pollfd {
        fd: -1,
        events: libc::POLLIN,
        revents: 0,
    }; 34];
    set[0].fd = fd;
    set[1].fd = rendezvous.as_fd().as_raw_fd();
    let mut count = 2;
    for (place, fd) in set[2..].iter_mut().zip(rendezvous.aside()) {
        place.fd = fd;
        count += 1;
    }
    let timeout = sys::receive_timeout_ms(borrow(fd));
    // SAFETY: so many elements. A thread may be cancelled here, which leaves the listener in use.
    let ready = unsafe { real::poll(set.as_mut_ptr(), count, timeout.unwrap_or(-1)) };
    match ready {
        0 => Err(libc::EAGAIN),
        1.. => Ok(()),
        _ => Err(crate::errno::last()),
    }
}

/// What fcntl(2) and accept(2) of the program see stays as the program has set it (the table's flag).
fn make_nonblocking(place: &Place, fd: c_int) {
    // Each time: another process, or an exec there, may have undone it.
    set_nonblocking(fd, true);
    place.made_nonblocking.store(true, Ordering::Release);
}

fn set_nonblocking(fd: c_int, on: bool) {
    let socket = borrow(fd);
    if let Ok(flags) = rustix::fs::fcntl_getfl(socket)
        && flags.contains(OFlags::NONBLOCK) != on
    {
        let _ = rustix::fs::fcntl_setfl(socket, flags ^ OFlags::NONBLOCK);
    }
}

/// Whether there is a listener with a rendezvous.
pub(crate) fn are_there() -> bool {
    let mut places = PLACES.iter();
    places.any(|place| place.users.load(Ordering::Relaxed) > 0)
}

/// Whether the kernel's socket is non-blocking without that the program has asked for it.
pub(crate) fn is_made_nonblocking(handle: u32) -> bool {
    enter(handle).is_some_and(|using| using.place.made_nonblocking.load(Ordering::Acquire))
}

/// Another program may get the listeners, and is to find them as this one has set them.
pub(super) fn before_exec() {
    if !are_there() {
        return;
    }
    for (fd, entry) in TABLE.managed(0, u32::MAX) {
        if entry.state() == State::Listener
            && !entry.has(Entry::NONBLOCKING)
            && is_made_nonblocking(entry.slot())
            && rustix::io::fcntl_getfd(borrow(fd)).is_ok_and(|flags| flags.is_empty())
        {
            set_nonblocking(fd, false);
        }
    }
}

/// The listener under a descriptor is about to be somebody else's, too, who knows of no rendezvous:
/// from now on it is the kernel's alone, under all its numbers.
pub(crate) fn leave_to_kernel(fd: c_int) {
    let handle = TABLE.load(fd).slot();
    for (name, entry) in TABLE.managed(0, u32::MAX) {
        if entry.state() != State::Listener || entry.slot() != handle {
            continue;
        }
        if !entry.has(Entry::NONBLOCKING) && is_made_nonblocking(handle) {
            set_nonblocking(name, false);
        }
        if TABLE.exchange(name, entry, entry.on_kernel()) {
            unname(handle);
        }
    }
}

fn is_readable(fd: BorrowedFd<'_>) -> bool {
    let mut set = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    match poll(&mut set, Some(&now)) {
        Ok(ready) => ready > 0,
        Err(Errno::INTR) => false,
        Err(_) => true,
    }
}
