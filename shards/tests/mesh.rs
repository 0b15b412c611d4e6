//! Shards that talk to each other.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dmm_shards::{
    Builder, CallError, DriverChoice, Idle, Sharded, Shards, StartError, TrySendError, call, count,
    index, run_on, send, sleep, spawn, stats, try_send, yield_now,
};

/// Shards that share cores where there are few: what is tested is the protocol.
fn shards() -> Builder {
    Shards::<()>::builder().cores([0, 0, 0]).pin(false)
}

fn on_both_drivers(test: impl Fn(Builder)) {
    for driver in [DriverChoice::IoUring, DriverChoice::Epoll] {
        for idle in [Idle::Adaptive, Idle::Sleep] {
            test(shards().driver(driver).idle(idle));
        }
    }
}

#[test]
fn each_shard_runs_main_and_all_outputs_are_given() {
    on_both_drivers(|builder| {
        let outputs = builder.run(|shard| async move {
            assert_eq!((index(), count()), (shard, 3));
            shard * 10
        });
        assert_eq!(outputs.unwrap(), [0, 10, 20]);
    });
}

#[test]
fn a_call_runs_there_and_answers_here() {
    on_both_drivers(|builder| {
        let outputs = builder.run(|shard| async move {
            let mut sum = 0;
            for to in 0..3 {
                sum += call(to, || async {
                    yield_now().await;
                    // Not `Send`, and need not be.
                    let here = Rc::new(index());
                    sleep(Duration::from_millis(1)).await;
                    *here
                })
                .await
                .unwrap();
                sum += run_on(to, move || shard * 100).await.unwrap();
            }
            sum
        });
        assert_eq!(outputs.unwrap(), [3, 303, 603]);
    });
}

/// Many more messages than a ring holds, in both directions at once.
#[test]
fn a_full_ring_makes_senders_wait_and_loses_nothing() {
    const MESSAGES: usize = 5_000;
    on_both_drivers(|builder| {
        let received = Arc::new(AtomicUsize::new(0));
        let count_in = Arc::clone(&received);
        let outputs = builder.mesh_capacity(4).run(move |shard| {
            let received = Arc::clone(&count_in);
            async move {
                let to = (shard + 1) % 3;
                for n in 0..MESSAGES {
                    let received = Arc::clone(&received);
                    if n % 2 == 0 {
                        send(to, move || {
                            received.fetch_add(1, Ordering::Relaxed);
                        })
                        .await
                        .unwrap();
                    } else {
                        let answer =
                            run_on(to, move || received.fetch_add(1, Ordering::Relaxed)).await;
                        answer.unwrap();
                    }
                }
            }
        });
        outputs.unwrap();
        assert_eq!(received.load(Ordering::Relaxed), 3 * MESSAGES);
    });
}

#[test]
fn many_calls_at_once_are_answered() {
    on_both_drivers(|builder| {
        let outputs = builder.mesh_capacity(8).run(|shard| async move {
            let tasks: Vec<_> = (0..500usize)
                .map(|n| spawn(call(n % 3, move || async move { n * shard })))
                .collect();
            let mut sum = 0;
            for task in tasks {
                sum += task.await.unwrap();
            }
            sum
        });
        let sum: usize = (0..500).sum();
        assert_eq!(outputs.unwrap(), [0, sum, 2 * sum]);
    });
}

#[test]
fn try_send_gives_back_what_finds_no_room() {
    shards()
        // One is held by the message that runs.
        .mesh_capacity(3)
        .run(|shard| async move {
            if shard != 0 {
                return;
            }
            // Shard 1 is kept busy, so that it takes nothing.
            let (hold, held) = std::sync::mpsc::channel::<()>();
            send(1, move || {
                // Until the other end is dropped.
                let _ = held.recv();
            })
            .await
            .unwrap();
            sleep(Duration::from_millis(20)).await;
            assert!(try_send(1, || ()).is_ok());
            assert!(try_send(1, || ()).is_ok());
            assert!(matches!(try_send(1, || ()), Err(TrySendError::Full(_))));
            drop(hold);
            assert_eq!(run_on(1, || 5).await, Ok(5));
        })
        .unwrap();
}

