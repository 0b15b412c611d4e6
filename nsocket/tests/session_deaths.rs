//! Servers that die at any moment, one after the other, behind one listener: every session of the
//! client ends as served or as hung up, what was served is right, and nothing is left behind. Alone in
//! its file, as it forks and counts what the process has.

use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use dmm_nsocket::session::lock::Identity;
use dmm_nsocket::session::pool::{AcceptPool, Adopted, ConnectPool, Prepared};
use dmm_nsocket::session::rendezvous::{
    Accepted, Attachments, Cookie, DialError, Dialed, Listener, Name, Offer, Rendezvous,
};
use dmm_nsocket::session::segment::{Layout, Side};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, WaitOptions, waitpid};

const DEATHS: u32 = 200;
const POOL: usize = 4;
const MESSAGE: usize = 6000;

#[test]
fn servers_die_at_any_moment() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let name = Name::listener(Cookie::of(&listener).unwrap());
    let rendezvous = Rendezvous::listen(&name, 128).unwrap();
    let client = Client {
        offer: Offer {
            protocol: libc::IPPROTO_TCP as u8,
            layout: Layout::at_least(1 << 14, 1 << 14),
            generation: dmm_nsocket::session::segment::Generation::FIRST,
            attachments: Attachments::default(),
            from: "127.0.0.1:40000".parse().unwrap(),
            to: listener.local_addr().unwrap(),
            board: 0,
            known: [0; 2],
        },
        pool: ConnectPool::new(1 << 20),
        who: Identity::current().unwrap(),
    };
    let before = open_and_mapped();
    let mut server = Server::start(&rendezvous, 0);
    let (mut served, mut hung_up, mut reused, mut deaths) = (0, 0, 0, 0);
    let mut number = 0_u32;
    while deaths < DEATHS {
        number += 1;
        let (connection, prepared) = client.connect();
        reused += u32::from(prepared.generation().bits() > 1);
        client.send(&prepared, number);
        let start = Instant::now();
        let answered = loop {
            if client.receive(&prepared, number) {
                break true;
            }
            if is_hung_up(&connection) {
                // It may have answered with its last breath.
                break client.receive(&prepared, number);
            }
            if server.is_dead() {
                deaths += 1;
                server = Server::start(&rendezvous, deaths);
            }
            assert!(start.elapsed() < Duration::from_secs(10), "{number}");
            std::thread::yield_now();
        };
        *(if answered { &mut served } else { &mut hung_up }) += 1;
        prepared.retire();
    }
    server.stop();
    assert!(
        served > 0 && hung_up > 0 && reused > 0,
        "{served} {hung_up} {reused}"
    );
    client.pool.clear();
    assert_eq!(open_and_mapped(), before);
}

struct Client {
    offer: Offer,
    pool: ConnectPool<POOL>,
    who: Identity,
}

impl Client {
    /// Connects; once more if the server dies between accepting and the offer.
    fn connect(&self) -> (OwnedFd, Prepared<'_, POOL>) {
        loop {
            if let Some(session) = self.try_connect() {
                return session;
            }
        }
    }

    fn try_connect(&self) -> Option<(OwnedFd, Prepared<'_, POOL>)> {
        let listener = Listener::find(self.offer.from, self.offer.to).unwrap();
        let dialed = Dialed::listener(&listener).unwrap();
        let mut prepared = self
            .pool
            .prepare(listener.cookie, self.offer.layout)
            .unwrap();
        let offer = Offer {
            generation: prepared.generation(),
            ..self.offer
        };
        let file = prepared.file().unwrap();
        let connection = match dialed.offer(&offer, file, &[]) {
            Err(DialError::PeerNotHere) => return None,
            connection => connection.unwrap(),
        };
        prepared.offered();
        Some((connection, prepared))
    }

    fn send(&self, prepared: &Prepared<'_, POOL>, number: u32) {
        let mut producer = prepared
            .segment()
            .producer(Side::Connecting, self.who)
            .unwrap();
        assert_eq!(producer.write(&message(number)), Ok(MESSAGE));
    }

    /// Whether the whole answer has come; it is the right one.
    fn receive(&self, prepared: &Prepared<'_, POOL>, number: u32) -> bool {
        let segment = prepared.segment();
        let mut consumer = segment.consumer(Side::Connecting, self.who).unwrap();
        if consumer.used().unwrap() < MESSAGE {
            return false;
        }
        let mut answer = [0; MESSAGE];
        assert_eq!(consumer.read(&mut answer), Ok(MESSAGE));
        assert!(answer == message(number + 1), "the answer to {number}");
        true
    }
}

