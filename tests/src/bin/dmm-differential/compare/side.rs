//! One side: executor processes, and the traces that they print.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::editor::Editor;
use crate::isolate::isolate;
use crate::own_path;
use crate::policies::{Needs, Policy};

/// An executor that prints nothing for so long hangs.
const PATIENCE_MILLIS: i32 = 30_000;

/// What all executors share.
pub(crate) struct Workshop {
    dir: TempDir,
    library: Option<PathBuf>,
    except: Vec<String>,
}

impl Workshop {
    pub(crate) fn new(library: Option<&Path>, except: &[String]) -> Result<Self, String> {
        let dir = tempfile::tempdir().map_err(|error| format!("temporary directory: {error}"))?;
        let library = match library {
            Some(path) => Some(
                path.canonicalize()
                    .map_err(|error| format!("{}: {error}", path.display()))?,
            ),
            None => None,
        };
        Ok(Self {
            dir,
            library,
            except: except.to_vec(),
        })
    }
}

/// A second network namespace, as long as this lives.
struct Namespace(Child);

impl Namespace {
    fn new() -> Result<Self, String> {
        let failed = |error: io::Error| format!("a second network namespace: {error}");
        let mut command = Command::new(own_path()?);
        command
            .arg("hold")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = isolate(&mut command).spawn().map_err(failed)?;
        let stdout = child.stdout.take();
        let namespace = Self(child);
        let mut ready = [0; 6];
        stdout
            .ok_or_else(|| io::ErrorKind::BrokenPipe.into())
            .and_then(|mut stdout| stdout.read_exact(&mut ready))
            .map_err(failed)?;
        Ok(namespace)
    }

    fn path(&self) -> String {
        format!("/proc/{}/ns/net", self.0.id())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Its standard input ends, and so does it.
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

pub(crate) struct Side<'a> {
    dir: PathBuf,
    policy: &'a Policy,
    except: &'a [String],
    /// The library and the policy file, on the preloaded side.
    preload: Option<(&'a Path, PathBuf)>,
    cpu: usize,
}

impl<'a> Side<'a> {
    pub(crate) fn plain(
        workshop: &'a Workshop,
        policy: &'a Policy,
        cpu: usize,
    ) -> Result<Self, String> {
        let dir = workshop.dir.path().join(format!("{}-plain", policy.name));
        fs::create_dir_all(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        Ok(Self {
            dir,
            policy,
            except: &workshop.except,
            preload: None,
            cpu,
        })
    }

    /// The side under the policy.
    pub(crate) fn under(
        workshop: &'a Workshop,
        policy: &'a Policy,
        cpu: usize,
    ) -> Result<Self, String> {
        let dir = workshop.dir.path().join(policy.name);
        fs::create_dir_all(dir.join("shm"))
            .map_err(|error| format!("{}: {error}", dir.display()))?;
        let preload = match (&workshop.library, policy.needs) {
            (_, Needs::NoPreload) | (None, _) => None,
            (Some(library), _) => {
                let file = dir.join("policy.toml");
                Some((library.as_path(), file))
            }
        };
        Ok(Self {
            dir,
            policy,
            except: &workshop.except,
            preload,
            cpu,
        })
    }

    /// What it runs under.
    pub(crate) const fn policy(&self) -> &Policy {
        self.policy
    }

    /// The trace of each seed; of only some ops, if they are given.
    pub(crate) fn traces(
        &self,
        first: u64,
        count: u64,
        kept: Option<&[usize]>,
    ) -> Result<Vec<String>, String> {
        let mut traces = Vec::new();
        while (traces.len() as u64) < count {
            let next = first + traces.len() as u64;
            let output = self.run(next, first + count - next, kept)?;
            let before = traces.len();
            traces.extend(split(&output));
            if traces.len() == before {
                return Err(format!(
                    "the executor printed no trace for seed {next}: {output}"
                ));
            }
        }
        Ok(traces)
    }

    fn run(&self, first: u64, count: u64, kept: Option<&[usize]>) -> Result<String, String> {
        let except = self
            .except
            .iter()
            .map(String::as_str)
            .chain(self.policy.except.iter().copied());
        let mut flags: Vec<String> = except.map(|part| format!("--except={part}")).collect();
        if self.policy.edges {
            flags.push("--no-edges".to_owned());
        }
        if self.policy.two_queues {
            flags.push("--long-backlogs".to_owned());
        }
        let namespace = match (self.policy.needs, &self.preload) {
            (Needs::Namespace, Some(_)) => Some(Namespace::new()?),
            _ => None,
        };
        let mut editor = None;
        if let Some((_, file)) = &self.preload {
            let path = namespace.as_ref().map(Namespace::path).unwrap_or_default();
            fs::write(file, self.policy.text(&path))
                .map_err(|error| format!("{}: {error}", file.display()))?;
            if self.policy.needs == Needs::Editor {
                editor = Some(Editor::new(file, self.policy.text("")));
            }
        }
        let mask: Vec<String> = self
            .policy
            .mask
            .iter()
            .map(|(level, name)| format!("{level}:{name}"))
            .collect();
        let mut command = Command::new(own_path()?);
        command
            .args([
                "run",
                &format!("--first={first}"),
                &format!("--count={count}"),
            ])
            .args([
                format!("--cpu={}", self.cpu),
                format!("--mask={}", mask.join(",")),
            ])
            .args(flags)
            .current_dir(&self.dir)
            .env_remove("LD_PRELOAD")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .process_group(0);
        if let Some(kept) = kept {
            let kept: Vec<String> = kept.iter().map(ToString::to_string).collect();
            command.arg(format!("--keep={}", kept.join(",")));
        }
        if let Some((library, policy)) = &self.preload {
            command
                .env("LD_PRELOAD", library)
                .env("DMM_POLICY", policy)
                .env("DMM_SHM_DIR", self.dir.join("shm"));
        }
        let child = isolate(&mut command)
            .spawn()
            .map_err(|error| format!("an executor in a network namespace of its own (needs root or user namespaces): {error}"))?;
        let output = collect(child).map_err(|error| format!("an executor's output: {error}"));
        drop(editor);
        output
    }
}

/// All that an executor prints; how it ended, if not well.
fn collect(mut child: Child) -> io::Result<String> {
    let mut text = Vec::new();
    let Some(mut stdout) = child.stdout.take() else {
        return Ok(String::new());
    };
    let mut buffer = vec![0; 1 << 16];
    loop {
        let mut poll = libc::pollfd {
            fd: stdout.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: one pollfd.
        let ready = unsafe { libc::poll(&raw mut poll, 1, PATIENCE_MILLIS) };
        if ready == 0 {
            let _ = writeln!(text, "hangs");
            // SAFETY: the process group of the child, which has not been waited for.
            unsafe { libc::kill(-(child.id() as i32), libc::SIGKILL) };
            break;
        }
        match stdout.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => text.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let status = child.wait()?;
    if !status.success() {
        let signal = status
            .signal()
            .map_or_else(String::new, |signal| format!(" by signal {signal}"));
        let _ = writeln!(text, "the process ended{signal}: {status}");
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// The traces in an executor's output: each begins with its seed.
fn split(output: &str) -> Vec<String> {
    let mut traces: Vec<String> = Vec::new();
    for line in output.lines() {
        if line.starts_with("=== ") {
            traces.push(String::new());
        }
        if let Some(trace) = traces.last_mut() {
            trace.push_str(line);
            trace.push('\n');
        }
    }
    traces
}
