//! The end of an endpoint.

use super::{Endpoint, FINISHED, GONE, Lease, RESET};
use crate::session::segment::{ResetReason, State};
use crate::session::waiter::fence;
use crate::sync::Ordering;

impl Endpoint {
    /// The descriptor is being closed: says to the peer what TCP would, a reset if bytes are unread or
    /// if `abort` says so (a linger time of zero), else that no more will come; then lets go of the
    /// memory. The caller closes the socket right afterwards, which wakes a peer that sleeps; and
    /// nobody else uses the endpoint any more.
    ///
    /// Of an endpoint that other processes still have nothing is said, nor of one that is none of this
    /// process's ([`is_foreign`](Self::is_foreign)).
    pub fn close(self, abort: bool) {
        if self.is_foreign() || self.is_shared() && !self.leave() {
            return;
        }
        let peer_is_there = !self.has(GONE) && !self.peer_has_closed();
        if !self.has(RESET) {
            let status = self.header().status(self.side);
            // Only a peer that scribbles makes the word stale.
            let _ = if abort || self.unread() > 0 {
                self.flags.fetch_or(RESET, Ordering::AcqRel);
                status.reset(self.generation, ResetReason::Aborted)
            } else {
                status.finish(self.generation)
            };
            self.flags.fetch_or(FINISHED, Ordering::AcqRel);
        }
        fence::full();
        if peer_is_there {
            self.tell_quietly();
        }
        if self.has(GONE) && !self.peer_has_closed() {
            // It has died, and will not say that it has closed.
            return;
        }
        let Self { lease, .. } = self;
        match lease {
            Lease::Connecting(prepared) => prepared.retire(),
            Lease::Accepting(adopted) => adopted.retire(),
        }
    }

    fn peer_has_closed(&self) -> bool {
        let state = self
            .header()
            .status(self.side.other())
            .load(self.generation);
        state.is_ok_and(State::is_closed)
    }
}
