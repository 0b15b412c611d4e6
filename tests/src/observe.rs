//! What DMM itself says about sockets.

use std::collections::BTreeSet;
use std::path::Path;

use dmm_nsocket::stats::{SeriesCounter, Snapshot, SocketInfo, pid_of_file_name};
use serde_json::Value;

use crate::{Setting, eventually};

/// `RULE > STACK` of every pair that carried a socket, from all stats segments in a directory; also
/// those of processes that have ended, as settings keep them.
pub fn carried(segments: &Path) -> BTreeSet<String> {
    snapshots(segments)
        .iter()
        .flat_map(|snapshot| &snapshot.series)
        .filter(|series| series.counters.of(SeriesCounter::Sockets) > 0)
        .map(|series| format!("{} > {}", series.rule, series.stack))
        .collect()
}

/// All readable stats segments in a directory.
pub fn snapshots(segments: &Path) -> Vec<Snapshot> {
    let files = std::fs::read_dir(segments).into_iter().flatten().flatten();
    files
        .filter(|file| {
            file.file_name()
                .to_str()
                .and_then(pid_of_file_name)
                .is_some()
        })
        .filter_map(|file| Snapshot::read(&file.path()).ok())
        .collect()
}

/// What the segment of a running process says of its open sockets, once one of them is as wanted.
///
/// # Panics
/// When none is in time.
#[track_caller]
pub fn socket_of(setting: &Setting, pid: u32, wanted: impl Fn(&SocketInfo) -> bool) -> SocketInfo {
    eventually(&format!("such a socket of process {pid}"), || {
        snapshots(setting.segments())
            .into_iter()
            .filter(|snapshot| snapshot.pid == pid)
            .flat_map(|snapshot| snapshot.sockets)
            .find(&wanted)
    })
}

/// What `dmm` prints as JSON for a command.
///
/// # Panics
/// When it fails or prints something else.
#[track_caller]
pub fn json(setting: &Setting, words: &str) -> Value {
    let output = setting.dmm(words).arg("--json").run().success();
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("dmm {words} --json: {error}:\n{}", output.text()))
}
