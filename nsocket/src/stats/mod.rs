//! The stats segment: what a process under DMM shows of itself.
//!
//! Each process with sockets publishes one file, `/dev/shm/dmm.PID.RANDOM`, readable by its owner
//! and root. It writes there what it does (counters, histograms, a record for every descriptor with
//! the rule, the stack and the reasons), and the tools read it without stopping or asking anybody.
//!
//! - [`Segment`] is the writer. It lives in a preloaded library, inside programs that know nothing
//!   of it: no allocation, no lock, no wait, safe in signal handlers, a few nanoseconds a count. It
//!   never touches memory that the kernel has not promised, so a full `/dev/shm` costs statistics,
//!   not the program.
//! - [`Snapshot`] is the reader. It believes nothing: any bytes give a snapshot or an error.
//!
//! Which processes there are, whether they live, and what the kernel says of their sockets is the
//! business of the tools (crate `dmm`, module `control`).

mod address;
mod counter;
mod dump;
mod facts;
mod histogram;
mod layout;
mod names;
mod pages;
mod path;
mod process;
mod record;
mod segment;
mod seqlock;
mod snapshot;
mod tables;
mod text;

pub use counter::{Counter, Counts, SeriesCounter, SeriesCounts};
pub use facts::{Opened, OptionRefusal, PassedOver, Selected, SocketRole, SocketState};
pub use histogram::{
    BUCKETS, HistogramKind, MAX_VALUE, SIGNIFICANT_FIGURES, bucket_of, highest_of, lowest_of,
};
pub use pages::stop_system_calls;
pub use path::{DEFAULT_DIR, pid_of_file_name};
pub(crate) use process::file_size_allowed;
pub use process::start_ticks_in;
pub use record::{Counters, Socket};
pub use segment::{CreateInfo, Segment};
pub use snapshot::{
    HistogramInfo, Name, PassedInfo, PolicyInfo, RefusedInfo, RuleInfo, SeriesInfo, Snapshot,
    SnapshotError, SocketInfo,
};
pub use tables::{ClassName, RuleName, SeriesId, StackName};
