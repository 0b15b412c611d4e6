//! Sending: what a turn's tasks write to a stream leaves as one request at the turn's end.
//!
//! A write is done when its bytes are taken over; a flush, when the kernel has them. An error comes up in
//! the next write or flush. While [`HIGH`] bytes wait, writers wait. A stream that is dropped is sent to
//! its end first, for [`LINGER`] at most.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::Shutdown;

use crate::reactor::fd::Fd;
use crate::reactor::request::{Manner, Request};
use crate::reactor::table::Key;
use crate::reactor::{Deferred, Feature, Operation, Outcome, Reactor};
use crate::wake::slot::WakerSlot;

use super::payload::{COPIED, Chunk};

/// Bytes that may wait to be sent.
const HIGH: usize = 128 << 10;
/// How long a dropped stream is given to send what was written.
const LINGER: Duration = Duration::from_secs(30);
/// Bytes that have a chance to fit into the socket's buffer at once.
const AT_ONCE: usize = 2 * HIGH;
/// Chunks sent by one request.
const GATHERED: usize = 16;
/// From so many bytes on that are not a copy, sending without copying in the kernel pays: pinning pages and
/// the second completion cost about as much as copying 16 KiB.
const ZERO_COPY: usize = 32 << 10;

/// The sending side of a connected socket.
pub(crate) struct Outbound {
    socket: Rc<Fd>,
    queue: RefCell<Queue>,
    /// Put off to the end of the turn.
    listed: Cell<bool>,
    /// Chunks on their way; 0 if no request is with the kernel.
    flying: Cell<usize>,
    key: Cell<Option<Key>>,
    /// A dropped stream: its write direction ends when all is sent.
    shut_when_sent: Cell<bool>,
    /// The socket had no room for what was to be sent at once.
    full: Cell<bool>,
    error: Cell<Option<Errno>>,
    /// What a zero-copy send has said, whose memory is still used.
    sent_uncopied: Cell<Option<Result<u32, Errno>>>,
    zero_copy: Cell<bool>,
    waker: WakerSlot,
}

#[derive(Default)]
struct Queue {
    chunks: VecDeque<Chunk>,
    /// Bytes of the first chunk that are sent.
    sent: usize,
    /// Bytes of all chunks that are not.
    waiting: usize,
    /// What a gathering request points at.
    gather: Option<Box<Gather>>,
}

struct Gather {
    header: libc::msghdr,
    vectors: [libc::iovec; GATHERED],
}

impl Outbound {
    pub(super) fn new(socket: &Rc<Fd>, zero_copy: bool) -> Rc<Self> {
        Rc::new(Self {
            socket: Rc::clone(socket),
            queue: RefCell::default(),
            listed: Cell::new(false),
            flying: Cell::new(0),
            key: Cell::new(None),
            shut_when_sent: Cell::new(false),
            full: Cell::new(false),
            error: Cell::new(None),
            sent_uncopied: Cell::new(None),
            zero_copy: Cell::new(
                zero_copy && socket.reactor().features().has(Feature::ZeroCopySend),
            ),
            waker: WakerSlot::new(),
        })
    }

