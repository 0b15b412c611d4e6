use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::*;

fn rung(doorbell: &Doorbell) -> bool {
    let mut fds = [PollFd::new(doorbell, PollFlags::IN)];
    let now = Timespec::default();
    poll(&mut fds, Some(&now)).unwrap() == 1
}

fn both() -> [Doorbell; 2] {
    [Doorbell::eventfd().unwrap(), Doorbell::socket().unwrap()]
}

fn bell(doorbell: &Doorbell) -> Bell {
    Bell::adopt(doorbell.button().try_clone_to_owned().unwrap(), true).unwrap()
}

#[test]
fn a_ring_is_seen_until_it_is_drained() {
    for doorbell in both() {
        let bell = bell(&doorbell);
        assert!(!rung(&doorbell));
        doorbell.drain().unwrap();
        bell.ring().unwrap();
        bell.ring().unwrap();
        assert!(rung(&doorbell));
        doorbell.drain().unwrap();
        assert!(!rung(&doorbell));
        doorbell.pass_on().unwrap();
        assert!(rung(&doorbell));
    }
}

#[test]
fn a_full_doorbell_is_rung() {
    let eventfd = Doorbell::eventfd().unwrap();
    rustix::io::write(&eventfd, &(u64::MAX - 1).to_ne_bytes()).unwrap();
    bell(&eventfd).ring().unwrap();
    eventfd.drain().unwrap();
    assert!(!rung(&eventfd));

    let socket = Doorbell::socket().unwrap();
    let bell = bell(&socket);
    for _ in 0..10_000 {
        bell.ring().unwrap();
    }
    let mut drains = 0;
    while rung(&socket) {
        socket.drain().unwrap();
        drains += 1;
        assert!(drains < 10_000);
    }
}

/// A holder of the button does its worst to the flags; neither side waits, where it matters.
#[test]
fn draining_and_ringing_across_users_never_wait() {
    for doorbell in both() {
        let bell = bell(&doorbell);
        rustix::fs::fcntl_setfl(doorbell.button(), OFlags::empty()).unwrap();
        doorbell.drain().unwrap();
        bell.ring().unwrap();
    }
    let socket = Doorbell::socket().unwrap();
    let bell = bell(&socket);
    rustix::fs::fcntl_setfl(&bell.fd, OFlags::empty()).unwrap();
    rustix::net::shutdown(&bell.fd, rustix::net::Shutdown::Read).unwrap();
    for _ in 0..10_000 {
        bell.ring().unwrap();
    }
    for _ in 0..10_000 {
        socket.drain().unwrap();
    }
    assert!(!rung(&socket), "the button's holder cannot hold it down");
}

#[test]
fn a_bell_whose_waiter_is_gone_says_so() {
    let socket = Doorbell::socket().unwrap();
    let bell = bell(&socket);
    drop(socket);
    assert_eq!(bell.ring(), Err(Errno::CONNREFUSED));
}

#[test]
fn what_is_no_doorbell_is_refused() {
    let refused = |fd: OwnedFd, same_user| Bell::adopt(fd, same_user).unwrap_err();
    let eventfd = || Doorbell::eventfd().unwrap().fd;
    assert_eq!(refused(eventfd(), false), Errno::PERM);
    let waits = rustix::event::eventfd(0, EventfdFlags::CLOEXEC).unwrap();
    assert_eq!(refused(waits, true), Errno::INVAL);
    let (pipe, _other) = rustix::pipe::pipe().unwrap();
    assert_eq!(refused(pipe, true), Errno::INVAL);
    let file: OwnedFd = tempfile::tempfile().unwrap().into();
    assert_eq!(refused(file, true), Errno::INVAL);
    let (stream, _other) = std::os::unix::net::UnixStream::pair().unwrap();
    assert_eq!(refused(stream.into(), true), Errno::INVAL);
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    assert_eq!(refused(udp.into(), true), Errno::INVAL);
}
