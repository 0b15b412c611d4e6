//! Signals of the process, as something to wait for.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;

use rustix::event::EventfdFlags;
use signal_hook_registry::SigId;

use crate::fs::ready;

/// The signals of some numbers, from its making on.
///
/// While there is one, the signal does not do what it does by default: a program that waits for
/// `SIGTERM` is not ended by it. Other handlers that were there go on being called.
pub struct Signals {
    /// Written to by the handler, which may do little else.
    arrived: Rc<OwnedFd>,
    handlers: Vec<SigId>,
}

impl Signals {
    /// Listens to these signals (`libc::SIGTERM`).
    ///
    /// # Errors
    ///
    /// Those of eventfd(2) and sigaction(2).
    ///
    /// # Panics
    ///
    /// For signals that cannot be handled or must not be: `SIGKILL`, `SIGSTOP`, `SIGILL`, `SIGFPE`,
    /// `SIGSEGV`.
    pub fn new(numbers: &[i32]) -> io::Result<Self> {
        let arrived = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let mut signals = Self {
            arrived: Rc::new(arrived),
            handlers: Vec::new(),
        };
        for number in numbers {
            let bell = signals.arrived.try_clone()?;
            let handler = move || {
                // A raw system call, as errno belongs to who was interrupted. A full counter is fine.
                let _ = rustix::io::write(&bell, &1u64.to_ne_bytes());
            };
            // SAFETY: the handler makes one system call on a descriptor that it owns, nothing more.
            let id = unsafe { signal_hook_registry::register(*number, handler)? };
            signals.handlers.push(id);
        }
        Ok(signals)
    }

    /// Waits for one of them. Several that come at once may be told as one.
    ///
    /// # Errors
    ///
    /// Those of poll(2).
    ///
    /// # Panics
    ///
    /// Outside of a shard.
    pub async fn recv(&mut self) -> io::Result<()> {
        loop {
            match rustix::io::read(&*self.arrived, &mut [0; 8]) {
                Ok(_) => return Ok(()),
                Err(rustix::io::Errno::AGAIN) => {
                    ready(&self.arrived, libc::POLLIN as u32).await?;
                }
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        for id in self.handlers.drain(..) {
            signal_hook_registry::unregister(id);
        }
        debug_assert!(self.arrived.as_raw_fd() >= 0);
    }
}

/// Waits for `SIGINT` or `SIGTERM`: what asks a server to end.
///
/// # Errors
///
/// As [`Signals::new`].
///
/// # Panics
///
/// Outside of a shard.
pub async fn asked_to_end() -> io::Result<()> {
    Signals::new(&[libc::SIGINT, libc::SIGTERM])?.recv().await
}
