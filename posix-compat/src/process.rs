//! What belongs to this process and not to the one it was forked from.
//!
//! It lives in a page that the kernel wipes on every fork (MADV_WIPEONFORK), also on one that is
//! made by a raw system call: so a child never takes its parent's statistics segment for its own,
//! and no fork handler is needed. A child that uses a socket makes a segment of its own then, and
//! takes over the records of the descriptors that it has inherited.
//!
//! Data paths do not look there. Beside a descriptor's entry in the table there is the address of its
//! counters, left by whoever has asked for its record. [`forked`] takes these addresses back in a
//! child. One that was made by a `syscall` instruction in the program itself keeps its parent's, and
//! what it moves over sockets that it has inherited is counted for its parent until it makes a socket
//! or looks at a record; then its own segment takes the parent's place, at the same addresses. No
//! segment is ever unmapped.

use std::cell::{Cell, UnsafeCell};
use std::ffi::c_int;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use dmm_nsocket::fresh::Pool;
use dmm_nsocket::stats::{Counters, CreateInfo, Segment, Socket};
use dmm_nsocket::table::{Slot, Table};
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous};

use crate::{env, real, sandbox};

/// What every call touches, in one page as far as possible: where the originals are, and behind that
/// the table, whose first descriptors are the busy ones.
#[repr(C, align(4096))]
struct Hot {
    originals: real::Originals,
    table: Table,
}

static HOT: Hot = Hot {
    originals: real::Originals::new(),
    table: Table::new(),
};

/// The functions that ours stand in front of.
pub(crate) static ORIGINALS: &real::Originals = &HOT.originals;

/// The process's descriptors.
pub(crate) static TABLE: &Table = &HOT.table;

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

/// In the child of a fork: what the table says of counters is its parent's.
pub(crate) fn forked() {
    TABLE.clear_addresses();
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

/// The counters of a descriptor, if its record was asked for in this process: for data paths.
#[inline(always)]
pub(crate) fn counters(slot: &Slot) -> Option<&'static Counters> {
    // SAFETY: null, or left by `record_at`: the counters of a record in a segment, which stays mapped
    // and has memory there. In a child they may for a while be its parent's, which is as sound.
    unsafe { slot.address().cast::<Counters>().as_ref() }
}

/// The record of a descriptor: an existing one where `find` does not take memory.
pub(crate) fn record_at(
    fd: c_int,
    find: impl FnOnce(&'static Segment, c_int) -> Option<Socket<'static>>,
) -> Option<Socket<'static>> {
    let record = find(segment()?, fd)?;
    if let Some(slot) = TABLE.slot(fd) {
        slot.set_address(ptr::from_ref(record.counters()).cast_mut().cast());
    }
    Some(record)
}

/// The segment of this process, made if need be.
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
    // SAFETY: a segment that an ancestor has made stays mapped. Its place in the wiped page does
    // not; `LATEST` points at a copy that is not wiped.
    let parent = unsafe { LATEST.load(Ordering::Acquire).as_ref() };
    let Some(mut made) = create(parent) else {
        own.state.store(FAILED, Ordering::Release);
        return None;
    };
    if let Some(parent) = parent {
        // Not every record that the parent had will have memory here.
        TABLE.clear_addresses();
        made.inherit(parent, |fd| TABLE.load(fd).is_socket());
        // SAFETY: only this thread knows of either as a segment, it does not use the parent's any
        // more, and what `LATEST` points at is never dropped.
        let _ = unsafe { made.take_place_of(parent) };
    }
    // SAFETY: the state MAKING makes this thread the only one to touch the place.
    let segment: &'static Segment = unsafe { (*own.segment.get()).write(made) };
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

fn create(parent: Option<&Segment>) -> Option<Segment> {
    let mut path = [0; 512];
    let mut command = [0; 256];
    let (policy_hash, policy_path) = crate::policy::identity();
    let info = CreateInfo {
        dir: env::shm_dir(),
        run_id: env::value(env::RUN_ID),
        program: program(&mut path),
        label: env::value(env::LABEL),
        argv0: argv0(&mut command),
        policy_hash,
        policy_path,
        // `dmm run --hist` sets a run id and collects; the file must outlive the process then.
        keep: env::variable(c"DMM_KEEP_STATS=") == Some(b"1"),
    };
    match parent {
        Some(parent) => Segment::create_in_child(&info, parent).ok(),
        None => Segment::create(&info).ok(),
    }
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
    if !is_borrowed() {
        crate::session::fork::leaving();
    }
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