#[test]
fn a_dropped_call_forgets_its_answer() {
    on_both_drivers(|builder| {
        builder
            .run(|shard| async move {
                if shard != 0 {
                    return;
                }
                let slow = || async { sleep(Duration::from_millis(30)).await };
                let called = dmm_shards::timeout(Duration::from_millis(5), call(1, slow)).await;
                assert!(called.is_err());
                // The answer comes while another call is under way.
                sleep(Duration::from_millis(40)).await;
                assert_eq!(run_on(1, || 7).await, Ok(7));
            })
            .unwrap();
    });
}

#[test]
fn shards_serve_until_all_mains_have_ended() {
    on_both_drivers(|builder| {
        let outputs = builder.run(|shard| async move {
            if shard == 0 {
                sleep(Duration::from_millis(30)).await;
                return call(2, || async { index() }).await.unwrap();
            }
            0
        });
        assert_eq!(outputs.unwrap(), [2, 0, 0]);
    });
}

#[test]
fn a_service_has_a_value_a_shard() {
    struct Counter {
        shard: usize,
        hits: std::cell::Cell<usize>,
    }
    on_both_drivers(|builder| {
        let outputs = builder.run(|shard| async move {
            if shard != 1 {
                return 0;
            }
            let counters = Sharded::start(|shard| Counter {
                shard,
                hits: std::cell::Cell::new(0),
            })
            .await
            .unwrap();
            assert_eq!(counters.local().shard, 1);
            for to in [0, 2, 2] {
                counters
                    .on(to, |counter| async move {
                        counter.hits.set(counter.hits.get() + 1);
                    })
                    .await
                    .unwrap();
            }
            counters
                .broadcast(|counter| async move { counter.hits.set(counter.hits.get() + 10) })
                .await
                .unwrap();
            let digits = counters
                .map_reduce(
                    |counter| async move { (counter.shard, counter.hits.get()) },
                    Vec::new(),
                    |mut all, one| {
                        all.push(one);
                        all
                    },
                )
                .await
                .unwrap();
            assert_eq!(digits, [(0, 11), (1, 10), (2, 12)]);
            counters.stop().await.unwrap();
            1
        });
        assert_eq!(outputs.unwrap(), [0, 1, 0]);
    });
}

#[test]
fn a_panic_of_one_main_ends_all_and_comes_out() {
    on_both_drivers(|builder| {
        let run = move || {
            builder.run(|shard| async move {
                if shard == 1 {
                    panic!("of shard 1");
                }
                std::future::pending::<()>().await;
            })
        };
        let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).unwrap_err();
        assert_eq!(*panic.downcast::<&str>().unwrap(), "of shard 1");
    });
}

#[test]
fn stopped_shards_end_whatever_they_wait_for() {
    on_both_drivers(|builder| {
        let shards = builder.start(|_| std::future::pending::<()>()).unwrap();
        std::thread::sleep(Duration::from_millis(20));
        shards.stop();
        assert!(shards.join().is_empty());
    });
}

#[test]
fn impossible_settings_are_refused() {
    let start = |builder: Builder| builder.start(|_| async {}).map(Shards::join).unwrap_err();
    assert!(matches!(
        start(Builder::default().cores([])),
        StartError::NoCores
    ));
    let no_such_core = start(Builder::default().cores([0, 4095]));
    assert!(
        matches!(
            no_such_core,
            StartError::Pin {
                shard: 1,
                core: 4095
            }
        ),
        "{no_such_core}"
    );
    for builder in [
        Builder::default().receive_buffers(3, 4096),
        Builder::default().receive_buffers(4, 1),
        Builder::default().mesh_capacity(0),
    ] {
        assert!(matches!(start(builder), StartError::Setting(_)));
    }
}

#[test]
fn a_panic_over_there_is_an_error_here_and_ends_nobody_else() {
    on_both_drivers(|builder| {
        builder
            .run(|shard| async move {
                if shard != 0 {
                    return;
                }
                let unanswered = Err(CallError::Unanswered { shard: 1 });
                let called = call(1, || async { panic!("in a call") }).await;
                assert_eq!(called, unanswered);
                let called = run_on(1, || panic!("in a message")).await;
                assert_eq!(called, unanswered);
                send(1, || panic!("in a message without an answer"))
                    .await
                    .unwrap();
                assert_eq!(run_on(1, || stats().panics).await, Ok(3));
            })
            .unwrap();
    });
}
