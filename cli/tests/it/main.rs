//! The `dmm` program from outside: what it prints, what it exits with, and what it starts.
//!
//! What a test needs of the machine and does not find makes it pass with a line that starts with
//! `SKIPPED`, or fail if `DMM_TEST_NO_SKIP` is set, as it is in CI.

#![allow(
    unreachable_pub,
    reason = "nobody sees into a program: `pub` marks what a module offers to the others"
)]

mod demo;
mod doctor;
mod fixture;
mod kinds;
mod policy;
mod run;
mod supervise;
mod usage;
