//! What connections cost while nothing happens on them: memory of the process, and CPU time.
//!
//! `cargo bench -p dmm-shards --bench idle` (raises the limit of descriptors for itself)

#![allow(clippy::print_stdout, reason = "prints its results")]

use std::time::Duration;

use dmm_shards::net::UnixStream;
use dmm_shards::{Builder, sleep, spawn, stats};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Pairs of connected sockets: both ends are connections of the shard.
const PAIRS: usize = 5_000;

fn main() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = Rlimit {
        current: limit.maximum,
        ..limit
    };
    setrlimit(Resource::Nofile, wanted).expect("the limit can be raised to its maximum");
    Builder::default()
        .block_on(measure())
        .expect("a shard runs here");
}

async fn measure() {
    let before = resident();
    let mut ends = Vec::new();
    for _ in 0..PAIRS {
        let (mut served, mut client) = UnixStream::pair().expect("descriptors are left");
        drop(spawn(async move {
            while let Ok(Some(piece)) = served.read_piece().await {
                if served.send(piece).await.is_err() {
                    return;
                }
            }
        }));
        client.write_all(&[7; 1000]).await.expect("it is connected");
        client
            .read_exact(&mut [0; 1000])
            .await
            .expect("it is answered");
        ends.push(client);
    }
    let connections = 2 * PAIRS;
    let used = (resident() - before) / connections;
    println!("{connections} connections, each used once: {used} bytes resident each");
    println!("{} operations in flight", stats().operations);
    sleep(Duration::from_millis(100)).await;
    let (cpu, sleeps) = (cpu_time(), stats().sleeps);
    sleep(Duration::from_secs(3)).await;
    println!(
        "CPU time in 3 idle seconds: {:?}, {} wake-ups",
        cpu_time() - cpu,
        stats().sleeps - sleeps
    );
}

/// The resident memory of the process, in bytes.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("there is procfs");
    let pages: usize = statm
        .split(' ')
        .nth(1)
        .and_then(|n| n.parse().ok())
        .expect("numbers");
    pages * rustix::param::page_size()
}

fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
