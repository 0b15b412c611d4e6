//! The limits of socket buffers: net.core.wmem_max, rmem_max, and the least that a buffer can be.

use std::sync::atomic::{AtomicU32, Ordering};

use libc::{SOL_SOCKET, c_int};

use super::Refused;
use super::scratch::Scratch;

/// The limits of one direction, as the kernel said once: it accepts any size and makes it fit.
pub(super) struct Limits {
    name: c_int,
    /// What the smallest size reads back as; 0 before it was asked.
    least: AtomicU32,
    /// What the largest size reads back as.
    most: AtomicU32,
}

/// Of SO_SNDBUF.
pub(super) static SEND: Limits = Limits::new(libc::SO_SNDBUF);

/// Of SO_RCVBUF.
pub(super) static RECEIVE: Limits = Limits::new(libc::SO_RCVBUF);

/// What SO_RCVBUF says of a socket that it was not set of (net.ipv4.tcp_rmem), asked once.
pub(crate) fn usual_receive_buffer() -> u32 {
    static USUAL: AtomicU32 = AtomicU32::new(0);
    /// What Linux has.
    const DEFAULT: u32 = 131_072;
    match USUAL.load(Ordering::Relaxed) {
        0 => {
            let asked = Scratch::open(libc::AF_INET)
                .and_then(|scratch| scratch.int(SOL_SOCKET, libc::SO_RCVBUF));
            let usual = asked.map_or(DEFAULT, |size| size.max(1) as u32);
            USUAL.store(usual, Ordering::Relaxed);
            usual
        }
        known => known,
    }
}

impl Limits {
    const fn new(name: c_int) -> Self {
        Self {
            name,
            least: AtomicU32::new(0),
            most: AtomicU32::new(0),
        }
    }

    /// What the kernel makes of a size: the double of it, within its limits (socket(7)).
    pub(super) fn fit(&self, asked: c_int) -> Result<c_int, Refused> {
        let (least, most) = self.known()?;
        Ok((asked as u32).saturating_mul(2).clamp(least, most) as c_int)
    }

    /// The least that a buffer can be, as it is read back.
    pub(super) fn least(&self) -> Result<c_int, Refused> {
        Ok(self.known()?.0 as c_int)
    }

    fn known(&self) -> Result<(u32, u32), Refused> {
        let least = self.least.load(Ordering::Acquire);
        if least != 0 {
            return Ok((least, self.most.load(Ordering::Relaxed)));
        }
        let scratch = Scratch::open(libc::AF_INET)?;
        let fitted = |size: c_int| -> Result<u32, Refused> {
            scratch.set(SOL_SOCKET, self.name, &size.to_ne_bytes())?;
            Ok(scratch.int(SOL_SOCKET, self.name)?.max(1) as u32)
        };
        let least = fitted(0)?;
        let most = fitted(c_int::MAX)?.max(least);
        self.most.store(most, Ordering::Relaxed);
        self.least.store(least, Ordering::Release);
        Ok((least, most))
    }
}