    /// Takes bytes over, as many as there is room for; all of `slices` in their order.
    #[inline]
    pub(crate) fn poll_write<'a>(
        self: &Rc<Self>,
        cx: &Context<'_>,
        slices: impl Iterator<Item = &'a [u8]>,
    ) -> Poll<Result<usize, Errno>> {
        if let Some(errno) = self.error.get() {
            return Poll::Ready(Err(errno));
        }
        let mut queue = self.queue.borrow_mut();
        let room = HIGH.saturating_sub(queue.waiting);
        if room == 0 {
            self.waker.register(cx);
            return Poll::Pending;
        }
        let mut taken = 0;
        for slice in slices {
            let len = slice.len().min(room - taken);
            if len != 0 {
                queue.collect(&slice[..len], self.flying.get(), self.socket.reactor());
                taken += len;
            }
            if taken == room {
                break;
            }
        }
        drop(queue);
        if taken != 0 {
            self.list();
        }
        Poll::Ready(Ok(taken))
    }

    /// Takes a payload over, when there is room.
    pub(super) fn poll_send(
        self: &Rc<Self>,
        cx: &Context<'_>,
        payload: &mut Option<Chunk>,
    ) -> Poll<Result<(), Errno>> {
        if let Some(errno) = self.error.get() {
            return Poll::Ready(Err(errno));
        }
        let mut queue = self.queue.borrow_mut();
        if queue.waiting >= HIGH {
            self.waker.register(cx);
            return Poll::Pending;
        }
        let Some(chunk) = payload.take() else {
            return Poll::Ready(Ok(()));
        };
        let len = chunk.bytes().len();
        if len <= COPIED {
            queue.collect(chunk.bytes(), self.flying.get(), self.socket.reactor());
        } else {
            queue.waiting += len;
            queue.chunks.push_back(chunk);
        }
        drop(queue);
        if len != 0 {
            self.list();
        }
        Poll::Ready(Ok(()))
    }

    /// Waits until the kernel has all that was written.
    pub(crate) fn poll_flush(&self, cx: &Context<'_>) -> Poll<Result<(), Errno>> {
        if let Some(errno) = self.error.get() {
            return Poll::Ready(Err(errno));
        }
        if self.queue.borrow().chunks.is_empty() {
            return Poll::Ready(Ok(()));
        }
        self.waker.register(cx);
        Poll::Pending
    }

    /// Flushes, and ends the direction (shutdown(2), `SHUT_WR`).
    pub(crate) fn poll_close(&self, cx: &Context<'_>) -> Poll<Result<(), Errno>> {
        match self.poll_flush(cx) {
            Poll::Ready(Ok(())) => Poll::Ready(self.shut()),
            other => other,
        }
    }

    /// Nobody writes any more. Tells whether there is something left to send.
    pub(super) fn abandon(&self) -> bool {
        self.waker.clear();
        self.shut_when_sent.set(true);
        let done = self.queue.borrow().chunks.is_empty();
        if done {
            let _ = self.shut();
        }
        !done
    }

    /// Gives up what is left to send.
    pub(super) fn give_up(&self) {
        self.fail(Errno::TIMEDOUT);
        if let Some(key) = self.key.get() {
            self.socket.reactor().cancel(key);
        }
    }

    fn shut(&self) -> Result<(), Errno> {
        match rustix::net::shutdown(self.socket.as_fd(), Shutdown::Write) {
            Err(Errno::NOTCONN) => Ok(()),
            result => result,
        }
    }

    #[inline]
    fn list(self: &Rc<Self>) {
        if self.flying.get() == 0 && !self.listed.replace(true) {
            self.socket.reactor().defer(Rc::<Self>::clone(self));
        }
    }

    /// Submits what waits.
    #[inline]
    fn submit(self: &Rc<Self>, reactor: &Reactor) {
        let mut queue = self.queue.borrow_mut();
        let Some(first) = queue.chunks.front() else {
            return;
        };
        let socket = self.socket.as_raw_fd();
        let more = queue.chunks.len() > 1;
        let rest = &first.bytes()[queue.sent..];
        let zero_copy = !more && self.zero_copy.get() && rest.len() >= ZERO_COPY;
        let has_to_wait = self.waker.is_waiting()
            || self.full.get()
            || self.shut_when_sent.get()
            || queue.waiting > AT_ONCE;
        let manner = if zero_copy {
            Manner::ZeroCopy
        } else if has_to_wait {
            Manner::Awaited
        } else {
            Manner::AtOnce
        };
        let (request, chunks) = if more {
            queue.gather(socket, manner)
        } else {
            let request = Request::Send {
                socket,
                data: rest.as_ptr(),
                len: u32::try_from(rest.len()).unwrap_or(u32::MAX),
                manner,
            };
            (request, 1)
        };
        drop(queue);
        self.flying.set(chunks);
        // SAFETY: the request points into the first chunks of the queue, and to what gathers them, which are
        // neither changed nor dropped while they fly (`collect` adds to later ones only; moving a chunk
        // does not move its bytes). This operation keeps the socket open.
        let key = unsafe { reactor.start(Rc::<Self>::clone(self), request) };
        self.key.set(Some(key));
    }

    fn fail(&self, errno: Errno) {
        if self.error.get().is_none() {
            self.error.set(Some(errno));
        }
    }

    /// The kernel has let go of what was flying.
    fn land(self: &Rc<Self>, result: Result<u32, Errno>) {
        self.flying.set(0);
        self.key.set(None);
        let mut queue = self.queue.borrow_mut();
        let before = queue.waiting;
        match result {
            Ok(sent) => queue.advance(sent as usize, self.socket.reactor()),
            // Tried at once, and there was no room.
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(errno) => self.fail(errno),
        }
        if self.error.get().is_some() {
            queue.clear();
        }
        let (empty, waiting) = (queue.chunks.is_empty(), queue.waiting);
        drop(queue);
        self.full
            .set(!empty && (self.full.get() || waiting == before));
        if !empty {
            self.submit(self.socket.reactor());
        } else if self.shut_when_sent.get() {
            let _ = self.shut();
        }
        if waiting < HIGH {
            self.waker.wake();
        }
    }
}

