//! This process's view of the policy mailbox: mapped once, at start, while the program can still see
//! the file; good for the rest of its life.

use std::cell::UnsafeCell;
use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use dmm_nsocket::mailbox::{MAX_IMAGE, Mailbox, MailboxPath, MailboxWriter, Poll};
use dmm_policy::Image;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;

use crate::env;

static VIEW: View = View {
    ready: AtomicBool::new(false),
    seen: AtomicU64::new(0),
    mailbox: UnsafeCell::new(MaybeUninit::uninit()),
};

struct View {
    ready: AtomicBool,
    /// Number of the image that was taken last.
    seen: AtomicU64,
    mailbox: UnsafeCell<MaybeUninit<(MailboxPath, Mailbox)>>,
}

// SAFETY: the mailbox is written once, by `init`, before `ready` says so; then only read.
unsafe impl Sync for View {}

/// Opens the mailbox of the policy file, making it if need be. Without one (no policy file, no
/// shared memory) the program follows the file alone.
pub(crate) fn init(policy: Option<&CStr>) {
    if let Some(view) = policy.and_then(|policy| open(policy).ok()) {
        // SAFETY: called once, from the constructor, before anybody looks.
        unsafe { (*VIEW.mailbox.get()).write(view) };
        VIEW.ready.store(true, Ordering::Release);
    }
}

fn open(policy: &CStr) -> Result<(MailboxPath, Mailbox), Errno> {
    let file = rustix::fs::openat(CWD, policy, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let status = rustix::fs::fstat(&file)?;
    let path = MailboxPath::new(env::shm_dir(), status.st_uid, &canonical(&file)?)
        .ok_or(Errno::NAMETOOLONG)?;
    let mailbox = match Mailbox::open(&path) {
        Err(Errno::NOENT) => {
            let public = Mode::from_raw_mode(status.st_mode).contains(Mode::ROTH);
            drop(MailboxWriter::open(&path, public)?);
            Mailbox::open(&path)?
        }
        opened => opened?,
    };
    Ok((path, mailbox))
}

/// The path of an open file without links and dots, as the kernel tells it.
fn canonical(file: &rustix::fd::OwnedFd) -> Result<Vec<u8>, Errno> {
    use std::os::fd::AsRawFd;
    let link = format!("/proc/self/fd/{}\0", file.as_raw_fd());
    let link = CStr::from_bytes_with_nul(link.as_bytes()).map_err(|_| Errno::INVAL)?;
    let mut buffer = [0; 4096];
    let len = rustix::fs::readlinkat_raw(CWD, link, &mut buffer[..])?;
    Ok(buffer[..len].to_vec())
}

fn view() -> Option<&'static (MailboxPath, Mailbox)> {
    VIEW.ready
        .load(Ordering::Acquire)
        // SAFETY: written before `ready` was, never after.
        .then(|| unsafe { (*VIEW.mailbox.get()).assume_init_ref() })
}

/// Addresses of the mapping, if there is one.
pub(crate) fn range() -> Option<std::ops::Range<usize>> {
    view().map(|(_, mailbox)| mailbox.range())
}

/// Whether there is an image that was not taken yet.
pub(crate) fn has_news() -> bool {
    view().is_some_and(|(_, mailbox)| {
        let newest = mailbox.newest();
        newest != 0 && newest != VIEW.seen.load(Ordering::Relaxed)
    })
}

/// The newest image, if it was not taken yet. Allocates: only within an arena.
pub(crate) fn latest() -> Option<Image> {
    newer_than(VIEW.seen.load(Ordering::Relaxed)).map(|(image, _)| image)
}

/// The newest image, if it was compiled from the text with this hash. Allocates.
pub(crate) fn image(text_hash: u64) -> Option<Image> {
    newer_than(0).and_then(|(image, hash)| (hash == text_hash).then_some(image))
}

fn newer_than(last: u64) -> Option<(Image, u64)> {
    let (_, mailbox) = view()?;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match mailbox.poll(last, &mut buffer) {
            Poll::Unchanged => return None,
            Poll::BufferTooSmall { needed } if needed <= MAX_IMAGE => buffer.resize(needed, 0),
            Poll::BufferTooSmall { .. } => return None,
            Poll::New {
                number,
                text_hash,
                len,
            } => {
                VIEW.seen.store(number, Ordering::Relaxed);
                let image = Image::from_bytes(&buffer[..len]).ok()?;
                return Some((image, text_hash));
            }
        }
    }
}

/// Leaves an image for others that cannot compile it themselves. Where this process may not write
/// the mailbox, somebody else will.
pub(crate) fn publish(image: &Image) {
    if let Some((path, mailbox)) = view()
        && mailbox.is_current(path)
        && let Ok(writer) = MailboxWriter::open(path, false)
    {
        let _ = writer.post(image.as_bytes(), image.text_hash());
    }
}
