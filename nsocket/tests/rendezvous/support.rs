//! A listener with its rendezvous, and an offer to make there.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use dmm_nsocket::session::rendezvous::{
    AcceptError, Accepted, Attachments, Cookie, Dialed, Listener, Name, Offer, Rendezvous,
};
use dmm_nsocket::session::segment::{Generation, Layout, Segment};
use rustix::net::{AddressFamily, SocketType};

pub(crate) struct Server {
    pub(crate) listener: TcpListener,
    pub(crate) rendezvous: Rendezvous,
    pub(crate) name: Name,
    pub(crate) to: SocketAddr,
}

impl Server {
    pub(crate) fn new() -> Self {
        Self::with_backlog(128)
    }

    pub(crate) fn with_backlog(backlog: i32) -> Self {
        Self::of(TcpListener::bind("127.0.0.1:0").unwrap(), backlog)
    }

    pub(crate) fn of(listener: TcpListener, backlog: i32) -> Self {
        let name = Name::listener(Cookie::of(&listener).unwrap());
        Self {
            rendezvous: Rendezvous::listen(&name, backlog).unwrap(),
            to: listener.local_addr().unwrap(),
            name,
            listener,
        }
    }

    /// What an honest program does.
    pub(crate) fn connect(&self) -> OwnedFd {
        self.offer_as(&offer(self.to))
    }

    pub(crate) fn offer_as(&self, offer: &Offer) -> OwnedFd {
        let listener = Listener::find(offer.from, self.to).unwrap();
        let dialed = Dialed::listener(&listener).unwrap();
        let (_segment, file) = Segment::create(offer.layout).unwrap();
        dialed.offer(offer, file.as_fd(), &[]).unwrap()
    }

    /// Connects to the rendezvous and does nothing.
    pub(crate) fn stall(&self) -> OwnedFd {
        let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::SEQPACKET, None).unwrap();
        rustix::net::connect(&socket, &self.name.address().unwrap()).unwrap();
        socket
    }

    pub(crate) fn accept(&self) -> Result<Accepted, AcceptError> {
        self.rendezvous.accept(&mut |_| ())
    }

    /// Accepts until there is something else than `WouldBlock`.
    pub(crate) fn accept_within(&self, time: Duration) -> Result<Accepted, AcceptError> {
        let start = Instant::now();
        loop {
            match self.accept() {
                Err(AcceptError::WouldBlock) if start.elapsed() < time => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                result => return result,
            }
        }
    }
}

pub(crate) fn offer(to: SocketAddr) -> Offer {
    Offer {
        protocol: libc::IPPROTO_TCP as u8,
        layout: Layout::at_least(1 << 14, 1 << 14),
        generation: Generation::FIRST,
        attachments: Attachments::default(),
        from: "127.0.0.1:40000".parse().unwrap(),
        to,
        board: 0,
        known: [0; 2],
    }
}

/// Whether the other end closes the connection within some seconds: another test may be in the middle of
/// a fork, which keeps it open for a moment.
pub(crate) fn hangs_up(connection: impl AsFd) -> bool {
    hangs_up_within(connection, 5)
}

/// Whether the other end has closed the connection.
pub(crate) fn is_hung_up(connection: impl AsFd) -> bool {
    hangs_up_within(connection, 0)
}

fn hangs_up_within(connection: impl AsFd, seconds: i64) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    // A hang-up is reported unasked.
    let mut fds = [PollFd::new(&connection, PollFlags::empty())];
    let time = Timespec {
        tv_sec: seconds,
        tv_nsec: 0,
    };
    poll(&mut fds, Some(&time)).unwrap();
    fds[0].revents().contains(PollFlags::HUP)
}

/// Says that a test needs root, if it does not run as such.
#[expect(clippy::print_stderr, reason = "a test that does not run says so")]
pub(crate) fn is_root(what_for: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        assert!(
            std::env::var_os("DMM_TEST_NO_SKIP").is_none(),
            "root is needed {what_for}"
        );
        eprintln!("skipped: root is needed {what_for}");
    }
    root
}
