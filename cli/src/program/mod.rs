//! From a name on the command line to a program that runs under the preload, or to a clear word on
//! why the preload cannot enter it.
//!
//! - [`resolve()`] finds the file, [`elf`] and [`script`] read it, [`privilege`] looks at its rights;
//! - [`inspect`] puts that together: does the loader take our library into this program?
//! - [`library`] finds `libdmm_posix.so` and a path to it that `LD_PRELOAD` can hold;
//! - [`launch`] builds the environment and the command;
//! - [`supervise`] stays the parent, where something is to be done after the program's end;
//! - [`inherited`] undoes what Rust's runtime changed at start, so that the program finds signals and
//!   descriptors as the caller of `dmm` left them.
//!
//! What happens inside the program is the preload's business.

pub mod elf;
pub mod inherited;
pub mod inspect;
pub mod launch;
pub mod library;
pub mod privilege;
pub mod resolve;
pub mod script;
pub mod supervise;

pub use inspect::Program;
pub use launch::{Launch, RunId};
pub use library::Library;
pub use resolve::resolve;

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;

use crate::plain;

/// Exit code when `dmm run` itself fails, as of env(1), nohup(1) and timeout(1).
pub const FAILED: u8 = 125;
/// Exit code when the program cannot be executed.
const NOT_EXECUTABLE: u8 = 126;
/// Exit code when there is no such program.
const NOT_FOUND: u8 = 127;

/// Why a program was not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// No such file.
    #[error("no program {}{}", program.to_string_lossy(), if *in_path { " in PATH" } else { "" })]
    NotFound {
        /// As the user typed it.
        program: OsString,
        /// Whether it was looked up in `PATH`.
        in_path: bool,
    },

    /// The file is there and cannot be run.
    #[error("cannot execute {}: {}", path.display(), why_not(source))]
    NotExecutable {
        /// The file.
        path: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },

    /// The file is there, but not what it needs to be started with.
    #[error("cannot execute {}: its {} {} does not exist", path.display(), what, missing.display())]
    NothingToRunItWith {
        /// The file.
        path: PathBuf,
        /// Loader or interpreter.
        what: &'static str,
        /// The one that is missing.
        missing: PathBuf,
    },

    /// The file is for a machine that this is not.
    #[error("cannot execute {}: it is {program}, this machine is {own}", path.display())]
    OtherMachine {
        /// The file.
        path: PathBuf,
        /// What it is for.
        program: elf::Target,
        /// What this is.
        own: elf::Target,
    },

    /// The preload library was not found.
    #[error("libdmm_posix.so was not found; looked at {}", list(tried))]
    NoLibrary {
        /// All places that were looked at.
        tried: Vec<PathBuf>,
    },

    /// What was given as the preload library is not one.
    #[error("{} cannot be preloaded: {why}", path.display())]
    BadLibrary {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },

    /// The policy has errors; its diagnostics are on the standard error already.
    #[error("{0}")]
    Policy(String),

    /// Something else failed on the way.
    #[error("cannot {doing}: {}", plain(source))]
    Io {
        /// Completes "cannot ...".
        doing: String,
        /// Why.
        source: io::Error,
    },
}

impl RunError {
    /// A program that the kernel refuses to execute.
    pub fn not_executable(path: PathBuf, source: io::Error) -> Self {
        Self::NotExecutable { path, source }
    }

    /// What the process exits with.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NotFound { .. } => NOT_FOUND,
            Self::NotExecutable { .. }
            | Self::NothingToRunItWith { .. }
            | Self::OtherMachine { .. } => NOT_EXECUTABLE,
            _ => FAILED,
        }
    }

    /// What to do about it.
    pub fn remedy(&self) -> Option<&str> {
        match self {
            Self::NoLibrary { .. } => Some(
                "build it (cargo build --release -p dmm-posix), or name it with --library or DMM_LIBRARY",
            ),
            Self::NotExecutable { source, .. }
                if source.kind() == io::ErrorKind::ExecutableFileBusy =>
            {
                Some("somebody has the file open for writing; wait until it is closed")
            }
            _ => None,
        }
    }
}

fn why_not(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::IsADirectory => "it is a directory".to_owned(),
        io::ErrorKind::PermissionDenied => {
            "permission denied (no execute permission, or a noexec mount)".to_owned()
        }
        io::ErrorKind::ExecutableFileBusy => "the file is open for writing".to_owned(),
        _ => plain(error),
    }
}

fn list(paths: &[PathBuf]) -> String {
    let paths: Vec<_> = paths
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    paths.join(", ")
}
