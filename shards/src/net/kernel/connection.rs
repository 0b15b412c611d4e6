//! Both directions of a connected stream socket, each with its owner.

use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::task::{Context, Poll};

use rustix::io::Errno;

use crate::reactor::fd::Fd;
use crate::reactor::{Lent, Reactor};
use crate::shard::with_current;

use super::inbound::Inbound;
use super::outbound::{Outbound, linger};
use super::payload::Chunk;

/// Who reads. Dropping it ends receiving.
pub(crate) struct Receiver {
    socket: Rc<Fd>,
    inbound: Rc<Inbound>,
}

/// Who writes. Dropping it ends the direction when all is sent.
pub(crate) struct Sender {
    outbound: Rc<Outbound>,
}

/// The two sides of a connected socket.
pub(crate) fn connection(
    reactor: &Rc<Reactor>,
    socket: OwnedFd,
    zero_copy: bool,
) -> (Receiver, Sender) {
    over(&Fd::new(reactor, socket), zero_copy)
}

/// As [`connection`], of a descriptor that is in use already.
pub(crate) fn over(socket: &Rc<Fd>, zero_copy: bool) -> (Receiver, Sender) {
    let receiver = Receiver {
        socket: Rc::clone(socket),
        inbound: Inbound::new(socket),
    };
    let sender = Sender {
        outbound: Outbound::new(socket, zero_copy),
    };
    (receiver, sender)
}

impl Receiver {
    #[inline]
    pub(crate) fn poll_piece(&self, cx: &Context<'_>) -> Poll<Result<Option<Lent>, Errno>> {
        self.inbound.poll_piece(cx)
    }

    pub(crate) fn socket(&self) -> &Rc<Fd> {
        &self.socket
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.inbound.abandon();
    }
}

impl Sender {
    #[inline]
    pub(crate) fn poll_write<'a>(
        &self,
        cx: &Context<'_>,
        slices: impl Iterator<Item = &'a [u8]>,
    ) -> Poll<Result<usize, Errno>> {
        self.outbound.poll_write(cx, slices)
    }

    pub(crate) fn poll_send(
        &self,
        cx: &Context<'_>,
        payload: &mut Option<Chunk>,
    ) -> Poll<Result<(), Errno>> {
        self.outbound.poll_send(cx, payload)
    }

    pub(crate) fn poll_flush(&self, cx: &Context<'_>) -> Poll<Result<(), Errno>> {
        self.outbound.poll_flush(cx)
    }

    pub(crate) fn poll_close(&self, cx: &Context<'_>) -> Poll<Result<(), Errno>> {
        self.outbound.poll_close(cx)
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        if !self.outbound.abandon() {
            return;
        }
        with_current(|local| {
            // Off its shard, or at the shard's end, the reactor has its own limit.
            if local.is_some() {
                drop(crate::executor::spawn(linger(Rc::clone(&self.outbound))));
            }
        });
    }
}
