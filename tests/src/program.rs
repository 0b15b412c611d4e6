//! Starting, feeding, waiting for and ending programs.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Seek, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::wait::{PATIENCE, eventually_within};

/// A program about to be started, in a process group of its own, with its output going to files.
#[derive(Debug)]
pub struct Program {
    command: Command,
    name: String,
    outputs: PathBuf,
    limit: Duration,
    input: Input,
    leaves_daemon: bool,
}

#[derive(Debug)]
enum Input {
    Nothing,
    Bytes(Vec<u8>),
    Pipe,
}

impl Program {
    /// `command` with its output below `outputs`; scenarios use [`crate::Setting::program`].
    pub(crate) fn new(command: Command, name: &str, outputs: &Path) -> Self {
        let name = name.rsplit('/').next().unwrap_or(name).to_owned();
        let limit = Duration::from_secs(60);
        Self {
            command,
            name,
            outputs: outputs.to_owned(),
            limit,
            input: Input::Nothing,
            leaves_daemon: false,
        }
    }

    /// One more argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// More arguments.
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.command.args(args);
        self
    }

    /// Arguments separated by white space: for those that hold none.
    pub fn words(mut self, words: &str) -> Self {
        self.command.args(words.split_whitespace());
        self
    }

    /// An environment variable.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// The directory to start it in.
    pub fn current_dir(mut self, dir: impl AsRef<Path>) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// How long it may run (one minute unless told).
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Bytes that it reads from its standard input.
    pub fn input(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = Input::Bytes(bytes.into());
        self
    }

    /// Keeps its standard input open, for [`Running::stdin`].
    pub fn piped_input(mut self) -> Self {
        self.input = Input::Pipe;
        self
    }

    /// It ends and leaves a daemon, which is not to be ended with it: the daemon is in its process
    /// group until it makes one of its own, a moment later. [`crate::Setting::adopt`] it.
    pub fn leaves_daemon(mut self) -> Self {
        self.leaves_daemon = true;
        self
    }

    /// Starts it.
    ///
    /// # Panics
    /// When it cannot be started.
    #[track_caller]
    pub fn start(mut self) -> Running {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let file = |kind: &str| self.outputs.join(format!("{}.{count}.{kind}", self.name));
        let (out, err) = (file("out"), file("err"));
        let create = |path: &Path| {
            File::create(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        };
        let stdin = match self.input {
            Input::Nothing => Stdio::null(),
            Input::Pipe => Stdio::piped(),
            Input::Bytes(bytes) => {
                let mut file = tempfile::tempfile().expect("a temporary file");
                file.write_all(&bytes).expect("to write the input");
                file.rewind().expect("to rewind the input");
                file.into()
            }
        };
        self.command
            .stdin(stdin)
            .stdout(create(&out))
            .stderr(create(&err))
            .process_group(0);
        let child = self
            .command
            .spawn()
            .unwrap_or_else(|error| panic!("{} cannot be started: {error}", self.name));
        Running {
            child,
            name: self.name,
            out,
            err,
            deadline: Instant::now() + self.limit,
            ends_group: !self.leaves_daemon,
        }
    }

    /// Starts it and waits until it ends.
    ///
    /// # Panics
    /// When it cannot be started or does not end in time.
    #[track_caller]
    pub fn run(self) -> Finished {
        self.start().wait()
    }

    /// Runs it, expects success, and returns what it printed.
    ///
    /// # Panics
    /// When it fails; the message has its output.
    #[track_caller]
    pub fn output(self) -> String {
        self.run().success().text()
    }
}

/// A program that was started. Dropping it ends it and what it started in its process group.
#[derive(Debug)]
pub struct Running {
    child: Child,
    name: String,
    out: PathBuf,
    err: PathBuf,
    deadline: Instant,
    ends_group: bool,
}

impl Running {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its standard input, if it was kept open; closed when the value returned is dropped.
    ///
    /// # Panics
    /// When it was not kept open, or was taken before.
    #[track_caller]
    pub fn stdin(&mut self) -> ChildStdin {
        self.child
            .stdin
            .take()
            .expect("started with piped_input, and taken once")
    }

    /// What it has written to its standard output so far.
    pub fn stdout(&self) -> Vec<u8> {
        fs::read(&self.out).unwrap_or_default()
    }

    /// Both outputs so far, for a message.
    pub fn transcript(&self) -> String {
        let read = |path| String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
        format!(
            "-- {} wrote to stdout:\n{}-- and to stderr:\n{}",
            self.name,
            read(&self.out),
            read(&self.err)
        )
    }

