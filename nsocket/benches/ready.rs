//! What an event of a ready set costs: set by a writer and taken by the owner, with few and with many
//! sessions.
//!
//! `cargo bench -p dmm-nsocket --bench ready` (best of the rounds; on the core it is started on:
//! `taskset -c 0`).

#![allow(clippy::print_stdout, reason = "prints its results")]

use std::time::Instant;

use dmm_nsocket::session::ready::{ReadyWords, Taker};
use dmm_nsocket::session::waiter::fence;

const ROUNDS: u32 = 15;

/// Best time of an operation, in ns.
fn best(operations: u32, mut round: impl FnMut()) -> f64 {
    (0..ROUNDS)
        .map(|_| {
            let began = Instant::now();
            round();
            began.elapsed().as_nanos() as f64 / f64::from(operations)
        })
        .fold(f64::INFINITY, f64::min)
}

fn main() {
    println!(
        "ns an event       one at a time   batches of 50   all at once   set when set   empty"
    );
    for sessions in [1, 10, 1_000, 10_000, 50_000_u32] {
        let words: Box<ReadyWords> = Box::default();
        let taker = Taker::new();
        taker.admit(sessions);
        let mut out = vec![0; sessions as usize];
        // A prime, so that events are spread over the set.
        let session = |event: u32| (u64::from(event) * 7_919 % u64::from(sessions)) as u16;

        let events = 200_000;
        let single = best(events, || {
            for event in 0..events {
                fence::full();
                words.set(session(event));
                assert_eq!(taker.take(&words, &mut out), 1);
            }
        });
        let batch = sessions.min(50);
        let batches = best(events / 50 * batch, || {
            for turn in 0..events / 50 {
                for event in turn * batch..(turn + 1) * batch {
                    fence::full();
                    words.set(session(event));
                }
                assert_eq!(taker.take(&words, &mut out[..]), batch as usize);
            }
        });
        let all = best(sessions, || {
            for session in 0..sessions {
                fence::full();
                words.set(session as u16);
            }
            assert_eq!(taker.take(&words, &mut out[..]), sessions as usize);
        });
        words.set(session(3));
        let again = best(events, || {
            for _ in 0..events {
                fence::full();
                assert!(!words.set(session(3)));
            }
        });
        taker.take(&words, &mut out);
        let empty = best(events, || {
            for _ in 0..events {
                assert!(!std::hint::black_box(&taker).is_ready(&words));
            }
        });
        println!(
            "{sessions:6} sessions {single:14.1} {batches:15.1} {all:13.1} {again:14.1} {empty:7.1}"
        );
    }
}
