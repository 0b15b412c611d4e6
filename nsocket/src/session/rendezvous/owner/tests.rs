use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketType};

use super::*;

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// A listener made by hand: to set options in between.
fn listen(at: SocketAddr, options: impl Fn(&OwnedFd)) -> (OwnedFd, u16) {
    let family = if at.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let socket = rustix::net::socket(family, SocketType::STREAM, None).unwrap();
    options(&socket);
    rustix::net::bind(&socket, &at).unwrap();
    rustix::net::listen(&socket, 5).unwrap();
    let name = SocketAddr::try_from(rustix::net::getsockname(&socket).unwrap()).unwrap();
    (socket, name.port())
}

fn find(to: &str, port: u16) -> Result<Listener, LookupError> {
    let mut to = address(to);
    to.set_port(port);
    let from = if to.ip().to_canonical().is_ipv4() {
        "127.0.0.1:40000"
    } else {
        "[::1]:40000"
    };
    Listener::find(address(from), to)
}

#[test]
fn a_listener_is_found_by_the_addresses_that_it_serves() {
    let none = Err(LookupError::NobodyListens);
    for (bound, served, not_served) in [
        (
            "127.0.0.1:0",
            &["127.0.0.1:0"][..],
            &["127.0.0.2:0", "[::1]:0"][..],
        ),
        ("0.0.0.0:0", &["127.0.0.1:0", "127.9.9.9:0"], &["[::1]:0"]),
        ("[::1]:0", &["[::1]:0"], &["127.0.0.1:0"]),
        (
            "[::]:0",
            &["[::1]:0", "127.0.0.1:0", "[::ffff:127.0.0.1]:0"],
            &[],
        ),
    ] {
        let (socket, port) = listen(address(bound), |_| ());
        for to in served {
            let found = find(to, port).unwrap();
            assert_eq!(found.cookie, Cookie::of(&socket).unwrap(), "{bound} {to}");
            assert_eq!(found.uid, rustix::process::geteuid().as_raw());
            assert_eq!(found.bound, SocketAddr::new(address(bound).ip(), port));
        }
        for to in not_served {
            assert_eq!(find(to, port), none, "{bound} {to}");
        }
        drop(socket);
        assert_eq!(find(served[0], port), none, "{bound}");
    }
}

#[test]
fn a_listener_for_v6_only_is_not_found_by_v4() {
    let (_socket, port) = listen(address("[::]:0"), |socket| {
        rustix::net::sockopt::set_ipv6_v6only(socket, true).unwrap();
    });
    find("[::1]:0", port).unwrap();
    assert_eq!(find("127.0.0.1:0", port), Err(LookupError::NobodyListens));
}

#[test]
fn the_more_specific_listener_is_found() {
    let reuse = |socket: &OwnedFd| {
        rustix::net::sockopt::set_socket_reuseport(socket, true).unwrap();
    };
    let (wildcard, port) = listen(address("0.0.0.0:0"), reuse);
    let (specific, _) = listen(SocketAddr::new([127, 0, 0, 1].into(), port), reuse);
    let found = |to| find(to, port).unwrap().cookie;
    assert_eq!(found("127.0.0.1:0"), Cookie::of(&specific).unwrap());
    assert_eq!(found("127.0.0.2:0"), Cookie::of(&wildcard).unwrap());
}

/// The kernel chooses a member of a group by the two addresses; so does the lookup.
#[test]
fn of_a_reuseport_group_the_member_is_found_that_tcp_reaches() {
    let reuse = |socket: &OwnedFd| {
        rustix::net::sockopt::set_socket_reuseport(socket, true).unwrap();
    };
    let (first, port) = listen(address("127.0.0.1:0"), reuse);
    let at = SocketAddr::new([127, 0, 0, 1].into(), port);
    let mut group = vec![first];
    group.extend((0..3).map(|_| listen(at, reuse).0));
    let group: Vec<TcpListener> = group.into_iter().map(Into::into).collect();
    let cookies: Vec<_> = group.iter().map(|l| Cookie::of(l).unwrap()).collect();
    let mut reached = [0; 4];
    let mut open = Vec::new();
    for _ in 0..40 {
        // What the lookup says of a port that is free, TCP does when it comes from there.
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let from = free.local_addr().unwrap();
        drop(free);
        let cookie = Listener::find(from, at).unwrap().cookie;
        let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        rustix::net::bind(&socket, &from).unwrap();
        rustix::net::connect(&socket, &at).unwrap();
        let client = TcpStream::from(socket);
        let member = cookies.iter().position(|c| *c == cookie).unwrap();
        group[member].set_nonblocking(true).unwrap();
        let (server, peer) = group[member]
            .accept()
            .expect("it is in that member's queue");
        assert_eq!(peer, client.local_addr().unwrap());
        reached[member] += 1;
        open.push((client, server));
    }
    assert!(
        reached.iter().filter(|n| **n > 0).count() > 1,
        "{reached:?}"
    );
}

#[test]
fn another_hosts_address_is_not_looked_up() {
    let (_wildcard, port) = listen(address("0.0.0.0:0"), |_| ());
    // RFC 5737: an address for documentation.
    assert_eq!(find("192.0.2.1:0", port), Err(LookupError::NotThisHost));
}

#[test]
fn an_old_connection_does_not_hide_the_listener() {
    let (listener, port) = listen(address("127.0.0.1:0"), |_| ());
    let client = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let (from, to) = (client.local_addr().unwrap(), client.peer_addr().unwrap());
    let cookie = Cookie::of(&listener).unwrap();
    assert_eq!(ask(from, to), Ok(None));
    assert_eq!(Listener::find(from, to).unwrap().cookie, cookie);
    // In TIME_WAIT.
    let server = TcpListener::from(listener);
    drop(client);
    drop(server.accept().unwrap());
    assert_eq!(Listener::find(from, to).unwrap().cookie, cookie);
    drop(server);
    assert_eq!(Listener::find(from, to), Err(LookupError::NobodyListens));
}

#[test]
fn root_and_the_owner_speak_for_a_listener() {
    let listener = Listener {
        cookie: Cookie(1),
        uid: 1000,
        bound: address("127.0.0.1:80"),
    };
    assert!(listener.is_spoken_for_by(1000));
    assert!(listener.is_spoken_for_by(0));
    assert!(!listener.is_spoken_for_by(1001));
    let nobodys = Listener {
        uid: OVERFLOW_UID,
        ..listener
    };
    assert_eq!(nobodys.is_spoken_for_by(OVERFLOW_UID), sees_all_users());
}

#[test]
fn answers_that_are_no_answers_are_errors() {
    let mut answer = [0; netlink::HEADER + ANSWER];
    netlink::frame(&mut answer, BY_FAMILY);
    answer[netlink::HEADER] = libc::AF_INET as u8;
    answer[netlink::HEADER + 1] = LISTEN;
    parse(&answer).unwrap();
    let bad = LookupError::System(Errno::BADMSG);
    for len in 0..answer.len() {
        assert_eq!(parse(&answer[..len]), Err(bad), "{len}");
    }
    answer[netlink::HEADER] = 1;
    assert_eq!(parse(&answer), Err(LookupError::System(Errno::AFNOSUPPORT)));
}
