//! The io_uring driver.
//!
//! A turn is one system call: it submits what tasks have asked for and waits for what comes next.
//!
//! # Sends that nobody waits for
//!
//! Most sends end while they are submitted: the bytes fit into the socket's buffer. Their completion
//! would be a reason to return from the kernel at once, so that a turn that answers a message would
//! take two system calls, and each completion costs work on both sides. So a send that nobody waits
//! for ([`Manner::AtOnce`]) is made with `MSG_DONTWAIT` and without a completion for success: once the
//! kernel has taken the entry, the send either has told of its failure or was a success. One that
//! would have had to wait tells so, and is sent again in the other manner.

mod encode;
mod enter;
mod setup;

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::time::Duration;

use io_uring::squeue::{Entry, Flags};
use io_uring::types::Timespec;
use io_uring::{IoUring, cqueue};

use super::bell::{self, Bell};
use super::driver::{Driver, Wait};
use super::features::{Feature, Features};
use super::pool::Pool;
use super::request::{Event, Manner, Provided, Request};
use super::table::Key;

use encode::{AT_ONCE, DOORBELL, NOTHING, Style};
use enter::Entrance;
pub(crate) use setup::{Unusable, Wish};

/// Carries requests by io_uring.
pub(crate) struct Uring {
    ring: IoUring,
    entrance: Entrance,
    features: Features,
    style: Style,
    eventfd: OwnedFd,
    /// Entries that did not fit into the queue.
    backlog: VecDeque<Entry>,
    /// Sends that are over, with success, when the kernel has taken what is in the queue.
    at_once: Vec<(Key, u32)>,
    /// Time limits that entries in the queue point at.
    #[expect(clippy::vec_box, reason = "the queue holds their addresses")]
    limits: Vec<Box<Timespec>>,
    /// After the ring: the kernel fills its buffers as long as there is one.
    _pool: Rc<Pool>,
}

impl Uring {
    /// A ring for the calling thread, and the pool that it fills.
    ///
    /// # Errors
    ///
    /// Why io_uring cannot be used here.
    pub(crate) fn new(wish: Wish) -> Result<(Self, Rc<Pool>), Unusable> {
        let made = setup::make(wish)?;
        let eventfd = bell::eventfd().map_err(|error| Unusable::Call("eventfd(2)", error))?;
        let mut driver = Self {
            ring: made.ring,
            entrance: made.entrance,
            features: made.features,
            style: made.style,
            eventfd,
            backlog: VecDeque::new(),
            at_once: Vec::new(),
            limits: Vec::new(),
            _pool: Rc::clone(&made.pool),
        };
        driver.watch_doorbell();
        Ok((driver, made.pool))
    }

    fn watch_doorbell(&mut self) {
        self.push(&encode::watch(self.eventfd.as_raw_fd()));
    }

    fn push(&mut self, entry: &Entry) {
        // SAFETY: the contract of `Driver::submit`; entries of the driver's own point at nothing but
        // `limits`.
        let full = self.backlog.is_empty() && unsafe { self.ring.submission().push(entry) }.is_ok();
        if !full {
            self.backlog.push_back(entry.clone());
        }
    }

    /// Moves entries from the backlog into the queue, as far as there is room. Linked ones stay
    /// together: a chain ends at the end of what is submitted.
    fn refill(&mut self) {
        let mut queue = self.ring.submission();
        while let Some(entry) = self.backlog.front() {
            if is_linked(entry) && queue.capacity() - queue.len() < 2 {
                return;
            }
            // SAFETY: as in `push`.
            if unsafe { queue.push(entry) }.is_err() {
                return;
            }
            self.backlog.pop_front();
        }
    }

    fn enter(&mut self, want: u32, limit: Option<Duration>) -> io::Result<()> {
        self.entrance.enter(&self.ring, want, limit)
    }

