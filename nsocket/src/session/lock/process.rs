//! The calling thread's [`Identity`], for the price of two loads.
//!
//! A thread keeps its identity in thread-local memory, which `fork` copies: the child would take
//! itself for its parent. So each identity is of an *incarnation* of the process, and the number of
//! the incarnation is on a page that the kernel wipes in a child (madvise(2), `MADV_WIPEONFORK`),
//! however the child was made. Only a child that shares its parent's memory (vfork(2)) goes by the
//! parent's identity; the parent's thread is suspended meanwhile.

use std::cell::Cell;
use std::ptr::null_mut;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicPtr, AtomicU64};

use rustix::mm::{Advice, MapFlags, ProtFlags};

use super::Identity;

thread_local! {
    /// The identity's word, and the incarnation that it is of; zero if there is none yet.
    static KNOWN: Cell<(u64, u64)> = const { Cell::new((0, 0)) };
}

/// What all threads of a process know. Wiped in a child.
struct Page {
    /// Never zero once it is known.
    incarnation: AtomicU64,
    /// The PID namespace's hash; stored before the incarnation.
    namespace: AtomicU64,
}

static PAGE: AtomicPtr<Page> = AtomicPtr::new(null_mut());

impl Identity {
    /// The calling thread's. Two loads, but for the first call of a thread and the first after a fork
    /// (some microseconds). May be called in signal handlers.
    ///
    /// `None` where it cannot be told: no memory for a page, or no thread ID that fits.
    #[inline]
    pub fn current() -> Option<Self> {
        let page = PAGE.load(Acquire);
        if !page.is_null() {
            // SAFETY: a page that was published is never unmapped.
            let now = unsafe { &*page }.incarnation.load(Relaxed);
            let (word, known) = KNOWN.get();
            if now != 0 && now == known {
                return Self::of(word);
            }
        }
        find_out()
    }

    /// A number that is another one in each process, whatever has made it; but for a child that borrows
    /// its parent's memory (vfork(2)), which goes by the parent's. `None` where there is none.
    #[inline]
    pub fn incarnation() -> Option<u64> {
        let known = || {
            // SAFETY: null, or a page that is never unmapped.
            let page = unsafe { PAGE.load(Acquire).as_ref() }?;
            Some(page.incarnation.load(Relaxed)).filter(|now| *now != 0)
        };
        known().or_else(|| {
            find_out()?;
            known()
        })
    }
}

#[cold]
fn find_out() -> Option<Identity> {
    let page = page()?;
    let mut incarnation = page.incarnation.load(Acquire);
    if incarnation == 0 {
        page.namespace.store(u64::from(namespace()), Relaxed);
        // Later than the parent's, unless that has only just been made; but it was made before a
        // fork, which takes far longer than a nanosecond.
        let new = nanoseconds().max(1);
        incarnation = match page.incarnation.compare_exchange(0, new, Release, Acquire) {
            Ok(_) => new,
            Err(other) => other,
        };
    }
    let tid = rustix::thread::gettid().as_raw_nonzero().get() as u32;
    let identity = Identity::new(
        tid,
        nanoseconds() / NANOSECONDS_IN_TICK,
        page.namespace.load(Relaxed) as u8,
    )?;
    KNOWN.set((identity.word(), incarnation));
    Some(identity)
}

/// /proc counts in hundredths of a second (`USER_HZ`) on all machines of today.
const NANOSECONDS_IN_TICK: u64 = 10_000_000;

/// Since the machine was started, as /proc counts the age of threads.
///
/// By libc, whose function is async-signal-safe: rustix looks for the vDSO by itself, and dies where
/// there is none although the kernel has told of one (under valgrind). So it does for the page size.
fn nanoseconds() -> u64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: a place for the result. Linux has had this clock since 2.6.39, so it does not fail.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// The hash of the caller's PID namespace; 0 if it cannot be told (no /proc).
pub(super) fn namespace() -> u8 {
    let Ok(stat) = rustix::fs::stat(c"/proc/self/ns/pid") else {
        return 0;
    };
    // Inode numbers of namespaces are consecutive; those of machines that boot alike are alike.
    (stat.st_ino % 127) as u8 + 1
}

fn page() -> Option<&'static Page> {
    let known = PAGE.load(Acquire);
    let page = if known.is_null() { publish()? } else { known };
    // SAFETY: a page that was published is never unmapped; it is larger than the struct, aligned, and
    // atomics may have any content.
    Some(unsafe { &*page })
}

fn publish() -> Option<*mut Page> {
    // Mapped, and wiped, by whole pages.
    let len = size_of::<Page>();
    // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing.
    let new = unsafe {
        rustix::mm::mmap_anonymous(
            null_mut(),
            len,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::PRIVATE,
        )
    }
    .ok()?;
    // SAFETY: the mapping is ours.
    let wiped = unsafe { rustix::mm::madvise(new, len, Advice::LinuxWipeOnFork) };
    let published = match wiped {
        Ok(()) => PAGE.compare_exchange(null_mut(), new.cast(), Release, Acquire),
        Err(_) => Err(null_mut()),
    };
    match published {
        Ok(_) => Some(new.cast()),
        Err(other) => {
            // SAFETY: the mapping is ours, and nobody else has seen it.
            let _ = unsafe { rustix::mm::munmap(new, len) };
            (!other.is_null()).then_some(other)
        }
    }
}
