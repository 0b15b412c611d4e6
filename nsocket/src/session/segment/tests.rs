use std::io::{Read, Seek, Write};
use std::os::fd::{AsRawFd, BorrowedFd};

use super::*;
use crate::sync::Ordering;

fn layout() -> Layout {
    Layout::at_least(1 << 16, 1 << 14)
}

/// A memfd as somebody else might make it.
fn memfd(bytes: u64, seals: SealFlags) -> OwnedFd {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = rustix::fs::memfd_create(c"hostile", flags).unwrap();
    rustix::fs::ftruncate(&file, bytes).unwrap();
    rustix::fs::fcntl_add_seals(&file, seals).unwrap();
    file
}

fn adopt(file: impl AsFd) -> Result<Segment, SegmentError> {
    Segment::adopt(file, layout(), Generation::FIRST)
}

fn write_at(file: BorrowedFd<'_>, offset: u64, bytes: &[u8]) {
    assert_eq!(rustix::io::pwrite(file, bytes, offset), Ok(bytes.len()));
}

#[test]
fn both_sides_see_the_same_memory() {
    let (ours, file) = Segment::create(layout()).unwrap();
    let theirs = adopt(&file).unwrap();
    assert_eq!(theirs.inode(), ours.inode());
    drop(file);
    for direction in [Direction::ToAccepting, Direction::ToConnecting] {
        let capacity = layout().capacity(direction);
        for offset in [0, capacity - 1] {
            // SAFETY: inside the ring, and no other thread is at it.
            let read = unsafe {
                ours.ring_bytes(direction).add(offset).write_volatile(7);
                theirs.ring_bytes(direction).add(offset).read_volatile()
            };
            assert_eq!(read, 7);
        }
    }
    let (ours, theirs) = (ours.header(), theirs.header());
    ours.keep_addresses(b"somewhere");
    assert_eq!(theirs.kept_addresses()[..10], *b"somewhere\0");
    ours.mark_shared();
    assert!(theirs.is_shared());
    for side in [Side::Connecting, Side::Accepting] {
        ours.interest(side).store(1, Ordering::Relaxed);
        assert_eq!(theirs.interest(side).load(Ordering::Relaxed), 1);
        ours.spare(side)[31].store(2, Ordering::Relaxed);
        assert_eq!(theirs.spare(side)[31].load(Ordering::Relaxed), 2);
        assert_eq!(theirs.interest(side).load(Ordering::Relaxed), 1);
    }
}

#[test]
fn bytes_go_both_ways() {
    let (ours, file) = Segment::create(layout()).unwrap();
    let theirs = adopt(&file).unwrap();
    let who = Identity::current().unwrap();
    for (from, side, to) in [
        (&ours, Side::Connecting, &theirs),
        (&theirs, Side::Accepting, &ours),
    ] {
        // More than the first window holds.
        let sent: Vec<u8> = (0..10_000_u32).map(|i| i as u8).collect();
        let mut producer = from.producer(side, who).unwrap();
        assert!(from.try_producer(side, who).is_err(), "locked");
        assert_eq!(producer.write(&sent), Ok(sent.len()));
        drop(producer);
        let mut received = vec![0; sent.len() + 1];
        let mut consumer = to.consumer(side.other(), who).unwrap();
        assert!(to.try_consumer(side.other(), who).is_err(), "locked");
        assert_eq!(consumer.read(&mut received), Ok(sent.len()));
        assert_eq!(received[..sent.len()], sent);
    }
}

#[test]
fn the_length_cannot_be_changed() {
    let (_segment, file) = Segment::create(layout()).unwrap();
    for bytes in [0, layout().total_bytes() as u64 + 1] {
        assert_eq!(rustix::fs::ftruncate(&file, bytes), Err(Errno::PERM));
    }
    assert_eq!(
        rustix::fs::fcntl_add_seals(&file, SealFlags::WRITE),
        Err(Errno::PERM)
    );
}

