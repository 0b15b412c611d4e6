//! Benchmarks, side by side with the kernel and with peers.
//!
//! | run | what it compares |
//! |---|---|
//! | `cargo bench -p dmm-benches --bench policy` | looking up a rule, by the size of the policy |
//! | `cargo bench -p dmm-benches --bench stats` | what statistics cost a program |
//! | `cargo run --release -p dmm-benches --bin apps` | unmodified programs on the kernel's stack, plain and under DMM |
//! | `cargo run --release -p dmm-benches --bin local` | unmodified programs over shared memory, over loopback TCP and over Unix sockets |
//!
//! The programs that compare others share what is here: where a program is pinned ([`place`]), how its
//! figures are found in what it prints ([`clients`]), and how a machine is waited for ([`idle`]).
//!
//! Everything that runs or reads a program panics when that program fails, with what it printed: a
//! figure of a run that went wrong is worse than none.

pub mod clients;
pub mod figures;
pub mod idle;
pub mod place;
