//! Real, unmodified programs behave under DMM as they do without it.
//!
//! One module a program. A scenario runs plain and then under DMM, with every socket sent to a second
//! kernel instance by a rule; see `dmm_tests::side_by_side`.

mod cpython;
mod curl;
mod daemons;
mod haproxy;
mod interposed;
mod iperf3;
mod java;
mod local;
mod memcached;
mod nginx;
mod node;
mod openssl;
mod passed_through;
mod postgres;
mod python;
mod redis;
mod shell;
mod socat;
mod support;
