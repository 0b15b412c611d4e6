//! Moving the calling thread into new namespaces, to see whether that is allowed.

use rustix::io::Errno;
use rustix::thread::UnshareFlags;

/// Gives the calling thread namespaces of its own (unshare(2)).
///
/// # Panics
///
/// When asked for anything but network and user namespaces.
pub fn enter_new(flags: UnshareFlags) -> Result<(), Errno> {
    let harmless = UnshareFlags::NEWNET | UnshareFlags::NEWUSER;
    assert!(harmless.contains(flags), "only namespaces");
    // SAFETY: what is unsafe about unshare is CLONE_FILES, which makes descriptors of other threads
    // invalid in this one; the assertion above excludes it.
    unsafe { rustix::thread::unshare_unsafe(flags) }
}
