//! Reading and writing in place, in Rust programs that run under the preload.
//!
//! A socket that DMM carries in shared memory has its bytes in rings that both programs have mapped.
//! [`InPlace`] lends that memory to a closure: what was received is read where the peer has written it,
//! and what is to be sent is made where the peer will read it. It is `dmm.h` with lifetimes; the rules are
//! those of that header. Everything else than such a socket gives `None`, and is read and written as
//! always:
//!
//! ```no_run
//! use std::io::Read;
//! use std::net::TcpStream;
//! use std::sync::atomic::Ordering::Relaxed;
//!
//! /// Adds up all bytes up to the end of the stream.
//! fn sum(mut stream: TcpStream) -> std::io::Result<u64> {
//!     let mut sum = 0;
//!     if let Some(in_place) = dmm::InPlace::of(&stream) {
//!         let add = |parts: [dmm::Part<'_>; 2]| {
//!             let bytes = parts.iter().flat_map(|part| part.bytes());
//!             sum += bytes.map(|byte| u64::from(byte.load(Relaxed))).sum::<u64>();
//!             (parts[0].len() + parts[1].len(), ())
//!         };
//!         let mut add = add;
//!         while in_place.read(&mut add)?.is_some() {}
//!         return Ok(sum);
//!     }
//!     let mut buffer = [0; 4096];
//!     loop {
//!         match stream.read(&mut buffer)? {
//!             0 => return Ok(sum),
//!             n => sum += buffer[..n].iter().map(|byte| u64::from(*byte)).sum::<u64>(),
//!         }
//!     }
//! }
//! ```
//!
//! The peer can write to the memory at any time. So there are no slices of bytes, only of atomic ones, and
//! [`Part::copy_to`], [`Part::copy_from`]; whoever checks what was received checks what was copied.

use std::ffi::{CStr, c_int, c_void};
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::OnceLock;
use std::sync::atomic::AtomicU8;

use libc::{iovec, size_t, ssize_t};

/// A socket that shared memory carries.
#[derive(Clone, Copy, Debug)]
pub struct InPlace<'fd> {
    socket: BorrowedFd<'fd>,
    functions: &'static Functions,
}

/// Memory of a ring, which the peer has mapped, too.
#[derive(Clone, Copy, Debug)]
pub struct Part<'loan> {
    start: *mut u8,
    len: usize,
    loan: PhantomData<&'loan [AtomicU8]>,
}

impl<'fd> InPlace<'fd> {
    /// `None` if the socket is not carried in shared memory, or the program runs without DMM.
    pub fn of(socket: &'fd impl AsFd) -> Option<Self> {
        let functions = Functions::loaded()?;
        let socket = socket.as_fd();
        // SAFETY: takes any number.
        let is_session = unsafe { (functions.is_session)(socket.as_raw_fd()) } == 1;
        is_session.then_some(Self { socket, functions })
    }

