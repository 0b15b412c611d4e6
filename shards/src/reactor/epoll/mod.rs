//! The epoll driver: the same requests where there is no io_uring.
//!
//! A request is tried at the next turn; if it would have to wait, it is tried again when the
//! descriptor is ready. Descriptors are watched edge-triggered, for both directions, from their first
//! wait until they are forgotten, so that a wait costs no system call of its own.

mod attempt;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::time::Duration;

use rustix::event::Timespec;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;

use super::bell::{self, Bell};
use super::driver::{Driver, Wait};
use super::features::{DriverKind, Feature, Features};
use super::pool::{Pool, Shape};
use super::request::{Event, Request};
use super::table::Key;

use attempt::{Direction, Tried};

/// The doorbell's number among the watched.
const DOORBELL: u64 = u64::MAX;
/// Events taken in one turn.
const BATCH: usize = 256;

/// Carries requests by epoll.
pub(crate) struct Epoll {
    epoll: OwnedFd,
    eventfd: OwnedFd,
    features: Features,
    pool: Rc<Pool>,
    pending: HashMap<Key, Pending>,
    /// Requests to be tried at the next turn.
    due: VecDeque<Key>,
    /// Requests to be ended at the next turn.
    cancelled: Vec<Key>,
    watched: HashMap<RawFd, Watched>,
    ready: Vec<epoll::Event>,
}

struct Pending {
    request: Request,
    /// How far it has come: a send that was short, a connection that is under way.
    progress: u32,
}

/// Who waits for a descriptor, by direction; first come, first served.
#[derive(Default)]
struct Watched {
    waiting: [VecDeque<Key>; 2],
}

impl Epoll {
    /// A driver for the calling thread, which is used because of `why`; and the pool that it fills.
    ///
    /// # Errors
    ///
    /// Those of epoll_create(2), eventfd(2) and mmap(2).
    pub(crate) fn new(shape: Shape, why: &str) -> io::Result<(Self, Rc<Pool>)> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let eventfd = bell::eventfd()?;
        epoll::add(
            &epoll,
            &eventfd,
            EventData::new_u64(DOORBELL),
            EventFlags::IN | EventFlags::ET,
        )?;
        let pool = Pool::with_list(shape)?;
        let mut features = Features::new(DriverKind::Epoll);
        features.off(Feature::IoUring, why);
        let driver = Self {
            epoll,
            eventfd,
            features,
            pool: Rc::clone(&pool),
            pending: HashMap::new(),
            due: VecDeque::new(),
            cancelled: Vec::new(),
            watched: HashMap::new(),
            ready: Vec::with_capacity(BATCH),
        };
        Ok((driver, pool))
    }

    fn end_cancelled(&mut self, events: &mut Vec<Event>) {
        for key in std::mem::take(&mut self.cancelled) {
            if self.pending.remove(&key).is_some() {
                events.push(Event::last(key, -libc::ECANCELED));
            }
        }
    }

    fn try_due(&mut self, events: &mut Vec<Event>) {
        // Those that come to be due meanwhile have their turn next time, so that nobody starves.
        for _ in 0..self.due.len() {
            let Some(key) = self.due.pop_front() else {
                return;
            };
            self.attempt(key, events);
        }
    }

    fn attempt(&mut self, key: Key, events: &mut Vec<Event>) {
        let Some(pending) = self.pending.get_mut(&key) else {
            return;
        };
        match attempt::attempt(
            key,
            pending.request,
            &mut pending.progress,
            &self.pool,
            events,
        ) {
            Tried::Over => {
                self.pending.remove(&key);
            }
            Tried::Again => self.due.push_back(key),
            Tried::Wait(fd, direction) => {
                if let Err(errno) = self.wait_for(fd, direction, key) {
                    self.pending.remove(&key);
                    events.push(Event::last(key, -errno.raw_os_error()));
                }
            }
        }
    }

    fn wait_for(&mut self, fd: RawFd, direction: Direction, key: Key) -> Result<(), Errno> {
        if !self.watched.contains_key(&fd) {
            // SAFETY: whoever submitted the request keeps the descriptor open until it is over.
            let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
            epoll::add(
                &self.epoll,
                borrowed,
                EventData::new_u64(fd as u64),
                EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET,
            )?;
            // Readiness since the attempt is told by the registration, as its first edge.
        }
        let watched = self.watched.entry(fd).or_default();
        watched.waiting[direction as usize].push_back(key);
        Ok(())
    }

    fn collect(&mut self, wait: Wait) -> io::Result<()> {
        let zero = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let limit = match wait {
            Wait::Not => Some(zero),
            Wait::AtMost(limit) => Some(timespec(limit)),
            Wait::Forever => None,
        };
        self.ready.clear();
        match epoll::wait(
            &self.epoll,
            rustix::buffer::spare_capacity(&mut self.ready),
            limit.as_ref(),
        ) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        for event in &self.ready {
            let (data, flags) = (event.data.u64(), event.flags);
            let Some(watched) = self
                .watched
                .get_mut(&(data as RawFd))
                .filter(|_| data != DOORBELL)
            else {
                continue;
            };
            let failed = flags.intersects(EventFlags::ERR | EventFlags::HUP);
            if failed || flags.intersects(EventFlags::IN | EventFlags::RDHUP) {
                self.due
                    .extend(watched.waiting[Direction::In as usize].drain(..));
            }
            if failed || flags.contains(EventFlags::OUT) {
                self.due
                    .extend(watched.waiting[Direction::Out as usize].drain(..));
            }
        }
        Ok(())
    }
}

impl Driver for Epoll {
    unsafe fn submit(&mut self, key: Key, request: Request) {
        let progress = 0;
        self.pending.insert(key, Pending { request, progress });
        self.due.push_back(key);
    }

    fn cancel(&mut self, key: Key) {
        self.cancelled.push(key);
    }

    fn turn(&mut self, wait: Wait, events: &mut Vec<Event>) -> io::Result<()> {
        self.end_cancelled(events);
        self.try_due(events);
        let idle = events.is_empty() && self.due.is_empty();
        self.collect(if idle { wait } else { Wait::Not })?;
        self.try_due(events);
        Ok(())
    }

    fn has_work(&mut self) -> bool {
        !self.due.is_empty() || !self.cancelled.is_empty()
    }

    fn ring(&mut self, bell: &Bell) {
        // See `Bell::ring`: it cannot fail.
        let _ = bell.ring();
    }

    fn bell(&self) -> io::Result<Bell> {
        Bell::new(self.eventfd.as_fd(), None)
    }

    fn forget(&mut self, fd: RawFd) {
        if self.watched.remove(&fd).is_some() {
            // SAFETY: it is about to be closed, but is not yet.
            let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
            // A duplicate of it may stay open elsewhere, so that closing would not do this.
            let _ = epoll::delete(&self.epoll, borrowed);
        }
    }

    fn features(&self) -> &Features {
        &self.features
    }
}

fn timespec(time: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(time.subsec_nanos()),
    }
}
