//! The mailbox: the newest compiled policy of one file, in shared memory.
//!
//! `dmm policy apply` (and whoever else changes the live policy) posts the compiled image here; every
//! program under DMM maps the file once and sees a change with one load, also after a `chroot` or a
//! change of user that hides the policy file itself.
//!
//! ```text
//! /dev/shm/dmm-policy.UID.HASH        UID: owner of the policy file; HASH: of its canonical path
//! page 0    magic, version, sequence number; for either slot: sequence, text hash, length, checksum
//! slot 0    8 MiB, sparse
//! slot 1    8 MiB, sparse
//! ```
//!
//! The image number `n` is in slot `n % 2`, so that a reader that is copying one is not disturbed by
//! the next; a reader that is overtaken twice sees the slot's number change, and tries again.
//!
//! A mailbox is believed if its file belongs to the program's own user or to root and nobody else
//! may write it: the same who could change the program's policy anyway. The image in it is validated
//! once more when it is loaded (`dmm_policy::Image::from_bytes`).

mod reader;
mod writer;

use std::ffi::CStr;
use std::sync::atomic::{AtomicU32, AtomicU64};

pub use reader::{Mailbox, Poll};
pub use writer::MailboxWriter;

/// Largest image that a mailbox carries, in bytes.
pub const MAX_IMAGE: usize = 8 << 20;

const MAGIC: u64 = u64::from_le_bytes(*b"DMMPOST\0");
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 4096;
const FILE_BYTES: usize = HEADER_BYTES + 2 * MAX_IMAGE;

#[repr(C)]
struct Header {
    magic: AtomicU64,
    version: AtomicU32,
    _reserved: AtomicU32,
    /// Number of the newest image; 0: none yet.
    newest: AtomicU64,
    slots: [Slot; 2],
}

#[repr(C)]
struct Slot {
    /// Number of the image in the slot; 0 while it is being written.
    number: AtomicU64,
    text_hash: AtomicU64,
    len: AtomicU64,
    checksum: AtomicU64,
}

const _: () = assert!(size_of::<Header>() <= HEADER_BYTES);

const fn slot_offset(number: u64) -> usize {
    HEADER_BYTES + (number % 2) as usize * MAX_IMAGE
}

/// FNV-1a over words, the length and the last bytes: finds torn copies, not forgeries.
fn checksum(bytes: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325 ^ bytes.len() as u64;
    for chunk in bytes.chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        hash = (hash ^ u64::from_le_bytes(word))
            .wrapping_mul(0x0100_0000_01b3)
            .rotate_left(29);
    }
    hash
}

/// Path of a mailbox, in place: made without an allocation.
#[derive(Clone, Copy)]
pub struct MailboxPath {
    bytes: [u8; Self::CAPACITY],
    owner: u32,
}

impl MailboxPath {
    const CAPACITY: usize = 256;

    /// The mailbox of the policy file with this canonical path (no symbolic links, no `..`) and this
    /// owner. `dir` is [`DEFAULT_DIR`](crate::stats::DEFAULT_DIR) or `$DMM_SHM_DIR`. `None` if the
    /// directory's name is too long.
    pub fn new(dir: &CStr, owner: u32, policy: &[u8]) -> Option<Self> {
        let hash = policy.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let mut path = Self {
            bytes: [0; Self::CAPACITY],
            owner,
        };
        let mut len = 0;
        let mut push = |part: &[u8]| {
            let end = len + part.len();
            // The last byte stays zero.
            path.bytes[..Self::CAPACITY - 1]
                .get_mut(len..end)?
                .copy_from_slice(part);
            len = end;
            Some(())
        };
        push(dir.to_bytes())?;
        push(b"/dmm-policy.")?;
        let mut divisor = 1_000_000_000;
        while divisor > 1 && owner < divisor {
            divisor /= 10;
        }
        while divisor > 0 {
            push(&[b'0' + (owner / divisor % 10) as u8])?;
            divisor /= 10;
        }
        push(b".")?;
        for shift in (0..16).rev() {
            push(&[b"0123456789abcdef"[(hash >> (4 * shift)) as usize & 15]])?;
        }
        Some(path)
    }

    /// The owner of the policy file: who alone may post.
    pub const fn owner(&self) -> u32 {
        self.owner
    }

    /// The path.
    pub const fn as_c_str(&self) -> &CStr {
        match CStr::from_bytes_until_nul(&self.bytes) {
            Ok(path) => path,
            Err(_) => c"", // The last byte is always zero.
        }
    }
}

