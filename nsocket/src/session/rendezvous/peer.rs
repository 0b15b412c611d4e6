//! Who is at the other end of a Unix socket, by the kernel's word.

use std::os::fd::AsFd;

use rustix::io::Errno;

use crate::sys;

/// The credentials of a peer (`SO_PEERCRED`): of a listening socket's owner as of listen(2), of a
/// connecting process as of connect(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Credentials {
    /// Process id; 0 if the process is not in this PID namespace.
    pub pid: i32,
    /// Effective user id, as seen from this user namespace.
    pub uid: u32,
    /// Effective group id.
    pub gid: u32,
}

impl Credentials {
    /// Of the peer of a connected Unix socket.
    ///
    /// # Errors
    ///
    /// Those of getsockopt(2).
    pub fn of_peer(socket: impl AsFd) -> Result<Self, Errno> {
        let mut value = [0; 12];
        sys::getsockopt(socket, libc::SOL_SOCKET, libc::SO_PEERCRED, &mut value)?;
        let word = |at: usize| [value[at], value[at + 1], value[at + 2], value[at + 3]];
        Ok(Self {
            pid: i32::from_ne_bytes(word(0)),
            uid: u32::from_ne_bytes(word(4)),
            gid: u32::from_ne_bytes(word(8)),
        })
    }
}