impl Deferred for Outbound {
    fn run(self: Rc<Self>, reactor: &Rc<Reactor>) {
        self.listed.set(false);
        if self.flying.get() == 0 {
            self.submit(reactor);
        }
    }
}

impl Operation for Outbound {
    fn complete(self: Rc<Self>, outcome: Outcome) {
        if let Some(copied) = outcome.notification {
            if copied {
                // This way (loopback, a device that cannot) the kernel copies, and tells twice: not again.
                self.zero_copy.set(false);
            }
            if let Some(result) = self.sent_uncopied.take() {
                self.land(result);
            }
        } else if outcome.more {
            self.sent_uncopied.set(Some(outcome.result));
        } else {
            self.land(outcome.result);
        }
    }

    fn lingers(&self) -> bool {
        true
    }
}

impl Queue {
    /// Copies bytes behind all others.
    #[inline]
    fn collect(&mut self, bytes: &[u8], flying: usize, reactor: &Reactor) {
        self.waiting += bytes.len();
        if self.chunks.len() > flying
            && let Some(Chunk::Collected(last)) = self.chunks.back_mut()
        {
            last.extend_from_slice(bytes);
            return;
        }
        let mut scrap = reactor.scrap();
        scrap.extend_from_slice(bytes);
        self.chunks.push_back(Chunk::Collected(scrap));
    }

    /// So many more bytes are sent.
    #[inline]
    fn advance(&mut self, mut sent: usize, reactor: &Reactor) {
        self.waiting = self.waiting.saturating_sub(sent);
        while let Some(first) = self.chunks.front() {
            let left = first.bytes().len() - self.sent;
            if sent < left {
                self.sent += sent;
                return;
            }
            sent -= left;
            self.sent = 0;
            if let Some(Chunk::Collected(scrap)) = self.chunks.pop_front() {
                reactor.recycle(scrap);
            }
        }
        if self.chunks.capacity() > GATHERED {
            // Idle connections keep nothing of their busy times.
            self.chunks.shrink_to(GATHERED);
        }
    }

    fn clear(&mut self) {
        self.chunks.clear();
        self.sent = 0;
        self.waiting = 0;
    }

    /// A request for the first chunks, and how many they are.
    fn gather(&mut self, socket: i32, manner: Manner) -> (Request, usize) {
        let empty = libc::iovec {
            iov_base: std::ptr::null_mut(),
            iov_len: 0,
        };
        let gather = self.gather.get_or_insert_with(|| {
            Box::new(Gather {
                // SAFETY: all zero is a valid message header.
                header: unsafe { std::mem::MaybeUninit::zeroed().assume_init() },
                vectors: [empty; GATHERED],
            })
        });
        let mut skip = self.sent;
        let (mut count, mut len) = (0, 0);
        for (vector, chunk) in gather.vectors.iter_mut().zip(&self.chunks) {
            let bytes = &chunk.bytes()[std::mem::take(&mut skip)..];
            vector.iov_base = bytes.as_ptr().cast_mut().cast();
            vector.iov_len = bytes.len();
            count += 1;
            len += bytes.len();
        }
        gather.header.msg_iov = gather.vectors.as_mut_ptr();
        gather.header.msg_iovlen = count;
        let request = Request::SendMessage {
            socket,
            header: &raw const gather.header,
            len: u32::try_from(len).unwrap_or(u32::MAX),
            manner,
        };
        (request, count)
    }
}

/// Sends what a dropped stream has left, for [`LINGER`] at most.
pub(super) async fn linger(outbound: Rc<Outbound>) {
    let flushed = std::future::poll_fn(|cx| outbound.poll_flush(cx));
    if crate::timer::timeout(LINGER, flushed).await.is_err() {
        outbound.give_up();
    }
}
