//! What is compared: the same programs over three ways to the other program.

use std::fmt;
use std::path::PathBuf;

/// How the two programs of a run reach each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Side {
    /// Plain programs, loopback TCP of the kernel.
    Tcp,
    /// The same programs and the same addresses, both under DMM.
    Local,
    /// Plain programs, a Unix stream socket of the kernel.
    Unix,
}

impl Side {
    pub(crate) const ALL: [Self; 3] = [Self::Tcp, Self::Local, Self::Unix];
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Local => "local",
            Self::Unix => "unix",
        })
    }
}

/// Where a server of a run listens.
#[derive(Clone, Debug)]
pub(crate) enum Address {
    /// A port of 127.0.0.1.
    Tcp(u16),
    /// A path.
    Unix(PathBuf),
}

impl Address {
    /// The port.
    ///
    /// # Panics
    /// For a Unix socket: the workload runs there though it says that it cannot.
    pub(crate) fn port(&self) -> u16 {
        match self {
            Self::Tcp(port) => *port,
            Self::Unix(path) => panic!("{} is no TCP port", path.display()),
        }
    }
}

/// As the small C programs take it.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(port) => write!(f, "127.0.0.1:{port}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}
