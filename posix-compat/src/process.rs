//! What belongs to this process and not to the one it was forked from.
//!
//! It lives in a page that the kernel wipes on every fork (MADV_WIPEONFORK), also on one that is
//! made by a raw system call: so a child never takes its parent's statistics segment for its own,
//! and no fork handler is needed. A child that uses a socket makes a segment of its own then, and
//! takes over the records of the descriptors that it has inherited.

use std::cell::{Cell, UnsafeCell};
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use dmm_nsocket::fresh::Pool;
use dmm_nsocket::stats::{CreateInfo, Segment};
use dmm_nsocket::table::Table;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

use crate::{env, sandbox};

/// The process's descriptors.
pub(crate) static TABLE: Table = Table::new();

/// The process's sockets that are not bound to a stack yet.
pub(crate) static FRESH: Pool = Pool::new();

/// How often this process has forked.
static FORKS: AtomicU32 = AtomicU32::new(0);

/// The wiped page; null until [`init`], and where it could not be made.
static OWN: AtomicPtr<Own> = AtomicPtr::new(ptr::null_mut());

/// The segment that this process or an ancestor has made last: what a child takes over from.
static LATEST: AtomicPtr<Segment> = AtomicPtr::new(ptr::null_mut());

thread_local! {
    /// Above 0 in the child of vfork, which runs in its parent's memory (and this variable): it must
    /// leave no trace there. One more in its own child of that kind.
    static BORROWED: Cell<i32> = const { Cell::new(0) };
}

const NONE: u32 = 0;
const MAKING: u32 = 1;
const READY: u32 = 2;
const FAILED: u32 = 3;

/// All zeroes in a process that has not filled it in.
struct Own {
    pid: AtomicU32,
    state: AtomicU32,
    segment: UnsafeCell<MaybeUninit<Segment>>,
}

/// Makes the wiped page. Called once, from the constructor.
pub(crate) fn init() {
    const _: () = assert!(size_of::<Own>() <= 4096);
    // SAFETY: a new private mapping at an address of the kernel's choice.
    let page = unsafe {
        mmap_anonymous(
            ptr::null_mut(),
            4096,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::PRIVATE,
        )
    };
    let Ok(page) = page else { return };
    // SAFETY: the page was mapped just now; the advice changes what a child sees of it.
    if unsafe { madvise(page, 4096, Advice::LinuxWipeOnFork) }.is_ok() {
        OWN.store(page.cast(), Ordering::Release);
    }
}

fn own() -> Option<&'static Own> {
    // SAFETY: null, or a page that is never unmapped and of which all contents are valid.
    unsafe { OWN.load(Ordering::Acquire).as_ref() }
}

/// The process's id.
pub(crate) fn pid() -> u32 {
    let ask = || rustix::process::getpid().as_raw_nonzero().get() as u32;
    let Some(own) = own() else { return ask() };
    match own.pid.load(Ordering::Relaxed) {
        0 => {
            let pid = ask();
            own.pid.store(pid, Ordering::Relaxed);
            pid
        }
        pid => pid,
    }
}

/// How often this process has forked.
pub(crate) fn forks() -> u32 {
    FORKS.load(Ordering::Relaxed)
}

/// A fork is about to happen: sockets made before it may be shared from now on.
pub(crate) fn forking() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}

/// Whether this is the child of a vfork, in its parent's memory but with its own descriptors.
#[inline]
pub(crate) fn is_borrowed() -> bool {
    BORROWED.get() > 0
}

/// A vfork begins (in the parent: 1), or has ended (there again: -1).
pub(crate) fn borrow(change: i32) {
    BORROWED.set(BORROWED.get() + change);
}

/// The segment of this process, if it has one already: for data paths.
#[inline]
pub(crate) fn segment() -> Option<&'static Segment> {
    let own = own()?;
    if own.state.load(Ordering::Acquire) != READY {
        return adopt(own);
    }
    // SAFETY: written before the state became READY, never after.
    Some(unsafe { (*own.segment.get()).assume_init_ref() })
}

/// The segment of this process, if it has one already.
pub(crate) fn existing_segment() -> Option<&'static Segment> {
    let ready = own()?.state.load(Ordering::Acquire) == READY;
    ready.then(segment).flatten()
}

