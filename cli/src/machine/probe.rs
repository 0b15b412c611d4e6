//! Trying something in a process of its own: this program again, with the hidden command `probe`.

use std::io::Read;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// A probe does next to nothing; one that takes longer hangs.
const LIMIT: Duration = Duration::from_secs(5);
/// Between two looks at whether it has ended.
const LOOK: Duration = Duration::from_millis(2);

/// Runs `dmm probe NAME`; what it prints, or why it failed, in one line.
pub(super) fn run(name: &str) -> Result<String, String> {
    let mut command = Command::new("/proc/self/exe");
    command.args(["probe", name]);
    output(command)
}

/// Runs a command for a limited time; its standard output, or the reason of its failure.
pub(super) fn output(mut command: Command) -> Result<String, String> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("could not be started: {error}"))?;
    let end = Instant::now() + LIMIT;
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if Instant::now() < end => std::thread::sleep(LOOK),
            Ok(None) => {
                // It may have ended in between, which is as good.
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("did not end within {} s", LIMIT.as_secs()));
            }
            Err(error) => return Err(format!("cannot be waited for: {error}")),
        }
    };
    // What a probe prints fits into a pipe, so reading after its end is safe.
    let text = read(child.stdout.take());
    let complaint = read(child.stderr.take());
    match (status.success(), complaint.lines().next()) {
        (true, None) => Ok(text),
        (_, Some(line)) => Err(line.to_owned()),
        (false, None) => Err(ended(status)),
    }
}

fn read(pipe: Option<impl Read>) -> String {
    let mut bytes = Vec::new();
    if let Some(mut pipe) = pipe {
        // What was read before an error is what there is to show.
        let _ = pipe.read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).trim().to_owned()
}

fn ended(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match status.signal() {
        Some(signal) => format!("ended by signal {signal}"),
        None => format!("ended with {}", status.code().unwrap_or(-1)),
    }
}
