//! The crate's one error.

use std::io;
use std::path::{Path, PathBuf};

use dmm_nsocket::stats::SnapshotError;
use dmm_policy::{Diagnostic, Severity};

/// What can go wrong in looking at processes and in keeping the policy.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or directory gave no answer, or could not be changed.
    #[error("cannot {doing} {}: {source}", path.display())]
    File {
        /// Completes "cannot ...".
        doing: &'static str,
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },

    /// A stats segment, or a copy of one, cannot be read.
    #[error("{}: {source}", path.display())]
    Segment {
        /// Its file.
        path: PathBuf,
        /// Why.
        source: SnapshotError,
    },

    /// There is no such process, or it is not under DMM.
    #[error("no process {0} under DMM")]
    NoProcess(u32),

    /// The process exists, but belongs to somebody else.
    #[error(
        "the statistics of process {0} belong to another user; only they and root may read them"
    )]
    NotYours(u32),

    /// The process has no such socket, or DMM does not manage it.
    #[error("descriptor {fd} of process {pid} is not a socket under DMM")]
    NoSocket {
        /// The process.
        pid: u32,
        /// The descriptor.
        fd: u32,
    },

    /// The policy has errors; the old one stays in force.
    #[error("{file}: {}; nothing was changed", errors(diagnostics))]
    PolicyRefused {
        /// The policy's name, as its diagnostics have it.
        file: String,
        /// Its text.
        text: String,
        /// All that is wrong with it, and the warnings.
        diagnostics: Vec<Diagnostic>,
    },

    /// A policy is too large to be read or posted.
    #[error("{} is larger than {limit} bytes", path.display())]
    TooLarge {
        /// Its file.
        path: PathBuf,
        /// What is allowed.
        limit: u64,
    },

    /// The history has no such version.
    #[error("there is no version {version} in the history of {}", live.display())]
    NoVersion {
        /// The version asked for.
        version: u32,
        /// The policy's live file.
        live: PathBuf,
    },

    /// There is nothing to go back to.
    #[error("{} has no earlier version to go back to", .0.display())]
    NoEarlierVersion(PathBuf),

    /// The history's index does not make sense.
    #[error("{}:{line}: {message}; move the file away to start a new history", path.display())]
    History {
        /// The index.
        path: PathBuf,
        /// Line in it, from 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
}

impl Error {
    /// Says what was being done to which file.
    pub(crate) fn file(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File {
            doing,
            path,
            source,
        }
    }
}

/// The first error in one line, and how many more there are.
fn errors(diagnostics: &[Diagnostic]) -> String {
    let mut errors = diagnostics
        .iter()
        .filter(|found| found.severity == Severity::Error);
    let Some(first) = errors.next() else {
        return "has errors".to_owned();
    };
    let place = format!("{}:{}: {}", first.line, first.column, first.message);
    match errors.count() {
        0 => place,
        more => format!("{place} (and {more} more)"),
    }
}
