//! Waiting for a word of memory, as threads do with futex(2).

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use rustix::io::Errno;

use crate::reactor::once::Once;
use crate::reactor::request::Request;
use crate::reactor::{DriverKind, Feature};
use crate::shard::current;

/// Waits while `word` has the value `expected`, until it is woken (futex(2), `FUTEX_WAKE`, of this process).
/// May return early: look at the word.
///
/// # Errors
///
/// [`Unsupported`](io::ErrorKind::Unsupported) where the kernel's ring cannot do that (before Linux 6.7), or
/// there is no ring: see [`features`](crate::features).
///
/// # Panics
///
/// Outside of a shard.
pub async fn futex_wait(word: &Arc<AtomicU32>, expected: u32) -> io::Result<()> {
    let local = current();
    let features = local.reactor().features();
    if features.driver() != DriverKind::IoUring || !features.has(Feature::FutexWait) {
        let why = features
            .why_not(Feature::FutexWait)
            .or_else(|| features.why_not(Feature::IoUring));
        return Err(io::Error::new(
            io::ErrorKind::Unsupported,
            format!("no futex wait: {}", why.unwrap_or("not this driver")),
        ));
    }
    // SAFETY: the request points at the word, which the payload keeps where it is.
    let waited = unsafe {
        Once::start(local.reactor(), Arc::clone(word), |word| Request::Futex {
            word: word.as_ptr(),
            expected,
        })
    };
    match waited.await.0 {
        // It has another value already, or was interrupted.
        Ok(_) | Err(Errno::AGAIN | Errno::INTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}
