use std::os::fd::OwnedFd;

use std::convert::Infallible;

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

use super::*;
use crate::session::waiter::Ringer;

fn memfd(bytes: u64, seals: SealFlags) -> OwnedFd {
    let file = memfd_create(c"test", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
    ftruncate(&file, bytes).unwrap();
    rustix::fs::fcntl_add_seals(&file, seals).unwrap();
    file
}

#[test]
fn a_peer_sees_who_sleeps() {
    let page = WaiterPage::create().unwrap();
    let peer = PeerPage::adopt(page.as_fd()).unwrap();
    let (slot, ringer) = (peer.slot(SLOTS - 1).unwrap(), Ringer::new());
    let rings = || {
        slot.ring_if_asleep(&ringer, || Ok::<_, Infallible>(()))
            .unwrap()
    };
    assert!(!rings());
    let asleep = page.sleep(SLOTS - 1).unwrap().prepare(|| false).unwrap();
    assert!(rings());
    drop(asleep);
    assert!(!rings());

    assert_eq!(slot.core(), None);
    page.publish_core(SLOTS - 1, Some(0));
    assert_eq!(slot.core(), Some(0));
    page.publish_core(SLOTS - 1, None);
    assert_eq!(slot.core(), None);
}

#[test]
fn slots_out_of_range_do_not_exist() {
    let page = WaiterPage::create().unwrap();
    assert!(page.sleep(SLOTS).is_none());
    page.publish_core(usize::MAX, Some(1));
    assert!(PeerPage::adopt(page.as_fd()).unwrap().slot(SLOTS).is_none());
}

#[test]
fn a_peer_cannot_write() {
    let page = WaiterPage::create().unwrap();
    let file = page.as_fd();
    for access in [ProtFlags::WRITE, ProtFlags::READ | ProtFlags::WRITE] {
        assert_eq!(
            Map::new(&file, access).unwrap_err(),
            failed("mmap")(Errno::PERM)
        );
    }
    assert_eq!(rustix::io::pwrite(file, &[1], 0), Err(Errno::PERM));
    assert_eq!(ftruncate(file, 0), Err(Errno::PERM));
    let punch = rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
    assert_eq!(
        rustix::fs::fallocate(file, punch, 0, 4096),
        Err(Errno::PERM)
    );
    let peer = PeerPage::adopt(file).unwrap();
    // SAFETY: the range is the peer's mapping; were this to work, its bytes would stay.
    let made_writable = unsafe {
        rustix::mm::mprotect(
            peer.map.0.as_ptr().cast(),
            BYTES,
            rustix::mm::MprotectFlags::READ | rustix::mm::MprotectFlags::WRITE,
        )
    };
    assert_eq!(made_writable, Err(Errno::ACCESS));
}

#[test]
fn what_is_not_a_page_is_refused() {
    let size = BYTES as u64;
    let adopt = |file: &OwnedFd| PeerPage::adopt(file).unwrap_err();

    let without_shrink = SEALS.difference(SealFlags::SHRINK);
    assert_eq!(
        adopt(&memfd(size, without_shrink)),
        PageError::Seals {
            found: without_shrink.bits()
        }
    );
    assert!(matches!(
        adopt(&memfd(size, SEALS | SealFlags::WRITE)),
        PageError::Seals { .. }
    ));
    for found in [0, size - 1, size + 1, size + 4096] {
        assert_eq!(adopt(&memfd(found, SEALS)), PageError::Size { found });
    }
    let (pipe, _other) = rustix::pipe::pipe().unwrap();
    assert_eq!(adopt(&pipe), PageError::NotMemfd);
    let file: OwnedFd = tempfile::tempfile().unwrap().into();
    ftruncate(&file, size).unwrap();
    assert!(matches!(
        adopt(&file),
        PageError::NotMemfd | PageError::Seals { .. }
    ));
}
