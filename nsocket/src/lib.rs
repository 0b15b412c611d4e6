//! The session layer (nSocket): one socket as the program sees it, and its mapping to a stack.
//!
//! | module | what it holds |
//! |---|---|
//! | [`table`] | what is known of each descriptor: one word, read on every call |
//! | [`fresh`], [`options`] | what a socket has been through before it is bound to a stack |
//! | [`stack`] | the traits that every stack implements, and the walk down a preference list |
//! | [`reason`] | why a stack was passed over, as a number, a sentence and a remedy |
//! | [`stats`] | the segment that a process publishes: counters, histograms, socket records |
//! | [`mailbox`] | the newest compiled policy, in shared memory |
//! | [`session`] | the data channel of a socket on another stack than the kernel's: rings, readiness, rendezvous |
//! | [`sync`] | atomics, the processor's or the model checker's |
//! | [`hidden`] | descriptors that the program does not know of |
//! | [`sys`] | system calls that must not go through interposed symbols |
//!
//! Everything here may run inside an unmodified program, in a signal handler or between `fork` and
//! `exec`: no module allocates from the program's heap, takes a lock that it could wait for, or
//! calls a libc function that a preload may have taken over, unless its documentation says so (the
//! readers of segments, which the tools use, do).

pub mod fresh;
pub mod hidden;
pub mod mailbox;
pub mod options;
pub mod reason;
pub mod session;
#[cfg(not(loom))]
pub mod stack;
pub mod stats;
pub mod sync;
pub mod sys;
pub mod table;

pub use reason::Reason;
#[cfg(not(loom))]
pub use stack::placement;
