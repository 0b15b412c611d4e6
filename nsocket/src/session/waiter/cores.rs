//! Whether the cores are short: then spinning takes them from those who would end the wait.

/// How many cores the calling thread may run on. One if the kernel does not tell.
pub(super) fn allowed() -> u32 {
    rustix::thread::sched_getaffinity(None).map_or(1, |set| set.count())
}

/// The core that the caller runs on: to be published with
/// [`WaiterPage::publish_core`](super::WaiterPage::publish_core).
#[inline]
pub fn current() -> u32 {
    rustix::thread::sched_getcpu() as u32
}

/// How often the calling thread was taken off its core although it had work (getrusage(2),
/// `ru_nivcsw`). Counts up and wraps.
pub(super) fn preemptions() -> u32 {
    let mut usage = core::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the kernel writes one rusage to where the pointer says, or fails and writes nothing.
    let _ = unsafe {
        syscalls::syscall!(
            syscalls::Sysno::getrusage,
            libc::RUSAGE_THREAD,
            usage.as_mut_ptr()
        )
    };
    // SAFETY: all zero is a valid rusage, and so is what the kernel has written.
    unsafe { usage.assume_init() }.ru_nivcsw as u32
}
