//! A process at its limits: what cannot be had is an error, nothing is lost, and it works again when
//! there is room. Alone in its file, as limits are the whole process'.

use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};

use dmm_nsocket::session::rendezvous::{
    AcceptError, Attachments, Cookie, Dialed, Listener, Name, Offer, Rendezvous,
};
use dmm_nsocket::session::segment::{Generation, Layout, Segment, SegmentError};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Runs something under another soft limit.
fn limited<R>(resource: Resource, current: u64, body: impl FnOnce() -> R) -> R {
    let before = getrlimit(resource);
    let limit = Rlimit {
        current: Some(current),
        maximum: before.maximum,
    };
    setrlimit(resource, limit).unwrap();
    let result = body();
    setrlimit(resource, before).unwrap();
    result
}

#[test]
fn limits_are_errors() {
    accepting_without_descriptors();
    without_descriptors();
    with_small_files();
    without_address_space();
}

/// As with TCP: accept says EMFILE, and the connection waits.
fn accepting_without_descriptors() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let name = Name::listener(Cookie::of(&listener).unwrap());
    let rendezvous = Rendezvous::listen(&name, 128).unwrap();
    let to = listener.local_addr().unwrap();
    let layout = Layout::at_least(1 << 14, 1 << 14);
    let offer = Offer {
        protocol: libc::IPPROTO_TCP as u8,
        layout,
        generation: Generation::FIRST,
        attachments: Attachments {
            doorbell: true,
            ..Attachments::default()
        },
        from: "127.0.0.1:40000".parse().unwrap(),
        to,
        board: 0,
        known: [0; 2],
    };
    let (_segment, file) = Segment::create(layout).unwrap();
    let found = Listener::find(offer.from, to).unwrap();
    let dialed = Dialed::listener(&found).unwrap();
    let _connection = dialed
        .offer(&offer, file.as_fd(), &[listener.as_fd()])
        .unwrap();
    // How many descriptors are left: none; one for the connection; one more, where two have come.
    let lowest_free = || {
        let free = rustix::io::dup(&listener).unwrap();
        std::os::fd::AsRawFd::as_raw_fd(&free) as u64
    };
    for left in 0..3 {
        let limit = lowest_free() + left.min(2 - rendezvous.aside().count() as u64);
        let result = limited(Resource::Nofile, limit, || rendezvous.accept(&mut |_| ()));
        assert_eq!(
            result.err(),
            Some(AcceptError::System(Errno::MFILE)),
            "{left}"
        );
    }
    assert_eq!(rendezvous.aside().count(), 1);
    let accepted = rendezvous.accept(&mut |_| ()).unwrap();
    assert_eq!(accepted.offer, offer);
    assert!(accepted.attached.doorbell.is_some());
    Segment::adopt(&accepted.segment, layout, Generation::FIRST).unwrap();
}

fn without_descriptors() {
    let layout = Layout::at_least(1, 1);
    let error = limited(Resource::Nofile, 0, || Segment::create(layout).err());
    let (call, errno) = ("memfd_create", Errno::MFILE);
    assert_eq!(error, Some(SegmentError::System { call, errno }));
}

/// No SIGXFSZ, which would kill the program.
fn with_small_files() {
    let layout = Layout::at_least(1, 1);
    let error = limited(Resource::Fsize, 4096, || Segment::create(layout).err());
    let (call, errno) = ("ftruncate", Errno::FBIG);
    assert_eq!(error, Some(SegmentError::System { call, errno }));
}

fn without_address_space() {
    let layout = Layout::at_least(1 << 23, 1 << 23);
    let (_segment, file): (_, OwnedFd) = Segment::create(layout).unwrap();
    let errors = limited(Resource::As, 1 << 20, || {
        (
            Segment::create(layout).err(),
            Segment::adopt(&file, layout, Generation::FIRST).err(),
        )
    });
    let (call, errno) = ("mmap", Errno::NOMEM);
    let error = Some(SegmentError::System { call, errno });
    assert_eq!(errors, (error, error));
}
