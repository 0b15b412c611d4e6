//! A call's copy of the set.
//!
//! The first elements are the program's, in its order. Behind them come the descriptors that
//! accompany listeners: the rendezvous, and connections there that have not made their offer yet.
//! An element that is a session's asks the kernel for its Unix socket; what the program wants of it
//! is kept beside.

use std::ffi::{c_int, c_short};
use std::sync::atomic::Ordering;

use dmm_nsocket::table::{Entry, State};
use libc::pollfd;
use rustix::process::{Resource, getrlimit};

use super::memory::List;
use super::style::Style;
use crate::process::TABLE;
use crate::session::pool::{SESSIONS, Using};
use crate::session::wait::borrow;
use crate::session::{epoll, listener};

/// How many elements a copy has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Room {
    /// All, those that accompany listeners included.
    pub(super) work: usize,
    /// Those that are ours.
    pub(super) ours: usize,
}

impl Room {
    /// What a set of `count` descriptors needs. `None` if none of them is ours, or the kernel will
    /// refuse so many.
    pub(super) fn of(count: usize, set: impl Iterator<Item = c_int>) -> Option<Self> {
        /// A smaller set is within any limit that leaves a program usable.
        const SMALL: usize = 64;
        let mut room = Self {
            work: count,
            ours: 0,
        };
        for fd in set {
            let entry = TABLE.load(fd);
            if let Some(kind) = Kind::of(entry) {
                room.ours += 1;
                if kind == Kind::Listener {
                    listener::each_beside(entry.slot(), |_| room.work += 1);
                }
            }
        }
        let is_too_many = || {
            getrlimit(Resource::Nofile)
                .current
                .is_some_and(|limit| count as u64 > limit)
        };
        (room.ours > 0 && !(count > SMALL && is_too_many())).then_some(room)
    }
}

/// What an element of ours is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Session,
    Listener,
    Epoll,
    /// A session that has ended meanwhile: the kernel knows what the descriptor is now.
    Lost,
}

impl Kind {
    fn of(entry: Entry) -> Option<Self> {
        match entry.state() {
            State::Session => Some(Self::Session),
            State::Listener => Some(Self::Listener),
            State::Epoll if entry.has(Entry::SESSIONS) || entry.has(Entry::NESTS) => {
                Some(Self::Epoll)
            }
            _ => None,
        }
    }
}

/// An element that is ours.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ours {
    kind: Kind,
    /// Its number in the set.
    at: u32,
    fd: c_int,
    /// The session's or listener's handle, or the instance's generation.
    handle: u32,
    wanted: c_short,
    /// What is so, apart from what the kernel says.
    revents: c_short,
    /// Of a listener: the elements that accompany it.
    beside: (u32, u32),
    /// This call counts among those that sleep for it.
    sleeps: bool,
    /// Of a session that this call sleeps for: others do so, too, and have its tokens.
    is_second: bool,
}

/// What has come of a descriptor.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outcome {
    pub(super) fd: c_int,
    pub(super) wanted: c_short,
    pub(super) revents: c_short,
}

/// The copy.
pub(super) struct Set<'a> {
    style: Style,
    work: List<'a, pollfd>,
    ours: List<'a, Ours>,
    /// Elements of the program's.
    count: usize,
    /// Some of them are the kernel's business: all but sessions.
    has_others: bool,
}

impl<'a> Set<'a> {
    pub(super) const fn new(style: Style, work: List<'a, pollfd>, ours: List<'a, Ours>) -> Self {
        Self {
            style,
            work,
            ours,
            count: 0,
            has_others: false,
        }
    }

    /// Adds a descriptor of the program's.
    pub(super) fn add(&mut self, fd: c_int, wanted: c_short) {
        let element = pollfd {
            fd,
            events: wanted,
            revents: 0,
        };
        if !self.work.push(element) {
            // The program has changed the set since it was counted.
            return;
        }
        let entry = TABLE.load(fd);
        let kind = Kind::of(entry);
        let is_ours = kind.is_some_and(|kind| {
            self.ours.push(Ours {
                kind,
                at: self.count as u32,
                fd,
                handle: entry.slot(),
                wanted,
                revents: 0,
                beside: (0, 0),
                sleeps: false,
                is_second: false,
            })
        });
        self.has_others |= fd >= 0 && !(is_ours && kind == Some(Kind::Session));
        self.count += 1;
    }

    /// All descriptors were added: adds those that accompany listeners, as many as there is room for.
    pub(super) fn complete(&mut self) {
        for ours in self.ours.iter_mut() {
            if ours.kind != Kind::Listener || ours.wanted & ACCEPTABLE == 0 {
                continue;
            }
            let first = self.work.len();
            listener::each_beside(ours.handle, |fd| {
                self.work.push(pollfd {
                    fd,
                    events: libc::POLLIN,
                    revents: 0,
                });
            });
            ours.beside = (first as u32, self.work.len() as u32);
        }
    }

