//! Finds tasks that keep their shard: who does not come back for a while is looked at, with a backtrace.
//!
//! A thread watches how the shards' turns go on. For one that does not, it sends a signal to the shard's
//! thread, whose handler writes down where it is: instruction pointers only, into memory that was there
//! before. What they mean is looked up by the watching thread.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::process::Pid;
use syscalls::{Sysno, syscall};

use crate::shard::Beacon;

/// A shard that has not come back to its loop.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Stall {
    /// Which shard.
    pub shard: usize,
    /// For how long, at least.
    pub lasts: Duration,
    /// What it does, the innermost function first.
    pub frames: Vec<String>,
}

impl fmt::Display for Stall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "shard {} has not come back for {:?}",
            self.shard, self.lasts
        )?;
        for frame in &self.frames {
            write!(f, "\n  at {frame}")?;
        }
        Ok(())
    }
}

/// What is done with stalls: called on the watching thread.
pub(crate) type Report = Arc<dyn Fn(&Stall) + Send + Sync>;

/// A shard to watch.
pub(crate) struct Watched {
    pub(crate) beacon: Arc<Beacon>,
    /// The thread's number, once it runs.
    pub(crate) thread: Arc<AtomicU32>,
}

/// The signal: one that nobody else uses, as it is ignored by default.
const SIGNAL: i32 = libc::SIGURG;
const DEPTH: usize = 64;

/// Watches shards until they have ended.
///
/// # Errors
///
/// Those of sigaction(2) and of starting a thread.
pub(crate) fn watch(shards: Vec<Watched>, limit: Duration, report: Report) -> io::Result<()> {
    install()?;
    thread::Builder::new()
        .name("shards-watch".into())
        .spawn(move || {
            let mut seen: Vec<_> = shards.iter().map(|shard| shard.beacon.turns()).collect();
            while !shards.iter().all(|shard| shard.beacon.has_ended()) {
                thread::sleep(limit);
                for (nth, shard) in shards.iter().enumerate() {
                    let turns = shard.beacon.turns();
                    let stands = std::mem::replace(&mut seen[nth], turns) == turns;
                    if stands && shard.beacon.is_running() && !shard.beacon.has_ended() {
                        let thread = shard.thread.load(Ordering::Acquire);
                        report(&Stall {
                            shard: nth,
                            lasts: limit,
                            frames: look_at(thread),
                        });
                    }
                }
            }
        })?;
    Ok(())
}

/// What the handler writes down, for the one thread that was asked.
struct Trace {
    frames: [AtomicUsize; DEPTH],
    count: AtomicUsize,
    asked: AtomicU32,
    done: AtomicBool,
}

static TRACE: Trace = Trace {
    frames: [const { AtomicUsize::new(0) }; DEPTH],
    count: AtomicUsize::new(0),
    asked: AtomicU32::new(0),
    done: AtomicBool::new(false),
};

fn install() -> io::Result<()> {
    static INSTALLED: Mutex<bool> = Mutex::new(false);
    let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
    if !*installed {
        // SAFETY: the handler writes to static memory only; unwinding the stack takes no lock that the
        // interrupted code could hold but the loader's, which is recursive.
        unsafe { signal_hook_registry::register(SIGNAL, write_down)? };
        *installed = true;
    }
    Ok(())
}

/// In the signal handler.
fn write_down() {
    let thread = rustix::thread::gettid().as_raw_nonzero().get() as u32;
    if TRACE.asked.load(Ordering::Acquire) != thread {
        return;
    }
    let mut count = 0;
    let each = |frame: &backtrace::Frame| {
        TRACE.frames[count].store(frame.ip() as usize, Ordering::Relaxed);
        count += 1;
        count < DEPTH
    };
    // SAFETY: only one thread at a time is asked, and resolves nothing here.
    unsafe { backtrace::trace_unsynchronized(each) };
    TRACE.count.store(count, Ordering::Relaxed);
    TRACE.asked.store(0, Ordering::Relaxed);
    TRACE.done.store(true, Ordering::Release);
}

/// Where a thread is. Nothing if it does not tell in time.
fn look_at(thread: u32) -> Vec<String> {
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    TRACE.done.store(false, Ordering::Relaxed);
    TRACE.asked.store(thread, Ordering::Release);
    let process = Pid::as_raw(Some(rustix::process::getpid()));
    // SAFETY: no memory is involved.
    if unsafe { syscall!(Sysno::tgkill, process, thread, SIGNAL) }.is_err() {
        return Vec::new();
    }
    for _ in 0..100 {
        thread::sleep(Duration::from_millis(1));
        if TRACE.done.load(Ordering::Acquire) {
            let count = TRACE.count.load(Ordering::Relaxed);
            let frames = TRACE.frames[..count].iter();
            return frames
                .flat_map(|ip| names(ip.load(Ordering::Relaxed)))
                .collect();
        }
    }
    TRACE.asked.store(0, Ordering::Relaxed);
    Vec::new()
}

fn names(ip: usize) -> Vec<String> {
    let mut names = Vec::new();
    backtrace::resolve(ip as *mut _, |symbol| {
        let name = symbol
            .name()
            .map_or_else(|| format!("{ip:#x}"), |name| format!("{name:#}"));
        let place = symbol.filename().zip(symbol.lineno());
        names.push(match place {
            Some((file, line)) => format!("{name} ({}:{line})", file.display()),
            None => name,
        });
    });
    names
}
