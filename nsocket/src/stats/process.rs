//! What a segment's writer has to know of its own process, by system calls alone.

use rustix::fs::{Mode, OFlags};

/// `CLOCK_REALTIME`, in nanoseconds since the epoch. Through the vDSO.
pub(super) fn realtime_ns() -> u64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `now` is a valid place for the result; the clock always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_REALTIME, &raw mut now) };
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}

/// Whether a file may be made this long. Beyond RLIMIT_FSIZE, ftruncate(2) and write(2) would not only
/// fail: they would send SIGXFSZ to the program.
pub(crate) fn file_size_allowed(bytes: u64) -> bool {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Fsize);
    limit.current.is_none_or(|limit| limit >= bytes)
}

/// Start time of this process in clock ticks since boot: field 22 of /proc/self/stat (proc(5)).
/// `None` without /proc, as in a chroot.
pub(super) fn own_start_ticks() -> Option<u64> {
    let file = rustix::fs::open(
        c"/proc/self/stat",
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .ok()?;
    let mut buffer = [0; 1024];
    let len = rustix::io::read(&file, &mut buffer).ok()?;
    start_ticks_in(&buffer[..len])
}

/// Field 22 of a `/proc/PID/stat` line. The second field, the program's name in parentheses, may
/// hold spaces and parentheses of its own.
pub fn start_ticks_in(stat: &[u8]) -> Option<u64> {
    let after_name = stat.iter().rposition(|byte| *byte == b')')? + 1;
    let field = stat[after_name..]
        .split(|byte| *byte == b' ')
        .filter(|field| !field.is_empty())
        .nth(22 - 3)?;
    std::str::from_utf8(field).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_confuse() {
        let stat = b"7 (a) b (c)) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4242 1 2 3";
        assert_eq!(start_ticks_in(stat), Some(4242));
        assert_eq!(start_ticks_in(b"7 (a"), None);
        assert_eq!(start_ticks_in(b""), None);
    }

    #[test]
    fn this_process_has_a_start_time() {
        assert!(own_start_ticks().is_some_and(|ticks| ticks > 0));
    }
}