    /// Takes completions, and concludes what came of sends that do not tell.
    fn reap(&mut self, events: &mut Vec<Event>) {
        let mut doorbell_ended = false;
        for completion in self.ring.completion() {
            let bits = completion.user_data();
            match Key::from_bits(bits) {
                NOTHING => {}
                DOORBELL => doorbell_ended |= !cqueue::more(completion.flags()),
                _ if bits & AT_ONCE != 0 => {
                    let key = Key::from_bits(bits & !AT_ONCE);
                    self.at_once.retain(|(pending, _)| *pending != key);
                    events.push(Event::last(key, completion.result()));
                }
                key => events.push(event(key, &completion)),
            }
        }
        if doorbell_ended {
            self.watch_doorbell();
        }
        let queue = self.ring.submission();
        if queue.is_empty() && !queue.cq_overflow() {
            let over = self.at_once.drain(..);
            events.extend(over.map(|(key, len)| Event::last(key, len as i32)));
            if self.backlog.is_empty() {
                self.limits.clear();
            }
        }
    }
}

impl Driver for Uring {
    #[inline]
    unsafe fn submit(&mut self, key: Key, request: Request) {
        let mut entry = encode::encode(&request, self.style).user_data(key.to_bits());
        match request {
            Request::Send {
                len,
                manner: Manner::AtOnce,
                ..
            }
            | Request::SendMessage {
                len,
                manner: Manner::AtOnce,
                ..
            } => {
                self.at_once.push((key, len));
                entry.set_user_data(key.to_bits() | AT_ONCE);
            }
            Request::Connect {
                within: Some(within),
                ..
            } => {
                let limit = Box::new(encode::timespec(within));
                // Through the backlog, which keeps the two together.
                self.backlog.push_back(entry.flags(Flags::IO_LINK));
                self.backlog.push_back(encode::deadline(&limit));
                self.limits.push(limit);
                return;
            }
            _ => {}
        }
        self.push(&entry);
    }

    fn cancel(&mut self, key: Key) {
        self.push(&encode::cancel(key));
    }

    fn turn(&mut self, wait: Wait, events: &mut Vec<Event>) -> io::Result<()> {
        self.refill();
        while !self.backlog.is_empty() {
            self.enter(0, None)?;
            self.reap(events);
            self.refill();
        }
        let idle = events.is_empty() && self.ring.completion().is_empty();
        match wait {
            Wait::AtMost(limit) if idle => self.enter(1, Some(limit))?,
            Wait::Forever if idle => self.enter(1, None)?,
            _ => {
                let queue = self.ring.submission();
                if !queue.is_empty() || queue.taskrun() || queue.cq_overflow() {
                    drop(queue);
                    self.enter(0, None)?;
                }
            }
        }
        self.reap(events);
        Ok(())
    }

    fn has_work(&mut self) -> bool {
        self.ring.submission().taskrun() || !self.ring.completion().is_empty()
    }

    fn ring(&mut self, bell: &Bell) {
        match bell.ring_fd() {
            Some(ring) if self.features.has(Feature::MessageRing) => {
                self.push(&encode::message(ring));
            }
            _ => {
                // See `Bell::ring`: it cannot fail.
                let _ = bell.ring();
            }
        }
    }

    fn bell(&self) -> io::Result<Bell> {
        // SAFETY: the descriptor is the ring's, which outlives this borrow.
        let ring = unsafe { BorrowedFd::borrow_raw(self.ring.as_raw_fd()) };
        Bell::new(self.eventfd.as_fd(), Some(ring))
    }

    fn forget(&mut self, _fd: RawFd) {}

    fn features(&self) -> &Features {
        &self.features
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        // A bell may keep the ring alive; the buffers are to be unknown to it.
        let _ = self.ring.submitter().unregister_buf_ring(encode::GROUP);
    }
}

#[inline]
fn event(key: Key, completion: &cqueue::Entry) -> Event {
    let (result, flags) = (completion.result(), completion.flags());
    Event {
        key,
        result,
        more: cqueue::more(flags),
        notification: cqueue::notif(flags),
        data: cqueue::buffer_select(flags).map(|buffer| Provided {
            buffer,
            len: result.max(0) as u32,
            unfinished: cqueue::buffer_more(flags),
        }),
    }
}

/// Whether the entry after this one belongs to it.
fn is_linked(entry: &Entry) -> bool {
    entry.get_user_data() != NOTHING.to_bits()
        && entry.get_opcode() == u32::from(io_uring::opcode::Connect::CODE)
}
