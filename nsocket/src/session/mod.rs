//! Sessions: the data channel of one connected socket on a stack that is not the kernel's.
//!
//! | module | what it holds |
//! |---|---|
//! | [`segment`] | the sealed memory of a session, checked before it is mapped |
//! | [`ring`] | one direction of it: a byte ring that grows with use |
//! | [`lock`] | who may touch an end of a ring, among the threads and processes that share it |
//! | [`ready`] | which of many sessions have something to tell |
//! | [`waiter`] | how one waits for them, and is woken |
//! | [`rendezvous`] | how two programs meet |
//! | [`pool`] | segments that are used again |
//! | [`board`] | where a process is told what has happened |
//! | [`endpoint`] | one end of a session: all of the above together |
//!
//! Nothing here allocates, waits for a lock that it could hold itself, or calls a function of libc that
//! may be interposed. Nothing that is read from shared memory is trusted: a bad value ends the session
//! with an error, and can cause neither a panic nor an access outside the session's memory.

pub mod board;
pub mod endpoint;
pub mod lock;
pub mod pool;
pub mod ready;
pub mod rendezvous;
pub mod ring;
pub mod segment;
pub mod waiter;

#[cfg(all(test, not(loom)))]
mod test_process;
