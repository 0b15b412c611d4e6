//! What the lock asks Linux for.

use std::mem::MaybeUninit;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::thread::futex;
use syscalls::{Sysno, syscall};

use crate::sync::{AtomicU32, AtomicU64};

use super::process::namespace;
use super::{Identity, Kernel};

/// After so long a sleeper looks whether the holder lives.
const CHECK_AFTER: Duration = Duration::from_millis(10);

/// So often: ten seconds in all.
const CHECKS: u32 = 1000;

/// The kernel that this runs on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Linux;

impl Kernel for Linux {
    fn sleep(&self, word: &AtomicU64, seen: u64, slept: u32) -> bool {
        if slept >= CHECKS {
            return false;
        }
        let timeout = CHECK_AFTER.try_into().ok();
        // Woken, too late, interrupted or timed out: the caller looks at the word in any case.
        let _ = futex::wait(
            lower_half(word),
            futex::Flags::empty(),
            seen as u32,
            timeout.as_ref(),
        );
        true
    }

    fn wake_one(&self, word: &AtomicU64) {
        // Fails for no address that the caller could have read.
        let _ = futex::wake(lower_half(word), futex::Flags::empty(), 1);
    }

    fn is_dead(&self, thread: Identity) -> bool {
        if thread.namespace() != namespace() {
            return false;
        }
        let tid = thread.tid() as i32;
        // SAFETY: signal 0 is not sent; the call only tells whether there is such a thread.
        match unsafe { syscall!(Sysno::tkill, tid, 0) } {
            Err(errno) if errno.into_raw() == Errno::SRCH.raw_os_error() => return true,
            _ => {}
        }
        // What cannot be read (another user's, no /proc) is not known to be dead.
        Status::of(thread.tid()).is_some_and(|now| now.is_ended || now.started > thread.time())
    }
}

/// The half of the word that a futex is.
fn lower_half(word: &AtomicU64) -> &AtomicU32 {
    let halves = std::ptr::from_ref(word).cast::<AtomicU32>();
    // SAFETY: both halves are within the word and aligned. This process does not access it by its
    // halves; the kernel does.
    unsafe { &*halves.add(usize::from(cfg!(target_endian = "big"))) }
}

/// What /proc/TID/stat says of a thread (proc_pid_stat(5)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Status {
    /// A zombie, or less.
    is_ended: bool,
    /// In hundredths of a second since the machine was started.
    started: u64,
}

impl Status {
    fn of(tid: u32) -> Option<Self> {
        let mut path = *b"/proc/0000000000/stat\0";
        // Leading zeros are not understood, but slashes are.
        let mut rest = tid;
        for digit in path[6..16].iter_mut().rev() {
            *digit = if rest == 0 {
                b'/'
            } else {
                b'0' + (rest % 10) as u8
            };
            rest /= 10;
        }
        let path = std::ffi::CStr::from_bytes_with_nul(&path).ok()?;
        let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
        let mut buffer = [MaybeUninit::uninit(); 512];
        let (text, _) = rustix::io::read(&file, &mut buffer).ok()?;
        Self::parse(text)
    }

    /// The program's name is in parentheses and may hold anything, more of them included.
    fn parse(text: &[u8]) -> Option<Self> {
        let end = text.iter().rposition(|&byte| byte == b')')?;
        let mut fields = text[end + 1..].split(|&byte| byte == b' ').skip(1);
        let state = fields.next()?;
        // The state is the third field, the time the 22nd.
        let started = std::str::from_utf8(fields.nth(18)?).ok()?.parse().ok()?;
        Some(Self {
            is_ended: matches!(state, b"Z" | b"X" | b"x"),
            started,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_of_a_thread_is_read() {
        let me = Identity::current().unwrap();
        let status = Status::of(me.tid()).unwrap();
        assert!(
            !status.is_ended && status.started <= me.time() && me.time() < status.started + 100_000
        );
        assert_eq!(Status::of(4_194_303), None);
    }

    #[test]
    fn names_of_programs_do_not_confuse() {
        let text = b"77 (a) Z 1 (b)) S 1 77 77 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 12345 6 7 8\n";
        assert_eq!(
            Status::parse(text),
            Some(Status {
                is_ended: false,
                started: 12345
            })
        );
        for len in 0..text.len() - 10 {
            let _ = Status::parse(&text[..len]);
        }
        assert_eq!(Status::parse(b"77 (sh) Z"), None);
    }

    #[test]
    fn a_thread_that_lives_is_not_dead_and_one_that_came_later_is_another() {
        let me = Identity::current().unwrap();
        assert!(!Linux.is_dead(me));
        let earlier = Identity::new(me.tid(), 0, me.namespace()).unwrap();
        assert!(Linux.is_dead(earlier), "the ID was used again");
        let elsewhere = Identity::new(me.tid(), 0, me.namespace() ^ 1).unwrap();
        assert!(
            !Linux.is_dead(elsewhere),
            "of another namespace nothing is known"
        );
        let gone = std::thread::spawn(|| Identity::current().unwrap())
            .join()
            .unwrap();
        // The kernel takes a moment to forget it.
        while !Linux.is_dead(gone) {
            std::thread::yield_now();
        }
    }
}
