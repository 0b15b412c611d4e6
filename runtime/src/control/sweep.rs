//! Removing what processes that are gone have left: their segments, and the mailboxes of policies that
//! nobody follows any more.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use dmm_nsocket::stats::{Snapshot, SnapshotError};
use serde::Serialize;

use super::collect::is_collected;
use super::proc;
use super::processes::{Holder, Scan, SegmentFile, segment_files};
use crate::{Error, places};

/// What a sweep has done.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Swept {
    /// Files removed.
    pub removed: Vec<PathBuf>,
    /// Files that could not be removed, and why.
    pub failed: Vec<(PathBuf, String)>,
}

/// A mailbox that was made or posted to less than this ago may be about to be mapped.
const MAILBOX_REST: Duration = Duration::from_secs(600);

/// Removes the segments and mailboxes that no process has any more: this user's own ones, for root
/// all. Segments that a `dmm run --hist` waits for stay. A mailbox is made anew by whoever needs it.
///
/// # Errors
///
/// If the directory of the segments cannot be read.
pub fn sweep() -> Result<Swept, Error> {
    sweep_in(&places::shm_dir())
}

/// The same with another directory.
pub(super) fn sweep_in(dir: &Path) -> Result<Swept, Error> {
    let mut swept = Swept::default();
    // Files first, mappings second: what appears in between is not in the list.
    let files = segment_files(dir)?;
    let mailboxes = resting_mailboxes(dir);
    if files.is_empty() && mailboxes.is_empty() {
        return Ok(swept);
    }
    let scan = Scan::new();
    for file in files {
        if file.is_ours() && is_abandoned(&file, &scan) {
            swept.remove(file.path);
        }
    }
    for (path, inode) in mailboxes {
        if !scan.maps_mailbox(inode) {
            swept.remove(path);
        }
    }
    Ok(swept)
}

fn is_abandoned(file: &SegmentFile, scan: &Scan) -> bool {
    match Snapshot::read(&file.path) {
        Ok(snapshot) => match scan.holder(file, &snapshot) {
            Holder::Alive(_) | Holder::Forged => false,
            Holder::Dead => !(snapshot.keep && is_collected(dir_of(file), &snapshot.run_id)),
        },
        Err(SnapshotError::Open(_)) => false,
        // Unreadable (another version's, cut short, never completed): gone with its process.
        Err(_) => proc::start_ticks(file.pid).is_none(),
    }
}

fn dir_of(file: &SegmentFile) -> &Path {
    file.path.parent().unwrap_or_else(|| Path::new("/"))
}

/// Mailboxes of this user (for root, of all) that have not changed for a while, with their inodes.
fn resting_mailboxes(dir: &Path) -> Vec<(PathBuf, u64)> {
    let uid = rustix::process::geteuid().as_raw();
    let now = SystemTime::now();
    std::fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_name().to_str().is_some_and(proc::is_mailbox))
        .filter_map(|entry| {
            let metadata = entry.metadata().ok()?;
            let ours = places::is_root() || metadata.uid() == uid;
            let rest = now.duration_since(metadata.modified().ok()?).ok()?;
            (ours && metadata.is_file() && rest > MAILBOX_REST)
                .then(|| (entry.path(), metadata.ino()))
        })
        .collect()
}

impl Swept {
    fn remove(&mut self, path: PathBuf) {
        match std::fs::remove_file(&path) {
            Ok(()) => self.removed.push(path),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => self.failed.push((path, error.to_string())),
        }
    }
}
