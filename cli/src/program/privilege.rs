//! Whether executing a file changes who runs: then the loader is in secure-execution mode (ld.so(8))
//! and ignores `LD_PRELOAD` for libraries that are not setuid themselves in a system directory.

use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::StatVfsMountFlags;

/// Why the loader would be in secure-execution mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privilege {
    /// The setuid bit, and this owner is not the real user.
    SetUid(u32),
    /// The setgid bit, and this group is not the real group.
    SetGid(u32),
    /// File capabilities (capabilities(7)).
    Capabilities,
}

impl Privilege {
    /// What executing the file would change; `None` if it stays with the user's own rights.
    pub fn of(path: &Path) -> Option<Self> {
        const SETUID: u32 = 0o4000;
        /// Without the group's execute bit, setgid meant mandatory locking.
        const SETGID: u32 = 0o2010;
        let metadata = path.metadata().ok()?;
        if is_ignored(path) {
            return None;
        }
        let uid = rustix::process::getuid().as_raw();
        let gid = rustix::process::getgid().as_raw();
        let mode = metadata.mode();
        if mode & SETUID != 0 && metadata.uid() != uid {
            return Some(Self::SetUid(metadata.uid()));
        }
        if mode & SETGID == SETGID && metadata.gid() != gid {
            return Some(Self::SetGid(metadata.gid()));
        }
        // Root has the capabilities anyway, and stays out of secure-execution mode.
        (uid != 0 && has_capabilities(path)).then_some(Self::Capabilities)
    }
}

impl fmt::Display for Privilege {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SetUid(uid) => write!(f, "is setuid (it runs as uid {uid})"),
            Self::SetGid(gid) => write!(f, "is setgid (it runs as gid {gid})"),
            Self::Capabilities => write!(f, "has file capabilities"),
        }
    }
}

/// The kernel ignores all three on a nosuid mount and for a process that gave up gaining privileges.
fn is_ignored(path: &Path) -> bool {
    rustix::thread::no_new_privs().unwrap_or(false)
        || rustix::fs::statvfs(path).is_ok_and(|fs| fs.f_flag.contains(StatVfsMountFlags::NOSUID))
}

fn has_capabilities(path: &Path) -> bool {
    let mut value = [0_u8; 64];
    rustix::fs::getxattr(path, "security.capability", &mut value[..]).is_ok_and(|len| len > 0)
}
