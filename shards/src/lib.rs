//! A thread-per-core runtime: one pinned thread a core, and on it one reactor, one executor, one timer wheel,
//! and a ring to every other core.
//!
//! | module | what it holds |
//! |---|---|
//! | `reactor` | operations that own their memory, carried by io_uring or, where that is forbidden, epoll |
//! | `executor` | tasks that stay on their shard, task queues with shares and latency |
//! | `timer` | a hierarchical wheel: [`sleep`], [`timeout`], [`interval`] |
//! | `mesh` | shards that talk to each other: [`call`], [`send`], [`Sharded`] |
//! | `wake` | how tasks and shards are woken: the sleep protocol |
//! | [`net`] | TCP, UDP and Unix sockets |
//! | [`fs`], [`signal`], `blocking`, `futex` | files, signals, threads for what blocks, words of memory |
//! | `shard` | what lives on one thread, and the loop that turns it |
//! | `builder`, `threads`, `drain`, `stall` | starting shards, ending gracefully, finding who blocks |
//!
//! Nothing of a shard is shared: its tasks, sockets and timers stay on their thread, and need no locks. What
//! another shard has is asked of it, over the mesh. A shard waits in one place for all that it waits for,
//! and an idle one uses no CPU.
//!
//! ```no_run
//! use dmm_shards::net::ListenOptions;
//! use dmm_shards::{Shards, spawn};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let addr = "127.0.0.1:7000".parse()?;
//! // One shard for each core, each with a listener of its own at the same port.
//! Shards::<()>::builder().run(move |_shard| async move {
//!     let listener = ListenOptions::default().reuse_port(true).listen(addr)?;
//!     loop {
//!         let mut stream = listener.accept().await?;
//!         drop(spawn(async move {
//!             // Received bytes are lent by the kernel's buffers, and sent from there.
//!             while let Some(piece) = stream.read_piece().await? {
//!                 stream.send(piece).await?;
//!             }
//!             std::io::Result::Ok(())
//!         }));
//!     }
//!     # #[allow(unreachable_code)]
//!     std::io::Result::Ok(())
//! })?;
//! # Ok(())
//! # }
//! ```
//!
//! # Features
//!
//! `futures-io` (default) and `tokio` give the streams the traits of these crates.
//!
//! # What it costs
//!
//! `cargo bench -p dmm-shards` measures spawning, the mesh, timers, and an echo beside a bare io_uring loop.

mod mesh;
mod sync;
mod wake;

#[cfg(not(loom))]
mod blocking;
#[cfg(not(loom))]
mod builder;
#[cfg(not(loom))]
mod drain;
#[cfg(not(loom))]
mod executor;
#[cfg(not(loom))]
pub mod fs;
#[cfg(not(loom))]
mod futex;
#[cfg(not(loom))]
pub mod net;
#[cfg(not(loom))]
mod reactor;
#[cfg(not(loom))]
mod shard;
#[cfg(not(loom))]
pub mod signal;
#[cfg(not(loom))]
mod stall;
#[cfg(not(loom))]
mod threads;
#[cfg(not(loom))]
mod timer;

#[cfg(not(loom))]
pub use exports::*;

#[cfg(not(loom))]
mod exports {
    pub use crate::blocking::{Offloaded, offload};
    pub use crate::builder::{Builder, DriverChoice, StartError};
    pub use crate::drain::{Drain, DrainGuard};
    pub use crate::executor::{
        JoinHandle, Latency, QueueError, TaskQueue, TaskQueueStats, need_preempt, spawn,
        spawn_into, yield_if_needed, yield_now,
    };
    pub use crate::futex::futex_wait;
    pub use crate::mesh::{CallError, Sharded, TrySendError, call, run_on, send, try_send};
    pub use crate::reactor::{DriverKind, Feature, Features, Lent};
    pub use crate::shard::{Idle, ShardStats, count, features, index, stats};
    pub use crate::stall::Stall;
    pub use crate::threads::Shards;
    pub use crate::timer::{
        Elapsed, Interval, Sleep, Timeout, interval, sleep, sleep_until, timeout,
    };
}
