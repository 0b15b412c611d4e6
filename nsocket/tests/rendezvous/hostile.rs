//! One end does as it likes; the other serves on, and keeps nothing of it.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use dmm_nsocket::session::rendezvous::offer::OFFER_BYTES;
use dmm_nsocket::session::rendezvous::{AcceptError, Attachments, Offer, OfferError, SentAway};
use dmm_nsocket::session::segment::{Segment, SegmentError};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};

use crate::support::{Server, hangs_up, is_hung_up, offer};

/// Sends bytes and descriptors over a connection to the rendezvous that nothing has been sent on.
fn send(socket: &OwnedFd, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        assert!(control.push(SendAncillaryMessage::ScmRights(descriptors)));
    }
    let flags = SendFlags::NOSIGNAL;
    rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut control, flags).unwrap();
}

/// What comes of it at the accepting side.
fn outcome(bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<(), AcceptError> {
    let server = Server::new();
    outcome_at(&server, bytes, descriptors)
}

fn outcome_at(
    server: &Server,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> Result<(), AcceptError> {
    let socket = server.stall();
    send(&socket, bytes, descriptors);
    let result = server.accept().map(drop);
    assert!(hangs_up(&socket), "nothing is kept");
    // An honest program is served.
    let _connection = server.connect();
    let accepted = server.accept().unwrap();
    Segment::adopt(
        &accepted.segment,
        accepted.offer.layout,
        accepted.offer.generation,
    )
    .unwrap();
    result
}

#[test]
fn bytes_that_are_no_offer() {
    let file = tempfile::tempfile().unwrap();
    let garbage = |len: usize| outcome(&vec![b'G'; len], &[file.as_fd()]);
    let sent_away = |error: OfferError| Err(SentAway::Offer(error).into());
    assert_eq!(garbage(OFFER_BYTES), sent_away(OfferError::Magic));
    assert_eq!(garbage(100_000), sent_away(OfferError::Magic));
    for found in [1, OFFER_BYTES / 2, OFFER_BYTES - 1] {
        assert_eq!(garbage(found), sent_away(OfferError::Length { found }));
    }
}

#[test]
fn half_an_offer_and_the_other_half() {
    let server = Server::new();
    let bytes = offer(server.to).encode();
    let socket = server.stall();
    let (_segment, file) = Segment::create(offer(server.to).layout).unwrap();
    send(&socket, &bytes[..50], &[file.as_fd()]);
    let found = 50;
    assert_eq!(
        server.accept().map(drop),
        Err(SentAway::Offer(OfferError::Length { found }).into())
    );
    assert!(hangs_up(&socket));
}

#[test]
fn descriptors_that_are_not_announced_or_do_not_come() {
    let server = Server::new();
    let plain = offer(server.to);
    let with_doorbell = Offer {
        attachments: Attachments {
            doorbell: true,
            ..Attachments::default()
        },
        ..plain
    };
    let (_segment, file) = Segment::create(plain.layout).unwrap();
    let file = file.as_fd();
    for (offer, given) in [
        (plain, 0),
        (plain, 2),
        (plain, 4),
        (with_doorbell, 1),
        (with_doorbell, 3),
    ] {
        let announced = 1 + offer.attachments.count();
        assert_eq!(
            outcome_at(&server, &offer.encode(), &[file; 4][..given]),
            Err(SentAway::Descriptors {
                announced,
                found: given
            }
            .into()),
        );
    }
    for flood in [5, 253] {
        assert_eq!(
            outcome_at(&server, &plain.encode(), &vec![file; flood]),
            Err(SentAway::TooManyDescriptors.into())
        );
    }
}

#[test]
fn segments_that_are_none() {
    let server = Server::new();
    let offer = offer(server.to);
    let regular = tempfile::tempfile().unwrap();
    regular.set_len(offer.layout.total_bytes() as u64).unwrap();
    let (pipe, _writer) = rustix::pipe::pipe().unwrap();
    for file in [regular.as_fd(), pipe.as_fd(), server.listener.as_fd()] {
        let socket = server.stall();
        send(&socket, &offer.encode(), &[file]);
        let accepted = server.accept().unwrap();
        assert_eq!(
            Segment::adopt(&accepted.segment, offer.layout, offer.generation).err(),
            Some(SegmentError::NotMemfd)
        );
    }
}

#[test]
fn a_stall_holds_nobody_up_and_ends() {
    let server = Server::new();
    let stalled = server.stall();
    let start = Instant::now();
    assert_eq!(server.accept().err(), Some(AcceptError::WouldBlock));
    let _connection = server.connect();
    server.accept().unwrap();
    assert!(start.elapsed() < Duration::from_millis(500));
    assert!(!is_hung_up(&stalled), "it has a second");
    let end = server.accept_within(Duration::from_secs(10)).map(drop);
    assert_eq!(end, Err(SentAway::Stalled.into()));
    assert!(hangs_up(&stalled));
    assert!(start.elapsed() > Duration::from_millis(900));
}

#[test]
fn a_flood_of_stalls_is_bounded_and_served_past() {
    let server = Server::new();
    let stalled: Vec<_> = (0..100).map(|_| server.stall()).collect();
    let _connection = server.connect();
    let mut sent_away = 0;
    let accepted = loop {
        match server.accept() {
            Ok(accepted) => break accepted,
            Err(AcceptError::SentAway(SentAway::Stalled)) => sent_away += 1,
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(accepted.offer, offer(server.to));
    let kept = server.rendezvous.aside().count();
    assert!(kept <= 32, "{kept}");
    assert_eq!(sent_away, 100 - kept);
    let start = Instant::now();
    while stalled.iter().filter(|socket| is_hung_up(socket)).count() < sent_away {
        assert!(start.elapsed() < Duration::from_secs(5));
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_peer_that_leaves() {
    let server = Server::new();
    drop(server.stall());
    assert_eq!(server.accept().map(drop), Err(SentAway::Left.into()));
    let stalled = server.stall();
    assert_eq!(server.accept().err(), Some(AcceptError::WouldBlock));
    drop(stalled);
    assert_eq!(server.accept().map(drop), Err(SentAway::Left.into()));
}

#[test]
fn a_peer_that_is_killed_in_the_middle() {
    let server = Server::new();
    for _ in 0..20 {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        // SAFETY: the child makes system calls only, and never returns.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let _dialed = dmm_nsocket::session::rendezvous::Dialed::name(&server.name);
            let _ = rustix::io::write(&writer, &[1]);
            loop {
                std::thread::park();
            }
        }
        drop(writer);
        rustix::io::read(&reader, &mut [0]).unwrap();
        let before = server.accept().err();
        assert_eq!(before, Some(AcceptError::WouldBlock));
        // SAFETY: the child that was started above, not waited for yet.
        unsafe {
            libc::kill(child, libc::SIGKILL);
            libc::waitpid(child, std::ptr::null_mut(), 0);
        }
        assert_eq!(server.accept().map(drop), Err(SentAway::Left.into()));
    }
    assert_eq!(server.rendezvous.aside().count(), 0);
}

#[test]
fn a_source_that_is_not_the_hosts() {
    let server = Server::new();
    let from = |from: &str| {
        let offer = Offer {
            from: from.parse().unwrap(),
            ..offer(server.to)
        };
        let (_segment, file) = Segment::create(offer.layout).unwrap();
        outcome_at(&server, &offer.encode(), &[file.as_fd()])
    };
    // RFC 5737: addresses for documentation.
    assert_eq!(
        from("192.0.2.1:40000"),
        Err(SentAway::ForeignAddress.into())
    );
    assert_eq!(from("127.7.7.7:40000"), Ok(()));
}

#[test]
fn random_messages() {
    let server = Server::new();
    let mut bytes = offer(server.to).encode();
    let (_segment, file) = Segment::create(offer(server.to).layout).unwrap();
    let mut accepted = 0;
    for seed in 0..3_000_u64 {
        // A byte of a good offer at a time, which is what gets farthest.
        let random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let (at, old) = (
            random as usize % OFFER_BYTES,
            bytes[random as usize % OFFER_BYTES],
        );
        bytes[at] = (random >> 16) as u8;
        let socket = server.stall();
        send(&socket, &bytes, &[file.as_fd()]);
        match server.accept() {
            Ok(session) => {
                let Offer {
                    layout, generation, ..
                } = session.offer;
                let _ = Segment::adopt(&session.segment, layout, generation);
                accepted += 1;
            }
            Err(AcceptError::SentAway(_)) => {}
            Err(error) => panic!("{error}: byte {at} is {}", bytes[at]),
        }
        bytes[at] = old;
    }
    assert!(accepted > 0 && accepted < 3_000, "{accepted}");
}