#[test]
fn holes_are_filled_again() {
    let (ours, file) = Segment::create(layout()).unwrap();
    let theirs = adopt(&file).unwrap();
    let flags = rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
    rustix::fs::fallocate(&file, flags, 0, layout().total_bytes() as u64).unwrap();
    for segment in [ours, theirs] {
        assert_eq!(segment.header().generation(), None);
        assert_eq!(
            segment
                .header()
                .status(Side::Connecting)
                .load(Generation::FIRST),
            Err(Stale)
        );
    }
}

#[test]
fn what_is_no_memfd_is_refused() {
    let regular = tempfile::tempfile().unwrap();
    regular.set_len(layout().total_bytes() as u64).unwrap();
    assert_eq!(adopt(&regular).err(), Some(SegmentError::NotMemfd));
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    assert_eq!(adopt(&reader).err(), Some(SegmentError::NotMemfd));
    assert_eq!(adopt(&writer).err(), Some(SegmentError::NotMemfd));
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    assert_eq!(adopt(&socket).err(), Some(SegmentError::NotMemfd));
    // A file of a tmpfs cannot be sealed.
    let file = tempfile::tempfile_in("/dev/shm").unwrap();
    file.set_len(layout().total_bytes() as u64).unwrap();
    let seals = SealFlags::SEAL.bits();
    assert_eq!(
        adopt(&file).err(),
        Some(SegmentError::Seals { found: seals })
    );
    // A memfd of huge pages, which may run out.
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING | MemfdFlags::HUGETLB;
    if let Ok(file) = rustix::fs::memfd_create(c"huge", flags) {
        rustix::fs::fcntl_add_seals(&file, SEALS).unwrap();
        assert_eq!(adopt(&file).err(), Some(SegmentError::NotMemfd));
    }
}

#[test]
fn a_memfd_that_is_not_sealed_right_is_refused() {
    let bytes = layout().total_bytes() as u64;
    for seals in [
        SealFlags::empty(),
        SealFlags::SHRINK,
        SealFlags::SHRINK | SealFlags::GROW,
        SEALS.difference(SealFlags::SHRINK),
        SEALS.difference(SealFlags::GROW),
        SEALS | SealFlags::WRITE,
        SEALS | SealFlags::FUTURE_WRITE,
    ] {
        let refused = adopt(memfd(bytes, seals)).err();
        let found = seals.bits();
        assert_eq!(refused, Some(SegmentError::Seals { found }), "{seals:?}");
    }
}

#[test]
fn a_memfd_of_another_length_is_refused() {
    let expected = layout().total_bytes();
    for found in [
        0,
        1,
        PAGE as u64,
        expected as u64 - 1,
        expected as u64 + 1,
        1 << 40,
    ] {
        let refused = adopt(memfd(found, SEALS)).err();
        assert_eq!(refused, Some(SegmentError::Size { expected, found }));
    }
}

#[test]
fn a_memfd_that_cannot_be_written_is_refused() {
    let (_segment, file) = Segment::create(layout()).unwrap();
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let reader = std::fs::File::open(path).unwrap();
    let call = "mmap";
    let errno = Errno::ACCESS;
    assert_eq!(
        adopt(&reader).err(),
        Some(SegmentError::System { call, errno })
    );
}

#[test]
fn a_header_that_contradicts_the_offer_is_refused() {
    let bytes = layout().total_bytes() as u64;
    assert_eq!(
        adopt(memfd(bytes, SEALS)).err(),
        Some(SegmentError::Header),
        "all zero"
    );
    // Lines of the header: format, session, what either side says.
    let (format, session, accepting) = (0, 128, 384);
    for (offset, byte, error) in [
        (format, b'X', SegmentError::Header),
        (format + 8, 9, SegmentError::Header),
        (format + 12, 15, SegmentError::Contradiction),
        (format + 13, 15, SegmentError::Contradiction),
        (session, 2, SegmentError::Contradiction),
        // The accepting side's status: answered before it is asked, or of another use.
        (accepting, 1, SegmentError::Contradiction),
        (accepting + 1, 2, SegmentError::Contradiction),
    ] {
        let (_segment, file) = Segment::create(layout()).unwrap();
        adopt(&file).unwrap();
        write_at(file.as_fd(), offset, &[byte]);
        assert_eq!(adopt(&file).err(), Some(error), "byte {offset}");
    }
    let (_segment, file) = Segment::create(layout()).unwrap();
    // The same length, the rings the other way round.
    let other = Layout::at_least(1 << 14, 1 << 16);
    assert_eq!(
        Segment::adopt(&file, other, Generation::FIRST).err(),
        Some(SegmentError::Contradiction)
    );
    let later = Generation::from_bits(2).unwrap();
    assert_eq!(
        Segment::adopt(&file, layout(), later).err(),
        Some(SegmentError::Contradiction)
    );
}

