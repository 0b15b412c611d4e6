//! The honest way.

use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use dmm_nsocket::session::rendezvous::{
    AcceptError, Attachments, Cookie, DialError, Dialed, ListenError, Listener, Name, Offer,
    Rendezvous, SentAway,
};
use dmm_nsocket::session::segment::{Direction, Generation, Layout, Segment, Side};
use rustix::event::EventfdFlags;
use rustix::net::{AddressFamily, SocketType};

use crate::support::{Server, hangs_up, offer};

#[test]
fn a_session_is_opened_before_it_is_accepted() {
    let server = Server::new();
    assert_eq!(server.accept().err(), Some(AcceptError::WouldBlock));
    let layout = Layout::at_least(1 << 16, 1 << 13);
    let offer = Offer {
        layout,
        board: 11,
        known: [0; 2],
        attachments: Attachments {
            doorbell: true,
            waiter_page: false,
            ready_set: true,
        },
        ..offer(server.to)
    };
    let listener = Listener::find(offer.from, server.to).unwrap();
    let dialed = Dialed::listener(&listener).unwrap();
    assert_eq!(dialed.peer().pid, std::process::id() as i32);
    let (ours, file) = Segment::create(layout).unwrap();
    let doorbell = rustix::event::eventfd(3, EventfdFlags::NONBLOCK).unwrap();
    let ready = tempfile::tempfile().unwrap();
    let wrong =
        Dialed::listener(&listener)
            .unwrap()
            .offer(&offer, file.as_fd(), &[doorbell.as_fd()]);
    assert!(
        matches!(
            wrong,
            Err(DialError::Descriptors {
                announced: 3,
                given: 2
            })
        ),
        "{wrong:?}"
    );
    let attached = [doorbell.as_fd(), ready.as_fd()];
    let connection = dialed.offer(&offer, file.as_fd(), &attached).unwrap();
    drop(file);
    // Bytes that do not go through the session follow behind.
    rustix::io::write(&connection, b"stray").unwrap();

    let accepted = server.accept().unwrap();
    // The one that was given up for the wrong number of descriptors.
    assert_eq!(server.accept().map(drop), Err(SentAway::Left.into()));
    assert_eq!(accepted.offer, offer);
    assert_eq!(accepted.peer.pid, std::process::id() as i32);
    assert_eq!(accepted.peer.uid, rustix::process::geteuid().as_raw());
    let theirs = Segment::adopt(&accepted.segment, layout, Generation::FIRST).unwrap();
    assert_eq!(theirs.inode(), ours.inode());
    let mut count = [0; 8];
    rustix::io::read(accepted.attached.doorbell.unwrap(), &mut count).unwrap();
    assert_eq!(u64::from_ne_bytes(count), 3, "the doorbell is the doorbell");
    assert!(accepted.attached.waiter_page.is_none());
    let ready_set = rustix::fs::fstat(accepted.attached.ready_set.unwrap()).unwrap();
    assert_eq!(ready_set.st_ino, rustix::fs::fstat(&ready).unwrap().st_ino);
    let mut stray = [0; 8];
    assert_eq!(rustix::io::read(&accepted.connection, &mut stray), Ok(5));

    let status = |segment: &Segment| {
        let status = segment.header().status(Side::Accepting);
        status.load(Generation::FIRST).unwrap()
    };
    assert!(!status(&ours).is_answered());
    let answer = theirs.header().status(Side::Accepting);
    answer.answer(Generation::FIRST).unwrap();
    assert!(status(&ours).is_answered());
    assert_eq!(ours.layout().capacity(Direction::ToConnecting), 1 << 13);
    drop(accepted.connection);
    assert!(hangs_up(&connection));
}

