//! How a program waits for sessions, and how it is woken: sleep protocol, doorbells, spin.
//!
//! | module | what it holds |
//! |---|---|
//! | [`sleep`] | the word that tells who sleeps, and the two sides of the protocol |
//! | [`page`] | the memory that these words live in: writable here, read-only for peers |
//! | [`doorbell`] | the descriptor that wakes a sleeper, and the other end of it |
//! | [`spin`] | how long to look before lying down |
//! | [`cores`] | whether the cores are short |
//! | [`fence`] | the barriers |
//!
//! A waiter sleeps in the kernel like any program, in `epoll_wait` or `ppoll`, with its doorbell
//! among the descriptors. This module makes none of these calls: it says when to make them.
//!
//! ```text
//! waiter                                         writer
//!                                                publish data        (ring)
//! loop {                                         fence::full()
//!     take ready bits; return if there are any   set the session's bit
//!     spin.wait(ready) → Ready: continue         ringer.ring_if_asleep(word, || bell.ring())
//!     word.prepare(ready) → None: continue
//!     sleep in the kernel: doorbell, sockets, timeout
//!     drop(asleep); spin.slept(began)
//!     drain the doorbell if it has rung
//! }
//! work is left and others sleep: ringer.ring_if_asleep(own word, || doorbell.ring())
//! ```
//!
//! A call that waits for one session does the same without bits: its `ready` looks at the ring's
//! index, and the writer looks at the session's word right after [`fence::full`].
//!
//! What one peer may write does not hurt another. The word is on a page that peers cannot map
//! writable; what a writer has rung for is in its own memory; a doorbell is shared by peers of one
//! user only, as its descriptor's flags and content are everybody's who holds it.

#[cfg(not(loom))]
pub mod cores;
#[cfg(not(loom))]
pub mod doorbell;
pub mod fence;
#[cfg(not(loom))]
pub mod page;
pub mod sleep;
#[cfg(not(loom))]
pub mod spin;

#[cfg(not(loom))]
pub use doorbell::{Bell, Doorbell};
#[cfg(not(loom))]
pub use page::{PageError, PeerPage, PeerSlot, WaiterPage};
pub use sleep::{Asleep, Ringer, SleepWord};
#[cfg(not(loom))]
pub use spin::{Outcome, Spin};
