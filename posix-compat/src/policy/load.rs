//! Reading a policy and putting it in force.

use std::ffi::{CStr, c_char};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use dmm_nsocket::stats::Counter;
use dmm_nsocket::sys::BlockedSignals;
use dmm_policy::{Diagnostic, Image, Matcher, PasswdText, Policy, Process, Severity, text_hash};

use super::{Live, install, source, try_lock, unlock};
use crate::alloc::Arena;
use crate::stack_switch::on_own_stack;
use crate::{clock, env, files, mailbox, process};

/// Largest policy file that is read.
const MAX_TEXT: usize = 16 * 1024 * 1024;

/// A file that was changed less than this ago (ns) may still be in the hands of its writer.
const SETTLED: u64 = 20_000_000;

/// Stamp of the file that was read last, refused or not.
static SEEN: AtomicU64 = AtomicU64::new(0);

/// Why the last change was refused; null when it was not.
static ERROR: AtomicPtr<c_char> = AtomicPtr::new(ptr::null_mut());

/// Puts the first policy in force. Called from the constructor.
pub(crate) fn init() {
    source::init();
    mailbox::init(source::path());
    let Some(stamp) = source::stamp() else {
        // Without a file: the mailbox (a program started in another root), or the built-in policy.
        if !locked(follow_mailbox) || super::with(|_| ()).is_none() {
            locked(|| put_in_force(&Policy::builtin().compile()));
        }
        if !env::value(env::POLICY).is_empty() {
            refuse(b"the policy file that DMM_POLICY names cannot be read; the built-in policy is in force");
        }
        return;
    };
    locked(|| read_file(stamp.identity));
    if super::with(|_| ()).is_none() {
        locked(|| put_in_force(&Policy::builtin().compile()));
    }
}

/// Looks whether the policy has changed, and changes it in force if so.
#[cold]
pub(super) fn look() {
    match source::stamp() {
        Some(stamp) if stamp.identity == SEEN.load(Ordering::Relaxed) => {}
        Some(stamp) => {
            if clock::realtime().wrapping_sub(stamp.changed) >= SETTLED {
                locked(|| read_file(stamp.identity));
            }
        }
        None => {
            if mailbox::has_news() {
                locked(follow_mailbox);
            }
        }
    }
}

/// Calls `f` with the last refusal, if there is one in force.
pub(super) fn with_last_error(f: impl FnOnce(&[u8])) {
    let error = ERROR.load(Ordering::Acquire);
    if !error.is_null() {
        // SAFETY: a C string that `refuse` has leaked.
        f(unsafe { CStr::from_ptr(error) }.to_bytes());
    }
}

/// Runs `f` as the only one that loads a policy in this process; not at all if another one does.
fn locked(f: impl FnOnce()) -> bool {
    let signals = BlockedSignals::new();
    let locked = try_lock();
    if locked {
        // A panic in there leaves the old policy in force.
        on_own_stack(f);
        unlock();
    }
    drop(signals);
    locked
}

fn read_file(stamp: u64) {
    let Some(path) = source::path() else { return };
    let scratch = Arena::new();
    scratch.within(|| {
        let Ok(text) = files::read_all(path, MAX_TEXT) else {
            return;
        };
        // A file that changes while it is read is read again at the next look.
        if source::stamp().is_none_or(|now| now.identity != stamp) {
            return;
        }
        // Looked at is what has come into force, or was refused: a child that is forked meanwhile
        // looks again.
        take_text(path, &text);
        SEEN.store(stamp, Ordering::Relaxed);
    });
}

fn take_text(path: &CStr, text: &[u8]) {
    let Ok(text) = std::str::from_utf8(text) else {
        return refuse(b"the policy file is not UTF-8");
    };
    let hash = text_hash(text);
    if super::with(|live| live.matcher.image().text_hash()) == Some(hash) {
        return accept();
    }
    if let Some(image) = mailbox::image(hash) {
        return put_in_force(&image);
    }
    // User names come from /etc/passwd: no name service is asked from inside a program.
    let users = files::read_all(c"/etc/passwd", MAX_TEXT).unwrap_or_default();
    let users = String::from_utf8_lossy(&users);
    let parsed = dmm_policy::parse_quick(text, &path.to_string_lossy(), &PasswdText(&users));
    match parsed.policy {
        Some(policy) => {
            let image = policy.compile();
            put_in_force(&image);
            mailbox::publish(&image);
        }
        None => refuse(summary(&parsed.diagnostics).as_bytes()),
    }
}