    /// Lends the unread bytes to `f`, which says how many of them, from the first, it has used. Waits for
    /// some if the socket blocks. `None` at the end of the stream.
    ///
    /// # Errors
    ///
    /// Those of recv(2); `EBUSY` if somebody else has read from the socket meanwhile: what `f` has seen
    /// may have been anything. `EINVAL` if `f` says more than there is.
    pub fn read<R>(&self, f: impl FnOnce([Part<'_>; 2]) -> (usize, R)) -> io::Result<Option<R>> {
        let mut parts = [EMPTY; 2];
        // SAFETY: there is room for two parts.
        let lent = unsafe { (self.functions.peek)(self.socket.as_raw_fd(), parts.as_mut_ptr()) };
        if checked(lent)? == 0 {
            return Ok(None);
        }
        let (used, result) = f(parts.map(Part::new));
        // SAFETY: takes any numbers.
        checked(unsafe { (self.functions.consume)(self.socket.as_raw_fd(), used) })?;
        Ok(Some(result))
    }

    /// Lends free memory to `f`, which says how many bytes of it, from the first, are to be sent. There are
    /// at least `min` if they can be had; a socket that blocks waits for as many, or half of the ring.
    ///
    /// # Errors
    ///
    /// Those of send(2), without SIGPIPE; `EBUSY` if somebody else has written to the socket meanwhile:
    /// nothing was sent then. `EINVAL` if `f` says more than there is.
    pub fn write<R>(
        &self,
        min: usize,
        f: impl FnOnce([Part<'_>; 2]) -> (usize, R),
    ) -> io::Result<R> {
        let mut parts = [EMPTY; 2];
        let socket = self.socket.as_raw_fd();
        // SAFETY: there is room for two parts.
        checked(unsafe { (self.functions.reserve)(socket, min, parts.as_mut_ptr()) })?;
        let (filled, result) = f(parts.map(Part::new));
        // SAFETY: takes any numbers.
        checked(unsafe { (self.functions.commit)(socket, filled) })?;
        Ok(result)
    }
}

impl<'loan> Part<'loan> {
    fn new(part: iovec) -> Self {
        Self {
            start: part.iov_base.cast(),
            len: part.iov_len,
            loan: PhantomData,
        }
    }

    /// How many bytes.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The bytes, each of which the peer may change at any time.
    pub fn bytes(&self) -> &'loan [AtomicU8] {
        if self.len == 0 {
            return &[];
        }
        // SAFETY: so many bytes are mapped as long as the socket is open, which the loan's borrow of it
        // outlives; every access by anybody is that of an atomic byte, as far as Rust sees it.
        unsafe { std::slice::from_raw_parts(self.start.cast(), self.len) }
    }

    /// Copies the first bytes, as many as there are on both sides, and returns how many.
    pub fn copy_to(&self, buffer: &mut [u8]) -> usize {
        let len = self.len.min(buffer.len());
        // SAFETY: so many bytes can be read and written, and the memory of a ring is no buffer of ours.
        unsafe { self.start.copy_to_nonoverlapping(buffer.as_mut_ptr(), len) };
        len
    }

    /// Fills the first bytes, as many as there are on both sides, and returns how many. For memory that
    /// was lent for writing: anywhere else it spoils what the peer has sent.
    pub fn copy_from(&self, bytes: &[u8]) -> usize {
        let len = self.len.min(bytes.len());
        // SAFETY: as above.
        unsafe { self.start.copy_from_nonoverlapping(bytes.as_ptr(), len) };
        len
    }
}

const EMPTY: iovec = iovec {
    iov_base: std::ptr::null_mut(),
    iov_len: 0,
};

/// The functions of `dmm.h`.
#[derive(Debug)]
struct Functions {
    is_session: unsafe extern "C-unwind" fn(c_int) -> c_int,
    peek: unsafe extern "C-unwind" fn(c_int, *mut iovec) -> ssize_t,
    consume: unsafe extern "C-unwind" fn(c_int, size_t) -> ssize_t,
    reserve: unsafe extern "C-unwind" fn(c_int, size_t, *mut iovec) -> ssize_t,
    commit: unsafe extern "C-unwind" fn(c_int, size_t) -> ssize_t,
}

impl Functions {
    fn loaded() -> Option<&'static Self> {
        static FOUND: OnceLock<Option<Functions>> = OnceLock::new();
        FOUND.get_or_init(Self::find).as_ref()
    }

    fn find() -> Option<Self> {
        // SAFETY: the symbols of that library have these types (dmm.h), and it is never unloaded.
        unsafe {
            Some(Self {
                is_session: symbol(c"dmm_is_session")?,
                peek: symbol(c"dmm_peek_in_place")?,
                consume: symbol(c"dmm_consume")?,
                reserve: symbol(c"dmm_reserve")?,
                commit: symbol(c"dmm_commit")?,
            })
        }
    }
}

/// # Safety
///
/// `F` must be a function pointer type: that of the symbol.
unsafe fn symbol<F>(name: &CStr) -> Option<F> {
    const { assert!(size_of::<F>() == size_of::<*mut c_void>()) };
    // SAFETY: a name that ends with a zero byte.
    let address = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    // SAFETY: not null, and of that type by the caller's word.
    (!address.is_null()).then(|| unsafe { std::mem::transmute_copy(&address) })
}

fn checked(result: ssize_t) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_the_preload_nothing_is_in_place() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(InPlace::of(&socket).is_none());
    }

    #[test]
    fn parts_copy_as_much_as_fits() {
        let mut memory = *b"hello";
        let part = Part::new(iovec {
            iov_base: memory.as_mut_ptr().cast(),
            iov_len: memory.len(),
        });
        let mut buffer = [0; 3];
        assert_eq!((part.copy_to(&mut buffer), &buffer), (3, b"hel"));
        assert_eq!(part.copy_from(b"HE"), 2);
        assert_eq!(
            part.bytes()[1].load(std::sync::atomic::Ordering::Relaxed),
            b'E'
        );
        assert!(Part::new(EMPTY).is_empty() && Part::new(EMPTY).bytes().is_empty());
    }
}
