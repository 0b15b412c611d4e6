//! Programs that give up their right to make system calls (seccomp(2)).
//!
//! A filter that kills knows nothing of the calls that DMM makes for itself. So when a program enters
//! such a sandbox, what can be prepared is prepared, and from then on there are none: the policy does
//! not change any more, sockets that are made or accepted are the kernel's, and statistics go where
//! there is memory for them already. Sockets that are bound to a stack go on as they are.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::process;

/// In ordinary memory: a child of a sandboxed process is sandboxed as well.
static ENTERED: AtomicBool = AtomicBool::new(false);

/// Whether the process must not make system calls that the program has not asked for.
#[inline]
pub(crate) fn is_entered() -> bool {
    ENTERED.load(Ordering::Relaxed)
}

/// A filter is about to be set.
pub(crate) fn prepare() {
    // Its file and the record of every descriptor that is managed.
    let _ = process::segment();
}

/// The call that sets a filter has returned `result`, which is handed back.
pub(crate) fn entered<T: PartialOrd + Default + Copy>(result: T) -> T {
    if result >= T::default() {
        ENTERED.store(true, Ordering::Relaxed);
        dmm_nsocket::stats::stop_system_calls();
    }
    result
}
