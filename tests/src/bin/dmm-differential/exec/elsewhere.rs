//! The rest of a sequence in another thread or process, and signals.

use std::ffi::{CString, c_char};
use std::mem;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::thread;

use libc::c_int;

use super::{Executor, Names, Setting};
use crate::op::{Elsewhere, Op};
use crate::sys::{call, errno, raw, set_errno};

/// A call that blocks is interrupted after this time, and again and again until it returns.
const PATIENCE_MICROS: i64 = 12_000;
/// A small stack: code of the preload that needs much of it fails here.
const STACK: usize = 128 << 10;
/// The number onto which a spawned child gets a copy of its first descriptor.
const SPAWNED: c_int = 60;

static BROKEN_PIPES: AtomicU32 = AtomicU32::new(0);

/// What a process that takes a sequence over by exec has to know.
pub(crate) struct Handover {
    /// Index of the first op to perform.
    pub(crate) from: usize,
    pub(crate) slots: Vec<c_int>,
    pub(crate) names: Names,
}

impl<'a> Executor<'a> {
    /// Goes on with a sequence that another process began.
    pub(crate) fn resume(
        seed: u64,
        ops: &'a [Op],
        kept: &'a [usize],
        setting: &'a Setting,
        handover: Handover,
    ) {
        let mut executor = Self::new(seed, ops, kept, setting);
        executor.slots = handover.slots;
        executor.names = handover.names;
        executor.run_from(handover.from);
        executor.finish();
    }

    pub(super) fn elsewhere(&mut self, place: Elsewhere, from: usize) {
        self.note(format_args!(" {place:?}\n"));
        match place {
            Elsewhere::Thread => self.in_thread(from),
            Elsewhere::Fork => self.in_child(from),
            Elsewhere::Exec => self.by_exec(from),
            Elsewhere::Spawn => self.by_spawn(from),
        }
    }

    fn in_thread(&mut self, from: usize) {
        // Signals are for the thread that performs calls: the timer that interrupts them must not
        // be delivered to this one, which only waits.
        block_alarm(true);
        thread::scope(|scope| {
            let started = thread::Builder::new()
                .stack_size(STACK)
                .spawn_scoped(scope, || {
                    block_alarm(false);
                    self.run_from(from);
                });
            if let Err(error) = started {
                panic!("cannot start a thread: {error}");
            }
        });
        block_alarm(false);
        self.note(format_args!("joined"));
    }

    fn in_child(&mut self, from: usize) {
        self.flush();
        match call!(libc::fork) {
            0 => {
                self.run_from(from);
                let own = Self::new(self.seed, self.ops, self.kept, self.setting);
                mem::replace(self, own).finish();
                call!(exit_now, 0);
            }
            child => self.await_child(child),
        }
    }

    fn by_exec(&mut self, from: usize) {
        let command = Command::new(self.arguments(from));
        self.flush();
        match call!(libc::fork) {
            0 => {
                let path = c"/proc/self/exe";
                call!(libc::execv, path.as_ptr(), command.pointers.as_ptr());
                call!(exit_now, 99);
            }
            child => self.await_child(child),
        }
    }

    fn by_spawn(&mut self, from: usize) {
        let first = self.slots.iter().position(|&fd| fd > 2);
        let mut actions = mem::MaybeUninit::<libc::posix_spawn_file_actions_t>::uninit();
        let actions = actions.as_mut_ptr();
        call!(libc::posix_spawn_file_actions_init, actions);
        if let Some(slot) = first {
            call!(
                libc::posix_spawn_file_actions_adddup2,
                actions,
                self.slots[slot],
                SPAWNED
            );
            call!(
                libc::posix_spawn_file_actions_addclose,
                actions,
                self.slots[slot]
            );
            self.slots[slot] = SPAWNED;
        }
        let command = Command::new(self.arguments(from));
        self.flush();
        let mut child = 0;
        // SAFETY: the environment of a process whose other threads have ended.
        let environment = unsafe { libc::environ };
        let error = call!(
            libc::posix_spawn,
            &raw mut child,
            c"/proc/self/exe".as_ptr(),
            actions,
            std::ptr::null(),
            command.pointers.as_ptr().cast(),
            environment.cast()
        );
        call!(libc::posix_spawn_file_actions_destroy, actions);
        self.note(format_args!("spawn error {error}\n"));
        if error == 0 {
            self.await_child(i64::from(child));
        }
    }

