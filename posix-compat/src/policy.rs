//! The policy in force in this process, and how it changes while the program runs.
//!
//! A selection asks for the policy with [`with`]: two atomic operations and a pointer. Before that
//! it gives the policy a chance to change, with [`refresh`]: at most every few milliseconds the
//! policy file is looked at (one statx), and if it is another than before it is read, compiled and
//! put in force; a file with errors is refused, and the old policy stays. A program that cannot see
//! the file any more (it has changed its root or its user) follows the mailbox in shared memory, where
//! whoever has compiled a policy last has left it.
//!
//! No thread is started and no descriptor stays open. Reading a policy happens on a stack of its
//! own, in an arena of its own, with signals blocked, in one thread at a time; others go on with the
//! policy that they have.

mod load;
mod source;

use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering, fence};

use dmm_nsocket::stats::{Counter, Segment};
use dmm_policy::Matcher;

use crate::alloc::Arena;
use crate::{clock, process, sandbox};

pub(crate) use load::init;

/// How long the file is not looked at again, in nanoseconds.
const LOOK_EVERY: u64 = 5_000_000;

/// A policy in force: everything in it, and the value itself, lies in its arena.
pub(crate) struct Live {
    pub(crate) matcher: Matcher,
    arena: ptr::NonNull<Arena>,
    /// The next one that waits to be given back.
    retired: *mut Self,
}

static CURRENT: AtomicPtr<Live> = AtomicPtr::new(ptr::null_mut());

/// Selections that may hold a reference to a policy. A handler that jumps out of one (siglongjmp(3))
/// leaves its count behind, and so does a fork in another thread: then policies that are replaced are
/// kept, a quarter of a megabyte each.
static READERS: AtomicU32 = AtomicU32::new(0);

/// Policies that are not in force any more, but may still be referred to. Touched by the holder of
/// [`LOADING`] alone.
static RETIRED: AtomicPtr<Live> = AtomicPtr::new(ptr::null_mut());

/// The process that is loading a policy, or 0. A child that has inherited the number of its parent
/// takes the lock over.
static LOADING: AtomicU32 = AtomicU32::new(0);

static LAST_LOOK: AtomicU64 = AtomicU64::new(0);

/// Runs `f` with the policy in force. `None` only where not even the built-in one could be set up.
pub(crate) fn with<R>(f: impl FnOnce(&Live) -> R) -> Option<R> {
    struct Reading;
    impl Drop for Reading {
        fn drop(&mut self) {
            READERS.fetch_sub(1, Ordering::SeqCst);
        }
    }
    READERS.fetch_add(1, Ordering::SeqCst);
    let _reading = Reading;
    // SAFETY: a policy that is replaced is given back only when no reader is left that could have
    // seen it: this one has announced itself before it looked (both sequentially consistent).
    unsafe { CURRENT.load(Ordering::SeqCst).as_ref() }.map(f)
}

/// Gives the policy a chance to change. Cheap when it has not.
pub(crate) fn refresh() {
    if sandbox::is_entered() {
        return;
    }
    let now = clock::coarse();
    let last = LAST_LOOK.load(Ordering::Relaxed);
    if now.wrapping_sub(last) < LOOK_EVERY {
        return;
    }
    if LAST_LOOK
        .compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed)
        .is_ok()
    {
        load::look();
    }
}

/// Version and file of the policy in force, for the statistics segment.
pub(crate) fn identity() -> (u64, &'static [u8]) {
    let hash = with(|live| live.matcher.image().text_hash()).unwrap_or(0);
    (hash, source::display_path())
}

/// Tells a new segment what has been found before there was one.
pub(crate) fn publish_identity(segment: &Segment) {
    let (hash, path) = identity();
    segment.set_policy(hash, path);
    load::with_last_error(|error| {
        segment.set_policy_error(error);
        segment.add(Counter::PolicyRefusals, 1);
    });
}

/// Puts a policy in force. Only the holder of [`LOADING`] calls it.
fn install(live: *mut Live) {
    let old = CURRENT.swap(live, Ordering::SeqCst);
    // SAFETY: the lock is held, so nobody else touches the list or the link of a replaced policy.
    if let Some(old) = unsafe { old.as_mut() } {
        old.retired = RETIRED.swap(ptr::null_mut(), Ordering::Relaxed);
        RETIRED.store(old, Ordering::Relaxed);
    }
    give_back();
}

/// Gives back what nobody can refer to any more.
fn give_back() {
    fence(Ordering::SeqCst);
    if READERS.load(Ordering::SeqCst) != 0 {
        return;
    }
    let mut next = RETIRED.swap(ptr::null_mut(), Ordering::Relaxed);
    while let Some(live) = ptr::NonNull::new(next) {
        // SAFETY: since the policies left CURRENT there was a moment without any reader; the arena
        // was made by `Box`-like `load::new_arena` and holds the `Live` itself.
        unsafe {
            next = live.as_ref().retired;
            let arena = live.as_ref().arena;
            load::free_arena(arena);
        }
    }
}

/// Takes the loading lock, if nobody has it.
fn try_lock() -> bool {
    let me = process::pid();
    match LOADING.compare_exchange(0, me, Ordering::Acquire, Ordering::Relaxed) {
        Ok(_) => true,
        Err(holder) if holder != me => LOADING
            .compare_exchange(holder, me, Ordering::Acquire, Ordering::Relaxed)
            .is_ok(),
        Err(_) => false,
    }
}

fn unlock() {
    LOADING.store(0, Ordering::Release);
}
