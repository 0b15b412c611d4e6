//! Locking all memory: all but DMM's own.
//!
//! The statistics segment and the mailbox are large mappings of which hardly anything is memory. A
//! program that locks all it has (mlockall(2)) would fill them, or be refused for their size. So
//! what the program has is locked a mapping at a time, and ours is left out.

use std::ffi::c_int;
use std::ops::Range;

use dmm_nsocket::stats::Segment;
use rustix::fs::{CWD, Mode, OFlags};
use syscalls::{Errno, Sysno, syscall};

use crate::export::export;
use crate::{errno, mailbox, process, real, sandbox};

export! {
    /// mlockall(2).
    fn mlockall(flags: c_int) -> c_int {
        let own = [process::existing_segment().map(Segment::range), mailbox::range()];
        if flags & libc::MCL_CURRENT == 0
            || flags & !(libc::MCL_CURRENT | libc::MCL_FUTURE | libc::MCL_ONFAULT) != 0
            || own.iter().all(Option::is_none)
            || sandbox::is_entered()
        {
            return unsafe { real::mlockall(flags) };
        }
        if flags & libc::MCL_FUTURE != 0 {
            let future = unsafe { real::mlockall(flags & !libc::MCL_CURRENT) };
            if future != 0 {
                return future;
            }
        }
        match lock_others(&own, flags & libc::MCL_ONFAULT != 0) {
            Some(Ok(())) => 0,
            Some(Err(code)) => errno::fail(code.into_raw()),
            None => unsafe { real::mlockall(flags) },
        }
    }
}

/// Locks every mapping of the process but our own; `None` without /proc.
fn lock_others(own: &[Option<Range<usize>>], on_fault: bool) -> Option<Result<(), Errno>> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(CWD, c"/proc/self/maps", flags, Mode::empty()).ok()?;
    let mut line = [0; 64];
    let mut len = 0;
    let mut buffer = [0; 2048];
    loop {
        let got = match rustix::io::read(&file, &mut buffer) {
            Ok(0) => return Some(Ok(())),
            Ok(got) => got,
            Err(_) => return None,
        };
        for &byte in &buffer[..got] {
            if byte != b'\n' {
                // What is looked at stands at the start of the line.
                if let Some(place) = line.get_mut(len) {
                    *place = byte;
                    len += 1;
                }
                continue;
            }
            if let Some((range, readable)) = mapping(&line[..len])
                && !own.iter().flatten().any(|ours| overlap(ours, &range))
                && let Err(code) = lock(&range, on_fault)
                && readable
                && code != Errno::EINVAL
            {
                return Some(Err(code));
            }
            len = 0;
        }
    }
}

/// Locks a mapping. One that is a device's, or cannot be accessed, is refused; mlockall(2) passes
/// over those in silence.
fn lock(range: &Range<usize>, on_fault: bool) -> Result<(), Errno> {
    const MLOCK_ONFAULT: usize = 1;
    let flags = if on_fault { MLOCK_ONFAULT } else { 0 };
    // SAFETY: locking changes no memory, and a mapping that has gone since is refused.
    unsafe { syscall!(Sysno::mlock2, range.start, range.len(), flags) }.map(|_| ())
}

fn overlap(a: &Range<usize>, b: &Range<usize>) -> bool {
    a.start < b.end && b.start < a.end
}

/// Addresses of a line of /proc/PID/maps (proc(5)), and whether the mapping can be read.
fn mapping(line: &[u8]) -> Option<(Range<usize>, bool)> {
    let mut words = std::str::from_utf8(line).ok()?.split(' ');
    let (start, end) = words.next()?.split_once('-')?;
    let address = |text| usize::from_str_radix(text, 16).ok();
    let range = address(start)?..address(end)?;
    // The page of old system calls is the kernel's own, above all of the process's.
    let theirs = range.start < isize::MAX as usize;
    theirs.then_some((range, words.next()?.starts_with('r')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_maps_are_read() {
        let line = b"7f0000001000-7f0000003000 r--p 00000000 fe:00 1234 /usr/lib/x";
        assert_eq!(
            mapping(line),
            Some((0x7f00_0000_1000..0x7f00_0000_3000, true))
        );
        let line = b"7f0000001000-7f0000003000 ---p 00000000 00:00 0";
        assert_eq!(mapping(line).map(|(_, readable)| readable), Some(false));
        let line = b"ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0 [vsyscall]";
        assert_eq!(mapping(line), None);
        assert_eq!(mapping(b"nonsense"), None);
    }
}
