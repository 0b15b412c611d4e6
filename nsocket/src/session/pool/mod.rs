//! Segments that are used again, so that opening and closing a session makes no memory and maps none.
//!
//! Either side keeps what it has mapped when a session ends:
//!
//! - the connecting side by the listener that it was connected to ([`ConnectPool`]). The key is the
//!   cookie of the TCP listener, which the kernel gives to one socket only: whoever has the segment
//!   mapped could accept from that listener, so nobody sees what he could not have been sent.
//! - the accepting side by the memfd's inode and the peer's credentials ([`AcceptPool`]). The
//!   descriptor comes along with every offer, so it does not matter which of several processes
//!   accepts; one that knows the inode has the memory mapped already. A peer can name only what it has
//!   a descriptor of, and is taken at its word only about what it had offered itself.
//!
//! Every use has a [`Generation`](super::segment::Generation). The connecting side prepares the next one when both ends have said
//! [`closed`](super::segment::Status::close) of the last, so that nothing of an honest peer comes
//! late; what does nevertheless carries the old generation. A dishonest peer keeps the memory mapped
//! and scribbles whenever it likes, as it can in the middle of a session: into a segment that is never
//! offered to anybody but the listener it belongs to.
//!
//! A segment that more than one process shares an end of
//! ([`mark_shared`](super::segment::Header::mark_shared)) is not kept, as nobody can tell when the
//! last one has let go. A child of `fork` starts with empty pools.

#![cfg(not(loom))]

mod accept;
mod connect;
mod shelf;

pub use accept::{AcceptPool, Adopted};
pub use connect::{ConnectPool, Prepared};

#[cfg(test)]
mod tests;