    /// Whether the kernel has to be asked even if sessions are ready.
    pub(super) const fn has_others(&self) -> bool {
        self.has_others
    }

    /// Whether looking at ours, without the kernel, may find something.
    pub(super) fn is_worth_a_spin(&self) -> bool {
        let can_be_seen = |ours: &Ours| matches!(ours.kind, Kind::Session | Kind::Epoll);
        self.ours.iter().any(can_be_seen)
    }

    /// The session that is all there is in the set.
    pub(super) fn alone(&self) -> Option<u32> {
        match &self.ours[..] {
            [ours] if self.count == 1 && ours.kind == Kind::Session => Some(ours.handle),
            _ => None,
        }
    }

    /// Tells the peers where this thread is. Returns where one of them was seen last, and whether one
    /// had to be rung for since the last time.
    pub(super) fn meet(&self, core: u32) -> (Option<u32>, bool) {
        let (mut peer, mut rang) = (None, false);
        for ours in self.ours.iter().filter(|ours| ours.kind == Kind::Session) {
            if let Some(using) = SESSIONS.enter(ours.handle) {
                let endpoint = using.endpoint();
                endpoint.publish_core(core);
                peer = peer.or_else(|| endpoint.peer_core());
                rang |= endpoint.take_rang();
            }
        }
        (peer, rang)
    }

    /// Looks at ours, by loads; tells whether something is ready.
    pub(super) fn look(&mut self) -> bool {
        let mut any = false;
        for ours in self.ours.iter_mut() {
            ours.revents = match ours.kind {
                Kind::Session => match SESSIONS.enter(ours.handle) {
                    Some(using) => session_events(&using, ours.wanted),
                    None => {
                        ours.kind = Kind::Lost;
                        0
                    }
                },
                Kind::Epoll if ours.wanted & ACCEPTABLE != 0 => {
                    let ready = epoll::is_ready(ours.handle);
                    if ready { ours.wanted & ACCEPTABLE } else { 0 }
                }
                _ => 0,
            };
            any |= self.style.weight(ours.wanted, ours.revents) > 0;
        }
        any
    }

    /// Looks for what the first sleepers should have found: one may have died, or been cancelled.
    pub(super) fn stand_in(&self) {
        for ours in self.ours.iter().filter(|ours| ours.is_second) {
            if let Some(using) = SESSIONS.enter(ours.handle) {
                using.endpoint().drain_after_sleep(borrow(ours.fd));
            }
        }
    }

    /// Prepares what the kernel is asked of sessions. Tells whether something may happen that the
    /// kernel does not tell of: then one sleeps a little at a time.
    pub(super) fn arm(&mut self) -> bool {
        let mut naps = false;
        for ours in self.ours.iter_mut() {
            let element = &mut self.work[ours.at as usize];
            let using = match ours.kind {
                Kind::Session => SESSIONS.enter(ours.handle),
                Kind::Lost => None,
                Kind::Listener | Kind::Epoll => continue,
            };
            let Some(using) = using else {
                ours.kind = Kind::Lost;
                (element.fd, element.events) = (ours.fd, ours.wanted);
                continue;
            };
            let endpoint = using.endpoint();
            // Of a peer that is gone the kernel would tell again and again.
            element.fd = if endpoint.is_gone() { -1 } else { ours.fd };
            // Nor is there anything to hear from where the tokens are to wake somebody else.
            element.events = if endpoint.is_never_quiet() || ours.is_second {
                naps = true;
                0
            } else {
                libc::POLLIN | libc::POLLRDHUP
            };
        }
        naps || self.has_muted()
    }

    /// Asks the peers to tell of everything. True if the sleep has to be short: others wait for the
    /// same session, and a token wakes one of them, which takes it away from the others.
    pub(super) fn announce(&mut self) -> bool {
        let mut naps = false;
        for ours in self.ours.iter_mut() {
            match ours.kind {
                Kind::Session => {
                    let Some(using) = SESSIONS.enter(ours.handle) else {
                        continue;
                    };
                    let others = using.session().waiting.fetch_add(1, Ordering::AcqRel);
                    // In that order: other processes that have the session are to be asked as well.
                    ours.is_second = !using.endpoint().lie_down() || others != 0;
                    naps |= ours.is_second;
                    ours.sleeps = true;
                    using.endpoint().announce();
                }
                Kind::Epoll => {
                    epoll::lie_down(ours.handle);
                    ours.sleeps = true;
                }
                Kind::Listener | Kind::Lost => {}
            }
        }
        naps
    }

    /// Ends what [`announce`](Self::announce) has begun.
    pub(super) fn rise(&mut self) {
        for ours in self.ours.iter_mut() {
            if !std::mem::take(&mut ours.sleeps) {
                continue;
            }
            if ours.kind == Kind::Epoll {
                epoll::rise(ours.handle);
            } else if let Some(using) = SESSIONS.enter(ours.handle) {
                using.session().waiting.fetch_sub(1, Ordering::AcqRel);
                using.endpoint().rise();
            }
        }
    }

