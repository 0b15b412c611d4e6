//! Tasks, their ends, and who runs when.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use dmm_shards::{
    Builder, Latency, QueueError, TaskQueue, interval, need_preempt, sleep, spawn, spawn_into,
    stats, timeout, yield_now,
};

fn run<F: Future + 'static>(main: F) -> F::Output {
    Builder::default().block_on(main).unwrap()
}

#[test]
fn a_task_gives_its_output() {
    assert_eq!(run(async { spawn(async { 6 * 7 }).await }), 42);
}

#[test]
fn tasks_need_not_be_send() {
    let sum = run(async {
        let sum = Rc::new(Cell::new(0));
        let tasks: Vec<_> = (1..=100)
            .map(|n| {
                let sum = Rc::clone(&sum);
                spawn(async move {
                    yield_now().await;
                    sum.set(sum.get() + n);
                })
            })
            .collect();
        for task in tasks {
            task.await;
        }
        sum.get()
    });
    assert_eq!(sum, 5050);
}

#[test]
fn a_dropped_handle_leaves_the_task_alone_and_an_aborted_task_is_dropped() {
    struct OnDrop(Rc<Cell<u32>>);
    impl Drop for OnDrop {
        fn drop(&mut self) {
            self.0.set(self.0.get() + 1);
        }
    }
    run(async {
        let (done, dropped) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(0)));
        let flag = Rc::clone(&done);
        drop(spawn(async move { flag.set(true) }));
        let guard = OnDrop(Rc::clone(&dropped));
        let task = spawn(async move {
            let _guard = guard;
            std::future::pending::<()>().await;
        });
        yield_now().await;
        assert!(done.get());
        assert_eq!(dropped.get(), 0);
        assert_eq!(task.cancel().await, None);
        assert_eq!(dropped.get(), 1);
        let finished = spawn(async { 1 });
        yield_now().await;
        assert!(finished.is_finished());
        assert_eq!(finished.cancel().await, Some(1));
    });
}

#[test]
fn every_task_is_dropped_when_the_shard_ends() {
    let alive = std::sync::Arc::new(());
    let count = std::sync::Arc::clone(&alive);
    run(async move {
        for wait in [false, true] {
            let count = std::sync::Arc::clone(&count);
            drop(spawn(async move {
                if wait {
                    // A task that keeps what would wake it: nothing but its shard can end it.
                    std::future::pending::<()>().await;
                } else {
                    sleep(Duration::from_secs(3600)).await;
                }
                drop(count);
            }));
        }
        yield_now().await;
        let never_run = std::sync::Arc::clone(&count);
        drop(spawn(async move { drop(never_run) }));
        assert_eq!(stats().waiting_tasks, 3, "main, which has yielded, and two");
    });
    assert_eq!(std::sync::Arc::strong_count(&alive), 1);
}

#[test]
fn a_panic_ends_its_task_and_comes_up_in_who_joins() {
    let (caught, panics) = run(async {
        let joined = spawn(async {
            let task = spawn(async { panic!("of a task") });
            task.await;
        });
        yield_now().await;
        yield_now().await;
        let caught = std::panic::AssertUnwindSafe(joined);
        let caught = catch(caught.0).await;
        (caught, stats().panics)
    });
    assert_eq!(caught, "of a task");
    assert_eq!(panics, 2);
}

/// The message of a future's panic.
async fn catch(future: impl Future<Output = ()>) -> String {
    let mut future = Box::pin(future);
    std::future::poll_fn(move |cx| {
        let poll = std::panic::AssertUnwindSafe(|| future.as_mut().poll(cx));
        match std::panic::catch_unwind(poll) {
            Ok(poll) => poll.map(|()| String::new()),
            Err(panic) => std::task::Poll::Ready(panic.downcast_ref::<&str>().unwrap().to_string()),
        }
    })
    .await
}

#[test]
#[should_panic(expected = "of main")]
fn a_panic_of_main_comes_out() {
    run(async { panic!("of main") });
}

#[test]
fn wakers_work_from_other_threads() {
    let woken = run(async {
        let mut threads = Vec::new();
        let tasks: Vec<_> = (0..50)
            .map(|n: u64| {
                let (tell, told) = std::sync::mpsc::channel();
                let ready = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
                let thread_ready = std::sync::Arc::clone(&ready);
                threads.push(std::thread::spawn(move || {
                    let waker: std::task::Waker = told.recv().unwrap();
                    std::thread::sleep(Duration::from_micros(n * 37));
                    thread_ready.store(true, std::sync::atomic::Ordering::Release);
                    waker.wake();
                }));
                spawn(std::future::poll_fn(move |cx| {
                    if ready.load(std::sync::atomic::Ordering::Acquire) {
                        return std::task::Poll::Ready(1);
                    }
                    let _ = tell.send(cx.waker().clone());
                    std::task::Poll::Pending
                }))
            })
            .collect();
        let mut woken = 0;
        for task in tasks {
            woken += task.await;
        }
        for thread in threads {
            thread.join().unwrap();
        }
        woken
    });
    assert_eq!(woken, 50);
}

