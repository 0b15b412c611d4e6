//! The one system call of a turn.

use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

use io_uring::{EnterFlags, IoUring};
use syscalls::{Sysno, syscall};

use super::encode::timespec;

/// The way into the kernel: by a registered index, which saves looking the descriptor up, or by the
/// descriptor itself.
#[derive(Debug)]
pub(super) struct Entrance {
    fd: i32,
    flags: EnterFlags,
}

/// `struct io_uring_getevents_arg`
#[repr(C)]
struct Argument {
    sigmask: u64,
    sigmask_size: u32,
    min_wait_us: u32,
    time: u64,
}

/// `struct io_uring_rsrc_update`
#[repr(C)]
struct Registration {
    offset: u32,
    reserved: u32,
    data: u64,
}

const REGISTER_RING_FDS: u32 = 20;

impl Entrance {
    pub(super) fn plain(ring: &IoUring) -> Self {
        Self {
            fd: ring.as_raw_fd(),
            flags: EnterFlags::empty(),
        }
    }

    /// Registers the ring with this thread (`IORING_REGISTER_RING_FDS`); the kernel forgets that with
    /// the thread.
    pub(super) fn registered(ring: &IoUring) -> io::Result<Self> {
        let mut registration = Registration {
            offset: u32::MAX,
            reserved: 0,
            data: ring.as_raw_fd() as u64,
        };
        // SAFETY: the kernel reads and writes one registration, which is borrowed for the call.
        unsafe {
            syscall!(
                Sysno::io_uring_register,
                ring.as_raw_fd(),
                REGISTER_RING_FDS,
                &raw mut registration,
                1
            )
        }
        .map_err(from_errno)?;
        Ok(Self {
            fd: registration.offset as i32,
            flags: EnterFlags::REGISTERED_RING,
        })
    }

    /// Submits what is in the queue, and waits for `want` completions, for `limit` at most. Returning
    /// early is no error, whatever for.
    pub(super) fn enter(
        &self,
        ring: &IoUring,
        want: u32,
        limit: Option<Duration>,
    ) -> io::Result<()> {
        // SAFETY: this thread alone has the submission queue (the ring is not `Sync`), and nobody
        // holds it during this call.
        let submit = unsafe { ring.submission_shared() }.len();
        let flags = self.flags | EnterFlags::GETEVENTS;
        let result = match limit.map(timespec) {
            // SAFETY: the entries that are submitted were pushed under the contract of `Driver::submit`.
            None => unsafe {
                syscall!(
                    Sysno::io_uring_enter,
                    self.fd,
                    submit,
                    want,
                    flags.bits(),
                    0,
                    0
                )
            },
            Some(time) => {
                let argument = Argument {
                    sigmask: 0,
                    sigmask_size: 0,
                    min_wait_us: 0,
                    time: &raw const time as u64,
                };
                let flags = flags | EnterFlags::EXT_ARG;
                // SAFETY: as above; the argument, and the time that it points at, live during the call.
                unsafe {
                    syscall!(
                        Sysno::io_uring_enter,
                        self.fd,
                        submit,
                        want,
                        flags.bits(),
                        &raw const argument,
                        size_of::<Argument>()
                    )
                }
            }
        };
        match result.map_err(from_errno) {
            Ok(_) => Ok(()),
            Err(error) => match error.raw_os_error() {
                // Interrupted; time is over; completions must be taken first; memory is short.
                Some(libc::EINTR | libc::ETIME | libc::EBUSY | libc::EAGAIN) => Ok(()),
                _ => Err(error),
            },
        }
    }
}

fn from_errno(errno: syscalls::Errno) -> io::Error {
    io::Error::from_raw_os_error(errno.into_raw())
}
