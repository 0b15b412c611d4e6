//! CPU time of all that takes part in a run: the programs, their children, and helpers of theirs.

use std::path::Path;
use std::time::Duration;

/// The environment variable that marks the processes of a run.
pub(crate) const MARK: &str = "DMM_BENCH_RUN";

/// CPU time so far, of the marked processes that live, of those in a process group, and of all children
/// that this process has waited for. Differences of it count a process from start to end.
///
/// The group finds a server that writes over its environment, as nginx does.
pub(crate) fn so_far(mark: &str, group: u32) -> Duration {
    let marked = format!("{MARK}={mark}");
    let living: Duration = std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse::<i32>().ok()?;
            is_of_run(&entry.path(), pid, &marked, group).then(|| of_process(pid))
        })
        .sum();
    living + of_children()
}

fn is_of_run(directory: &Path, pid: i32, marked: &str, group: u32) -> bool {
    // SAFETY: takes a number and gives one.
    let its_group = unsafe { libc::getpgid(pid) };
    if u32::try_from(its_group) == Ok(group) {
        return true;
    }
    let environment = std::fs::read(directory.join("environ")).unwrap_or_default();
    environment
        .split(|byte| *byte == 0)
        .any(|entry| entry == marked.as_bytes())
}

/// Of all threads of a process, ended ones included, to the nanosecond; nothing of one that is gone.
fn of_process(pid: i32) -> Duration {
    let mut clock = 0;
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: both write to the variables they are given, and fail for a process that is gone.
    let failed = unsafe {
        libc::clock_getcpuclockid(pid, &raw mut clock) != 0
            || libc::clock_gettime(clock, &raw mut time) != 0
    };
    if failed {
        return Duration::ZERO;
    }
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

fn of_children() -> Duration {
    // SAFETY: integers alone, for which zero is a value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: it writes to the structure it is given.
    let result = unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage) };
    assert_eq!(result, 0, "getrusage: {}", std::io::Error::last_os_error());
    let time = |value: libc::timeval| {
        Duration::new(value.tv_sec.unsigned_abs(), value.tv_usec as u32 * 1_000)
    };
    time(usage.ru_utime) + time(usage.ru_stime)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    const NO_GROUP: u32 = u32::MAX;

    fn burning(mark: &str) -> Command {
        let mut shell = Command::new("sh");
        shell
            .args([
                "-c",
                "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; read line",
            ])
            .env(MARK, mark)
            .stdin(std::process::Stdio::piped());
        shell
    }

    #[test]
    fn a_process_counts_while_it_lives_and_after() {
        let mark = format!("test.{}", std::process::id());
        let before = so_far(&mark, NO_GROUP);
        let mut child = burning(&mark).spawn().expect("a shell");
        std::thread::sleep(Duration::from_millis(600));
        let living = so_far(&mark, NO_GROUP) - before;
        assert!(living > Duration::from_millis(5), "{living:?}");
        let by_group = of_process(child.id().cast_signed());
        assert!(by_group >= living, "{by_group:?} after {living:?}");
        drop(child.stdin.take());
        child.wait().expect("its end");
        let ended = so_far(&mark, NO_GROUP) - before;
        // The kernel gives a child's time in microseconds.
        assert!(
            ended + Duration::from_micros(2) >= living,
            "{ended:?} after {living:?}"
        );
    }
}