fn follow_mailbox() {
    let scratch = Arena::new();
    scratch.within(|| {
        if let Some(image) = mailbox::latest() {
            put_in_force(&image);
        }
    });
}

fn put_in_force(image: &Image) {
    let arena = new_arena();
    // SAFETY: the arena was made just now and is given back only by `give_back`.
    let live = unsafe { arena.as_ref() }.within(|| {
        let image = Image::from_bytes(image.as_bytes()).ok()?;
        let live = Live {
            matcher: Matcher::new(image, this_process()),
            arena,
            retired: ptr::null_mut(),
        };
        Some(Box::into_raw(Box::new(live)))
    });
    match live {
        Some(live) => {
            install(live);
            accept();
        }
        // SAFETY: nobody has seen the arena.
        None => unsafe { free_arena(arena) },
    }
}

/// An arena that lives in the common memory.
fn new_arena() -> NonNull<Arena> {
    // Within the scratch arena's thread: the common arena must be asked for by hand.
    crate::alloc::common(|| NonNull::from(Box::leak(Box::new(Arena::new()))))
}

/// Gives an arena back, with all that was allocated in it.
///
/// # Safety
/// Nobody may refer to anything in it.
pub(super) unsafe fn free_arena(arena: NonNull<Arena>) {
    // SAFETY: made by `new_arena`; the caller vouches for the rest. The few bytes of the value
    // itself stay in the common arena.
    unsafe { ptr::drop_in_place(arena.as_ptr()) };
}

fn accept() {
    ERROR.store(ptr::null_mut(), Ordering::Release);
    if let Some(segment) = process::existing_segment() {
        let (hash, path) = super::identity();
        segment.set_policy(hash, path);
        segment.add(Counter::PolicyReloads, 1);
    }
}

fn refuse(why: &[u8]) {
    let copy = crate::alloc::common(|| {
        let mut copy: Vec<u8> = why.iter().copied().filter(|byte| *byte != 0).collect();
        copy.push(0);
        copy.leak()
    });
    ERROR.store(copy.as_mut_ptr().cast(), Ordering::Release);
    if let Some(segment) = process::existing_segment() {
        segment.set_policy_error(why);
        segment.add(Counter::PolicyRefusals, 1);
    }
}

/// The first error in one line, and how many more there are.
fn summary(diagnostics: &[Diagnostic]) -> String {
    let errors = || {
        diagnostics
            .iter()
            .filter(|diagnostic| diagnostic.severity == Severity::Error)
    };
    let Some(first) = errors().next() else {
        return "the policy has errors".to_owned();
    };
    let more = match errors().count() - 1 {
        0 => String::new(),
        n => format!(" (and {n} more)"),
    };
    format!(
        "{}:{}:{}: {}{more}",
        first.file, first.line, first.column, first.message
    )
}

fn this_process() -> Process {
    let mut buffer = [0; 1024];
    let path = String::from_utf8_lossy(process::executable(&mut buffer)).into_owned();
    // A binary that was replaced while it runs (an upgrade) keeps its name.
    let path = path.strip_suffix(" (deleted)").unwrap_or(&path).to_owned();
    let known_as = match env::executed_as() {
        b"" => path.clone(),
        executed_as => String::from_utf8_lossy(executed_as).into_owned(),
    };
    Process {
        name: known_as.rsplit('/').next().unwrap_or_default().to_owned(),
        label: String::from_utf8_lossy(env::value(env::LABEL)).into_owned(),
        cgroup: cgroup(),
        path,
    }
}

/// The path in the unified hierarchy: the line `0::PATH` of /proc/self/cgroup (cgroups(7)).
fn cgroup() -> String {
    let Ok(bytes) = files::read_all(c"/proc/self/cgroup", 64 * 1024) else {
        return String::new();
    };
    String::from_utf8_lossy(&bytes)
        .lines()
        .find_map(|line| line.strip_prefix("0::"))
        .unwrap_or_default()
        .to_owned()
}