    fn await_child(&mut self, child: i64) {
        if child < 0 {
            return self.result(child);
        }
        let mut status = 0;
        loop {
            let ended = call!(libc::waitpid, child as c_int, &raw mut status, 0);
            if ended == child || errno() != libc::EINTR {
                break;
            }
        }
        self.note(format_args!("child status {status:#x}"));
    }

    fn arguments(&self, from: usize) -> Vec<String> {
        let mut slots: Vec<String> = self.slots.iter().map(ToString::to_string).collect();
        if slots.is_empty() {
            slots.push("-1".to_owned());
        }
        let kept: Vec<String> = self.kept.iter().map(ToString::to_string).collect();
        let mut all = vec!["dmm-differential".to_owned(), "resume".to_owned()];
        all.extend(self.setting.arguments.iter().cloned());
        all.extend([
            format!("--seed={}", self.seed),
            format!("--keep={}", kept.join(",")),
            format!("--from={from}"),
            format!("--slots={}", slots.join(",")),
            format!("--names={}", self.names.save()),
        ]);
        all
    }
}

/// Sets the handlers that a sequence runs under: none restarts a call, so that a call which would
/// block for ever fails with EINTR.
pub(crate) fn handle_signals() {
    // SAFETY: all-zero is a valid sigaction: no flags, empty mask.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    let none = std::ptr::null_mut();
    action.sa_sigaction = on_signal as extern "C" fn(c_int) as usize;
    for signal in [libc::SIGALRM, libc::SIGPIPE, libc::SIGIO, libc::SIGURG] {
        call!(libc::sigaction, signal, &raw const action, none);
    }
}

/// Makes a call that may block; if it does so for longer than a moment, a signal interrupts it.
pub(super) fn guarded(call: impl FnOnce() -> i64) -> i64 {
    set_timer(PATIENCE_MICROS);
    let result = call();
    let errno = errno();
    set_timer(0);
    set_errno(errno);
    result
}

/// [`guarded`], if the call may block for ever; one with a timeout must not be disturbed.
pub(super) fn guarded_if(forever: bool, call: impl FnOnce() -> i64) -> i64 {
    if forever { guarded(call) } else { call() }
}

/// How many SIGPIPE came since the last look.
pub(super) fn broken_pipes() -> u32 {
    BROKEN_PIPES.swap(0, Relaxed)
}

extern "C" fn on_signal(signal: c_int) {
    if signal == libc::SIGPIPE {
        BROKEN_PIPES.fetch_add(1, Relaxed);
    }
}

fn set_timer(micros: i64) {
    let time = libc::timeval {
        tv_sec: 0,
        tv_usec: micros,
    };
    let timer = libc::itimerval {
        it_interval: time,
        it_value: time,
    };
    let args = [
        libc::ITIMER_REAL.into(),
        (&raw const timer) as i64,
        0,
        0,
        0,
        0,
    ];
    // SAFETY: a valid timer; the old one is not wanted.
    unsafe { raw(libc::SYS_setitimer, args) };
}

fn block_alarm(block: bool) {
    // SAFETY: all-zero is a valid place for a set, which sigemptyset then makes.
    let mut set: libc::sigset_t = unsafe { mem::zeroed() };
    call!(libc::sigemptyset, &raw mut set);
    call!(libc::sigaddset, &raw mut set, libc::SIGALRM);
    let how = if block {
        libc::SIG_BLOCK
    } else {
        libc::SIG_UNBLOCK
    };
    call!(
        libc::pthread_sigmask,
        how,
        &raw const set,
        std::ptr::null_mut()
    );
}

/// `_exit` in a form that [`call!`] takes.
unsafe fn exit_now(status: c_int) -> c_int {
    // SAFETY: ends the process.
    unsafe { libc::_exit(status) }
}

/// Arguments as exec wants them.
struct Command {
    pointers: Vec<*const c_char>,
    _strings: Vec<CString>,
}

impl Command {
    fn new(arguments: Vec<String>) -> Self {
        let strings: Vec<CString> = arguments
            .into_iter()
            .filter_map(|argument| CString::new(argument).ok())
            .collect();
        let mut pointers: Vec<*const c_char> = strings.iter().map(|text| text.as_ptr()).collect();
        pointers.push(std::ptr::null());
        Self {
            pointers,
            _strings: strings,
        }
    }
}
