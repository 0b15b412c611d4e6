//! A core's reactor and what runs on it.

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
mod timer;

#[cfg(not(loom))]
pub use exports::*;

#[cfg(not(loom))]
mod exports {
    pub use crate::blocking::{Offloaded, offload};
    pub use crate::builder::{Builder, DriverChoice, Shards, StartError};
    pub use crate::drain::{Drain, DrainGuard};
    pub use crate::executor::{
        JoinHandle, Latency, QueueError, TaskQueue, TaskQueueStats, need_preempt, spawn,
        spawn_into, yield_if_needed, yield_now,
    };
    pub use crate::futex::futex_wait;
    pub use crate::mesh::{Gone, Sharded, TrySendError, call, run_on, send, try_send};
    pub use crate::reactor::{DriverKind, Feature, Features, Lent};
    pub use crate::shard::{Idle, ShardStats, count, features, index, stats};
    pub use crate::stall::Stall;
    pub use crate::timer::{
        Elapsed, Interval, Sleep, Timeout, interval, sleep, sleep_until, timeout,
    };
}
