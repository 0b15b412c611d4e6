//! Accepting: one request stays with the kernel, and each connection is a descriptor.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::rc::Rc;
use std::task::{Context, Poll};

use rustix::io::Errno;

use crate::reactor::fd::Fd;
use crate::reactor::request::Request;
use crate::reactor::table::Key;
use crate::reactor::{Operation, Outcome};
use crate::wake::slot::WakerSlot;

/// Connections that wait for the program, before they are left in the listener's own queue.
const HELD: usize = 64;

/// A listening socket's connections.
pub(crate) struct Acceptor {
    listener: Rc<Fd>,
    accepted: RefCell<VecDeque<OwnedFd>>,
    request: Cell<Option<Key>>,
    /// The request's end was asked for.
    ending: Cell<bool>,
    error: Cell<Option<Errno>>,
    gone: Cell<bool>,
    waker: WakerSlot,
}

impl Acceptor {
    pub(crate) fn new(listener: Rc<Fd>) -> Rc<Self> {
        Rc::new(Self {
            listener,
            accepted: RefCell::default(),
            request: Cell::new(None),
            ending: Cell::new(false),
            error: Cell::new(None),
            gone: Cell::new(false),
            waker: WakerSlot::new(),
        })
    }

    pub(crate) fn listener(&self) -> &Rc<Fd> {
        &self.listener
    }

    /// The next connection.
    pub(crate) fn poll_accept(self: &Rc<Self>, cx: &Context<'_>) -> Poll<Result<OwnedFd, Errno>> {
        if let Some(accepted) = self.accepted.borrow_mut().pop_front() {
            return Poll::Ready(Ok(accepted));
        }
        if let Some(errno) = self.error.take() {
            return Poll::Ready(Err(errno));
        }
        self.waker.register(cx);
        if self.request.get().is_none() {
            self.start();
            if let Some(errno) = self.error.take() {
                return Poll::Ready(Err(errno));
            }
        }
        Poll::Pending
    }

    /// Accepts no more; what was accepted and not taken is closed.
    pub(crate) fn abandon(&self) {
        self.gone.set(true);
        self.waker.clear();
        self.accepted.borrow_mut().clear();
        if let Some(key) = self.request.get() {
            self.listener.reactor().cancel(key);
        }
    }

    fn start(self: &Rc<Self>) {
        let request = Request::Accept {
            listener: self.listener.as_raw_fd(),
        };
        let operation = Rc::<Self>::clone(self);
        // SAFETY: the request points at nothing, and this operation keeps the listener open.
        let key = unsafe { self.listener.reactor().start(operation, request) };
        if self.error.get().is_none() {
            self.request.set(Some(key));
        }
    }
}

impl Operation for Acceptor {
    fn complete(self: Rc<Self>, outcome: Outcome) {
        if let Ok(fd) = outcome.result {
            // SAFETY: the kernel (or the epoll driver) has just made this descriptor for this request.
            let fd = unsafe { OwnedFd::from_raw_fd(fd as i32) };
            if !self.gone.get() {
                self.accepted.borrow_mut().push_back(fd);
            }
        }
        if outcome.more {
            if self.accepted.borrow().len() >= HELD
                && !self.ending.replace(true)
                && let Some(key) = self.request.get()
            {
                self.listener.reactor().cancel(key);
            }
        } else {
            self.request.set(None);
            let was_ending = self.ending.replace(false);
            match outcome.result {
                Err(Errno::CANCELED) if was_ending || self.gone.get() => {}
                Err(errno) => self.error.set(Some(errno)),
                Ok(_) => {}
            }
            if self.waker.is_waiting()
                && self.accepted.borrow().is_empty()
                && self.error.get().is_none()
            {
                self.start();
                return;
            }
        }
        self.waker.wake();
    }
}