    /// Whether it is still there.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits until `text` appears in either output.
    ///
    /// # Panics
    /// When it does not in time, or the program ends before.
    #[track_caller]
    pub fn wait_for_text(&mut self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.transcript().contains(text) {
            let going = self.is_running() && Instant::now() < deadline;
            // Once more, as it may have written it just before it ended.
            assert!(
                going || self.transcript().contains(text),
                "no {text:?} from {}\n{}",
                self.name,
                self.transcript()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until it listens on TCP `port`.
    ///
    /// # Panics
    /// When it ends before, or does not in time.
    #[track_caller]
    pub fn listening_on(mut self, port: u16) -> Self {
        let deadline = Instant::now() + PATIENCE;
        while !crate::net::is_listening(port) {
            assert!(
                self.is_running() && Instant::now() < deadline,
                "{} does not listen on port {port}\n{}",
                self.name,
                self.transcript()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        self
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// When it is gone.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        kill_process(self.as_pid(), signal)
            .unwrap_or_else(|error| panic!("{:?} to {}: {error}", signal, self.name));
    }

    /// Waits until it ends by itself.
    ///
    /// # Panics
    /// When it does not within its limit; it is ended then.
    #[track_caller]
    pub fn wait(mut self) -> Finished {
        let mut pause = Duration::from_millis(1);
        let status = loop {
            match self.child.try_wait().expect("to wait for a child") {
                Some(status) => break status,
                None if Instant::now() < self.deadline => std::thread::sleep(pause),
                None => {
                    let state = stuck_at(self.pid());
                    panic!(
                        "{} did not end in time{state}\n{}",
                        self.name,
                        self.transcript()
                    );
                }
            }
            pause = (pause * 2).min(Duration::from_millis(10));
        };
        Finished {
            status,
            stdout: self.stdout(),
            stderr: fs::read(&self.err).unwrap_or_default(),
            name: self.name.clone(),
        }
    }

    /// Asks it to end (SIGTERM) and waits until it has.
    ///
    /// # Panics
    /// When it takes longer than [`PATIENCE`].
    #[track_caller]
    pub fn stop(self) -> Finished {
        self.stop_by(Signal::TERM)
    }

    /// [`Running::stop`] by another signal.
    ///
    /// # Panics
    /// When it takes longer than [`PATIENCE`].
    #[track_caller]
    pub fn stop_by(mut self, signal: Signal) -> Finished {
        let _gone_already = kill_process(self.as_pid(), signal);
        let what = format!("{} to end by {signal:?}\n{}", self.name, self.transcript());
        eventually_within(PATIENCE, &what, || (!self.is_running()).then_some(()));
        self.wait()
    }

    fn as_pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The whole group, also after its leader ended: children may have outlived it.
        if self.ends_group || self.is_running() {
            let _nobody_left = kill_process_group(self.as_pid(), Signal::KILL);
        }
        let _reaped_before = self.child.wait();
    }
}

/// A program that has ended.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to standard output.
    pub stdout: Vec<u8>,
    /// What it wrote to standard error.
    pub stderr: Vec<u8>,
    name: String,
}

impl Finished {
    /// Expects success.
    ///
    /// # Panics
    /// When it failed; the message has its output.
    #[track_caller]
    pub fn success(self) -> Self {
        assert!(
            self.status.success(),
            "{} failed: {}\n-- stdout:\n{}\n-- stderr:\n{}",
            self.name,
            self.status,
            tail(&self.stdout),
            tail(&self.stderr)
        );
        self
    }

    /// Its exit code, or 128 plus the signal's number as a shell has it.
    pub fn code(&self) -> i32 {
        self.status
            .code()
            .unwrap_or_else(|| 128 + self.status.signal().unwrap_or_default())
    }

    /// Standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Standard error as text.
    pub fn errors(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }
}

/// The last of a long output.
fn tail(bytes: &[u8]) -> String {
    const ENOUGH: usize = 6000;
    String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(ENOUGH)..]).into_owned()
}

/// Where the threads of a process that hangs sit in the kernel, for a message.
fn stuck_at(pid: u32) -> String {
    let mut places = String::new();
    for task in fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten()
    {
        let read = |file| fs::read_to_string(task.path().join(file)).unwrap_or_default();
        let (comm, wchan, call) = (read("comm"), read("wchan"), read("syscall"));
        places += &format!(
            "\n   thread {}: in {wchan}, system call {}",
            comm.trim(),
            call.trim()
        );
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Setting;
    use crate::eventually;

    #[test]
    fn output_input_and_exit_code() {
        let setting = Setting::plain();
        let shell = |script: &str| setting.program("sh").arg("-c").arg(script);
        assert_eq!(
            shell("cat; echo more").input("some\n").output(),
            "some\nmore\n"
        );
        let failed = shell("echo trouble >&2; exit 7").run();
        assert_eq!((failed.code(), failed.errors().as_str()), (7, "trouble\n"));
        assert_eq!(shell("kill -TERM $$").run().code(), 128 + 15);
    }

    #[test]
    fn one_that_hangs_fails_the_test_and_is_ended_with_its_children() {
        let setting = Setting::plain();
        let child = setting.dir().join("child");
        let script = format!("sleep 600 & echo $! > {}; wait", child.display());
        let hanging = setting
            .program("sh")
            .arg("-c")
            .arg(script)
            .limit(Duration::from_millis(300));
        let hang = std::panic::AssertUnwindSafe(|| hanging.run());
        assert!(std::panic::catch_unwind(hang).is_err(), "it was waited for");
        let child = fs::read_to_string(child).expect("the child's number");
        let stat = format!("/proc/{}/stat", child.trim());
        eventually("the child to be ended", || {
            let state = fs::read_to_string(&stat).unwrap_or_default();
            (state.is_empty() || state.contains(") Z")).then_some(())
        });
    }

    #[test]
    fn a_daemon_is_found_by_its_mark() {
        let setting = Setting::plain();
        let number = setting.dir().join("number");
        let script = format!("setsid sleep 600 & echo $! > {}", number.display());
        setting.program("sh").arg("-c").arg(script).run().success();
        let number = fs::read_to_string(number).expect("the daemon's number");
        let stat = format!("/proc/{}/stat", number.trim());
        drop(setting);
        eventually("the daemon to be ended", || {
            let state = fs::read_to_string(&stat).unwrap_or_default();
            (state.is_empty() || state.contains(") Z")).then_some(())
        });
    }
}
