//! What a test needs of the machine, and skipping with a reason where it is not there.
//!
//! A skipped test prints `SKIPPED:` and what is missing. Where nothing may be skipped (in CI) the
//! environment variable `DMM_TEST_NO_SKIP=1` turns each of them into a failure.

use std::path::{Path, PathBuf};

/// Directories that programs are looked for in, besides `PATH`: an ordinary user's has no sbin.
const SYSTEM_DIRS: [&str; 4] = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];

/// One thing that a test cannot do without.
#[derive(Clone, Copy, Debug)]
pub enum Need {
    /// A program on `PATH` or in the system's directories.
    Program(&'static str),
    /// A file.
    File(&'static str),
    /// The rights of root.
    Root,
    /// A kernel that has MPTCP, switched on.
    Mptcp,
    /// A congestion control that the kernel has and this user may set.
    Congestion(&'static str),
}

impl Need {
    /// What is missing and what to do about it; `None` if it is there.
    pub fn missing(self) -> Option<String> {
        match self {
            Self::Program(name) => find_program(name)
                .is_none()
                .then(|| format!("the program {name} (tests/setup.sh installs it)")),
            Self::File(path) => (!Path::new(path).exists())
                .then(|| format!("the file {path} (tests/setup.sh installs it)")),
            Self::Root => (!rustix::process::geteuid().is_root())
                .then(|| "the rights of root (run the tests as root)".to_owned()),
            Self::Mptcp => sysctl("net/mptcp/enabled")
                .is_none_or(|value| value.trim() != "1")
                .then(|| "MPTCP (sysctl net.mptcp.enabled=1)".to_owned()),
            Self::Congestion(name) => {
                let there = sysctl("net/ipv4/tcp_available_congestion_control")
                    .is_some_and(|value| value.split_whitespace().any(|word| word == name));
                (!there).then(|| format!("the congestion control {name} (modprobe tcp_{name})"))
            }
        }
    }
}

/// Whether all `needs` are met; if not, the test should return at once.
///
/// # Panics
/// When one is not met and nothing may be skipped (`DMM_TEST_NO_SKIP=1`).
#[track_caller]
pub fn met(needs: &[Need]) -> bool {
    let missing: Vec<String> = needs.iter().filter_map(|need| need.missing()).collect();
    if missing.is_empty() {
        return true;
    }
    let reason = format!("SKIPPED: this test needs {}", missing.join(", and "));
    assert!(
        std::env::var_os("DMM_TEST_NO_SKIP").is_none(),
        "{reason}; and nothing may be skipped here"
    );
    println!("{reason}");
    false
}

/// Ends the test with a reason if something that it needs is not there; see [`met`].
#[macro_export]
macro_rules! needs {
    ($($need:expr),+ $(,)?) => {
        #[allow(unused_imports, reason = "a caller may name the needs in full")]
        use $crate::Need::*;
        if !$crate::need::met(&[$($need),+]) {
            return;
        }
    };
}

/// The full path of a program.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    SYSTEM_DIRS
        .iter()
        .map(PathBuf::from)
        .chain(std::env::split_paths(&path))
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
}

fn sysctl(name: &str) -> Option<String> {
    std::fs::read_to_string(Path::new("/proc/sys").join(name)).ok()
}
