//! A TCP socket of the kernel's that is made to ask one question, and closed.
//!
//! Except where a connection matters, the kernel judges an option of a fresh socket as it does one of
//! a connected socket, with this program's privileges and in its network namespace. So what is not
//! known here is asked of the kernel: an errno, a default, or what it makes of a value.

use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, OwnedFd};

use dmm_nsocket::sys;
use libc::c_int;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use syscalls::{Sysno, syscall};

use super::Refused;
use crate::sandbox;

/// Not dropped as `OwnedFd`s are: that would call `close`, which is ours.
pub(super) struct Scratch(ManuallyDrop<OwnedFd>);

/// What an option that nothing here holds means, once the kernel has accepted its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Nothing: the option reads as it did before.
    None,
    /// Something that a session would have to do.
    Some,
}

impl Scratch {
    /// A fresh socket of `domain`.
    ///
    /// # Errors
    /// [`Refused::Unsupported`] where the program has given up its system calls. ENOBUFS where there is
    /// no room for another descriptor, as these calls may say so and not EMFILE.
    pub(super) fn open(domain: c_int) -> Result<Self, Refused> {
        if sandbox::is_entered() {
            return Err(Refused::Unsupported(libc::ENOPROTOOPT));
        }
        let family = if domain == libc::AF_INET6 {
            AddressFamily::INET6
        } else {
            AddressFamily::INET
        };
        rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)
            .map(|socket| Self(ManuallyDrop::new(socket)))
            .map_err(|_| Refused::Errno(libc::ENOBUFS))
    }

    /// setsockopt(2).
    pub(super) fn set(&self, level: c_int, name: c_int, value: &[u8]) -> Result<(), Refused> {
        sys::setsockopt(&*self.0, level, name, value).map_err(refused)
    }

    /// getsockopt(2).
    pub(super) fn get(&self, level: c_int, name: c_int, out: &mut [u8]) -> Result<usize, Refused> {
        sys::getsockopt(&*self.0, level, name, out).map_err(refused)
    }

    /// getsockopt(2) of an `int`.
    pub(super) fn int(&self, level: c_int, name: c_int) -> Result<c_int, Refused> {
        sys::getsockopt_int(&*self.0, level, name).map_err(refused)
    }

    /// Sets an option that nothing here holds, and says whether that means anything.
    pub(super) fn judge(
        &self,
        level: c_int,
        name: c_int,
        value: &[u8],
    ) -> Result<Meaning, Refused> {
        const LONGEST: usize = 64;
        let (mut before, mut after) = ([0; LONGEST], [0; LONGEST]);
        let read_before = self.get(level, name, &mut before);
        self.set(level, name, value)?;
        let read_after = self.get(level, name, &mut after);
        if read_before.is_ok() && read_before == read_after && before == after {
            Ok(Meaning::None)
        } else {
            Ok(Meaning::Some)
        }
    }

    /// The MTU of the loopback device, by SIOCGIFMTU of netdevice(7).
    pub(super) fn loopback_mtu(&self) -> Option<u32> {
        #[repr(C)]
        struct InterfaceRequest {
            name: [u8; libc::IFNAMSIZ],
            mtu: c_int,
            rest: [u8; 20],
        }
        let mut request = InterfaceRequest {
            name: [0; libc::IFNAMSIZ],
            mtu: 0,
            rest: [0; 20],
        };
        request.name[..LOOPBACK.len()].copy_from_slice(LOOPBACK);
        // SAFETY: the kernel reads and writes one ifreq, which is as large and borrowed for the call.
        let result = unsafe {
            syscall!(
                Sysno::ioctl,
                self.0.as_raw_fd(),
                libc::SIOCGIFMTU,
                &raw mut request
            )
        };
        result.ok()?;
        u32::try_from(request.mtu).ok()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // SAFETY: the descriptor is ours alone, and is not used after this.
        unsafe { rustix::io::close(self.0.as_raw_fd()) };
    }
}

/// The name of the loopback device.
pub(super) const LOOPBACK: &[u8] = b"lo";

fn refused(errno: Errno) -> Refused {
    Refused::Errno(errno.raw_os_error())
}
