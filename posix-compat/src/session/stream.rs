//! stdio on sessions: FILEs whose bytes go through our calls.
//!
//! A FILE that libc makes reads and writes its descriptor inside libc, where no session is known. So
//! fdopen(3) on a socket that is one, or may become one, gives out a FILE made by fopencookie(3), whose
//! functions are ours; everything else about it is libc's: buffering, locking, flushing at exit. Its
//! descriptor is entered where libc keeps it, so that fileno(3) tells it.

use std::ffi::{c_char, c_int, c_void};
use std::sync::atomic::{AtomicUsize, Ordering};

use dmm_nsocket::table::State;
use libc::{FILE, off64_t, size_t, ssize_t};

use crate::calls::{data, descriptors};
use crate::process::TABLE;
use crate::{errno, real};

/// fdopen(3) on a session or a fresh socket. `None`: libc's own will do.
pub(crate) fn open(fd: c_int, mode: *const c_char) -> Option<*mut FILE> {
    if !matches!(TABLE.load(fd).state(), State::Session | State::Fresh) {
        return None;
    }
    // SAFETY: the program's mode, which libc's fdopen(3) would read as well.
    let allowed = unsafe { MODES.contains(&mode.cast::<u8>().read()) };
    if !allowed {
        return None;
    }
    // SAFETY: functions that keep to fopencookie(3).
    let stream = unsafe { fopencookie(fd as usize as *mut c_void, mode, FUNCTIONS) };
    if stream.is_null() {
        return Some(stream);
    }
    // SAFETY: a FILE that libc has just made.
    let (number, table) = unsafe {
        (
            &mut *stream.byte_add(FILENO).cast::<c_int>(),
            stream.byte_add(FUNCTIONS_OF).cast::<usize>().read(),
        )
    };
    if *number == NO_DESCRIPTOR {
        *number = fd;
        TABLE_OF_COOKIES.store(table, Ordering::Relaxed);
    }
    Some(stream)
}

/// Whether a stream reads and writes by our functions: it closes its descriptor by them, too, and only
/// after it has been flushed.
pub(crate) fn is_ours(stream: *mut FILE) -> bool {
    let table = TABLE_OF_COOKIES.load(Ordering::Relaxed);
    // SAFETY: an open stream of the program's, which has both.
    let (found, number) = unsafe {
        (
            stream.byte_add(FUNCTIONS_OF).cast::<usize>().read(),
            stream.byte_add(FILENO).cast::<c_int>().read(),
        )
    };
    // The streams that a program makes by fopencookie(3) itself have no descriptor.
    table != 0 && found == table && number >= 0
}

/// What libc has for functions in a stream of fopencookie(3); 0 before the first one of ours.
static TABLE_OF_COOKIES: AtomicUsize = AtomicUsize::new(0);

const MODES: &[u8] = b"rwa";

/// Where glibc keeps a FILE's descriptor on 64-bit machines (bits/types/struct_FILE.h, part of its
/// ABI), and what it enters for one that has none (libio/iofopncook.c).
const FILENO: usize = 112;
const NO_DESCRIPTOR: c_int = -2;

/// Behind the FILE: its table of functions (libio/libioP.h, `struct _IO_FILE_plus`).
const FUNCTIONS_OF: usize = 216;

/// cookie_io_functions_t of fopencookie(3).
#[repr(C)]
struct Functions {
    read: unsafe extern "C-unwind" fn(*mut c_void, *mut c_char, size_t) -> ssize_t,
    write: unsafe extern "C-unwind" fn(*mut c_void, *const c_char, size_t) -> ssize_t,
    seek: unsafe extern "C-unwind" fn(*mut c_void, *mut off64_t, c_int) -> c_int,
    close: unsafe extern "C-unwind" fn(*mut c_void) -> c_int,
}

const FUNCTIONS: Functions = Functions {
    read,
    write,
    seek,
    close,
};

unsafe extern "C-unwind" {
    fn fopencookie(cookie: *mut c_void, mode: *const c_char, functions: Functions) -> *mut FILE;
}

unsafe extern "C-unwind" fn read(cookie: *mut c_void, place: *mut c_char, len: size_t) -> ssize_t {
    // SAFETY: libc's buffer.
    unsafe { data::read(descriptor(cookie), place.cast(), len) }
}

