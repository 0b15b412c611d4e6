//! Where the policy file is, and whether it has changed.

use std::ffi::CStr;
use std::sync::atomic::{AtomicPtr, Ordering};

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

use crate::env;

/// The path, as a C string that was leaked at start; null without one.
static PATH: AtomicPtr<libc::c_char> = AtomicPtr::new(std::ptr::null_mut());

/// Finds out which file is followed: `DMM_POLICY`, else the live policy of the system (for root) or
/// of the user. Called once, from the constructor; allocates.
pub(super) fn init() {
    let path = match env::value(env::POLICY) {
        b"" => default_path(),
        named if named.starts_with(b"/") => Some(named.to_vec()),
        // The program may change its directory, and its children have theirs.
        named => absolute(named),
    };
    if let Some(mut path) = path {
        path.push(0);
        PATH.store(path.leak().as_mut_ptr().cast(), Ordering::Release);
    }
}

/// A relative path from where the program was started; what an exec hands on is that, too.
fn absolute(relative: &[u8]) -> Option<Vec<u8>> {
    let mut buffer = [0; 4096];
    let len = rustix::fs::readlinkat_raw(CWD, c"/proc/self/cwd", &mut buffer[..]).ok()?;
    let path = [&buffer[..len], b"/", relative].concat();
    env::set_saved(env::POLICY, &path);
    Some(path)
}

/// As `dmm policy apply` does: /etc/dmm/policy.toml for root, else below the user's configuration.
fn default_path() -> Option<Vec<u8>> {
    if rustix::process::geteuid().is_root() {
        return Some(b"/etc/dmm/policy.toml".to_vec());
    }
    let set = |name: &CStr| env::variable(name).filter(|value| value.starts_with(b"/"));
    if let Some(config) = set(c"XDG_CONFIG_HOME=") {
        return Some([config, b"/dmm/policy.toml"].concat());
    }
    set(c"HOME=").map(|home| [home, b"/.config/dmm/policy.toml"].concat())
}

/// The file's path.
pub(super) fn path() -> Option<&'static CStr> {
    let path = PATH.load(Ordering::Acquire);
    // SAFETY: null, or a C string that `init` has leaked.
    (!path.is_null()).then(|| unsafe { CStr::from_ptr(path) })
}

/// The path for people; empty where no file is followed.
pub(super) fn display_path() -> &'static [u8] {
    path().map_or(b"", CStr::to_bytes)
}

/// Identity of the file's contents, as far as its status tells, and its age.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    /// Device, inode, size and time of the last change, mixed; never 0.
    pub(super) identity: u64,
    /// Time of the last change, in nanoseconds since the epoch.
    pub(super) changed: u64,
}

/// Looks at the file.
pub(super) fn stamp() -> Option<Stamp> {
    let mask = StatxFlags::INO | StatxFlags::SIZE | StatxFlags::MTIME | StatxFlags::CTIME;
    let status = statx(CWD, path()?, AtFlags::empty(), mask).ok()?;
    let words = [
        u64::from(status.stx_dev_major) << 32 | u64::from(status.stx_dev_minor),
        status.stx_ino,
        status.stx_size,
        status.stx_mtime.tv_sec as u64,
        u64::from(status.stx_mtime.tv_nsec),
        status.stx_ctime.tv_sec as u64,
        u64::from(status.stx_ctime.tv_nsec),
    ];
    let identity = words.iter().fold(0u64, |hash, word| {
        (hash.rotate_left(23) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    });
    Some(Stamp {
        identity: identity.max(1),
        changed: (status.stx_ctime.tv_sec as u64)
            .saturating_mul(1_000_000_000)
            .saturating_add(u64::from(status.stx_ctime.tv_nsec)),
    })
}