#[test]
fn any_header_is_survived() {
    let (ours, file) = Segment::create(layout()).unwrap();
    let mut file = std::fs::File::from(file);
    let mut good = [0; PAGE];
    file.read_exact(&mut good).unwrap();
    let mut random = std::fs::File::open("/dev/urandom").unwrap();
    for round in 0..2_000_usize {
        let mut page = good;
        let from = round % PAGE;
        random.read_exact(&mut page[from..]).unwrap();
        file.rewind().unwrap();
        file.write_all(&page).unwrap();
        let _ = adopt(&file);
        let header = ours.header();
        let _ = header
            .generation()
            .map(|now| (header.is_over(now), now.next()));
        for side in [Side::Connecting, Side::Accepting] {
            let _ = format!("{:?}", header.status(side).load(Generation::FIRST));
        }
    }
}

#[test]
fn capacities_are_powers_of_two_within_limits() {
    for shift in 0..=u8::MAX {
        let valid = (12..=23).contains(&shift);
        assert_eq!(Layout::from_shifts(shift, 12).is_ok(), valid, "{shift}");
        assert_eq!(Layout::from_shifts(12, shift).is_ok(), valid, "{shift}");
    }
    for (asked, capacity) in [
        (0, 4096),
        (4097, 8192),
        (65536, 65536),
        (usize::MAX, MAX_CAPACITY),
    ] {
        let layout = Layout::at_least(asked, 1);
        assert_eq!(layout.capacity(Direction::ToAccepting), capacity);
        assert_eq!(
            layout.offset(Direction::ToConnecting) + layout.capacity(Direction::ToConnecting),
            layout.total_bytes()
        );
    }
    assert!(layout().holds(Layout::at_least(1, 1)));
    assert!(!layout().holds(Layout::at_least(1, 1 << 15)));
}

#[test]
fn a_state_is_told_once_and_for_one_use() {
    let (first, second) = (Generation::FIRST, Generation::FIRST.next().unwrap());
    let status = Status::new(first);
    let state = status.load(first).unwrap();
    assert!(!(state.is_answered() || state.is_finished() || state.is_reset()));
    status.answer(first).unwrap();
    status.finish(first).unwrap();
    let state = status.load(first).unwrap();
    assert!(state.is_answered() && state.is_finished() && !state.is_closed());
    assert_eq!(state.reset_reason(), None);
    status.reset(first, ResetReason::Corrupt).unwrap();
    status.reset(first, ResetReason::Aborted).unwrap();
    status.close(first).unwrap();
    let state = status.load(first).unwrap();
    assert_eq!(state.reset_reason(), Some(ResetReason::Corrupt));
    assert!(state.is_finished() && state.is_reset() && state.is_closed());

    assert_eq!(status.load(second), Err(Stale));
    status.begin(second);
    for late in [
        status.answer(first),
        status.finish(first),
        status.reset(first, ResetReason::Aborted),
        status.close(first),
    ] {
        assert_eq!(late, Err(Stale));
    }
    let state = status.load(second).unwrap();
    assert_eq!(state.word(), second.bits() << 8, "nothing has been said");
}

#[test]
fn a_segment_is_used_up_at_some_time() {
    let last = Generation::from_bits((1 << 24) - 1).unwrap();
    assert_eq!(last.next(), None);
    assert_eq!(Generation::from_bits(1 << 24), None);
    assert_eq!(Generation::from_bits(0), None);
}
