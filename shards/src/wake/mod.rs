//! How tasks and shards are woken.
//!
//! | module | what it holds |
//! |---|---|
//! | [`slot`] | a place for the waker of the one who waits, on the same shard |
//! | [`inbox`] | where other threads put tasks that they have woken |
//! | [`door`] | the inbox and the sleep protocol together |
//!
//! The sleep protocol is that of `dmm_nsocket::session::waiter`: who publishes looks afterwards whether
//! the other sleeps; who lies down says so first and looks once more. [`door`] and `mesh::gate` are its
//! users here, and both are model-checked.

pub(crate) mod door;
pub(crate) mod inbox;
#[cfg(not(loom))]
pub(crate) mod slot;

#[cfg(all(test, loom))]
mod models;
