//! Echo over loopback TCP: a shard beside a bare io_uring loop, which is the limit. Server on core 0,
//! clients on core 1; rounds are interleaved, and medians are given.
//!
//! `cargo bench -p dmm-shards --bench echo` (needs two idle cores); `-- SECONDS SHAPES` for longer rounds, of the first
//! so many shapes

#![allow(clippy::print_stdout, reason = "prints its results")]

mod bare;
mod clients;
mod shard;

use std::net::{TcpListener, TcpStream};
use std::time::Duration;

const ROUNDS: usize = 5;

/// Connections, messages under way on each, and their size in bytes.
#[derive(Clone, Copy)]
struct Shape {
    connections: usize,
    depth: usize,
    bytes: usize,
}

/// What a server needs: the connected sockets; it serves until all have ended, and tells its CPU time.
type Server = fn(Vec<TcpStream>) -> Duration;

fn main() {
    let mut numbers = std::env::args().filter_map(|arg| arg.parse::<f64>().ok());
    let seconds = numbers.next().unwrap_or(0.5);
    let shapes = numbers.next().map_or(usize::MAX, |shapes| shapes as usize);
    let servers: [(&str, Server); 4] = [
        ("bare", bare::serve),
        ("shard", shard::serve_pieces),
        ("shard, copying", shard::serve_copies),
        ("shard, epoll", shard::serve_by_epoll),
    ];
    println!(
        "{:<16} {:<16} {:>12} {:>14} {:>8}",
        "shape", "server", "messages/s", "CPU/message", "of bare"
    );
    for (connections, depth, bytes) in [
        (1, 1, 64),
        (64, 1, 64),
        (64, 16, 64),
        (64, 1, 4096),
        (16, 1, 65536),
    ]
    .into_iter()
    .take(shapes)
    {
        let shape = Shape {
            connections,
            depth,
            bytes,
        };
        let mut results = vec![Vec::new(); servers.len()];
        for _ in 0..ROUNDS {
            for (server, results) in servers.iter().zip(&mut results) {
                results.push(round(shape, *server, seconds));
            }
        }
        let bare = median(&results[0], |result| result.1);
        for ((name, _), results) in servers.iter().zip(&results) {
            let rate = median(results, |result| result.0);
            let cpu = median(results, |result| result.1);
            let shape = format!("{connections} x {depth} x {bytes}");
            println!(
                "{shape:<16} {name:<16} {rate:>12.0} {cpu:>11.0} ns {:>8.3}",
                cpu / bare
            );
        }
    }
}

/// The rate, and the server's CPU time for a message, in ns.
fn round(shape: Shape, (name, server): (&str, Server), seconds: f64) -> (f64, f64) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let addr = listener.local_addr().expect("it is bound");
    let mut clients = Vec::new();
    let mut served = Vec::new();
    for _ in 0..shape.connections {
        let client = TcpStream::connect(addr).expect("it listens");
        let (stream, _) = listener.accept().expect("a client has connected");
        for stream in [&client, &stream] {
            stream.set_nodelay(true).expect("TCP has the option");
            // Room for all that is under way: full sockets are another test.
            rustix::net::sockopt::set_socket_send_buffer_size(stream, 1 << 20)
                .expect("sockets have it");
        }
        clients.push(client);
        served.push(stream);
    }
    let server = std::thread::Builder::new()
        .name(name.into())
        .spawn(move || {
            pin(0);
            server(served)
        })
        .expect("threads are left");
    let (messages, time) = clients::run(clients, shape, Duration::from_secs_f64(seconds));
    let cpu = server.join().expect("the server ends well");
    (
        messages as f64 / time.as_secs_f64(),
        cpu.as_nanos() as f64 / messages as f64,
    )
}

fn median(results: &[(f64, f64)], which: impl Fn(&(f64, f64)) -> f64) -> f64 {
    let mut values: Vec<_> = results.iter().map(which).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn pin(core: usize) {
    core_affinity::set_for_current(core_affinity::CoreId { id: core });
}

/// The CPU time of the calling thread.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
