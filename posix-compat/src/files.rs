//! Reading small files by raw system calls.

use std::ffi::CStr;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;

/// Reads the start of a file, as far as the buffer goes; returns how much was read.
pub(crate) fn read_start(path: &CStr, buffer: &mut [u8]) -> Result<usize, Errno> {
    let file = rustix::fs::openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut len = 0;
    while len < buffer.len() {
        match rustix::io::read(&file, &mut buffer[len..]) {
            Ok(0) => break,
            Ok(n) => len += n,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(len)
}

/// Reads a whole file of at most `limit` bytes. Allocates: only within an arena.
pub(crate) fn read_all(path: &CStr, limit: usize) -> Result<Vec<u8>, Errno> {
    let file = rustix::fs::openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let size = rustix::fs::fstat(&file)?.st_size as usize;
    if size > limit {
        return Err(Errno::FBIG);
    }
    // Files of /proc say that they are empty.
    let mut bytes = vec![0; size.max(4095) + 1];
    let mut len = 0;
    loop {
        match rustix::io::read(&file, &mut bytes[len..]) {
            Ok(0) => break,
            Ok(n) => len += n,
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(errno),
        }
        if len > limit {
            return Err(Errno::FBIG);
        }
        if len == bytes.len() {
            bytes.resize(2 * len, 0);
        }
    }
    bytes.truncate(len);
    Ok(bytes)
}