impl std::fmt::Debug for MailboxPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.as_c_str().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::CString;
    use std::os::unix::ffi::OsStrExt;
    use std::sync::atomic::AtomicBool;
    use std::sync::atomic::Ordering::Relaxed;

    use rustix::io::Errno;

    use super::*;

    fn path(dir: &tempfile::TempDir) -> MailboxPath {
        let dir = CString::new(dir.path().as_os_str().as_bytes()).unwrap();
        let uid = rustix::process::geteuid().as_raw();
        MailboxPath::new(&dir, uid, b"/etc/dmm/policy.toml").unwrap()
    }

    #[test]
    fn names_hold_owner_and_hash() {
        for (owner, text) in [(0, ".0."), (1000, ".1000."), (u32::MAX, ".4294967295.")] {
            let path = MailboxPath::new(c"/dev/shm", owner, b"/a").unwrap();
            let path = path.as_c_str().to_str().unwrap().to_owned();
            assert!(path.starts_with("/dev/shm/dmm-policy."), "{path}");
            assert!(path.contains(text), "{path}");
        }
        let long = CString::new("d".repeat(240)).unwrap();
        assert!(MailboxPath::new(&long, 0, b"/a").is_none());
    }

    #[test]
    fn a_post_arrives_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = path(&dir);
        assert_eq!(Mailbox::open(&path).err(), Some(Errno::NOENT));
        let writer = MailboxWriter::open(&path, false).unwrap();
        let reader = Mailbox::open(&path).unwrap();
        let mut buffer = vec![0; 1 << 16];
        assert_eq!(reader.poll(0, &mut buffer), Poll::Unchanged);
        writer.post(b"first", 11).unwrap();
        writer.post(b"second one", 22).unwrap();
        let Poll::New {
            number,
            text_hash,
            len,
        } = reader.poll(0, &mut buffer)
        else {
            panic!("nothing arrived")
        };
        assert_eq!((&buffer[..len], text_hash), (&b"second one"[..], 22));
        assert_eq!(reader.poll(number, &mut buffer), Poll::Unchanged);
        assert_eq!(
            reader.poll(0, &mut buffer[..3]),
            Poll::BufferTooSmall { needed: 10 }
        );
        assert!(reader.is_current(&path));
        std::fs::remove_file(path.as_c_str().to_str().unwrap()).unwrap();
        assert!(!reader.is_current(&path));
    }

    #[test]
    fn others_may_not_write_a_mailbox_that_is_believed() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = path(&dir);
        MailboxWriter::open(&path, true).unwrap();
        let file = path.as_c_str().to_str().unwrap();
        std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o666)).unwrap();
        assert_eq!(Mailbox::open(&path).err(), Some(Errno::PERM));
        std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(file, b"short").unwrap();
        assert_eq!(Mailbox::open(&path).err(), Some(Errno::INVAL));
        // The owner's writer puts a proper one in its place.
        MailboxWriter::open(&path, false).unwrap();
        Mailbox::open(&path).unwrap();
    }

    #[test]
    fn a_stopped_writer_holds_nobody_up_for_long() {
        let dir = tempfile::tempdir().unwrap();
        let path = path(&dir);
        let writer = MailboxWriter::open(&path, false).unwrap();
        let file = std::fs::File::open(path.as_c_str().to_str().unwrap()).unwrap();
        rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).unwrap();
        let again = MailboxWriter::open(&path, false).expect("opening needs no lock");
        let start = std::time::Instant::now();
        assert_eq!(again.post(b"x", 1), Err(Errno::BUSY));
        assert!(start.elapsed().as_secs() < 30, "{:?}", start.elapsed());
        drop(file);
        assert_eq!(writer.post(b"x", 1), Ok(1));
    }

    #[test]
    fn another_users_mailbox_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let c_dir = CString::new(dir.path().as_os_str().as_bytes()).unwrap();
        let other = rustix::process::geteuid().as_raw() + 1;
        let path = MailboxPath::new(&c_dir, other, b"/etc/dmm/policy.toml").unwrap();
        assert_eq!(MailboxWriter::open(&path, false).err(), Some(Errno::PERM));
        assert_eq!(Mailbox::open(&path).err(), Some(Errno::NOENT));
    }

    #[test]
    fn a_reader_never_sees_a_mixture() {
        let dir = tempfile::tempdir().unwrap();
        let path = path(&dir);
        let writer = MailboxWriter::open(&path, false).unwrap();
        let reader = Mailbox::open(&path).unwrap();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for round in 0..2_000_u64 {
                    let image = vec![round as u8; 1000 + (round as usize * 37) % 30_000];
                    writer.post(&image, round).unwrap();
                }
                done.store(true, Relaxed);
            });
            let mut buffer = vec![0; 1 << 16];
            let (mut last, mut seen) = (0, 0);
            while !done.load(Relaxed) {
                if let Poll::New {
                    number,
                    text_hash,
                    len,
                } = reader.poll(last, &mut buffer)
                {
                    assert!(number > last);
                    assert!(buffer[..len].iter().all(|byte| *byte == text_hash as u8));
                    last = number;
                    seen += 1;
                }
            }
            assert!(seen > 0);
        });
    }
}
