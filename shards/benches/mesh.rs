//! The mesh between two cores: one-way rate, round trip, waking a sleeping shard; beside an eventfd.
//!
//! `cargo bench -p dmm-shards --bench mesh` (needs two idle cores)

#![allow(clippy::print_stdout, reason = "prints its results")]

use std::cell::Cell;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use dmm_shards::{Idle, Shards, TrySendError, call, run_on, sleep, try_send, yield_now};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};

fn main() {
    for (name, result) in [
        ("one way, both busy", one_way()),
        (
            "run_on, round trip, both poll",
            round_trip(Idle::Poll, false),
        ),
        ("call, round trip, both poll", round_trip(Idle::Poll, true)),
        (
            "run_on, round trip, adaptive",
            round_trip(Idle::Adaptive, false),
        ),
        ("run_on, other one sleeps", waking()),
        ("eventfd, other one sleeps, round trip", eventfd_waking()),
    ] {
        println!("{name:<40} {result}");
    }
}

fn shards(idle: Idle) -> dmm_shards::Builder {
    Shards::<()>::builder().cores([0, 1]).idle(idle)
}

fn one_way() -> String {
    const MESSAGES: u64 = 20_000_000;
    thread_local!(static RECEIVED: Cell<u64> = const { Cell::new(0) });
    let rates = shards(Idle::Poll)
        .mesh_capacity(4096)
        .run(|shard| async move {
            if shard != 0 {
                return 0.0;
            }
            let began = Instant::now();
            let mut sent = 0;
            while sent < MESSAGES {
                match try_send(1, || {
                    RECEIVED.with(|received| received.set(received.get() + 1));
                }) {
                    Ok(()) => sent += 1,
                    Err(TrySendError::Full(_)) => yield_now().await,
                    Err(error) => panic!("{error}"),
                }
            }
            let received = run_on(1, || RECEIVED.with(Cell::get))
                .await
                .expect("shard 1 runs");
            assert_eq!(received, MESSAGES);
            MESSAGES as f64 / began.elapsed().as_secs_f64()
        });
    format!("{:7.1} M messages/s", rates.expect("two cores")[0] / 1e6)
}

fn round_trip(idle: Idle, as_task: bool) -> String {
    const TRIPS: u32 = 300_000;
    let times = shards(idle).run(move |shard| async move {
        if shard != 0 {
            return 0.0;
        }
        let began = Instant::now();
        for n in 0..TRIPS {
            let answer = if as_task {
                call(1, move || async move { n }).await
            } else {
                run_on(1, move || n).await
            };
            assert_eq!(answer, Ok(n));
        }
        began.elapsed().as_nanos() as f64 / f64::from(TRIPS)
    });
    format!("{:7.0} ns", times.expect("two cores")[0])
}

/// Both sleep between trips, so that a trip holds two ways out of bed.
fn waking() -> String {
    const TRIPS: usize = 500;
    let times = shards(Idle::Sleep).run(|shard| async move {
        let mut times = Vec::new();
        for _ in 0..if shard == 0 { TRIPS } else { 0 } {
            sleep(Duration::from_micros(500)).await;
            let began = Instant::now();
            run_on(1, || ()).await.expect("shard 1 runs");
            times.push(began.elapsed().as_nanos() as u64);
        }
        times
    });
    spread(times.expect("two cores").swap_remove(0))
}

fn eventfd_waking() -> String {
    const TRIPS: usize = 500;
    let new = || eventfd(0, EventfdFlags::CLOEXEC).expect("descriptors are left");
    let (to, back) = (new(), new());
    let ring =
        |bell: &dyn AsFd| rustix::io::write(bell.as_fd(), &1u64.to_ne_bytes()).expect("rings");
    let wait = |bell: &dyn AsFd| {
        let bell = bell.as_fd();
        poll(&mut [PollFd::new(&bell, PollFlags::IN)], None).expect("polls");
        rustix::io::read(bell, &mut [0u8; 8]).expect("drains");
    };
    let pin = |core| core_affinity::set_for_current(core_affinity::CoreId { id: core });
    std::thread::scope(|scope| {
        scope.spawn(|| {
            pin(1);
            for _ in 0..TRIPS {
                wait(&to);
                ring(&back);
            }
        });
        let times = scope.spawn(|| {
            pin(0);
            let mut times = Vec::new();
            for _ in 0..TRIPS {
                std::thread::sleep(Duration::from_micros(500));
                let began = Instant::now();
                ring(&to);
                wait(&back);
                times.push(began.elapsed().as_nanos() as u64);
            }
            times
        });
        spread(times.join().expect("the thread ends"))
    })
}

fn spread(mut times: Vec<u64>) -> String {
    times.sort_unstable();
    let at = |part: usize| times[times.len() * part / 100];
    format!("{:7} ns  (p10 {}, p99 {})", at(50), at(10), at(99))
}
