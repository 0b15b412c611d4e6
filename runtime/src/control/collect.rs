//! Histograms of a whole run: all processes that one `dmm run --hist` has started.
//!
//! The programs are started with `DMM_RUN_ID` and `DMM_KEEP_STATS=1`: their segments outlive them. The
//! collector takes those of ended processes in from time to time, so that a program which forks a
//! thousand children does not fill /dev/shm, and the rest at the end. Its lock file tells others'
//! sweeps to leave the segments alone; when the collector dies, so does the lock.

use std::fs::File;
use std::path::{Path, PathBuf};

use dmm_nsocket::stats::Snapshot;
use rustix::fs::{FlockOperation, Mode, OFlags};

use super::histogram::Report;
use super::processes::{Holder, Scan, SegmentFile, segment_files};
use crate::{Error, places};

/// Gathers the segments of a run.
#[derive(Debug)]
pub struct Collector {
    dir: PathBuf,
    run_id: String,
    report: Report,
    lock: Option<(PathBuf, File)>,
}

impl Collector {
    /// Starts to collect a run. To be called before its first process starts, so that no sweep takes
    /// a segment away; without the lock file (no /dev/shm) it works all the same.
    pub fn start(run_id: &str) -> Self {
        Self::start_in(&places::shm_dir(), run_id)
    }

    /// The same with the segments of another directory.
    pub(super) fn start_in(dir: &Path, run_id: &str) -> Self {
        let lock = lock_path(dir, run_id).and_then(|path| {
            let file = lock(&path)?;
            Some((path, file))
        });
        Self {
            dir: dir.to_owned(),
            run_id: run_id.to_owned(),
            report: Report::default(),
            lock,
        }
    }

    /// Takes in the segments of processes that have ended, and removes their files.
    ///
    /// # Errors
    ///
    /// If the directory of the segments cannot be read.
    pub fn poll(&mut self) -> Result<(), Error> {
        let scan = Scan::new();
        for (file, snapshot) in self.segments()? {
            if scan.holder(&file, &snapshot) == Holder::Dead {
                self.take(&file, &snapshot);
            }
        }
        Ok(())
    }

    /// Takes in everything, also from processes that still run (a daemon that the program has left
    /// behind), and ends.
    ///
    /// # Errors
    ///
    /// If the directory of the segments cannot be read.
    pub fn finish(mut self) -> Result<Report, Error> {
        let scan = Scan::new();
        for (file, snapshot) in self.segments()? {
            if scan.holder(&file, &snapshot) == Holder::Dead {
                self.take(&file, &snapshot);
            } else {
                self.report.add(&snapshot);
            }
        }
        if let Some((path, _)) = self.lock.take() {
            let _ = std::fs::remove_file(path);
        }
        Ok(self.report)
    }

    fn segments(&self) -> Result<Vec<(SegmentFile, Snapshot)>, Error> {
        Ok(segment_files(&self.dir)?
            .into_iter()
            .filter(SegmentFile::is_ours)
            .filter_map(|file| {
                let snapshot = Snapshot::read(&file.path).ok()?;
                (*snapshot.run_id == *self.run_id).then_some((file, snapshot))
            })
            .collect())
    }

    fn take(&mut self, file: &SegmentFile, snapshot: &Snapshot) {
        // Only what could be removed is counted: what stays would be counted again.
        if std::fs::remove_file(&file.path).is_ok() {
            self.report.add(snapshot);
        }
    }
}

/// All histograms of a run, after its end.
///
/// # Errors
///
/// If the directory of the segments cannot be read.
pub fn collect_run(run_id: &str) -> Result<Report, Error> {
    Collector::start(run_id).finish()
}

/// Whether somebody collects this run.
pub(super) fn is_collected(dir: &Path, run_id: &str) -> bool {
    let Some(path) = lock_path(dir, run_id) else {
        return false;
    };
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let Ok(file) = rustix::fs::open(&path, flags, Mode::empty()) else {
        return false;
    };
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => {
            let _ = std::fs::remove_file(&path);
            false
        }
        Err(_) => true,
    }
}

fn lock(path: &Path) -> Option<File> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR).ok()?;
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).ok()?;
    Some(file.into())
}

/// `None` for a run id that could not be part of a file name: it comes from other people's segments.
fn lock_path(dir: &Path, run_id: &str) -> Option<PathBuf> {
    let plain = !run_id.is_empty()
        && run_id.len() <= 64
        && run_id
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    plain.then(|| dir.join(format!("dmm-run.{run_id}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_collected_as_long_as_its_collector_lives() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!is_collected(dir.path(), "run"));
        let collector = Collector::start_in(dir.path(), "run");
        assert!(is_collected(dir.path(), "run"));
        collector.finish().unwrap();
        assert!(!is_collected(dir.path(), "run"));
        // One that has died without a word leaves the file, and no lock.
        std::fs::write(dir.path().join("dmm-run.run"), "").unwrap();
        assert!(!is_collected(dir.path(), "run"));
        assert!(!dir.path().join("dmm-run.run").exists());
    }

    #[test]
    fn a_run_id_is_no_path() {
        let dir = Path::new("/dev/shm");
        assert!(lock_path(dir, "../x").is_none());
        assert!(lock_path(dir, "").is_none());
        assert!(lock_path(dir, "0123abcd").is_some());
    }
}
