//! Where things are on this host, for this user.

use std::env;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use dmm_nsocket::stats::DEFAULT_DIR;

/// Directory of the stats segments and policy mailboxes: `$DMM_SHM_DIR`, else /dev/shm.
pub(crate) fn shm_dir() -> PathBuf {
    variable("DMM_SHM_DIR")
        .unwrap_or_else(|| PathBuf::from(std::ffi::OsStr::from_bytes(DEFAULT_DIR.to_bytes())))
}

/// The file that programs without `DMM_POLICY` follow.
pub(crate) fn live_policy() -> PathBuf {
    if is_root() {
        return PathBuf::from("/etc/dmm/policy.toml");
    }
    user_dir("XDG_CONFIG_HOME", ".config").join("dmm/policy.toml")
}

/// Where versions of policies are kept.
pub(crate) fn policy_state_dir() -> PathBuf {
    if let Some(dir) = variable("DMM_STATE_DIR") {
        return dir;
    }
    if is_root() {
        return PathBuf::from("/var/lib/dmm/policy");
    }
    user_dir("XDG_STATE_HOME", ".local/state").join("dmm/policy")
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A path for the calls that take a C string; `None` if it holds a zero byte.
pub(crate) fn c_path(path: &Path) -> Option<CString> {
    CString::new(path.as_os_str().as_bytes()).ok()
}

/// The XDG base directory specification: a relative path counts as not set.
fn user_dir(variable_name: &str, below_home: &str) -> PathBuf {
    variable(variable_name)
        .filter(|dir| dir.is_absolute())
        .unwrap_or_else(|| {
            env::home_dir()
                .unwrap_or_else(|| PathBuf::from("/"))
                .join(below_home)
        })
}

fn variable(name: &str) -> Option<PathBuf> {
    env::var_os(name)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
}
