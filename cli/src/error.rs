//! What can go wrong in `dmm`, and the exit code each case has.
//!
//! | code | meaning |
//! |---|---|
//! | 0 | done |
//! | 1 | the thing asked for is not so: a policy with errors, no such process, a file that cannot be read |
//! | 2 | the command line was not understood |
//! | 125 | `dmm run` failed before the program started |
//! | 126 | `dmm run` found the program, but it cannot be executed |
//! | 127 | `dmm run` did not find the program |
//!
//! The table is part of the interface (docs/cli.md); scripts depend on it.

use std::io;
use std::process::ExitCode;

/// Exit code of a command that was understood but whose subject is not so.
const NOT_SO: u8 = 1;
/// Exit code of a command line that makes no sense.
const USAGE: u8 = 2;

/// The one error of the tool.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The arguments contradict each other in a way that clap cannot see.
    #[error("{0}")]
    Usage(String),

    /// The thing asked for is not so. `help` says what to do about it.
    #[error("{message}")]
    NotSo {
        /// What is not so.
        message: String,
        /// The way out, where there is one.
        help: Option<String>,
    },

    /// Something could not be done to a file, a socket or a process.
    #[error("cannot {doing}: {}", plain(source))]
    Io {
        /// Completes "cannot ...", with the path in it.
        doing: String,
        /// Why.
        source: io::Error,
    },

    /// A policy has errors; its diagnostics are already on the standard error.
    #[error("{0}")]
    PolicyRefused(String),

    /// Looking at processes or keeping the policy failed.
    #[error(transparent)]
    Runtime(#[from] dmm::Error),

    /// `dmm run` did not get as far as running the program.
    #[error(transparent)]
    Run(#[from] crate::program::RunError),

    /// The standard output could not be written. A closed pipe is not worth a message.
    #[error("cannot write the output: {}", plain(.0))]
    Output(#[from] io::Error),
}

impl Error {
    /// The thing asked for is not so.
    pub fn not_so(message: impl Into<String>) -> Self {
        Self::NotSo {
            message: message.into(),
            help: None,
        }
    }

    /// Adds what to do about it. Only [`Error::NotSo`] carries help; others say it themselves.
    #[must_use]
    pub fn help(mut self, text: impl Into<String>) -> Self {
        if let Self::NotSo { help, .. } = &mut self {
            *help = Some(text.into());
        }
        self
    }

    /// The remedy, where there is one.
    pub fn remedy(&self) -> Option<&str> {
        match self {
            Self::NotSo { help, .. } => help.as_deref(),
            Self::Run(error) => error.remedy(),
            Self::Runtime(error) => runtime_remedy(error),
            _ => None,
        }
    }

    /// Whether the reader of our output has gone (`dmm ss | head -1`).
    pub fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    /// What the process exits with.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Usage(_) => USAGE,
            Self::Run(error) => error.exit_code(),
            Self::NotSo { .. }
            | Self::Io { .. }
            | Self::PolicyRefused(_)
            | Self::Runtime(_)
            | Self::Output(_) => NOT_SO,
        })
    }
}

fn runtime_remedy(error: &dmm::Error) -> Option<&'static str> {
    match error {
        dmm::Error::NoProcess(_) => Some("dmm ps lists the processes under DMM"),
        dmm::Error::NoVersion { .. } | dmm::Error::NoEarlierVersion(_) => {
            Some("dmm policy history lists the versions")
        }
        dmm::Error::NotYours(_) => Some("ask as that user, or with sudo"),
        _ => None,
    }
}

/// The system's sentence about an error, without the number that Rust adds to it.
pub fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error") {
        Some((sentence, _)) => sentence.to_owned(),
        None => text,
    }
}

/// Says what was being done when an [`io::Error`] came up.
pub trait Doing<T> {
    /// Turns the error into "cannot `doing`: ...".
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T, Error>;
}

impl<T, E: Into<io::Error>> Doing<T> for Result<T, E> {
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T, Error> {
        self.map_err(|error| Error::Io {
            doing: doing(),
            source: error.into(),
        })
    }
}
