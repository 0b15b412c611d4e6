//! Who must not meet: programs of different network namespaces, and anybody with somebody who has
//! taken a name that is not his.

use std::net::TcpListener;

use dmm_nsocket::session::rendezvous::{
    AcceptError, Cookie, DialError, Dialed, Listener, LookupError, Name, Offer, Rendezvous,
    SentAway,
};
use rustix::thread::{UnshareFlags, set_thread_res_uid};

use crate::support::{Server, is_root, offer};

const NOBODY: u32 = 65534;
const SOMEBODY: u32 = 4242;

/// Runs something as another user: of this thread only.
fn as_user<R: Send>(uid: u32, body: impl FnOnce() -> R + Send) -> R {
    std::thread::scope(|scope| {
        let run = || {
            let uid = rustix::process::Uid::from_raw(uid);
            set_thread_res_uid(uid, uid, uid).unwrap();
            body()
        };
        scope.spawn(run).join().unwrap()
    })
}

/// Runs something in a network namespace of its own.
fn in_new_namespace<R: Send>(body: impl FnOnce() -> R + Send) -> R {
    std::thread::scope(|scope| {
        let run = || {
            // SAFETY: the network namespace of a thread concerns no other one.
            unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }.unwrap();
            body()
        };
        scope.spawn(run).join().unwrap()
    })
}

#[test]
fn a_network_namespace_has_rendezvous_of_its_own() {
    if !is_root("to make network namespaces") {
        return;
    }
    let server = Server::new();
    let from = offer(server.to).from;
    let listener = Listener::find(from, server.to).unwrap();
    in_new_namespace(|| {
        assert_eq!(
            Listener::find(from, server.to),
            Err(LookupError::NobodyListens)
        );
        assert_eq!(
            Dialed::listener(&listener).map(drop),
            Err(DialError::PeerNotHere)
        );
        // The same port, the same name: somebody else's.
        let at = std::net::SocketAddr::new([0, 0, 0, 0].into(), server.to.port());
        let inner = Server::of(TcpListener::bind(at).unwrap(), 5);
        let found = Listener::find(from, server.to).unwrap();
        assert_eq!(found.cookie, Cookie::of(&inner.listener).unwrap());
        assert_ne!(found.cookie, listener.cookie);
        Dialed::listener(&found).unwrap();
        let _same_name = Rendezvous::listen(&server.name, 1).unwrap();
    });
    assert_eq!(Listener::find(from, server.to), Ok(listener));
    server.connect();
    server.accept().unwrap();
}

#[test]
fn a_name_that_somebody_else_has_taken_gets_nothing() {
    if !is_root("to be two users") {
        return;
    }
    for (owner, squatter, trusted) in [
        (0, SOMEBODY, false),
        (SOMEBODY, SOMEBODY, true),
        (SOMEBODY, NOBODY, false),
        (NOBODY, SOMEBODY, false),
        (NOBODY, NOBODY, true),
        (SOMEBODY, 0, true),
    ] {
        let listener = as_user(owner, || TcpListener::bind("127.0.0.1:0").unwrap());
        let to = listener.local_addr().unwrap();
        let name = Name::listener(Cookie::of(&listener).unwrap());
        let rendezvous = as_user(squatter, || Rendezvous::listen(&name, 5).unwrap());
        // Whoever asks.
        for user in [0, SOMEBODY, NOBODY] {
            let dialed = as_user(user, || {
                let found = Listener::find(offer(to).from, to).unwrap();
                assert_eq!(found.uid, owner);
                Dialed::listener(&found).map(drop)
            });
            let expected = if trusted {
                Ok(())
            } else {
                Err(DialError::WrongOwner {
                    found: squatter,
                    expected: owner,
                })
            };
            assert_eq!(dialed, expected, "{owner} {squatter} {user}");
            assert_eq!(
                rendezvous.accept(&mut |_| ()).err(),
                Some(AcceptError::SentAway(SentAway::Left)),
                "nothing was sent"
            );
        }
    }
}

#[test]
fn ports_of_root_are_roots() {
    if !is_root("to be two users") {
        return;
    }
    let server = Server::new();
    let reserved = Offer {
        from: "127.0.0.1:1023".parse().unwrap(),
        ..offer(server.to)
    };
    let _kept = server.offer_as(&reserved);
    let accepted = server.accept().unwrap();
    assert_eq!((accepted.offer.from.port(), accepted.peer.uid), (1023, 0));
    let _kept = as_user(SOMEBODY, || server.offer_as(&reserved));
    assert_eq!(
        server.accept().map(drop),
        Err(SentAway::ReservedPort.into())
    );
    let _kept = as_user(SOMEBODY, || server.offer_as(&offer(server.to)));
    assert_eq!(server.accept().unwrap().peer.uid, SOMEBODY);
}
