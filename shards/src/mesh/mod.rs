//! The mesh: a ring from every shard to every other, and what is built on it.
//!
//! | module | what it holds |
//! |---|---|
//! | [`message`] | what goes over a ring: a closure in a cache line |
//! | [`link`] | the two rings between two shards |
//! | [`gate`] | waiting for room |
//! | [`call`] | running something on another shard, and its answer |
//! | [`sharded`] | one value a shard |
//!
//! A message is seen by the other shard as soon as it is written, if that shard is awake. Whether it has to
//! be woken is looked at once a turn for all messages of the turn, and then costs an entry in the
//! submission (`MSG_RING`) or, without io_uring, an eventfd.
//!
//! Nothing here ever waits in a waker or for a lock. A sender of a message waits for room as a task; an
//! answer that finds no room stays in a queue of its shard's, which cannot grow beyond the number of calls
//! that are under way.

#[cfg(not(loom))]
mod call;
pub(crate) mod gate;
#[cfg(not(loom))]
mod imp;
#[cfg(not(loom))]
mod link;
#[cfg(not(loom))]
mod message;
#[cfg(all(test, loom))]
mod models;
#[cfg(not(loom))]
mod sharded;

#[cfg(not(loom))]
pub use call::{CallError, TrySendError, call, run_on, send, try_send};
#[cfg(not(loom))]
pub(crate) use imp::*;
#[cfg(not(loom))]
pub use sharded::Sharded;