/// A cookie's function writes all, or says 0 of an error.
unsafe extern "C-unwind" fn write(
    cookie: *mut c_void,
    bytes: *const c_char,
    len: size_t,
) -> ssize_t {
    // SAFETY: libc's buffer.
    let written = unsafe { write_all(descriptor(cookie), bytes, len) };
    written.max(0)
}

unsafe extern "C-unwind" fn seek(_: *mut c_void, _: *mut off64_t, _: c_int) -> c_int {
    errno::fail(libc::ESPIPE)
}

unsafe extern "C-unwind" fn close(cookie: *mut c_void) -> c_int {
    // SAFETY: the stream's descriptor, which it closes.
    unsafe { descriptors::close(descriptor(cookie)) }
}

fn descriptor(cookie: *mut c_void) -> c_int {
    cookie as usize as c_int
}

/// Writes everything, as libc does for a stream; what went before an error counts.
///
/// # Safety
///
/// So many bytes can be read.
unsafe fn write_all(fd: c_int, bytes: *const c_char, len: usize) -> ssize_t {
    let mut done = 0;
    while done < len {
        // SAFETY: by the caller's word.
        let written = unsafe { data::write(fd, bytes.add(done).cast(), len - done) };
        if written < 0 {
            return if done > 0 { done as ssize_t } else { written };
        }
        done += written as usize;
    }
    done as ssize_t
}

/// Bytes that a formatted text may have without that memory is taken for it.
const ON_STACK: usize = 2048;

/// A `va_list`, as a function gets it: the address of one, which using it changes.
type List = [u64; 4];

/// vdprintf(3) on a session: formats to memory, and writes that. `None`: it is none.
pub(crate) fn print(
    fd: c_int,
    arguments: *mut c_void,
    format: impl Fn(*mut c_char, size_t, *mut c_void) -> c_int,
) -> Option<c_int> {
    if !TABLE.load(fd).is_session() {
        return None;
    }
    // SAFETY: the caller's list, which is at least as long as that of any machine that is supported
    // where it lies on its stack.
    let list: List = unsafe { arguments.cast::<List>().read_unaligned() };
    let mut first = list;
    let mut text = [0; ON_STACK];
    let len = format(text.as_mut_ptr(), ON_STACK, first.as_mut_ptr().cast());
    if len < 0 {
        return Some(len);
    }
    let written = if (len as usize) < ON_STACK {
        // SAFETY: so many bytes were formatted.
        unsafe { write_all(fd, text.as_ptr(), len as usize) }
    } else {
        let size = len as usize + 1;
        let Ok(memory) = map(size) else {
            return Some(errno::fail(libc::ENOMEM));
        };
        let mut second = list;
        format(memory.cast(), size, second.as_mut_ptr().cast());
        // SAFETY: as above.
        let written = unsafe { write_all(fd, memory.cast(), len as usize) };
        let code = errno::last();
        // SAFETY: mapped above.
        let _ = unsafe { rustix::mm::munmap(memory, size) };
        errno::set(code);
        written
    };
    Some(if written < len as ssize_t { -1 } else { len })
}

fn map(size: usize) -> rustix::io::Result<*mut c_void> {
    use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};
    // SAFETY: a new private mapping at an address of the kernel's choice.
    unsafe {
        mmap_anonymous(
            std::ptr::null_mut(),
            size,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::PRIVATE,
        )
    }
}

/// freopen(3) on one of our streams: libc cannot make a file's stream of it, which is a cookie's. The
/// new file is opened under the descriptor's number, where our functions find it.
pub(crate) fn reopen(
    path: *const c_char,
    mode: *const c_char,
    stream: *mut FILE,
) -> Option<*mut FILE> {
    if stream.is_null() || !is_ours(stream) {
        return None;
    }
    if path.is_null() {
        // Only the mode is to change, which no socket's can.
        errno::set(libc::EBADF);
        return Some(std::ptr::null_mut());
    }
    // SAFETY: the program's stream, path and mode.
    unsafe {
        libc::fflush(stream);
        let fd = libc::fileno(stream);
        let file = libc::fopen(path, mode);
        if file.is_null() {
            return Some(std::ptr::null_mut());
        }
        let moved = descriptors::dup2(libc::fileno(file), fd);
        real::fclose(file);
        libc::clearerr(stream);
        Some(if moved < 0 {
            std::ptr::null_mut()
        } else {
            stream
        })
    }
}
