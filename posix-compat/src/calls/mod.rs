//! The functions that the program calls instead of libc's, by subject.
//!
//! Each looks its descriptor up in the table: one that is not managed goes straight to the original
//! function. `docs/posix.md` lists all of them, with what they do for either.

#![expect(
    clippy::undocumented_unsafe_blocks,
    reason = "in front of libc a block is the original call with the program's own arguments, for \
              which the program answers as it does without us; all others say why they are sound"
)]

pub(crate) mod data;
pub(crate) mod descriptors;
mod exec;
mod fork;
mod identity;
mod memory;
mod names;
pub(crate) mod readiness;
mod resolver;
mod sockets;
mod stdio;
mod system_call;
mod zero_copy;
