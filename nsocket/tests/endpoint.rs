//! Two endpoints in one process: what a session promises, from connect to close.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};

use dmm_nsocket::session::board::Board;
use dmm_nsocket::session::endpoint::{Endpoint, Opening, Place, Stop, Take};
use dmm_nsocket::session::rendezvous::{Cookie, Listener, Name, Rendezvous};

struct Pair {
    client: (OwnedFd, Endpoint),
    server: (OwnedFd, Endpoint),
}

struct Meeting {
    _tcp: TcpListener,
    address: SocketAddr,
    rendezvous: Rendezvous,
}

impl Meeting {
    fn new() -> Self {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let name = Name::listener(Cookie::of(&tcp).unwrap());
        Self {
            address: tcp.local_addr().unwrap(),
            _tcp: tcp,
            rendezvous: Rendezvous::listen(&name, 16).unwrap(),
        }
    }

    fn open(&self, board: Option<&Board>) -> Pair {
        let from = "127.0.0.1:40000".parse().unwrap();
        let listener = Listener::find(from, self.address).unwrap();
        let opening = Opening {
            listener: &listener,
            from,
            to: self.address,
            capacities: (1 << 16, 1 << 16),
            board,
        };
        let client = opening.open().unwrap();
        let accepted = self.rendezvous.accept(&mut |_| {}).unwrap();
        let server = Endpoint::accept(accepted, board).unwrap();
        Pair { client, server }
    }
}

fn write(end: &(OwnedFd, Endpoint), bytes: &[u8]) -> Result<usize, Stop> {
    let place = [(bytes.as_ptr(), bytes.len())];
    // SAFETY: a slice is readable.
    unsafe { end.1.write(end.0.as_fd(), place.into_iter()) }
}

fn read(end: &(OwnedFd, Endpoint), take: Take) -> Result<Vec<u8>, Stop> {
    let mut buffer = vec![0; 100];
    let place = [(buffer.as_mut_ptr(), buffer.len())];
    // SAFETY: a slice is writable.
    let n = unsafe { end.1.read(end.0.as_fd(), place.into_iter(), take) }?;
    buffer.truncate(n);
    Ok(buffer)
}

#[test]
fn bytes_and_the_end_come_in_order() {
    let Pair { client, server } = Meeting::new().open(None);
    assert_eq!(read(&server, Take::Consume), Err(Stop::WouldBlock));
    assert_eq!(write(&client, b"hello"), Ok(5));
    assert_eq!(read(&server, Take::Peek(1)), Ok(b"ello".to_vec()));
    client.1.finish(client.0.as_fd());
    assert!(server.1.ready(true).peer_finished);
    assert_eq!(read(&server, Take::Consume), Ok(b"hello".to_vec()));
    assert_eq!(read(&server, Take::Consume), Err(Stop::End));
    assert_eq!(write(&client, b"x"), Err(Stop::Pipe));
    assert_eq!(write(&server, b"answer"), Ok(6));
    server.1.close(false);
    drop(server.0);
    assert_eq!(read(&client, Take::Consume), Ok(b"answer".to_vec()));
    assert_eq!(read(&client, Take::Consume), Err(Stop::End));
}

#[test]
fn a_close_with_bytes_unread_is_a_reset() {
    let Pair { client, server } = Meeting::new().open(None);
    write(&client, b"unread").unwrap();
    server.1.close(false);
    assert_eq!(
        read(&client, Take::Consume),
        Err(Stop::Error(libc::ECONNRESET))
    );
    assert_eq!(read(&client, Take::Consume), Err(Stop::End), "told once");
    assert_eq!(write(&client, b"x"), Err(Stop::Pipe));
}

#[test]
fn the_first_write_after_the_peers_close_is_swallowed() {
    let Pair { client, server } = Meeting::new().open(None);
    server.1.close(false);
    assert_eq!(write(&client, b"x"), Ok(1));
    assert_eq!(write(&client, b"x"), Err(Stop::Pipe));
    assert_eq!(read(&client, Take::Consume), Err(Stop::End));
}

#[test]
fn who_sleeps_is_rung_for_once() {
    let Pair { client, server } = Meeting::new().open(None);
    server.1.announce();
    assert!(!server.1.is_readable());
    write(&client, b"a").unwrap();
    write(&client, b"b").unwrap();
    let drained = server.1.drain(server.0.as_fd());
    assert!(drained.rung && !drained.gone && !drained.stray);
    assert_eq!(server.1.drain(server.0.as_fd()), Default::default());
    assert_eq!(read(&server, Take::Consume), Ok(b"ab".to_vec()));
}

#[test]
fn a_listed_session_sets_its_bit_and_rings_who_sleeps() {
    let board = Board::create().unwrap();
    let meeting = Meeting::new();
    for round in 0..3 {
        let Pair { client, server } = meeting.open(Some(&board));
        let at = board.take_place().unwrap();
        let waiter = board.waiter(at).unwrap();
        waiter.admit(10).unwrap();
        let place = Place {
            board: board.number(),
            waiter: at as u8,
            session: 7,
        };
        server.1.list(place);
        write(&client, b"a").unwrap();
        let mut taken = [0; 4];
        assert_eq!(waiter.taker.take(waiter.words, &mut taken), 1, "{round}");
        assert_eq!(taken[0], 7);
        assert!(!server.1.drain(server.0.as_fd()).rung, "nobody sleeps");
        let asleep = waiter
            .sleep
            .prepare(|| waiter.taker.is_ready(waiter.words))
            .unwrap();
        write(&client, b"b").unwrap();
        drop(asleep);
        assert!(server.1.drain(server.0.as_fd()).rung);
        assert_eq!(waiter.taker.take(waiter.words, &mut taken), 1);
        // The other way round: the answer with the board comes before it is needed.
        client.1.list(place);
        write(&server, b"c").unwrap();
        assert_eq!(waiter.taker.take(waiter.words, &mut taken), 1);
        assert_eq!(read(&client, Take::Consume), Ok(b"c".to_vec()));
        assert_eq!(client.1.drain(client.0.as_fd()), Default::default());
        board.leave_place(at);
        read(&server, Take::Consume).unwrap();
        server.1.close(false);
        client.1.close(false);
    }
}

#[test]
fn a_peer_that_is_gone_is_noticed() {
    let Pair { client, server } = Meeting::new().open(None);
    drop(client);
    assert!(server.1.drain(server.0.as_fd()).gone);
    assert_eq!(read(&server, Take::Consume), Err(Stop::End));
}

#[test]
fn a_full_ring_says_when_there_is_space() {
    let Pair { client, server } = Meeting::new().open(None);
    let block = [7; 4096];
    while write(&client, &block).is_ok() {}
    assert!(!client.1.is_writable());
    client.1.announce();
    while !client.1.ready(true).writable {
        read(&server, Take::Consume).unwrap();
    }
    assert!(client.1.drain(client.0.as_fd()).rung);
}

#[test]
fn stray_bytes_are_told_from_rings() {
    let Pair { client, server } = Meeting::new().open(None);
    rustix::io::write(&client.0, b"raw").unwrap();
    assert!(server.1.drain(server.0.as_fd()).stray);
    assert_eq!(read(&server, Take::Consume), Err(Stop::Stray));
    write(&client, b"ring").unwrap();
    assert_eq!(read(&server, Take::Consume), Ok(b"ring".to_vec()));
}
