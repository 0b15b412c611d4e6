//! Whether the cores are short: then spinning takes them from those who would end the wait.

use rustix::process::{Pid, sched_getaffinity};

/// How many cores the calling thread may run on. One if the kernel does not tell.
pub fn allowed() -> u32 {
    sched_getaffinity(None::<Pid>).map_or(1, |set| set.count())
}

/// The core that the caller runs on, if that is known. 7 ns: glibc reads it where the kernel keeps it
/// up to date (rseq(2)).
pub fn current() -> Option<u32> {
    // SAFETY: no preconditions; no libc that we know of lets it be interposed or allocate.
    u32::try_from(unsafe { libc::sched_getcpu() }).ok()
}

/// How often the calling thread was taken off its core although it had work (getrusage(2),
/// `ru_nivcsw`). Counts up and wraps.
pub fn preemptions() -> u32 {
    let mut usage = core::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the kernel writes one rusage to where the pointer says, or fails and writes nothing;
    // all zero is a valid one.
    unsafe {
        let _ = syscalls::syscall!(
            syscalls::Sysno::getrusage,
            libc::RUSAGE_THREAD,
            usage.as_mut_ptr()
        );
        usage.assume_init().ru_nivcsw as u32
    }
}
