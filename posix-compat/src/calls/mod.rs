//! The functions that the program calls instead of libc's, by subject.
//!
//! Each looks its descriptor up in the table: one that is not managed goes straight to the original
//! function. [`crate::surface`] lists all of them, with what they do for either.

mod data;
mod descriptors;
mod exec;
mod fork;
mod identity;
mod names;
mod readiness;
mod resolver;
mod sockets;
mod stdio;
mod system_call;
