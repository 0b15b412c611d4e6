//! The few system calls that rustix has no call for, made directly: never through libc's symbols,
//! which a preload may have interposed (with us), and without touching `errno`.

use std::os::fd::{AsFd, AsRawFd};

use libc::c_int;
use rustix::io::Errno;
use syscalls::{Sysno, syscall};

/// setsockopt(2) with the value as bytes.
pub fn setsockopt(fd: impl AsFd, level: c_int, name: c_int, value: &[u8]) -> Result<(), Errno> {
    let fd = fd.as_fd().as_raw_fd();
    // SAFETY: the kernel reads `value.len()` bytes of `value`, which is borrowed for the call. An
    // option whose value holds a pointer is the caller's concern, as the log does not record any.
    let result = unsafe {
        syscall!(
            Sysno::setsockopt,
            fd,
            level,
            name,
            value.as_ptr(),
            value.len()
        )
    };
    result.map(|_| ()).map_err(errno)
}

/// setsockopt(2) with an `int`.
pub fn setsockopt_int(fd: impl AsFd, level: c_int, name: c_int, value: c_int) -> Result<(), Errno> {
    setsockopt(fd, level, name, &value.to_ne_bytes())
}

/// getsockopt(2) into `value`; returns how many bytes the kernel has written.
pub fn getsockopt(
    fd: impl AsFd,
    level: c_int,
    name: c_int,
    value: &mut [u8],
) -> Result<usize, Errno> {
    let fd = fd.as_fd().as_raw_fd();
    let mut len = value.len() as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes to `value` and the length to `len`; both are
    // borrowed mutably for the call.
    let result = unsafe {
        syscall!(
            Sysno::getsockopt,
            fd,
            level,
            name,
            value.as_mut_ptr(),
            &raw mut len
        )
    };
    result
        .map(|_| (len as usize).min(value.len()))
        .map_err(errno)
}

/// getsockopt(2) of an `int`.
pub fn getsockopt_int(fd: impl AsFd, level: c_int, name: c_int) -> Result<c_int, Errno> {
    let mut value = [0; 4];
    getsockopt(fd, level, name, &mut value)?;
    Ok(c_int::from_ne_bytes(value))
}

/// SO_RCVTIMEO in milliseconds, rounded up; `None` if a call waits for ever.
pub fn receive_timeout_ms(fd: impl AsFd) -> Option<c_int> {
    let mut value = [0; 16];
    getsockopt(fd, libc::SOL_SOCKET, libc::SO_RCVTIMEO, &mut value).ok()?;
    let half = |at: usize| {
        let bytes = value[at..at + 8].first_chunk().copied().unwrap_or_default();
        i64::from_ne_bytes(bytes)
    };
    let ms = half(0)
        .saturating_mul(1000)
        .saturating_add(half(8).saturating_add(999) / 1000);
    (ms > 0).then(|| ms.min(i64::from(c_int::MAX)) as c_int)
}

/// All signals of this thread, blocked while the value lives: also the two that libc uses among
/// threads (for cancellation, and to change the user of all of them at once), which pthread_sigmask(3)
/// does not let one block.
pub struct BlockedSignals(u64);

impl BlockedSignals {
    /// Blocks them.
    #[expect(clippy::new_without_default, reason = "it has an effect")]
    pub fn new() -> Self {
        Self(set_signal_mask(u64::MAX))
    }
}

impl Drop for BlockedSignals {
    fn drop(&mut self) {
        set_signal_mask(self.0);
    }
}

/// rt_sigprocmask(2); returns the mask before.
fn set_signal_mask(mask: u64) -> u64 {
    let mut old = 0u64;
    // SAFETY: both sets are as large as the call says, and borrowed for it; with these arguments it
    // does not fail.
    let _ = unsafe {
        syscall!(
            Sysno::rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const mask,
            &raw mut old,
            size_of::<u64>()
        )
    };
    old
}

/// The error of a raw system call, as rustix has it.
pub fn errno(errno: syscalls::Errno) -> Errno {
    Errno::from_raw_os_error(errno.into_raw())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_as_they_were_set() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        setsockopt_int(&socket, libc::SOL_SOCKET, libc::SO_PRIORITY, 5).unwrap();
        assert_eq!(
            getsockopt_int(&socket, libc::SOL_SOCKET, libc::SO_PRIORITY),
            Ok(5)
        );
        assert_eq!(
            setsockopt(&socket, libc::SOL_SOCKET, libc::SO_PRIORITY, &[1]),
            Err(Errno::INVAL)
        );
        assert_eq!(
            getsockopt_int(&socket, 12345, 1),
            Err(Errno::OPNOTSUPP),
            "an unknown level"
        );
    }
}
