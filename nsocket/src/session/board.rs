//! Where a process is told what has happened: its *board*, and the boards of its peers.
//!
//! A board has places for a few dozen waiters (an epoll instance, a shard). Each has a
//! [sleep word](super::waiter::SleepWord), which peers can only read, and a
//! [ready set](super::ready::ReadyWords), which they write. So a board is two memfds, and both are
//! handed over with an offer or an answer. A peer maps them once, however many sessions the two
//! processes have: it knows a board by the number that its owner has drawn for it.
//!
//! | type | what it is |
//! |---|---|
//! | [`Board`] | this process's own |
//! | [`PeerBoard`] | a peer's, mapped |
//! | [`PeerBoards`] | those that this process knows |
//!
//! Peers of one user share the owner's board, as they could stop or trace each other anyway. A peer of
//! another user is given none; it rings for each event by the session's own socket then.
//!
//! **Trust.** A board is believed by nobody but its owner to be its owner's: it is kept together with
//! the process that has sent it (`SO_PEERCRED`), and only sessions with that process use it. Seals and
//! sizes are checked before anything is mapped; places and indexes that a peer tells are checked
//! against the board's size when they are used.

#![cfg(not(loom))]

mod memory;
mod own;
mod peer;

pub use own::{Board, Waiter};
pub use peer::{InUse, PeerBoard, PeerBoards};

/// Waiters that a board has places for.
pub const WAITERS: usize = 32;
