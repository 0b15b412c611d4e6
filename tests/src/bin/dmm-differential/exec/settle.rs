//! Waits until what was sent over loopback has arrived, so that a trace does not depend on timing.
//!
//! The kernel puts every loopback packet of a CPU into one queue and works it off in order. A
//! process that stays on one CPU therefore knows that everything it sent before has been received
//! once a packet of its own has come back: the *marker*. It travels over a socket that is made and
//! used without libc and so is unknown to a preloaded library; its number is beyond those that
//! the sequences see.

use std::mem;

use libc::{c_int, sockaddr_in};

use crate::sys::raw;

/// Descriptors of the executor itself lie from here on.
pub(crate) const PRIVATE: c_int = 900;

/// Not yet sent bytes in a TCP socket's buffer (linux/sockios.h).
const SIOCOUTQNSD: i64 = 0x894b;

pub(crate) struct Settle {
    marker: c_int,
}

impl Settle {
    /// Ties the process to a CPU and makes the marker's socket.
    ///
    /// # Errors
    ///
    /// Says which call failed, with its errno.
    pub(crate) fn new(cpu: usize) -> Result<Self, String> {
        pin(cpu)?;
        let low = checked(
            "socket",
            libc::SYS_socket,
            [2, libc::SOCK_DGRAM.into(), 0, 0, 0, 0],
        )?;
        let fd = checked(
            "fcntl",
            libc::SYS_fcntl,
            [low, libc::F_DUPFD_CLOEXEC.into(), PRIVATE.into(), 0, 0, 0],
        )?;
        checked("close", libc::SYS_close, [low, 0, 0, 0, 0, 0])?;
        // SAFETY: all-zero is a valid sockaddr_in.
        let mut address: sockaddr_in = unsafe { mem::zeroed() };
        address.sin_family = libc::AF_INET as u16;
        address.sin_addr.s_addr = u32::from_ne_bytes([127, 0, 0, 1]);
        let mut length = size_of::<sockaddr_in>() as i64;
        let place = (&raw mut address) as i64;
        checked("bind", libc::SYS_bind, [fd, place, length, 0, 0, 0])?;
        let length_place = (&raw mut length) as i64;
        checked(
            "getsockname",
            libc::SYS_getsockname,
            [fd, place, length_place, 0, 0, 0],
        )?;
        checked("connect", libc::SYS_connect, [fd, place, 16, 0, 0, 0])?;
        Ok(Self {
            marker: fd as c_int,
        })
    }

    /// Returns when everything that this process sent over loopback has been received.
    pub(crate) fn barrier(&self) {
        let mut byte = 0_u8;
        let args = [self.marker.into(), (&raw mut byte) as i64, 1, 0, 0, 0];
        // SAFETY: one byte to send, and one byte of room for it to come back.
        unsafe {
            raw(libc::SYS_sendto, args);
            while raw(libc::SYS_recvfrom, args) == -i64::from(libc::EINTR) {}
        }
    }

    /// Returns when no TCP socket among `fds` holds back bytes (Nagle's algorithm, RFC 896, waits
    /// for the peer's acknowledgement), or after 60 ms if a full window keeps them (an acknowledgement is
    /// delayed by 40 ms at most).
    pub(crate) fn unsent(&self, fds: &[c_int]) {
        for _ in 0..60 {
            self.barrier();
            if !fds.iter().any(|&fd| holds_unsent(fd)) {
                return;
            }
            nap();
        }
    }
}

fn holds_unsent(fd: c_int) -> bool {
    let mut bytes: c_int = 0;
    let args = [fd.into(), SIOCOUTQNSD, (&raw mut bytes) as i64, 0, 0, 0];
    // SAFETY: the request writes an int. On what is not a TCP socket it is an error, or (Unix
    // sockets do not know it) leaves 0.
    unsafe { raw(libc::SYS_ioctl, args) == 0 && bytes > 0 }
}

fn nap() {
    let time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 1_000_000,
    };
    // SAFETY: a valid time to sleep; the remainder is not wanted.
    unsafe {
        raw(
            libc::SYS_nanosleep,
            [(&raw const time) as i64, 0, 0, 0, 0, 0],
        )
    };
}

fn pin(cpu: usize) -> Result<(), String> {
    let mut allowed = [0_u64; 16];
    let size = size_of_val(&allowed) as i64;
    let args = [0, size, (&raw mut allowed) as i64, 0, 0, 0];
    let bytes = checked("sched_getaffinity", libc::SYS_sched_getaffinity, args)?;
    let cpus: Vec<usize> = (0..bytes as usize * 8)
        .filter(|cpu| allowed[cpu / 64] >> (cpu % 64) & 1 == 1)
        .collect();
    let chosen = cpus[cpu % cpus.len()];
    let mut only = [0_u64; 16];
    only[chosen / 64] = 1 << (chosen % 64);
    let args = [0, size, (&raw const only) as i64, 0, 0, 0];
    checked("sched_setaffinity", libc::SYS_sched_setaffinity, args)?;
    Ok(())
}

fn checked(what: &str, number: i64, args: [i64; 6]) -> Result<i64, String> {
    // SAFETY: the callers in this file pass pointers to live locals of the type that the call wants.
    let result = unsafe { raw(number, args) };
    if result < 0 {
        return Err(format!(
            "{what}: {}",
            std::io::Error::from_raw_os_error(-result as i32)
        ));
    }
    Ok(result)
}