    /// What the kernel is asked.
    pub(super) fn for_kernel(&mut self) -> (*mut pollfd, usize) {
        (self.work.as_mut_ptr(), self.work.len())
    }

    /// Asks the kernel, without waiting; tells whether it has something. Not a cancellation point,
    /// and errno stays.
    pub(super) fn look_in_kernel(&mut self) -> bool {
        super::ask_kernel(&mut self.work)
    }

    /// The kernel has been asked: takes the tokens away where there are some, unless they are to wake
    /// somebody else. Descriptors that select(2) was given and that are closed are an error.
    pub(super) fn settle(&mut self) -> Result<(), c_int> {
        for ours in self.ours.iter_mut() {
            let said = self.work[ours.at as usize].revents;
            if said == 0 {
                continue;
            }
            match ours.kind {
                Kind::Session if said & libc::POLLNVAL != 0 => ours.kind = Kind::Lost,
                Kind::Session => {
                    if let Some(using) = SESSIONS.enter(ours.handle) {
                        if ours.sleeps && !ours.is_second {
                            using.endpoint().drain_after_sleep(borrow(ours.fd));
                        } else {
                            super::drain(&using, ours.fd);
                        }
                    }
                }
                Kind::Epoll => {
                    if !epoll::is_readable_by_others(ours.handle, ours.fd) {
                        self.work[ours.at as usize].revents = 0;
                    }
                }
                Kind::Listener | Kind::Lost => {}
            }
        }
        let is_closed = |element: &pollfd| element.revents & libc::POLLNVAL != 0;
        if self.style == Style::Select && self.work[..self.count].iter().any(is_closed) {
            return Err(libc::EBADF);
        }
        Ok(())
    }

    /// The call's result, as things stand.
    pub(super) fn total(&self) -> usize {
        self.outcomes()
            .map(|outcome| self.style.weight(outcome.wanted, outcome.revents))
            .sum()
    }

    /// What has come of each descriptor of the program's.
    pub(super) fn outcomes(&self) -> impl Iterator<Item = Outcome> + '_ {
        let mut ours = self.ours.iter().peekable();
        let work = &self.work[..self.count];
        work.iter().enumerate().map(move |(at, element)| {
            match ours.next_if(|ours| ours.at as usize == at) {
                Some(ours) => Outcome {
                    fd: ours.fd,
                    wanted: ours.wanted,
                    revents: self.outcome(ours),
                },
                None => Outcome {
                    fd: unmuted(element.fd),
                    wanted: element.events,
                    revents: element.revents,
                },
            }
        })
    }

    fn outcome(&self, ours: &Ours) -> c_short {
        let said = self.work[ours.at as usize].revents;
        match ours.kind {
            Kind::Session => ours.revents,
            Kind::Lost => said,
            Kind::Epoll => said | ours.revents,
            Kind::Listener => {
                let (first, end) = ours.beside;
                let beside = &self.work[first as usize..end as usize];
                if beside.iter().any(|element| element.revents != 0) {
                    said | ours.wanted & ACCEPTABLE
                } else {
                    said
                }
            }
        }
    }

    /// select(2) does not count what poll(2) tells unasked: an element that would end every sleep for
    /// that is left out of the next one, which is short, and looked at again behind it. Tells whether
    /// something is ready now.
    pub(super) fn mute(&mut self) -> bool {
        if self.style == Style::Poll {
            return false;
        }
        if self.has_muted() {
            for element in self.work[..self.count].iter_mut() {
                element.fd = unmuted(element.fd);
            }
            self.look_in_kernel();
            if self.total() > 0 {
                return true;
            }
        }
        for element in self.work[..self.count].iter_mut() {
            if element.revents != 0 && element.fd >= 0 {
                element.fd |= MUTED;
            }
        }
        false
    }

    fn has_muted(&self) -> bool {
        self.style == Style::Select && self.work[..self.count].iter().any(|one| is_muted(one.fd))
    }
}

/// What the kernel's readiness of a listener, or an epoll instance, is.
const ACCEPTABLE: c_short = libc::POLLIN | libc::POLLRDNORM;

/// Makes a number negative, so that the kernel passes over it.
const MUTED: c_int = c_int::MIN;

const fn is_muted(fd: c_int) -> bool {
    fd < -1
}

const fn unmuted(fd: c_int) -> c_int {
    if is_muted(fd) { fd & !MUTED } else { fd }
}

fn session_events(using: &Using, wanted: c_short) -> c_short {
    let events = super::events(using, u32::from(wanted.cast_unsigned()));
    // All bits of poll(2) are in the lower half.
    (events as c_short) & (wanted | libc::POLLERR | libc::POLLHUP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_muted_and_unmuted() {
        for fd in [0, 1, 1023, c_int::MAX - 1] {
            assert!(is_muted(fd | MUTED));
            assert_eq!(unmuted(fd | MUTED), fd);
        }
        assert!(!is_muted(-1) && !is_muted(0));
    }
}
