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
    /// A file; a `*` stands for any one directory, see [`find_file`].
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
            Self::File(path) => find_file(path)
                .is_none()
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

/// The file of this path, in which one component may be `*`, for a version or an architecture; the
/// last one by name if there are several.
pub fn find_file(path: &str) -> Option<PathBuf> {
    let Some((parent, rest)) = path.split_once("/*/") else {
        return Some(PathBuf::from(path)).filter(|file| file.exists());
    };
    let mut found: Vec<PathBuf> = std::fs::read_dir(parent)
        .ok()?
        .flatten()
        .map(|entry| entry.path().join(rest))
        .filter(|file| file.exists())
        .collect();
    found.sort();
    found.pop()
}

fn sysctl(name: &str) -> Option<String> {
    std::fs::read_to_string(Path::new("/proc/sys").join(name)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_one_directory() {
        let own = format!("/proc/{}/status", std::process::id());
        assert_eq!(find_file(&own), Some(PathBuf::from(&own)));
        assert_eq!(
            find_file("/sys/class/*/lo"),
            Some("/sys/class/net/lo".into())
        );
        assert_eq!(find_file("/proc/*/no-such-file"), None);
    }

    #[test]
    fn what_is_missing_comes_with_a_remedy() {
        assert_eq!(Need::Program("sh").missing(), None);
        assert_eq!(Need::File("/proc/self/stat").missing(), None);
        for missing in [
            Need::Program("no-such-program"),
            Need::File("/no/such/file"),
            Need::Congestion("no-such-control"),
        ] {
            let said = missing.missing().expect("a reason");
            assert!(said.contains("no") && said.contains('('), "{said}");
        }
    }
}
