//! What opening and closing a session costs, beside kernel TCP over loopback, on one core.
//!
//! ```sh
//! taskset -c 0 cargo bench -p dmm-nsocket --bench rendezvous
//! ```
//!
//! Each figure is the median of five rounds, which alternate; both ends run in this thread. A line
//! with an indentation is a part of the line above it.

#![expect(clippy::print_stdout, reason = "it is what a benchmark does")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Instant;

use dmm_nsocket::session::lock::Identity;
use dmm_nsocket::session::pool::{AcceptPool, Adopted, ConnectPool, Prepared};
use dmm_nsocket::session::rendezvous::{
    Attachments, Cookie, Dialed, Listener, Name, Offer, Rendezvous, route,
};
use dmm_nsocket::session::segment::{Layout, Segment, Side};

const ROUNDS: usize = 5;
const CONNECTIONS: u32 = 2_000;
const POOL: usize = 16;

fn main() {
    let bench = Bench::new();
    let rows: &[(&str, &dyn Fn())] = &[
        ("TCP: connect, accept, close", &|| bench.tcp(false)),
        ("TCP: the same with 64 bytes there and back", &|| {
            bench.tcp(true);
        }),
        ("local with pools: the same", &|| bench.local(true)),
        ("local without pools: the same", &|| bench.local(false)),
        ("    who listens (sock_diag)", &|| {
            bench.find();
        }),
        ("    dial, accept an empty connection", &|| bench.dial()),
        ("    make a segment and drop it", &|| {
            drop(Segment::create(bench.layout).unwrap());
        }),
        ("    whether an address is ours (127.0.0.1)", &|| {
            route::is_own(bench.to.ip()).unwrap();
        }),
        ("    whether an address is ours (192.0.2.1)", &|| {
            route::is_own([192, 0, 2, 1].into()).unwrap();
        }),
    ];
    let mut times = vec![Vec::new(); rows.len()];
    for _ in 0..ROUNDS {
        for ((_, body), times) in rows.iter().zip(&mut times) {
            let start = Instant::now();
            for _ in 0..CONNECTIONS {
                body();
            }
            times.push(start.elapsed().as_nanos() as f64 / f64::from(CONNECTIONS) / 1000.0);
        }
    }
    for ((name, _), mut times) in rows.iter().zip(times) {
        times.sort_by(f64::total_cmp);
        println!("{name:45} {:7.2} us", times[ROUNDS / 2]);
    }
}

struct Bench {
    listener: TcpListener,
    rendezvous: Rendezvous,
    from: SocketAddr,
    to: SocketAddr,
    layout: Layout,
    connect_pool: ConnectPool<POOL>,
    accept_pool: AcceptPool<POOL>,
    who: Identity,
}

impl Bench {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let name = Name::listener(Cookie::of(&listener).unwrap());
        Self {
            rendezvous: Rendezvous::listen(&name, 128).unwrap(),
            from: "127.0.0.1:40000".parse().unwrap(),
            to: listener.local_addr().unwrap(),
            layout: Layout::at_least(1 << 18, 1 << 18),
            connect_pool: ConnectPool::new(64 << 20),
            accept_pool: AcceptPool::new(64 << 20),
            who: Identity::current().unwrap(),
            listener,
        }
    }

    fn tcp(&self, request: bool) {
        let mut client = TcpStream::connect(self.to).unwrap();
        let (mut server, _) = self.listener.accept().unwrap();
        if request {
            let mut bytes = [1; 64];
            client.write_all(&bytes).unwrap();
            server.read_exact(&mut bytes).unwrap();
            server.write_all(&bytes).unwrap();
            client.read_exact(&mut bytes).unwrap();
        }
        drop(client);
        // The server learns of the end, as it does by the state word of a session.
        assert_eq!(server.read(&mut [0]).unwrap(), 0);
    }

    fn find(&self) -> Listener {
        Listener::find(self.from, self.to).unwrap()
    }

    fn dial(&self) {
        let dialed = Dialed::name(&Name::listener(Cookie::of(&self.listener).unwrap())).unwrap();
        let server = rustix::net::accept(&self.rendezvous).unwrap();
        drop((dialed, server));
    }

    fn local(&self, pool: bool) {
        let (client, prepared) = self.connect();
        let (server, adopted) = self.accept();
        let mut bytes = [1; 64];
        for (from, side, to) in [
            (prepared.segment(), Side::Connecting, adopted.segment()),
            (adopted.segment(), Side::Accepting, prepared.segment()),
        ] {
            let sent = from.producer(side, self.who).unwrap().write(&bytes);
            assert_eq!(sent, Ok(64));
            let received = to
                .consumer(side.other(), self.who)
                .unwrap()
                .read(&mut bytes);
            assert_eq!(received, Ok(64));
        }
        let status = prepared.segment().header().status(Side::Connecting);
        status.finish(prepared.generation()).unwrap();
        let state = adopted
            .segment()
            .header()
            .status(Side::Connecting)
            .load(adopted.generation());
        assert!(state.unwrap().is_finished());
        if pool {
            prepared.retire();
            adopted.retire();
        }
        drop((client, server));
    }

    fn connect(&self) -> (OwnedFd, Prepared<'_, POOL>) {
        let listener = self.find();
        let dialed = Dialed::listener(&listener).unwrap();
        let mut prepared = self
            .connect_pool
            .prepare(listener.cookie, self.layout)
            .unwrap();
        let offer = Offer {
            protocol: libc::IPPROTO_TCP as u8,
            layout: prepared.segment().layout(),
            generation: prepared.generation(),
            attachments: Attachments::default(),
            from: self.from,
            to: self.to,
            board: 0,
            known: [0; 2],
        };
        let client = dialed.offer(&offer, prepared.file().unwrap(), &[]).unwrap();
        prepared.offered();
        (client, prepared)
    }

    fn accept(&self) -> (OwnedFd, Adopted<'_, POOL>) {
        let accepted = self.rendezvous.accept(&mut |_| ()).unwrap();
        let offer = accepted.offer;
        let adopted = self
            .accept_pool
            .adopt(
                accepted.peer,
                &accepted.segment,
                offer.layout,
                offer.generation,
            )
            .unwrap();
        let status = adopted.segment().header().status(Side::Accepting);
        status.answer(offer.generation).unwrap();
        (accepted.connection, adopted)
    }
}
