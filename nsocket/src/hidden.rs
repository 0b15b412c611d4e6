//! Descriptors of ours that the program does not know of, among its own numbers.
//!
//! A program may close or replace whatever it likes: all numbers from 3 on, say, in a child. It must
//! not hit ours, as we would go on to use, and close, whatever file of the program's takes the number.
//! So they have high numbers, and are noted here with the identity of their files: one that was closed
//! since is not taken for ours.
//!
//! They are closed by a system call. What `OwnedFd` calls is libc's `close`, which in the preload is the
//! one that protects them.

use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Descriptors that are noted at most; further ones are not protected.
const PLACES: usize = 512;

static HIDDEN: [Place; PLACES] = [const { Place::new() }; PLACES];

/// No number below this one was ever hidden.
static LOWEST: AtomicU32 = AtomicU32::new(u32::MAX);

struct Place {
    /// The number plus one; 0 for a free place.
    number: AtomicU32,
    identity: AtomicU64,
}

impl Place {
    const fn new() -> Self {
        Self {
            number: AtomicU32::new(0),
            identity: AtomicU64::new(0),
        }
    }

    fn fd(&self) -> Option<RawFd> {
        let number = self.number.load(Ordering::Acquire).checked_sub(1)?;
        Some(number.cast_signed())
    }

    fn is_live(&self, fd: RawFd) -> bool {
        identity(fd).is_some_and(|now| now == self.identity.load(Ordering::Acquire))
    }
}

/// A descriptor that the program does not know of. Closed when dropped.
#[derive(Debug)]
pub struct Hidden(ManuallyDrop<OwnedFd>);

impl Hidden {
    /// Gives a descriptor a high number, so that the program's own stay dense (select(2) has room for
    /// 1,024 of them), and notes it. It keeps its number, and is not noted, where there is no room.
    pub fn new(fd: impl Into<Self>) -> Self {
        let fd: Self = fd.into();
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let limit = limit.unwrap_or(u64::MAX).min(1 << 19) as i32;
        match rustix::io::fcntl_dupfd_cloexec(&fd, limit - limit / 4) {
            Ok(moved) => {
                note(moved.as_raw_fd());
                moved.into()
            }
            Err(_) => fd,
        }
    }
}

impl From<OwnedFd> for Hidden {
    /// As it is, not hidden yet.
    fn from(fd: OwnedFd) -> Self {
        Self(ManuallyDrop::new(fd))
    }
}

impl AsFd for Hidden {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Hidden {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl IntoRawFd for Hidden {
    /// It stays noted as long as its file is there.
    fn into_raw_fd(self) -> RawFd {
        ManuallyDrop::new(self).0.as_raw_fd()
    }
}

impl FromRawFd for Hidden {
    unsafe fn from_raw_fd(fd: RawFd) -> Self {
        // SAFETY: by the caller's word.
        Self::from(unsafe { OwnedFd::from_raw_fd(fd) })
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        // SAFETY: the descriptor is owned, and not used any more.
        unsafe { rustix::io::close(self.0.as_raw_fd()) };
    }
}

fn note(fd: RawFd) {
    let Some(identity) = identity(fd) else { return };
    let number = fd.cast_unsigned() + 1;
    let same = |place: &&Place| place.number.load(Ordering::Relaxed) == number;
    let take = |place: &&Place| {
        let before = place.number.load(Ordering::Relaxed);
        let gone = before == 0 || place.fd().is_none_or(|fd| !place.is_live(fd));
        gone && place
            .number
            .compare_exchange(before, number, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    };
    let free = |place: &&Place| {
        place
            .number
            .compare_exchange(0, number, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    };
    let mut places = HIDDEN.iter();
    let place = places
        .find(same)
        .or_else(|| HIDDEN.iter().find(free))
        .or_else(|| HIDDEN.iter().find(take));
    if let Some(place) = place {
        place.identity.store(identity, Ordering::Release);
        LOWEST.fetch_min(fd.cast_unsigned(), Ordering::AcqRel);
    }
}

/// Whether a descriptor is one that the program does not know of.
#[inline]
pub fn is_hidden(fd: RawFd) -> bool {
    // A negative number is a large one here, and is not found.
    fd.cast_unsigned() >= LOWEST.load(Ordering::Relaxed) && is_noted(fd)
}

/// The lowest hidden descriptor in a range of numbers.
pub fn first_in(first: u32, last: u32) -> Option<u32> {
    if last < LOWEST.load(Ordering::Relaxed) {
        return None;
    }
    HIDDEN
        .iter()
        .filter_map(|place| place.fd().filter(|fd| place.is_live(*fd)))
        .map(RawFd::cast_unsigned)
        .filter(|fd| (first..=last).contains(fd))
        .min()
}

#[cold]
fn is_noted(fd: RawFd) -> bool {
    HIDDEN
        .iter()
        .any(|place| place.fd() == Some(fd) && place.is_live(fd))
}

/// What tells a file from all others that are open.
fn identity(fd: RawFd) -> Option<u64> {
    if fd < 0 {
        return None;
    }
    // SAFETY: only borrowed for the call, which refuses one that is not open.
    let file = unsafe { BorrowedFd::borrow_raw(fd) };
    let status = rustix::fs::fstat(file).ok()?;
    Some(status.st_ino ^ status.st_dev.rotate_left(32))
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_hidden_as_long_as_its_file_is_there() {
        let (reader, _writer) = std::io::pipe().unwrap();
        let hidden = Hidden::new(OwnedFd::from(reader));
        let fd = hidden.as_raw_fd();
        assert!(is_hidden(fd));
        assert_eq!(
            first_in(fd.cast_unsigned(), fd.cast_unsigned()),
            Some(fd.cast_unsigned())
        );
        assert!(!is_hidden(fd + 10_000) && !is_hidden(0) && !is_hidden(-1));
        drop(hidden);
        assert!(!is_hidden(fd), "closed");
    }
}
