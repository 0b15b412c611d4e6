//! A plain program under DMM that opens sockets as it is told, and what DMM says of them.

use std::io::Write;
use std::process::ChildStdin;

use dmm_nsocket::stats::SocketInfo;
use dmm_tests::{Program, Running, Setting, eventually, observe};

/// python/probe.py, running.
pub(crate) struct Probe<'a> {
    setting: &'a Setting,
    running: Running,
    stdin: ChildStdin,
    answered: usize,
}

impl<'a> Probe<'a> {
    /// Starts it as the setting has it.
    pub(crate) fn start(setting: &'a Setting) -> Self {
        Self::start_with(setting, setting.program("/usr/bin/python3"))
    }

    /// Starts it by a program that takes the script as its last argument.
    pub(crate) fn start_with(setting: &'a Setting, program: Program) -> Self {
        let script = setting
            .scratch()
            .file("probe.py", include_str!("python/probe.py"));
        let mut running = program.arg(script).piped_input().start();
        let stdin = running.stdin();
        Self {
            setting,
            running,
            stdin,
            answered: 0,
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.running.pid()
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        self.running.signal(signal);
    }

    /// Tells it something, and what it answers.
    #[track_caller]
    pub(crate) fn ask(&mut self, command: &str) -> String {
        writeln!(self.stdin, "{command}").expect("to tell the probe");
        let line = eventually(&format!("an answer to {command:?}"), || {
            let text = String::from_utf8(self.running.stdout()).expect("text");
            assert!(
                self.running.is_running(),
                "the probe ended\n{}",
                self.running.transcript()
            );
            let whole = text.rfind('\n').map_or("", |end| &text[..end]);
            whole.lines().nth(self.answered).map(str::to_owned)
        });
        self.answered += 1;
        line
    }

    /// Opens a socket, and what the stats segment says of it.
    #[track_caller]
    pub(crate) fn open(&mut self, command: &str) -> SocketInfo {
        let answer = self.ask(command);
        let fd = answer
            .split(' ')
            .next()
            .and_then(|fd| fd.parse::<u32>().ok());
        let fd = fd.unwrap_or_else(|| panic!("{command}: {answer}"));
        observe::socket_of(self.setting, self.pid(), |socket| {
            socket.fd == fd && !socket.stack.is_empty()
        })
    }

    /// An option of the newest socket.
    #[track_caller]
    pub(crate) fn option(&mut self, name: &str) -> String {
        self.ask(&format!("option {name}"))
    }

    /// Waits until it has ended, however it did.
    pub(crate) fn wait_for_end(&mut self) {
        eventually("the probe to end", || {
            (!self.running.is_running()).then_some(())
        });
    }

    /// Ends it by the end of its input.
    pub(crate) fn finish(self) {
        drop(self.stdin);
        self.running.wait().success();
    }
}

/// `STACK by RULE`, for comparing.
pub(crate) fn choice(socket: &SocketInfo) -> String {
    format!("{} by {}", socket.stack, socket.rule)
}
