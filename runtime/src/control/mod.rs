//! What the processes under DMM do: read from their segments and from the kernel, without stopping or
//! asking anybody.
//!
//! - [`processes`]: who is under DMM, and what each one's segment says;
//! - [`sockets`]: their sockets, joined with what the kernel knows of them;
//! - [`Session`]: those that shared memory carries, and who is at their other ends;
//! - [`why`]: how one socket came to its stack;
//! - [`histogram`]: latencies merged over series and processes, as text, CSV, HdrHistogram log or
//!   picture;
//! - [`collect`]: the histograms of all processes of one `dmm run`;
//! - [`sweep`]: removing what dead processes have left.
//!
//! A user sees the own processes, root sees all. What a segment claims is checked against /proc: its
//! number, its start time, its owner, and that the process really maps it.

pub mod collect;
pub mod histogram;
mod kernel;
mod proc;
mod processes;
mod session;
mod socket_json;
mod sockets;
mod sweep;
mod why;

pub use kernel::{KernelSocket, Owner, TcpInfo, TcpState, listens_at};
pub use processes::{Listing, PolicyStatus, Process, process, processes};
pub use session::{Peer, Session};
pub use sockets::{SocketEntry, sockets};
pub use sweep::{Swept, sweep};
pub use why::{Why, why};

#[cfg(test)]
mod tests;
