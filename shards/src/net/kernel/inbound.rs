//! Receiving: one request stays with the kernel, and each arrival is a piece in a provided buffer.
//!
//! Memory is bounded from both sides. A connection whose program does not read holds a few pieces at most
//! ([`HELD`]), then its request is ended and the peer feels the socket's own window. And when the pool
//! runs out, a connection receives into one small buffer of its own at a time, so that those who hold
//! buffers and do not read cannot stop the others.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::task::{Context, Poll};

use rustix::io::Errno;

use crate::reactor::fd::Fd;
use crate::reactor::request::Request;
use crate::reactor::table::Key;
use crate::reactor::{Lent, Operation, Outcome};
use crate::wake::slot::WakerSlot;

/// Bytes that wait for the program before the request is ended.
const HELD: usize = 64 << 10;
/// As many while buffers are short.
const HELD_WHEN_SHORT: usize = 4 << 10;
/// Full pieces in a row that make bulk of a connection: from then on it receives into several buffers at once.
const BULK: u32 = 16;
/// The size of a buffer of a connection's own.
const OWN: usize = 4 << 10;

/// The receiving side of a connected socket.
pub(crate) struct Inbound {
    socket: Rc<Fd>,
    pieces: RefCell<VecDeque<Lent>>,
    held: Cell<usize>,
    /// Pieces in a row that have filled their buffers; once there were [`BULK`], for ever so many.
    full_pieces: Cell<u32>,
    state: Cell<State>,
    /// How receiving has ended: by the end of the stream, or an error, which is told once.
    end: Cell<Option<Result<(), Errno>>>,
    waker: WakerSlot,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// No request is with the kernel.
    Idle,
    Receiving(Key),
    /// The request's end was asked for.
    Ending,
    /// One into memory of its own.
    Own(Key),
    /// The receiver was dropped.
    Gone,
}

impl Inbound {
    pub(super) fn new(socket: &Rc<Fd>) -> Rc<Self> {
        Rc::new(Self {
            socket: Rc::clone(socket),
            pieces: RefCell::default(),
            held: Cell::new(0),
            full_pieces: Cell::new(0),
            state: Cell::new(State::Idle),
            end: Cell::new(None),
            waker: WakerSlot::new(),
        })
    }

    /// The next piece: `None` at the end of the stream.
    #[inline]
    pub(crate) fn poll_piece(
        self: &Rc<Self>,
        cx: &Context<'_>,
    ) -> Poll<Result<Option<Lent>, Errno>> {
        let piece = self.pieces.borrow_mut().pop_front();
        if let Some(piece) = piece {
            self.held.set(self.held.get() - piece.len());
            return Poll::Ready(Ok(Some(piece)));
        }
        match self.end.get() {
            None => {}
            Some(Ok(())) => return Poll::Ready(Ok(None)),
            Some(Err(errno)) => {
                // The stream is over after its error.
                self.end.set(Some(Ok(())));
                return Poll::Ready(Err(errno));
            }
        }
        self.waker.register(cx);
        if self.state.get() == State::Idle {
            self.receive();
            // On a reactor that has ended the answer is there already.
            if self.end.get().is_some() {
                return self.poll_piece(cx);
            }
        }
        Poll::Pending
    }

    /// Asks the kernel for what comes.
    #[cold]
    fn receive(self: &Rc<Self>) {
        let reactor = self.socket.reactor();
        let operation = Rc::<Self>::clone(self);
        let request = Request::Receive {
            socket: self.socket.as_raw_fd(),
            bulk: self.full_pieces.get() >= BULK,
        };
        // SAFETY: the request points at nothing, and this operation keeps the socket open.
        let key = unsafe { reactor.start(operation, request) };
        if self.end.get().is_none() {
            self.state.set(State::Receiving(key));
        }
    }

