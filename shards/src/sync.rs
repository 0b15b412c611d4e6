//! Atomics and shared ownership: the processor's, or the model checker's (`--cfg loom`).
//!
//! ```sh
//! RUSTFLAGS="--cfg loom" cargo test -p dmm-shards --release --lib models
//! ```

#[cfg(not(loom))]
pub(crate) use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicPtr, Ordering},
};

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
