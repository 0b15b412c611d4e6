use super::*;
use crate::session::rendezvous::{Cookie, Credentials};
use crate::session::segment::{Direction, Generation, Layout, PAGE, SegmentError, Side};
use crate::sync::Ordering::Relaxed;

const LISTENER: Cookie = Cookie(7);
const PEER: Credentials = Credentials {
    pid: 1,
    uid: 2,
    gid: 3,
};

fn layout() -> Layout {
    Layout::at_least(1 << 14, 1 << 14)
}

/// A session from offer to answer.
fn meet<'a>(
    connecting: &'a ConnectPool<2>,
    accepting: &'a AcceptPool<2>,
) -> (Prepared<'a, 2>, Adopted<'a, 2>) {
    let mut prepared = connecting.prepare(LISTENER, layout()).unwrap();
    let generation = prepared.generation();
    let adopted = accepting
        .adopt(PEER, prepared.file().unwrap(), layout(), generation)
        .unwrap();
    prepared.offered();
    (prepared, adopted)
}

#[test]
fn a_segment_serves_session_after_session() {
    let (connecting, accepting) = (ConnectPool::new(1 << 20), AcceptPool::new(1 << 20));
    let (prepared, adopted) = meet(&connecting, &accepting);
    let (inode, theirs) = (
        prepared.segment().inode(),
        adopted.segment().ring_bytes(Direction::ToAccepting),
    );
    prepared.segment().header().spare(Side::Accepting)[7].store(99, Relaxed);
    prepared.retire();
    adopted.retire();
    for round in 2..100 {
        let (prepared, adopted) = meet(&connecting, &accepting);
        assert_eq!(prepared.segment().inode(), inode, "not made anew");
        assert_eq!(
            adopted.segment().ring_bytes(Direction::ToAccepting),
            theirs,
            "not mapped anew"
        );
        assert_eq!(prepared.generation().bits(), round);
        let word = &adopted.segment().header().spare(Side::Accepting)[7];
        assert_eq!(word.swap(99, Relaxed), 0, "cleared");
        // Either may be the first to close.
        if round % 2 == 0 {
            prepared.retire();
            adopted.retire();
        } else {
            adopted.retire();
            prepared.retire();
        }
    }
}

#[test]
fn a_segment_is_used_again_when_both_have_closed() {
    let (connecting, accepting) = (ConnectPool::new(1 << 20), AcceptPool::new(1 << 20));
    let (prepared, adopted) = meet(&connecting, &accepting);
    let inode = prepared.segment().inode();
    prepared.retire();
    let (other, other_adopted) = meet(&connecting, &accepting);
    assert_ne!(other.segment().inode(), inode, "the peer is still at it");
    adopted.retire();
    let (again, _again_adopted) = meet(&connecting, &accepting);
    assert_eq!(again.segment().inode(), inode);
    drop((other, other_adopted));
}

#[test]
fn a_segment_stays_with_its_listener() {
    let (connecting, accepting) = (ConnectPool::new(1 << 20), AcceptPool::new(1 << 20));
    let (prepared, adopted) = meet(&connecting, &accepting);
    let inode = prepared.segment().inode();
    prepared.retire();
    adopted.retire();
    let other = connecting.prepare(Cookie(8), layout()).unwrap();
    assert_ne!(other.segment().inode(), inode);
    let larger = connecting
        .prepare(LISTENER, Layout::at_least(1 << 15, 1))
        .unwrap();
    assert_ne!(larger.segment().inode(), inode, "too small");
    let same = connecting
        .prepare(LISTENER, Layout::at_least(1, 1))
        .unwrap();
    assert_eq!(same.segment().inode(), inode);
}

#[test]
fn a_shared_segment_is_not_kept() {
    let (connecting, accepting) = (ConnectPool::new(1 << 20), AcceptPool::new(1 << 20));
    let (prepared, adopted) = meet(&connecting, &accepting);
    let (inode, first) = (prepared.segment().inode(), prepared.generation());
    adopted.segment().header().mark_shared();
    let copy = prepared.file().unwrap().try_clone_to_owned().unwrap();
    adopted.retire();
    prepared.retire();
    let (prepared, _adopted) = meet(&connecting, &accepting);
    assert_ne!(prepared.segment().inode(), inode);
    let segment = crate::session::segment::Segment::adopt(copy, layout(), first).unwrap();
    let state = segment.header().status(Side::Accepting).load(first);
    assert!(!state.unwrap().is_closed(), "nobody knows");
}

#[test]
fn a_peer_cannot_offer_what_is_in_use_or_over() {
    let (connecting, accepting) = (
        ConnectPool::<2>::new(1 << 20),
        AcceptPool::<2>::new(1 << 20),
    );
    let (prepared, adopted) = meet(&connecting, &accepting);
    let file = prepared.file().unwrap().try_clone_to_owned().unwrap();
    let first = Generation::FIRST;
    let second = first.next().unwrap();
    adopted
        .segment()
        .header()
        .status(Side::Accepting)
        .answer(first)
        .unwrap();
    let contradiction = Some(SegmentError::Contradiction);
    let offer = |peer, generation| {
        accepting
            .adopt(peer, &file, layout(), generation)
            .map(drop)
            .err()
    };
    assert_eq!(offer(PEER, first), contradiction, "in use");
    assert_eq!(offer(PEER, second), contradiction, "not prepared");
    adopted.retire();
    assert_eq!(offer(PEER, first), contradiction, "over");
    assert_eq!(offer(PEER, second), contradiction, "not prepared");
    // Another peer's descriptor of the same segment does not get it what is mapped for the first.
    let stranger = Credentials { pid: 9, ..PEER };
    assert_eq!(offer(stranger, second), contradiction);
    // A layout that the segment does not have.
    let wrong = Layout::at_least(1 << 15, 1 << 13);
    assert!(accepting.adopt(PEER, &file, wrong, second).is_err());
}

#[test]
fn descriptors_and_bytes_are_bounded() {
    let connecting = ConnectPool::<2>::new(1 << 20);
    let mut sessions: Vec<_> = (0..5)
        .map(|_| {
            let mut prepared = connecting.prepare(LISTENER, layout()).unwrap();
            prepared.offered();
            prepared
        })
        .collect();
    let open = sessions.iter().filter(|s| s.file().is_some()).count();
    assert_eq!(open, 2);
    sessions.clear();
    let mut one = connecting.prepare(LISTENER, layout()).unwrap();
    one.offered();
    assert!(one.file().is_some(), "there is room again");

    // Rings larger than the pool are not kept.
    let (connecting, accepting) = (ConnectPool::new(3 * PAGE), AcceptPool::new(3 * PAGE));
    let (prepared, adopted) = meet(&connecting, &accepting);
    let inode = prepared.segment().inode();
    prepared.retire();
    adopted.retire();
    let (prepared, _adopted) = meet(&connecting, &accepting);
    assert_ne!(prepared.segment().inode(), inode);
    assert_eq!(prepared.segment().layout(), layout());
}
