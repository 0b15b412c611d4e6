//! Descriptors that stay open as long as somebody uses them.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::rc::Rc;

use super::Reactor;

/// A descriptor of a shard's. Operations in flight share it, so that its number cannot become
/// somebody else's under them.
pub(crate) struct Fd {
    reactor: Rc<Reactor>,
    fd: OwnedFd,
}

impl Fd {
    pub(crate) fn new(reactor: &Rc<Reactor>, fd: OwnedFd) -> Rc<Self> {
        Rc::new(Self {
            reactor: Rc::clone(reactor),
            fd,
        })
    }

    pub(crate) fn reactor(&self) -> &Rc<Reactor> {
        &self.reactor
    }
}

impl AsFd for Fd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for Fd {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

impl Drop for Fd {
    fn drop(&mut self) {
        self.reactor.forget(self.fd.as_raw_fd());
    }
}