/// Makes this process's segment. Only the first caller does; others go without until it is there.
#[cold]
fn adopt(own: &'static Own) -> Option<&'static Segment> {
    if is_borrowed() || sandbox::is_entered() {
        return None;
    }
    own.state
        .compare_exchange(NONE, MAKING, Ordering::Acquire, Ordering::Relaxed)
        .ok()?;
    let made = create();
    let Some(made) = made else {
        own.state.store(FAILED, Ordering::Release);
        return None;
    };
    // SAFETY: the state MAKING makes this thread the only one to touch the place.
    let segment: &'static Segment = unsafe { (*own.segment.get()).write(made) };
    // SAFETY: a segment that an ancestor has made stays mapped. Its place in the wiped page does
    // not; `LATEST` points at a copy that is not wiped.
    if let Some(parent) = unsafe { LATEST.load(Ordering::Acquire).as_ref() } {
        segment.inherit(parent, |fd| TABLE.load(fd).is_socket());
        // Nobody in this process has ever seen it but as the parent's.
        let mapping = parent.range();
        // SAFETY: only this thread refers to the parent's segment, and does so no more.
        let _ = unsafe { munmap(mapping.start as *mut _, mapping.len()) };
    }
    remember(segment);
    own.state.store(READY, Ordering::Release);
    crate::policy::publish_identity(segment);
    Some(segment)
}

/// Keeps a second view of the segment for children, outside the wiped page.
fn remember(segment: &'static Segment) {
    static PLACES: [Place; 2] = [Place::new(), Place::new()];
    struct Place(UnsafeCell<MaybeUninit<Segment>>);
    impl Place {
        const fn new() -> Self {
            Self(UnsafeCell::new(MaybeUninit::uninit()))
        }
    }
    // SAFETY: written only here, by the one thread that makes the segment of this process, and at
    // the place that the ancestor's (which `LATEST` points at) does not have.
    unsafe impl Sync for Place {}
    let used = LATEST.load(Ordering::Acquire);
    let free = PLACES
        .iter()
        .find(|place| place.0.get().cast::<Segment>() != used);
    if let Some(place) = free {
        let at = place.0.get().cast::<Segment>();
        // SAFETY: a bitwise copy that is never dropped (`Segment`s here live as long as the
        // process) and used only to read the mapping, which stays.
        unsafe { ptr::copy_nonoverlapping(segment, at, 1) };
        LATEST.store(at, Ordering::Release);
    }
}

fn create() -> Option<Segment> {
    let mut path = [0; 512];
    let mut command = [0; 256];
    let (policy_hash, policy_path) = crate::policy::identity();
    Segment::create(&CreateInfo {
        dir: env::shm_dir(),
        run_id: env::value(env::RUN_ID),
        program: program(&mut path),
        label: env::value(env::LABEL),
        argv0: argv0(&mut command),
        policy_hash,
        policy_path,
        // `dmm run --hist` sets a run id and collects; the file must outlive the process then.
        keep: env::variable(c"DMM_KEEP_STATS=") == Some(b"1"),
    })
    .ok()
}

/// Path of the program for people: as it was executed, if that is a whole path.
fn program(buffer: &mut [u8]) -> &[u8] {
    match env::executed_as() {
        path if path.starts_with(b"/") => path,
        _ => executable(buffer),
    }
}

/// Path of the executable; empty where there is no /proc.
pub(crate) fn executable(buffer: &mut [u8]) -> &[u8] {
    let len =
        rustix::fs::readlinkat_raw(rustix::fs::CWD, c"/proc/self/exe", &mut *buffer).unwrap_or(0);
    &buffer[..len]
}

/// The first argument.
fn argv0(buffer: &mut [u8]) -> &[u8] {
    let len = crate::files::read_start(c"/proc/self/cmdline", buffer).unwrap_or(0);
    buffer[..len].split(|byte| *byte == 0).next().unwrap_or(b"")
}

/// An orderly end of the program.
pub(crate) fn finish() {
    if !is_borrowed()
        && !sandbox::is_entered()
        && let Some(segment) = existing_segment()
    {
        segment.finish();
    }
}

/// An exec is about to take this program's place: its segment's file goes with it.
pub(crate) fn exec_leaves() -> Option<&'static Segment> {
    existing_segment().filter(|_| !is_borrowed())
}
