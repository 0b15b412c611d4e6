//! Running the two programs and reading what their segments say.

use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Stdio};
use std::time::Duration;

use dmm::control::histogram::{Filter, Latency, Report};
use dmm::control::{self, SocketEntry};
use dmm_nsocket::stats::SeriesInfo;
use serde::Serialize;

use super::echo::Measured;
use crate::program::{Launch, Library, Program, RunId};
use crate::{Doing, Error};

/// What happened.
#[derive(Debug, Serialize)]
pub struct Outcome {
    /// Bytes in a message.
    pub message_bytes: u32,
    /// What the client has measured, without knowing of DMM.
    pub client: Measured,
    /// The sockets that were open at the end.
    pub sockets: Vec<SocketEntry>,
    /// What went over which stack by which rule, of both processes.
    pub series: Vec<SeriesInfo>,
    /// What the preload has measured, per kind, rule and stack.
    pub latencies: Vec<Latency>,
    /// The same programs again, where shared memory may carry them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shared_memory: Option<Box<Self>>,
}

/// Starts the server, then the client, and looks at both while the connection is open.
pub fn run(
    library: &Library,
    policy: &Path,
    time: Duration,
    message_bytes: u32,
) -> Result<Outcome, Error> {
    let run_id = RunId::random();
    let start = |label: &str, arguments: &[&str]| {
        let launch = Launch {
            library: Some(library),
            policy: Some(policy),
            label: Some(label),
            run_id,
            keep_stats: false,
        };
        Side::start(label, &launch, arguments)
    };
    let cores = cores();
    let [here, there] = cores.each_ref().map(|core| match core {
        Some(core) => vec!["--core", core.as_str()],
        None => Vec::new(),
    });
    let mut server = start(
        "demo-server",
        &[&["demo-echo-server"], here.as_slice()].concat(),
    )?;
    let port = server.line()?;
    let address = format!("127.0.0.1:{}", port.trim());
    let milliseconds = time.as_millis().to_string();
    let size = message_bytes.to_string();
    let mut client = start(
        "demo-client",
        &[
            &[
                "demo-echo-client",
                &address,
                "--milliseconds",
                &milliseconds,
                "--size",
                &size,
            ],
            there.as_slice(),
        ]
        .concat(),
    )?;
    let line = client.line()?;
    let measured = serde_json::from_str(&line)
        .map_err(|error| Error::not_so(format!("the client printed {line:?}: {error}")))?;
    let mut outcome = Outcome {
        message_bytes,
        client: measured,
        sockets: Vec::new(),
        series: Vec::new(),
        latencies: Vec::new(),
        shared_memory: None,
    };
    let mut report = Report::default();
    let mut processes = Vec::new();
    for side in [&server, &client] {
        let process = control::process(side.child.id())?;
        let Some(snapshot) = &process.snapshot else {
            return Err(
                Error::not_so(format!("{} has run without the preload", side.name))
                    .help("dmm doctor tries the same and says what is missing"),
            );
        };
        report.add(snapshot);
        processes.push(process);
    }
    outcome.sockets = control::sockets(&processes);
    outcome.latencies = report.latencies(&Filter::default());
    outcome.series = report.series;
    client.finish()?;
    server.finish()?;
    Ok(outcome)
}

/// A core for each of the two programs, where there are two: figures of programs that wander, or share
/// a core, tell more of the scheduler than of a stack.
fn cores() -> [Option<String>; 2] {
    let allowed = rustix::thread::sched_getaffinity(None).ok();
    let mut cores = allowed
        .iter()
        .flat_map(|set| (0..rustix::thread::CpuSet::MAX_CPU).filter(move |core| set.is_set(*core)));
    match (cores.next(), cores.next()) {
        (Some(first), Some(second)) => [Some(first.to_string()), Some(second.to_string())],
        _ => [None, None],
    }
}

/// One of the two programs. It is killed if the demo gives up on it.
struct Side {
    name: String,
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Side {
    fn start(label: &str, launch: &Launch<'_>, arguments: &[&str]) -> Result<Self, Error> {
        let exe = std::env::current_exe().doing(|| "find out where dmm itself is".to_owned())?;
        let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
        let program = Program::inspect(
            exe.as_os_str(),
            &arguments,
            launch.library.map(|library| library.target),
        )?;
        let mut child = launch
            .command(OsStr::new("dmm"), &arguments, &program)?
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .doing(|| format!("start the {label}"))?;
        let stdout = child.stdout.take().expect("it was asked for");
        Ok(Self {
            name: label.to_owned(),
            child,
            stdout: BufReader::new(stdout),
        })
    }

    /// The next line that it prints.
    fn line(&mut self) -> Result<String, Error> {
        let mut line = String::new();
        self.stdout
            .read_line(&mut line)
            .doing(|| format!("read from the {}", self.name))?;
        if line.is_empty() {
            // Its own words are on the standard error.
            return Err(Error::not_so(format!("the {} ended early", self.name)));
        }
        Ok(line)
    }

    /// Ends its standard input, on which it ends itself.
    fn finish(&mut self) -> Result<(), Error> {
        drop(self.child.stdin.take());
        let status = self
            .child
            .wait()
            .doing(|| format!("wait for the {}", self.name))?;
        if status.success() {
            Ok(())
        } else {
            Err(Error::not_so(format!(
                "the {} ended with {status}",
                self.name
            )))
        }
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        // After `finish` there is nothing to kill, and neither call does harm.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
