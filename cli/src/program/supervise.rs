//! Staying a program's parent without standing in its way.
//!
//! The program shares our process group, so what the terminal sends (Ctrl-C, Ctrl-Z, a resized window)
//! reaches it directly; what a process sends to us alone is passed on. When the program stops, we stop
//! too, so that the shell sees the job stopped. Its end is ours.

use std::io;
use std::mem::MaybeUninit;
use std::process::{Child, Command, ExitStatus};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, waitpid};

/// What is passed on. SIGKILL and SIGSTOP cannot be; SIGCHLD wakes us.
const PASSED_ON: [libc::c_int; 9] = [
    libc::SIGTERM,
    libc::SIGINT,
    libc::SIGHUP,
    libc::SIGQUIT,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGWINCH,
    libc::SIGTSTP,
    libc::SIGCONT,
];

/// Starts the command and waits for its end, calling `now_and_then` about once a second.
///
/// # Errors
///
/// The program could not be started; the error is exec's.
pub fn run(command: &mut Command, now_and_then: impl FnMut()) -> io::Result<ExitStatus> {
    // Blocked before the program exists, so that no signal is lost in between.
    let signals = Signals::block();
    let child = command.spawn()?;
    wait(&child, &signals, now_and_then)
}

/// The exit code of a program that has ended, as a shell reports it: 128+N after signal N.
pub fn exit_code(status: ExitStatus) -> u8 {
    use std::os::unix::process::ExitStatusExt;
    let code = status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    // Both are below 256: an exit status has 8 bits, a signal 7.
    u8::try_from(code).unwrap_or(u8::MAX)
}

fn wait(
    child: &Child,
    signals: &Signals,
    mut now_and_then: impl FnMut(),
) -> io::Result<ExitStatus> {
    use std::os::unix::process::ExitStatusExt;
    let pid = Pid::from_child(child);
    loop {
        let Some(arrived) = signals.wait() else {
            now_and_then();
            continue;
        };
        if arrived.number != libc::SIGCHLD {
            if !arrived.from_terminal {
                pass_on(pid, arrived.number);
            }
            continue;
        }
        // Signals of a kind are merged: look until there is nothing left.
        while let Some(status) = wait_nohang(pid)? {
            if status.stopped() {
                stop_ourselves();
            } else if !status.continued() {
                return Ok(ExitStatus::from_raw(status.as_raw()));
            }
        }
    }
}

fn wait_nohang(pid: Pid) -> io::Result<Option<WaitStatus>> {
    match waitpid(Some(pid), WaitOptions::NOHANG | WaitOptions::UNTRACED) {
        Ok(waited) => Ok(waited.map(|(_, status)| status)),
        Err(Errno::INTR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn pass_on(pid: Pid, number: libc::c_int) {
    if let Some(signal) = Signal::from_named_raw(number) {
        // The program may have just ended: then there is nobody to tell.
        let _ = kill_process(pid, signal);
    }
}

/// Returns when somebody continues us.
fn stop_ourselves() {
    let _ = kill_process(rustix::process::getpid(), Signal::STOP);
}

/// Signals that wait for [`Signals::wait`] in place of being acted on.
struct Signals(libc::sigset_t);

/// A signal that came.
struct Arrived {
    number: libc::c_int,
    /// Made by the kernel for the whole foreground group, so that the program has it already.
    from_terminal: bool,
}

impl Signals {
    fn block() -> Self {
        let mut set = MaybeUninit::<libc::sigset_t>::zeroed();
        // SAFETY: sigemptyset initialises the set, sigaddset gets valid signal numbers, and blocking
        // signals in the calling thread has no memory effects.
        unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            for number in PASSED_ON.into_iter().chain([libc::SIGCHLD]) {
                libc::sigaddset(set.as_mut_ptr(), number);
            }
            libc::sigprocmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut());
            Self(set.assume_init())
        }
    }

    /// The next signal; `None` if there was none for a second, or another one interrupted the wait.
    fn wait(&self) -> Option<Arrived> {
        static SECOND: libc::timespec = libc::timespec {
            tv_sec: 1,
            tv_nsec: 0,
        };
        let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
        // SAFETY: the pointers are valid for the call; all zeroes is a valid siginfo_t.
        let (number, info) = unsafe {
            let number =
                libc::sigtimedwait(&raw const self.0, info.as_mut_ptr(), &raw const SECOND);
            (number, info.assume_init())
        };
        (number > 0).then_some(Arrived {
            number,
            from_terminal: info.si_code == libc::SI_KERNEL,
        })
    }
}
