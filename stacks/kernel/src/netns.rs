//! Making a socket in another network namespace.
//!
//! A socket belongs to the namespace of the thread that makes it, for good. So the thread goes
//! there, makes the socket and comes back, with all signals blocked meanwhile: a handler that ran in
//! between would open its own sockets in the wrong place.

use std::os::fd::{AsFd, OwnedFd};

use dmm_nsocket::Reason;
use dmm_nsocket::stack::Refusal;
use dmm_nsocket::sys::BlockedSignals;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Longest path of a namespace: `/run/netns/` and a file name.
const PATH_MAX: usize = 512;

/// Runs `f` with the calling thread in the namespace `name`: one that `ip netns` knows, or an
/// absolute path (`/proc/PID/ns/net`).
///
/// Needs CAP_SYS_ADMIN, in the namespace's user namespace and in the caller's. A thread that cannot
/// return to its own namespace must not go on: the process is aborted then.
pub fn within<R>(name: &str, f: impl FnOnce() -> R) -> Result<R, Refusal> {
    let target = open(name)?;
    let home = rustix::fs::openat(
        CWD,
        c"/proc/thread-self/ns/net",
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(|errno| Refusal::because(Reason::NamespaceDenied, errno))?;
    let signals = BlockedSignals::new();
    let result = match enter(&target) {
        Ok(()) => {
            let _away = Away(&home);
            Ok(f())
        }
        Err(errno) => Err(Refusal::because(Reason::NamespaceDenied, errno)),
    };
    drop(signals);
    result
}

/// Moves the calling thread to the namespace `name` for the rest of its life.
pub fn settle_in(name: &str) -> Result<(), Refusal> {
    let target = open(name)?;
    enter(&target).map_err(|errno| Refusal::because(Reason::NamespaceDenied, errno))
}

/// Whether the namespace `name` is there to be opened.
pub fn exists(name: &str) -> Result<(), Refusal> {
    open(name).map(|_| ())
}

fn open(name: &str) -> Result<OwnedFd, Refusal> {
    let mut path = [0u8; PATH_MAX];
    let len = write_path(&mut path, name).ok_or(Refusal::because(
        Reason::NoSuchNamespace,
        Errno::NAMETOOLONG,
    ))?;
    rustix::fs::openat(
        CWD,
        &path[..len],
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(|errno| {
        let reason = match errno {
            Errno::ACCESS | Errno::PERM => Reason::NamespaceDenied,
            Errno::MFILE | Errno::NFILE => Reason::LimitReached,
            _ => Reason::NoSuchNamespace,
        };
        Refusal::because(reason, errno)
    })
}

fn write_path(path: &mut [u8; PATH_MAX], name: &str) -> Option<usize> {
    let prefix = if name.starts_with('/') {
        ""
    } else {
        "/run/netns/"
    };
    let len = prefix.len() + name.len();
    path.get_mut(..prefix.len())?
        .copy_from_slice(prefix.as_bytes());
    path.get_mut(prefix.len()..len)?
        .copy_from_slice(name.as_bytes());
    Some(len)
}

fn enter(namespace: &OwnedFd) -> Result<(), Errno> {
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
}

/// A thread that is in another namespace than its own, until the value is dropped.
struct Away<'a>(&'a OwnedFd);

impl Drop for Away<'_> {
    fn drop(&mut self) {
        // The thread has just left this namespace with the privilege that is needed to return.
        if enter(self.0).is_err() {
            std::process::abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_that_is_not_there_is_a_reason() {
        let refusal = within("dmm-no-such-namespace", || ()).unwrap_err();
        assert_eq!(refusal.reason, Reason::NoSuchNamespace);
        assert_eq!(refusal.errno, Some(Errno::NOENT));
        let long = "n".repeat(PATH_MAX);
        let refusal = within(&long, || ()).unwrap_err();
        assert_eq!(refusal.errno, Some(Errno::NAMETOOLONG));
    }

    #[test]
    fn a_file_that_is_no_namespace_is_refused_and_the_thread_is_at_home() {
        let home = || std::fs::read_link("/proc/thread-self/ns/net").unwrap();
        let before = home();
        let refusal = within("/dev/null", || ()).unwrap_err();
        assert_eq!(refusal.reason, Reason::NamespaceDenied);
        assert_eq!(home(), before);
    }

    #[test]
    fn the_own_namespace_can_be_entered_where_the_privilege_is_there() {
        match within("/proc/self/ns/net", || 7) {
            Ok(seven) => assert_eq!(seven, 7),
            Err(refusal) => assert_eq!(refusal.errno, Some(Errno::PERM)),
        }
    }
}
