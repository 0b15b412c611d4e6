//! Where DMM keeps things on this host.

use std::path::PathBuf;

/// Directory of statistics segments and mailboxes: `DMM_SHM_DIR`, else /dev/shm.
pub fn shm_dir() -> PathBuf {
    std::env::var_os("DMM_SHM_DIR")
        .filter(|dir| !dir.is_empty())
        .map_or_else(|| PathBuf::from("/dev/shm"), PathBuf::from)
}
