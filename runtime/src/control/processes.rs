//! Who is under DMM.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use dmm_nsocket::stats::{Snapshot, SnapshotError, pid_of_file_name};
use dmm_policy::text_hash;
use serde::Serialize;

use super::proc::{self, Maps};
use crate::policy_store::{Store, Version};
use crate::{Error, places};

/// A process under DMM.
#[derive(Clone, Debug, Serialize)]
pub struct Process {
    /// Its number, in our pid namespace.
    pub pid: u32,
    /// Path of its executable.
    pub program: String,
    /// Its effective user, if it can be told.
    pub uid: Option<u32>,
    /// How long it has been running, in seconds.
    pub uptime_s: Option<u64>,
    /// The policy it follows; `None` as long as it has no socket.
    pub policy: Option<PolicyStatus>,
    /// Its segment's file; `None` as long as it has no socket.
    pub segment: Option<PathBuf>,
    /// What its segment says.
    pub snapshot: Option<Snapshot>,
}

/// The policy of a process, compared with its file.
#[derive(Clone, Debug, Serialize)]
pub struct PolicyStatus {
    /// Its version in the history, where it is known there.
    pub version: Option<Version>,
    /// The file holds another text by now.
    pub stale: bool,
}

/// All processes under DMM that this user may see.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Listing {
    /// By number.
    pub processes: Vec<Process>,
    /// Processes of other users, of which only the file's name is known.
    pub hidden: Vec<u32>,
    /// Segments that could not be read, and why.
    pub broken: Vec<(PathBuf, String)>,
}

/// A segment's file.
#[derive(Clone, Debug)]
pub(super) struct SegmentFile {
    pub(super) path: PathBuf,
    /// The number in its name: in the pid namespace of its process.
    pub(super) pid: u32,
    pub(super) owner: u32,
    inode: u64,
}

/// Whose a segment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holder {
    /// A process that runs.
    Alive(u32),
    /// Nobody's any more.
    Dead,
    /// It names a process, but its owner has nothing to do with that.
    Forged,
}

/// Lists all processes under DMM: those with a segment, and those that have the library but no socket
/// yet.
///
/// # Errors
///
/// If the directory of the segments cannot be read.
pub fn processes() -> Result<Listing, Error> {
    processes_in(&places::shm_dir())
}

/// The same with the segments of another directory.
pub(super) fn processes_in(dir: &Path) -> Result<Listing, Error> {
    let scan = Scan::new();
    let mut listing = Listing::default();
    let mut policies = Policies::default();
    for file in segment_files(dir)? {
        if !file.is_ours() {
            listing.hidden.push(file.pid);
            continue;
        }
        match Snapshot::read(&file.path) {
            Ok(snapshot) => {
                if let Holder::Alive(pid) = scan.holder(&file, &snapshot) {
                    let process = Process::with_segment(pid, file.path, snapshot, &mut policies);
                    listing.processes.push(process);
                }
            }
            // It is being made, or has just been removed.
            Err(SnapshotError::NotReady) => {}
            Err(SnapshotError::Open(error)) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => listing.broken.push((file.path, error.to_string())),
        }
    }
    for (pid, maps) in &scan.maps {
        if maps.library && !listing.processes.iter().any(|process| process.pid == *pid) {
            listing.processes.push(Process::without_segment(*pid));
        }
    }
    listing.processes.sort_by_key(|process| process.pid);
    Ok(listing)
}

/// One process under DMM.
///
/// # Errors
///
/// [`Error::NoProcess`], or [`Error::NotYours`] if another user's segment has its number.
pub fn process(pid: u32) -> Result<Process, Error> {
    let listing = processes()?;
    if let Some(process) = listing
        .processes
        .into_iter()
        .find(|process| process.pid == pid)
    {
        return Ok(process);
    }
    if listing.hidden.contains(&pid) {
        return Err(Error::NotYours(pid));
    }
    Err(Error::NoProcess(pid))
}

impl Process {
    fn with_segment(pid: u32, path: PathBuf, snapshot: Snapshot, policies: &mut Policies) -> Self {
        Self {
            program: snapshot.program.to_string(),
            policy: Some(policies.status(&snapshot)),
            segment: Some(path),
            snapshot: Some(snapshot),
            ..Self::without_segment(pid)
        }
    }

    fn without_segment(pid: u32) -> Self {
        Self {
            pid,
            program: proc::program(pid).unwrap_or_default(),
            uid: proc::uids(pid).and_then(|uids| uids.get(1).copied()),
            uptime_s: proc::start_ticks(pid)
                .and_then(proc::uptime)
                .map(|time| time.as_secs()),
            policy: None,
            segment: None,
            snapshot: None,
        }
    }

