//! Children for tests: forked, without another program, and always waited for.

use std::panic::{AssertUnwindSafe, catch_unwind};

use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, waitpid};

/// A child process. Killed when dropped.
pub(super) struct Child(Option<Pid>);

impl Child {
    /// Runs `body` in a child, which ends afterwards; with an error if it has panicked. Other threads
    /// of the test may hold locks at that moment, so `body` should not allocate.
    pub(super) fn fork(body: impl FnOnce()) -> Self {
        // SAFETY: the child does what the test needs of it and ends without running anything else.
        match unsafe { libc::fork() } {
            -1 => panic!("no process to be had"),
            0 => {
                let result = catch_unwind(AssertUnwindSafe(body));
                // SAFETY: ends the process.
                unsafe { libc::_exit(i32::from(result.is_err())) }
            }
            pid => Self(Pid::from_raw(pid)),
        }
    }

    /// Sends SIGKILL, and waits for it.
    pub(super) fn kill(self) {
        drop(self);
    }

    /// Sends SIGKILL and leaves a zombie until the value is dropped.
    pub(super) fn kill_unwaited(&self) {
        kill_process(self.0.unwrap(), Signal::KILL).unwrap();
    }

    /// Lets it go on after SIGSTOP.
    pub(super) fn resume(&self) {
        kill_process(self.0.unwrap(), Signal::CONT).unwrap();
    }

    /// Waits for it, and that nothing in it has panicked.
    #[track_caller]
    pub(super) fn succeeds(mut self) {
        let pid = self.0.take().unwrap();
        let (_, status): (_, WaitStatus) =
            waitpid(Some(pid), WaitOptions::empty()).unwrap().unwrap();
        assert_eq!(status.exit_status(), Some(0), "{status:?}");
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if let Some(pid) = self.0 {
            let _ = kill_process(pid, Signal::KILL);
            let _ = waitpid(Some(pid), WaitOptions::empty());
        }
    }
}
