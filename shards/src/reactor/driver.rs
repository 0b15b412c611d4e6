//! What carries operations: io_uring, epoll, or a test's idea of a kernel.

use std::io;
use std::time::Duration;

use super::bell::Bell;
use super::features::Features;
use super::request::{Event, Request};
use super::table::Key;

/// Carries requests and tells what came of them. Every key that was submitted gets a last event,
/// cancelled or not.
pub(crate) trait Driver {
    /// Takes a request over. It may be started at once or at the next [`turn`](Self::turn).
    ///
    /// # Safety
    ///
    /// What `request` points at stays valid until the last event for `key`; and it is not touched by
    /// others meanwhile, as the request's kind demands.
    unsafe fn submit(&mut self, key: Key, request: Request);

    /// Asks for the end of a request. Its last event comes all the same, with whatever result.
    fn cancel(&mut self, key: Key);

    /// Starts what was submitted and collects events. Waits as `wait` allows if there are none, and
    /// returns early when the [bell](Self::bell) is rung.
    ///
    /// # Errors
    ///
    /// Those that make the driver useless. Interruptions are none.
    fn turn(&mut self, wait: Wait, events: &mut Vec<Event>) -> io::Result<()>;

    /// Whether a turn would find something to do, without asking the kernel.
    fn has_work(&mut self) -> bool;

    /// Wakes a shard with its next turn, or now; never waits for it.
    fn ring(&mut self, bell: &Bell);

    /// A new handle of what wakes this driver out of [`turn`](Self::turn).
    ///
    /// # Errors
    ///
    /// Those of fcntl(2), `F_DUPFD_CLOEXEC`.
    fn bell(&self) -> io::Result<Bell>;

    /// A descriptor is about to be closed. Nothing is in flight for it.
    fn forget(&mut self, fd: std::os::fd::RawFd);

    /// What engaged, and what did not and why.
    fn features(&self) -> &Features;
}

/// How long a turn may wait for the first event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Not at all.
    Not,
    /// At most so long.
    AtMost(Duration),
    /// Until something happens.
    Forever,
}