    /// Base name of the executable.
    pub fn name(&self) -> &str {
        let path = self.program.trim_end_matches(" (deleted)");
        path.rsplit('/').next().unwrap_or(path)
    }

    /// Its label, or empty.
    pub fn label(&self) -> &str {
        self.snapshot
            .as_ref()
            .map_or("", |snapshot| &snapshot.label)
    }

    /// Open sockets by stack; those not bound to one yet are under "".
    pub fn sockets_by_stack(&self) -> Vec<(String, usize)> {
        let mut counts = std::collections::BTreeMap::<String, usize>::new();
        for socket in self.snapshot.iter().flat_map(|snapshot| &snapshot.sockets) {
            *counts.entry(socket.stack.to_string()).or_default() += 1;
        }
        counts.into_iter().collect()
    }
}

/// The segments in a directory. Other files are left alone.
pub(super) fn segment_files(dir: &Path) -> Result<Vec<SegmentFile>, Error> {
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(Error::file("read", dir))?,
    };
    Ok(entries
        .flatten()
        .filter_map(|entry| {
            let pid = pid_of_file_name(entry.file_name().to_str()?)?;
            // Does not follow a link.
            let metadata = entry.metadata().ok()?;
            metadata.is_file().then(|| SegmentFile {
                path: entry.path(),
                pid,
                owner: metadata.uid(),
                inode: metadata.ino(),
            })
        })
        .collect())
}

impl SegmentFile {
    /// Whether this user may read and remove it.
    pub(super) fn is_ours(&self) -> bool {
        places::is_root() || self.owner == rustix::process::geteuid().as_raw()
    }
}

/// What all processes have mapped, looked up once.
pub(super) struct Scan {
    maps: HashMap<u32, Maps>,
}

impl Scan {
    pub(super) fn new() -> Self {
        let maps = |pid| Some((pid, Maps::of(pid)?));
        Self {
            maps: proc::pids().into_iter().filter_map(maps).collect(),
        }
    }

    /// Whether a process has this policy mailbox mapped.
    pub(super) fn maps_mailbox(&self, inode: u64) -> bool {
        self.maps
            .values()
            .any(|maps| maps.mailboxes.contains(&inode))
    }

    /// Finds the process that a segment belongs to.
    pub(super) fn holder(&self, file: &SegmentFile, snapshot: &Snapshot) -> Holder {
        if let Some(maps) = self.maps.get(&file.pid)
            && maps.segments.contains(&file.inode)
            && proc::inner_pid(file.pid) == Some(file.pid)
        {
            return Holder::Alive(file.pid);
        }
        // A container's process has another number out here.
        let inside = self.maps.iter().find(|(pid, maps)| {
            **pid != file.pid
                && maps.segments.contains(&file.inode)
                && proc::inner_pid(**pid) == Some(file.pid)
        });
        if let Some((pid, _)) = inside {
            return Holder::Alive(*pid);
        }
        if self.maps.contains_key(&file.pid) {
            // It has executed another program, or the number is somebody else's by now.
            return Holder::Dead;
        }
        // Its mappings are hidden from us: go by its start time and its users.
        match proc::start_ticks(file.pid) {
            Some(ticks) if snapshot.start_ticks == 0 || snapshot.start_ticks == ticks => {
                let owns = proc::uids(file.pid).is_some_and(|uids| uids.contains(&file.owner));
                if owns || file.owner == 0 {
                    Holder::Alive(file.pid)
                } else {
                    Holder::Forged
                }
            }
            _ => Holder::Dead,
        }
    }
}

/// Policies of processes against their files, each looked up once.
#[derive(Default)]
struct Policies {
    files: HashMap<String, (Option<Store>, Option<u64>)>,
}

impl Policies {
    fn status(&mut self, snapshot: &Snapshot) -> PolicyStatus {
        let path = &*snapshot.policy.path;
        let hash = snapshot.policy.hash;
        if path.is_empty() {
            return PolicyStatus {
                version: None,
                stale: false,
            };
        }
        let (store, live) = self.files.entry(path.to_owned()).or_insert_with(|| {
            let store = Store::open(Path::new(path)).ok();
            let text = store.as_ref().and_then(|store| store.current_text().ok()?);
            (store, text.map(|text| text_hash(&text)))
        });
        PolicyStatus {
            version: store.as_ref().and_then(|store| store.with_hash(hash).ok()?),
            stale: live.is_some_and(|live| live != hash),
        }
    }
}