/// Every message has bytes of its own.
fn message(number: u32) -> [u8; MESSAGE] {
    std::array::from_fn(|i| (number as usize * 31 + i * 7) as u8)
}

/// A child process that answers with the next message, and dies after some time.
struct Server(Pid);

impl Server {
    fn start(rendezvous: &Rendezvous, seed: u32) -> Self {
        // SAFETY: the child uses nothing that allocates or locks, and never returns.
        match unsafe { libc::fork() } {
            0 => {
                rendezvous.after_fork_in_child();
                let life = 200 + seed.wrapping_mul(2_654_435_761) % 3000;
                let timer = libc::itimerval {
                    it_interval: libc::timeval {
                        tv_sec: 0,
                        tv_usec: 0,
                    },
                    it_value: libc::timeval {
                        tv_sec: 0,
                        tv_usec: i64::from(life),
                    },
                };
                // SAFETY: both values are borrowed for the call; SIGALRM ends the process.
                unsafe {
                    libc::setitimer(libc::ITIMER_REAL, &raw const timer, std::ptr::null_mut())
                };
                serve(rendezvous);
                // SAFETY: ends the process.
                unsafe { libc::_exit(1) }
            }
            pid => Self(Pid::from_raw(pid).unwrap()),
        }
    }

    /// Whether the timer has ended it; asserts that nothing else has.
    fn is_dead(&self) -> bool {
        let Some((_, status)) = waitpid(Some(self.0), WaitOptions::NOHANG).unwrap() else {
            return false;
        };
        assert_eq!(
            status.terminating_signal(),
            Some(libc::SIGALRM),
            "{status:?}"
        );
        true
    }

    fn stop(self) {
        rustix::process::kill_process(self.0, rustix::process::Signal::KILL).unwrap();
        waitpid(Some(self.0), WaitOptions::empty()).unwrap();
    }
}

/// One session after the other; returns when something is wrong.
fn serve(rendezvous: &Rendezvous) {
    let Some(who) = Identity::current() else {
        return;
    };
    let pool = AcceptPool::<POOL>::new(1 << 20);
    loop {
        let Ok(accepted) = rendezvous.accept(&mut |_| ()) else {
            std::thread::yield_now();
            continue;
        };
        let Offer {
            layout, generation, ..
        } = accepted.offer;
        // The segment of a session whose client has gone on (its server died before) is in other use.
        let Ok(adopted) = pool.adopt(accepted.peer, &accepted.segment, layout, generation) else {
            continue;
        };
        let status = adopted.segment().header().status(Side::Accepting);
        if status.answer(generation).is_ok() && echo(&adopted, &accepted, who).is_none() {
            return;
        }
        adopted.retire();
    }
}

/// `None` if something is wrong.
fn echo(adopted: &Adopted<'_, POOL>, accepted: &Accepted, who: Identity) -> Option<()> {
    let segment = adopted.segment();
    let mut bytes = [0; MESSAGE];
    while segment.consumer(Side::Accepting, who).ok()?.used().ok()? < MESSAGE {
        if is_hung_up(&accepted.connection) {
            return Some(());
        }
        std::thread::yield_now();
    }
    let mut consumer = segment.consumer(Side::Accepting, who).ok()?;
    consumer.read(&mut bytes).ok()?;
    drop(consumer);
    // The next message: all bytes are as much further.
    for byte in &mut bytes {
        *byte = byte.wrapping_add(31);
    }
    let mut producer = segment.producer(Side::Accepting, who).ok()?;
    let written = producer.write(&bytes).ok()?;
    drop(producer);
    (written == MESSAGE).then_some(())
}

fn is_hung_up(connection: impl AsFd) -> bool {
    let mut fds = [PollFd::new(&connection, PollFlags::empty())];
    let at_once = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    poll(&mut fds, Some(&at_once)).is_ok() && fds[0].revents().contains(PollFlags::HUP)
}

fn open_and_mapped() -> (usize, usize) {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let mapped = maps.lines().filter(|l| l.contains("dmm-session")).count();
    (std::fs::read_dir("/proc/self/fd").unwrap().count(), mapped)
}