#[test]
fn a_listener_without_a_rendezvous_is_left_to_the_kernel() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap();
    let found = Listener::find("127.0.0.1:40000".parse().unwrap(), to).unwrap();
    assert_eq!(
        Dialed::listener(&found).map(drop),
        Err(DialError::PeerNotHere)
    );
    // The rendezvous goes with its owner.
    let server = Server::of(listener, 5);
    Dialed::listener(&found).unwrap();
    drop(server);
    assert_eq!(
        Dialed::listener(&found).map(drop),
        Err(DialError::PeerNotHere)
    );
}

#[test]
fn a_full_backlog_is_told_at_once() {
    let server = Server::with_backlog(2);
    let listener = Listener::find(offer(server.to).from, server.to).unwrap();
    let mut waiting = Vec::new();
    let error = loop {
        match Dialed::listener(&listener) {
            Ok(dialed) => waiting.push(dialed),
            Err(error) => break error,
        }
        assert!(waiting.len() < 10);
    };
    assert_eq!(error, DialError::BacklogFull);
    // As in TCP: one more than asked for.
    assert_eq!(waiting.len(), 3);
    server.rendezvous.set_backlog(5).unwrap();
    waiting.push(Dialed::listener(&listener).unwrap());
    // Every one that is taken makes room.
    assert_eq!(server.accept().err(), Some(AcceptError::WouldBlock));
    assert_eq!(server.rendezvous.aside().count(), 4);
    server.connect();
    server.accept().unwrap();
}

#[test]
fn a_name_is_taken_once() {
    let server = Server::new();
    assert_eq!(
        Rendezvous::listen(&server.name, 1).map(drop),
        Err(ListenError::NameTaken)
    );
    let host = Name::host("test.a_name_is_taken_once").unwrap();
    let _host = Rendezvous::listen(&host, 1).unwrap();
    Dialed::name(&host).unwrap();
}

#[test]
fn an_offer_that_comes_late_is_waited_for() {
    let server = Server::new();
    let listener = Listener::find(offer(server.to).from, server.to).unwrap();
    let dialed = Dialed::listener(&listener).unwrap();
    let mut told = Vec::new();
    let result = server
        .rendezvous
        .accept(&mut |connection| told.push(connection.as_raw_fd()));
    assert_eq!(result.err(), Some(AcceptError::WouldBlock));
    assert_eq!(told, server.rendezvous.aside().collect::<Vec<_>>());
    assert_eq!(told.len(), 1);
    // Others are served meanwhile.
    server.connect();
    server.accept().unwrap();
    let (_segment, file) = Segment::create(offer(server.to).layout).unwrap();
    let _connection = dialed.offer(&offer(server.to), file.as_fd(), &[]).unwrap();
    let accepted = server.accept_within(Duration::from_secs(1)).unwrap();
    assert_eq!(accepted.connection.as_raw_fd(), told[0]);
    assert_eq!(server.rendezvous.aside().count(), 0);
}

#[test]
fn members_of_a_reuseport_group_have_rendezvous_of_their_own() {
    let reuseport = |at: &str| {
        let at: std::net::SocketAddr = at.parse().unwrap();
        let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        rustix::net::sockopt::set_socket_reuseport(&socket, true).unwrap();
        rustix::net::bind(&socket, &at).unwrap();
        rustix::net::listen(&socket, 16).unwrap();
        Server::of(TcpListener::from(socket), 16)
    };
    let first = reuseport("127.0.0.1:0");
    let second = reuseport(&first.to.to_string());
    let mut served = [0, 0];
    for port in 40_000..40_040 {
        let offer = Offer {
            from: ([127, 0, 0, 1], port).into(),
            ..offer(first.to)
        };
        let _connection = first.offer_as(&offer);
        let which = [&first, &second]
            .iter()
            .position(|server| server.accept().is_ok());
        let which = which.expect("one of them has it");
        served[which] += 1;
        let listener = [&first, &second][which];
        assert_eq!(
            Listener::find(offer.from, first.to).unwrap().cookie,
            Cookie::of(&listener.listener).unwrap()
        );
    }
    assert!(served[0] > 0 && served[1] > 0, "{served:?}");
}
