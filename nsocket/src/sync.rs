//! The atomics of everything that lives in shared memory: one facade, so that the same code runs in
//! production and under the model checker.
//!
//! With `RUSTFLAGS="--cfg loom"` these are loom's types: larger than the words that they stand for
//! and tracked, so they can be in an `Arc` but not in shared memory. What is placed in a segment is
//! therefore a struct of atomics whose layout is asserted only where `loom` is not set.
//!
//! ```sh
//! RUSTFLAGS="--cfg loom" cargo test -p dmm-nsocket --release --lib session
//! ```

#[cfg(not(loom))]
pub use core::{
    hint::spin_loop,
    sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering, fence},
};

#[cfg(loom)]
pub use loom::{
    hint::spin_loop,
    sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering, fence},
};
