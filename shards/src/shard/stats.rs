//! What a shard has done so far.

use super::current;

/// Counters of one shard, since its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShardStats {
    /// How often tasks were polled.
    pub polls: u64,
    /// Tasks that have ended by a panic.
    pub panics: u64,
    /// Tasks that wait for something.
    pub waiting_tasks: usize,
    /// Operations that the kernel has been given and has not ended.
    pub operations: usize,
    /// How often the shard has slept in the kernel.
    pub sleeps: u64,
}

/// The current shard's counters.
///
/// # Panics
///
/// Outside of a shard.
pub fn stats() -> ShardStats {
    let local = current();
    ShardStats {
        polls: local.executor.polls(),
        panics: local.executor.panics(),
        waiting_tasks: local.executor.waiting(),
        operations: local.reactor.in_flight(),
        sleeps: local.sleeps.get(),
    }
}