    /// Asks for what comes next, into a buffer of its own.
    #[cold]
    fn receive_own(self: &Rc<Self>) {
        let operation = Rc::new(Own {
            inbound: Rc::clone(self),
            memory: RefCell::new(vec![0; OWN]),
        });
        let request = Request::ReceiveInto {
            socket: self.socket.as_raw_fd(),
            data: operation.memory.borrow_mut().as_mut_ptr(),
            len: OWN as u32,
        };
        // SAFETY: the memory is the operation's, which does not touch it before its completion, and keeps
        // the socket open.
        let key = unsafe { self.socket.reactor().start(operation, request) };
        if self.end.get().is_none() {
            self.state.set(State::Own(key));
        }
    }

    fn keep(&self, piece: Lent) {
        if piece.is_empty() || self.state.get() == State::Gone {
            return;
        }
        let becomes_bulk = self.notice_bulk(piece.len());
        self.held.set(self.held.get() + piece.len());
        self.pieces.borrow_mut().push_back(piece);
        let limit = if self.socket.reactor().pool().is_short() {
            HELD_WHEN_SHORT
        } else {
            HELD
        };
        if let State::Receiving(key) = self.state.get()
            && (becomes_bulk || self.held.get() > limit)
        {
            self.state.set(State::Ending);
            self.socket.reactor().cancel(key);
        }
    }

    /// Counts full pieces. Tells when there have been so many that the request should be another.
    #[inline]
    fn notice_bulk(&self, len: usize) -> bool {
        let full = self.full_pieces.get();
        if full >= BULK {
            return false;
        }
        let is_full = len == self.socket.reactor().pool().buffer_size();
        self.full_pieces.set(if is_full { full + 1 } else { 0 });
        full + 1 == BULK && is_full
    }

    fn set_end(&self, end: Result<(), Errno>) {
        self.end.set(Some(end));
    }

    fn set_idle(&self) {
        if self.state.get() != State::Gone {
            self.state.set(State::Idle);
        }
    }

    /// Nobody reads any more.
    pub(super) fn abandon(&self) {
        let state = self.state.replace(State::Gone);
        if let State::Receiving(key) | State::Own(key) = state {
            self.socket.reactor().cancel(key);
        }
        self.waker.clear();
        self.pieces.borrow_mut().clear();
        self.held.set(0);
    }
}

impl Operation for Inbound {
    fn data(&self, data: Lent) {
        self.keep(data);
    }

    fn complete(self: Rc<Self>, outcome: Outcome) {
        if !outcome.more {
            let was = self.state.get();
            self.set_idle();
            match outcome.result {
                Ok(0) => self.set_end(Ok(())),
                // Received, and the request is over: it is asked for again when the program reads.
                Ok(_) => {}
                Err(Errno::CANCELED) if matches!(was, State::Ending | State::Gone) => {}
                Err(Errno::NOBUFS) if was != State::Gone => self.receive_own(),
                Err(errno) => self.set_end(Err(errno)),
            }
            if self.waker.is_waiting()
                && self.state.get() == State::Idle
                && self.end.get().is_none()
            {
                // Somebody has read everything meanwhile, and waits.
                if self.pieces.borrow().is_empty() {
                    self.receive();
                }
            }
        }
        if self.end.get().is_some() || !self.pieces.borrow().is_empty() {
            self.waker.wake();
        }
    }
}

/// A receive into memory of the connection's own.
struct Own {
    inbound: Rc<Inbound>,
    memory: RefCell<Vec<u8>>,
}

impl Operation for Own {
    fn complete(self: Rc<Self>, outcome: Outcome) {
        let inbound = &self.inbound;
        inbound.set_idle();
        match outcome.result {
            Ok(0) => inbound.set_end(Ok(())),
            Ok(len) => {
                let mut memory = self.memory.take();
                memory.truncate(len as usize);
                inbound.keep(Lent::private(memory));
            }
            Err(Errno::CANCELED) if inbound.state.get() == State::Gone => {}
            Err(errno) => inbound.set_end(Err(errno)),
        }
        inbound.waker.wake();
    }
}