#[test]
fn a_waker_that_outlives_its_shard_is_harmless() {
    let waker = run(async {
        let waker = Rc::new(RefCell::new(None));
        let place = Rc::clone(&waker);
        drop(spawn(std::future::poll_fn(move |cx| {
            *place.borrow_mut() = Some(cx.waker().clone());
            std::task::Poll::<()>::Pending
        })));
        yield_now().await;
        waker.take().unwrap()
    });
    waker.wake_by_ref();
    std::thread::spawn(move || waker.wake()).join().unwrap();
}

#[test]
fn timers_are_in_order_and_never_early() {
    run(async {
        let order = Rc::new(RefCell::new(Vec::new()));
        let tasks: Vec<_> = [30, 10, 20, 0]
            .map(|ms| {
                let order = Rc::clone(&order);
                spawn(async move {
                    let began = Instant::now();
                    sleep(Duration::from_millis(ms)).await;
                    assert!(began.elapsed() >= Duration::from_millis(ms));
                    order.borrow_mut().push(ms);
                })
            })
            .into();
        for task in tasks {
            task.await;
        }
        assert_eq!(*order.borrow(), [0, 10, 20, 30]);
    });
}

#[test]
fn a_time_limit_ends_what_takes_too_long() {
    run(async {
        let limit = Duration::from_millis(5);
        assert!(
            timeout(limit, sleep(Duration::from_secs(60)))
                .await
                .is_err()
        );
        assert_eq!(timeout(limit, async { 1 }).await, Ok(1));
        assert_eq!(
            timeout(Duration::MAX, sleep(Duration::from_millis(1))).await,
            Ok(())
        );
    });
}

#[test]
fn an_interval_keeps_its_rhythm() {
    run(async {
        let period = Duration::from_millis(4);
        let mut interval = interval(period);
        let first = interval.tick().await;
        // Two ticks are missed, and left out.
        sleep(Duration::from_millis(11)).await;
        let second = interval.tick().await;
        let third = interval.tick().await;
        // A machine that is busy may miss more of them.
        for tick in [second, third] {
            assert_eq!((tick - first).as_nanos() % period.as_nanos(), 0);
        }
        assert!(second >= first + period && third > second);
        assert!(third >= first + 3 * period);
    });
}

#[test]
fn an_idle_shard_sleeps() {
    run(async {
        sleep(Duration::from_millis(20)).await;
        let before = cpu_time();
        sleep(Duration::from_millis(200)).await;
        let used = cpu_time() - before;
        assert!(used < Duration::from_millis(5), "used {used:?}");
        assert!(stats().sleeps > 0);
    });
}

fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[test]
fn shares_divide_the_time_of_busy_queues() {
    run(async {
        let queues = [("one", 100), ("three", 300)]
            .map(|(name, shares)| TaskQueue::new(name, shares, Latency::DoesNotMatter).unwrap());
        for queue in queues {
            drop(spawn_into(queue, async {
                loop {
                    busy(Duration::from_micros(50));
                    yield_now().await;
                }
            }));
        }
        sleep(Duration::from_millis(300)).await;
        let times = queues.map(|queue| queue.stats().run_time.as_secs_f64());
        let ratio = times[1] / times[0];
        assert!((2.0..4.5).contains(&ratio), "{ratio} of {times:?}");
    });
}

#[test]
fn what_latency_matters_for_does_not_wait_for_a_crowd() {
    run(async {
        let crowd = TaskQueue::new("crowd", 1000, Latency::DoesNotMatter).unwrap();
        let urgent =
            TaskQueue::new("urgent", 1000, Latency::Matters(Duration::from_millis(1))).unwrap();
        for _ in 0..3000 {
            drop(spawn_into(crowd, async {
                loop {
                    busy(Duration::from_micros(100));
                    yield_now().await;
                }
            }));
        }
        let worst = spawn_into(urgent, async {
            let mut worst = Duration::ZERO;
            for _ in 0..10 {
                let due = Instant::now() + Duration::from_millis(3);
                dmm_shards::sleep_until(due).await;
                worst = worst.max(due.elapsed());
            }
            worst
        })
        .await;
        // A round of the crowd takes 300 ms; the rest is for a machine that has other things to do.
        assert!(worst < Duration::from_millis(150), "{worst:?}");
    });
}

#[test]
fn a_long_computation_is_told_to_yield() {
    run(async {
        assert!(!need_preempt());
        let began = Instant::now();
        while !need_preempt() {
            assert!(began.elapsed() < Duration::from_secs(1));
        }
        assert!(began.elapsed() >= Duration::from_micros(100));
    });
    assert!(!need_preempt(), "there is nobody to yield to");
}

#[test]
fn a_queue_without_shares_is_refused() {
    run(async {
        let refused = TaskQueue::new("none", 0, Latency::DoesNotMatter);
        assert_eq!(refused.unwrap_err(), QueueError::NoShares);
    });
}

fn busy(time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        std::hint::spin_loop();
    }
}
