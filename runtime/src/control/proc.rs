//! The few things that are read from /proc (proc(5)). A process may end at any moment, and may not be
//! ours to look at: every answer may be missing.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use dmm_nsocket::stats::start_ticks_in;

/// Name of the preloaded library.
const LIBRARY: &str = "libdmm_posix.so";

/// All processes of this pid namespace.
pub(super) fn pids() -> Vec<u32> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// Start time in clock ticks since boot.
pub(super) fn start_ticks(pid: u32) -> Option<u64> {
    start_ticks_in(&fs::read(format!("/proc/{pid}/stat")).ok()?)
}

/// How long a process has been running, by its start time.
pub(super) fn uptime(start_ticks: u64) -> Option<Duration> {
    let text = fs::read_to_string("/proc/uptime").ok()?;
    let now: f64 = text.split(' ').next()?.parse().ok()?;
    #[expect(clippy::cast_precision_loss, reason = "ticks fit for a thousand years")]
    let start = start_ticks as f64 / rustix::param::clock_ticks_per_second() as f64;
    Duration::try_from_secs_f64((now - start).max(0.0)).ok()
}

/// Real, effective, saved and file system user.
pub(super) fn uids(pid: u32) -> Option<Vec<u32>> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_whitespace()
        .map(|uid| uid.parse().ok())
        .collect()
}

/// The process's number in its own, innermost pid namespace.
pub(super) fn inner_pid(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("NSpid:"))?;
    line.split_whitespace().next_back()?.parse().ok()
}

/// Path of the executable, or else the short name.
pub(super) fn program(pid: u32) -> Option<String> {
    fs::read_link(format!("/proc/{pid}/exe"))
        .map(|path| path.to_string_lossy().into_owned())
        .or_else(|_| {
            fs::read_to_string(format!("/proc/{pid}/comm")).map(|name| name.trim_end().to_owned())
        })
        .ok()
}

/// What of DMM a process has mapped.
#[derive(Clone, Debug, Default)]
pub(super) struct Maps {
    /// The preloaded library.
    pub(super) library: bool,
    /// Inode numbers of stats segments; a forked child has its parent's too.
    pub(super) segments: Vec<u64>,
    /// Inode numbers of policy mailboxes.
    pub(super) mailboxes: Vec<u64>,
}

impl Maps {
    /// `None` if the process is gone, or may not be looked at.
    pub(super) fn of(pid: u32) -> Option<Self> {
        // Mapped names are bytes; those that matter here are ASCII.
        let bytes = fs::read(format!("/proc/{pid}/maps")).ok()?;
        if bytes.is_empty() {
            return None; // A kernel thread, or it has just ended.
        }
        let mut maps = Self::default();
        for line in String::from_utf8_lossy(&bytes).lines() {
            maps.take(line);
        }
        Some(maps)
    }

    /// `address perms offset dev inode path`.
    fn take(&mut self, line: &str) {
        let mut fields = line.splitn(6, ' ');
        let (Some(inode), Some(path)) = (fields.nth(4), fields.next()) else {
            return;
        };
        let path = path.trim_start().trim_end_matches(" (deleted)");
        let Some((_, name)) = path.rsplit_once('/') else {
            return;
        };
        let known = if name == LIBRARY {
            self.library = true;
            return;
        } else if dmm_nsocket::stats::pid_of_file_name(name).is_some() {
            &mut self.segments
        } else if is_mailbox(name) {
            &mut self.mailboxes
        } else {
            return;
        };
        if let Ok(inode) = inode.parse()
            && !known.contains(&inode)
        {
            known.push(inode);
        }
    }
}

/// Whether a file's name is that of a policy mailbox.
pub(super) fn is_mailbox(name: &str) -> bool {
    name.starts_with("dmm-policy.")
}

/// What a descriptor of a process refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Descriptor {
    /// A socket with this inode number.
    Socket(u64),
    /// Nothing, or something that is not a socket.
    Other,
    /// We may not look.
    Hidden,
}

/// Looks up a descriptor.
pub(super) fn descriptor(pid: u32, fd: u32) -> Descriptor {
    match fs::read_link(format!("/proc/{pid}/fd/{fd}")) {
        Ok(target) => target
            .to_str()
            .and_then(|target| {
                target
                    .strip_prefix("socket:[")?
                    .strip_suffix(']')?
                    .parse()
                    .ok()
            })
            .map_or(Descriptor::Other, Descriptor::Socket),
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => Descriptor::Hidden,
        Err(_) => Descriptor::Other,
    }
}

/// A network namespace: the inode number of its file, and a path that leads to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Namespace {
    pub(super) inode: u64,
    pub(super) path: PathBuf,
}

impl Namespace {
    /// That of a process; `None` if it is gone or may not be looked at.
    pub(super) fn of(pid: &str) -> Option<Self> {
        Self::at(PathBuf::from(format!("/proc/{pid}/ns/net")))
    }

    /// Those with a name (`ip netns`).
    pub(super) fn named() -> Vec<Self> {
        fs::read_dir("/run/netns")
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| Self::at(entry.path()))
            .collect()
    }

    fn at(path: PathBuf) -> Option<Self> {
        let inode = fs::metadata(&path).ok()?.ino();
        Some(Self { inode, path })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapped_library_and_segment_are_seen() {
        let mut maps = Maps::default();
        maps.take("7f00-7f01 r-xp 00000000 08:01 77     /opt/my dir/libdmm_posix.so (deleted)");
        maps.take("7f00-7f01 rw-s 00000000 00:1a 4711   /dev/shm/dmm.12.0123abcd");
        maps.take("7f00-7f01 rw-s 00001000 00:1a 4711   /dev/shm/dmm.12.0123abcd");
        maps.take("7f00-7f01 r--s 00000000 00:1a 4712   /dev/shm/dmm-policy.0.0123456789abcdef");
        maps.take("7f00-7f01 rw-p 00000000 00:00 0 ");
        maps.take("7ffe-7fff rw-p 00000000 00:00 0      [stack]");
        assert!(maps.library);
        assert_eq!((maps.segments, maps.mailboxes), (vec![4711], vec![4712]));
    }

    #[test]
    fn this_process_is_there() {
        let pid = std::process::id();
        assert!(pids().contains(&pid));
        assert_eq!(inner_pid(pid), Some(pid));
        assert!(
            uids(pid)
                .unwrap()
                .contains(&rustix::process::geteuid().as_raw())
        );
        assert!(uptime(start_ticks(pid).unwrap()).unwrap() < Duration::from_secs(3600));
        assert!(!Maps::of(pid).unwrap().library);
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let fd = std::os::fd::AsRawFd::as_raw_fd(&socket).cast_unsigned();
        assert!(matches!(descriptor(pid, fd), Descriptor::Socket(inode) if inode != 0));
        assert_eq!(descriptor(pid, 1 << 30), Descriptor::Other);
    }
}
