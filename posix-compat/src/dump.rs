//! A copy of the statistics on SIGUSR2, where a rule asks for it.
//!
//! The handler is put in place only where the program has left the signal at its default: a program
//! that uses SIGUSR2 itself keeps it. The copy is `$DMM_DUMP_DIR/dmm-dump.PID.N` (by default in the folder of
//! the segments), for `dmm hist --from FILE`.

use std::ffi::{CStr, c_int};
use std::io::Write;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::{env, errno, process};

const IDLE: u32 = 0;
const ARMED: u32 = 1;

static STATE: AtomicU32 = AtomicU32::new(IDLE);
static COUNT: AtomicU32 = AtomicU32::new(0);

/// Puts the handler in place, once.
pub(crate) fn arm() {
    if STATE.swap(ARMED, Ordering::Relaxed) == ARMED {
        return;
    }
    let code = errno::last();
    // SAFETY: the structures are valid for the calls; `handle` is async-signal-safe.
    unsafe {
        let mut now = MaybeUninit::<libc::sigaction>::zeroed();
        if libc::sigaction(libc::SIGUSR2, std::ptr::null(), now.as_mut_ptr()) == 0
            && now.assume_init_ref().sa_sigaction == libc::SIG_DFL
        {
            let mut new: libc::sigaction = MaybeUninit::zeroed().assume_init();
            new.sa_sigaction = handle as *const () as usize;
            new.sa_flags = libc::SA_RESTART;
            libc::sigaction(libc::SIGUSR2, &raw const new, std::ptr::null_mut());
        }
    }
    errno::set(code);
}

extern "C" fn handle(_: c_int) {
    let code = errno::last();
    if let Some(segment) = process::existing_segment()
        && let Some(path) = dump_path(&mut [0; 320])
    {
        // It counts the copies that it has made; one that fails has nobody to be told.
        let _ = segment.dump(path);
    }
    errno::set(code);
}

/// `DIR/dmm-dump.PID.N`, in `$DMM_DUMP_DIR` or the directory of the segments.
fn dump_path(buffer: &mut [u8; 320]) -> Option<&CStr> {
    let dir = env::variable(c"DMM_DUMP_DIR=").unwrap_or_else(|| env::shm_dir().to_bytes());
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    write_path(buffer, dir, process::pid(), number)
}

/// Writing into a slice does not allocate.
fn write_path<'a>(
    buffer: &'a mut [u8; 320],
    dir: &[u8],
    pid: u32,
    number: u32,
) -> Option<&'a CStr> {
    let mut rest = &mut buffer[..];
    rest.write_all(dir).ok()?;
    write!(rest, "/dmm-dump.{pid}.{number}\0").ok()?;
    CStr::from_bytes_until_nul(buffer).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_in_decimal() {
        let mut buffer = [0; 320];
        assert_eq!(
            write_path(&mut buffer, b"/x", 0, u32::MAX),
            Some(c"/x/dmm-dump.0.4294967295")
        );
        assert_eq!(write_path(&mut buffer, &[b'x'; 320], 1, 1), None);
    }
}
