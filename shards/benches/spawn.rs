//! What a task costs: spawned and finished, woken, yielding; and what timers cost.
//!
//! `cargo bench -p dmm-shards --bench spawn`

#![allow(clippy::print_stdout, reason = "prints its results")]

use std::cell::Cell;
use std::hint::black_box;
use std::rc::Rc;
use std::time::{Duration, Instant};

use dmm_shards::{Builder, sleep, spawn, timeout, yield_now};

const ROUNDS: usize = 9;

fn main() {
    let results = Builder::default().block_on(measure());
    for (name, ns) in results.expect("a shard runs here") {
        println!("{name:<40} {ns:7.1} ns");
    }
}

async fn measure() -> Vec<(&'static str, f64)> {
    vec![
        ("spawn and finish an empty task", median(spawn_many).await),
        ("spawn and join an empty task", median(spawn_and_join).await),
        ("yield and run on", median(yield_often).await),
        ("time limit that is not reached", median(limits).await),
        ("timer made and cancelled", median(timers).await),
    ]
}

async fn median<F: Future<Output = f64>>(run: impl Fn() -> F) -> f64 {
    let mut results = Vec::new();
    for _ in 0..ROUNDS {
        results.push(run().await);
    }
    results.sort_by(f64::total_cmp);
    results[ROUNDS / 2]
}

fn each(began: Instant, count: usize) -> f64 {
    began.elapsed().as_nanos() as f64 / count as f64
}

async fn spawn_many() -> f64 {
    const BATCH: usize = 256;
    const BATCHES: usize = 400;
    let began = Instant::now();
    for _ in 0..BATCHES {
        for _ in 0..BATCH {
            drop(spawn(async {}));
        }
        yield_now().await;
    }
    each(began, BATCH * BATCHES)
}

async fn spawn_and_join() -> f64 {
    const COUNT: usize = 100_000;
    let began = Instant::now();
    for n in 0..COUNT {
        black_box(spawn(async move { n }).await);
    }
    each(began, COUNT)
}

async fn yield_often() -> f64 {
    const COUNT: usize = 100_000;
    let began = Instant::now();
    for _ in 0..COUNT {
        yield_now().await;
    }
    each(began, COUNT)
}

async fn limits() -> f64 {
    const COUNT: usize = 100_000;
    let done = Rc::new(Cell::new(0));
    let began = Instant::now();
    for _ in 0..COUNT {
        let done = Rc::clone(&done);
        let work = async move { done.set(done.get() + 1) };
        let _ = black_box(timeout(Duration::from_secs(1), work).await);
    }
    each(began, COUNT)
}

async fn timers() -> f64 {
    const COUNT: usize = 100_000;
    let began = Instant::now();
    for n in 0..COUNT as u64 {
        let mut timer = Box::pin(sleep(Duration::from_millis(1 + n % 5000)));
        std::future::poll_fn(|cx| {
            let _ = timer.as_mut().poll(cx);
            std::task::Poll::Ready(())
        })
        .await;
    }
    each(began, COUNT)
}
