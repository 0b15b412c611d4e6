//! The kernel, the processors, and the kernel's small services that DMM builds on.

use std::ffi::CStr;

use rustix::process::PidfdFlags;

use super::{Check, read_line};
use crate::plain;

/// Below this, too much of the socket API differs from what is tested.
const OLDEST_KERNEL: (u32, u32) = (5, 10);
/// From here on io_uring has what the shards want.
const GOOD_KERNEL: (u32, u32) = (6, 1);

pub(super) fn checks() -> Vec<Check> {
    vec![kernel(), user(), processors(), clock(), pidfd(), ptrace()]
}

fn kernel() -> Check {
    const ID: &str = "kernel";
    const FOR: &str = "everything; 6.1 and later for all of io_uring";
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy();
    let found = format!("Linux {release} {}", uname.machine().to_string_lossy());
    match version(uname.release()) {
        Some(version) if version >= GOOD_KERNEL => Check::ok(ID, FOR, found),
        Some(version) if version >= OLDEST_KERNEL => Check::limited(ID, FOR, found),
        _ => Check::missing(ID, FOR, format!("{found} is older than 5.10")),
    }
    .required()
}

fn version(release: &CStr) -> Option<(u32, u32)> {
    let mut numbers = release
        .to_str()
        .ok()?
        .split(|c: char| !c.is_ascii_digit())
        .map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

fn user() -> Check {
    const ID: &str = "user";
    const FOR: &str =
        "the kernel, local and smoltcp stacks need no privilege; namespaces and devices do";
    let uid = rustix::process::geteuid().as_raw();
    if uid == 0 {
        Check::ok(ID, FOR, "root")
    } else {
        Check::ok(ID, FOR, format!("uid {uid}, unprivileged"))
    }
}

fn processors() -> Check {
    const ID: &str = "processors";
    const FOR: &str = "one shard a core; with fewer than two, waiters do not spin";
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let found = match cores {
        1 => "1 core for this process".to_owned(),
        n => format!("{n} cores for this process"),
    };
    if cores > 1 {
        Check::ok(ID, FOR, found)
    } else {
        Check::limited(ID, FOR, found)
    }
}

fn clock() -> Check {
    const ID: &str = "clock";
    const FOR: &str =
        "latency histograms cost little only with a clock that is read without a system call";
    const CURRENT: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    match read_line(CURRENT) {
        None => Check::limited(ID, FOR, format!("{CURRENT} cannot be read")),
        Some(source) => match source.as_str() {
            "tsc" | "kvm-clock" | "arch_sys_counter" | "hyperv_clocksource_tsc_page" => {
                Check::ok(ID, FOR, source)
            }
            _ => Check::limited(ID, FOR, format!("{source} needs a system call"))
                .fix(format!("echo tsc | sudo tee {CURRENT}")),
        },
    }
}

fn pidfd() -> Check {
    const ID: &str = "pidfd";
    const FOR: &str = "noticing the end of a peer";
    match rustix::process::pidfd_open(rustix::process::getpid(), PidfdFlags::empty()) {
        Ok(_) => Check::ok(ID, FOR, "pidfd_open works"),
        Err(error) => Check::missing(ID, FOR, format!("pidfd_open: {}", plain(&error.into()))),
    }
}

fn ptrace() -> Check {
    const ID: &str = "ptrace-scope";
    const FOR: &str = "debuggers only: dmm's tools read statistics segments and attach to nothing";
    match read_line("/proc/sys/kernel/yama/ptrace_scope").as_deref() {
        None => Check::ok(ID, FOR, "no Yama: same-user processes may be traced"),
        Some("0") => Check::ok(ID, FOR, "0: same-user processes may be traced"),
        Some(scope) => Check::limited(
            ID,
            FOR,
            format!("{scope}: only descendants, or nothing, may be traced"),
        )
        .fix("sudo sysctl kernel.yama.ptrace_scope=0"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_as_numbers() {
        assert_eq!(version(c"6.18.44-fc-v595"), Some((6, 18)));
        assert_eq!(version(c"5.10.0"), Some((5, 10)));
        assert!(version(c"6.1.0") < version(c"6.18"));
        assert_eq!(version(c"odd"), None);
    }

    #[test]
    fn the_machine_of_the_test_has_the_basics() {
        let check = pidfd();
        assert_eq!(check.state, crate::machine::State::Ok, "{check:?}");
    }
}
