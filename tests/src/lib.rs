//! The harness of the black-box tests: real, unmodified programs, with and without DMM.
//!
//! A scenario is written once, against a [`Setting`], and [`side_by_side`] runs it twice: plain, and
//! with DMM preloaded. The scenario asserts on the content it sees and returns what must not differ
//! between the two; after the second run the harness checks, by what DMM itself has published, that
//! the programs really were under it.
//!
//! - [`artifacts`]: the built `dmm` and `libdmm_posix.so`
//! - [`scratch`]: a directory of its own for each run
//! - [`program`]: starting, feeding, waiting for and ending programs
//! - [`net`]: ports that nobody else takes, listeners, a small HTTP client
//! - [`observe`]: what DMM itself says about sockets
//! - [`need`]: what a test needs, and skipping with a reason where it is not there
//! - [`netns`]: network namespaces
//!
//! Everything here panics when it cannot do its job, with what it saw: a test has no better use for
//! an error than to fail with it.

#![allow(clippy::print_stdout, reason = "what a test says is printed")]

pub mod artifacts;
pub mod need;
pub mod net;
pub mod netns;
pub mod observe;
pub mod program;
pub mod scratch;
pub mod setting;
pub mod wait;

pub use need::Need;
pub use program::{Finished, Program, Running};
pub use setting::{Entry, Setting, side_by_side, side_by_side_and_local, side_by_side_where};
pub use wait::{eventually, eventually_within};
