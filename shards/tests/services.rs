//! What is around the sockets: files, threads, signals, draining, stalls, the traits of others.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use dmm_shards::fs::File;
use dmm_shards::net::UnixStream;
use dmm_shards::{
    Builder, Drain, DriverChoice, DriverKind, Feature, Stall, features, futex_wait, offload,
    signal, sleep, spawn, stats, timeout, yield_now,
};

fn on_both_drivers<F: Future<Output = ()> + 'static>(test: impl Fn() -> F) {
    for driver in [DriverChoice::IoUring, DriverChoice::Epoll] {
        Builder::default().driver(driver).block_on(test()).unwrap();
    }
}

#[test]
fn files_are_written_and_read_where_it_is_said() {
    on_both_drivers(|| async {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let file = File::create(&path).await.unwrap();
        file.write_all_at(b"hello world".to_vec(), 0).await.unwrap();
        file.write_all_at(b"W".to_vec(), 6).await.unwrap();
        file.sync_data().await.unwrap();
        file.sync_all().await.unwrap();
        let file = File::open(&path).await.unwrap();
        let (result, bytes) = file.read_at(Vec::with_capacity(5), 6).await;
        result.unwrap();
        assert_eq!(bytes, b"World");
        let (result, bytes) = file.read_at(bytes, 100).await;
        result.unwrap();
        assert!(bytes.is_empty(), "beyond the end");
        let (result, bytes) = file.write_at(b"x".to_vec(), 0).await;
        assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::EBADF));
        assert_eq!(bytes, b"x", "the buffer comes back");
        assert!(File::open(dir.path().join("none")).await.is_err());
    });
}

#[test]
fn what_blocks_goes_to_other_threads() {
    on_both_drivers(|| async {
        let began = Instant::now();
        let here = std::thread::current().id();
        let slow: Vec<_> = (0..8)
            .map(|n| {
                offload(move || {
                    std::thread::sleep(Duration::from_millis(100));
                    (n, std::thread::current().id())
                })
            })
            .collect();
        for (expected, slow) in slow.into_iter().enumerate() {
            let (n, thread) = slow.await;
            assert_eq!(n, expected);
            assert_ne!(thread, here);
        }
        assert!(
            began.elapsed() < Duration::from_millis(500),
            "one after the other"
        );
        // Dropped, the work goes on, and its result is lost.
        drop(offload(|| std::thread::sleep(Duration::from_millis(1))));
        let task = spawn(async { offload(|| -> u8 { panic!("over there") }).await });
        yield_now().await;
        while !task.is_finished() {
            sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(stats().panics, 1);
    });
}

#[test]
fn signals_are_waited_for() {
    on_both_drivers(|| async {
        let mut signals = signal::Signals::new(&[libc::SIGUSR2]).unwrap();
        let waited = timeout(Duration::from_millis(5), signals.recv()).await;
        assert!(waited.is_err(), "there was none");
        for _ in 0..3 {
            let process = rustix::process::getpid();
            rustix::process::kill_process(process, rustix::process::Signal::USR2).unwrap();
            timeout(Duration::from_secs(5), signals.recv())
                .await
                .unwrap()
                .unwrap();
        }
    });
}

#[test]
fn a_word_is_waited_for() {
    Builder::default()
        .driver(DriverChoice::IoUring)
        .block_on(async {
            if !features().has(Feature::FutexWait) {
                let word = Arc::new(AtomicU32::new(0));
                assert!(futex_wait(&word, 0).await.is_err());
                return;
            }
            let word = Arc::new(AtomicU32::new(0));
            futex_wait(&word, 1).await.unwrap();
            let there = Arc::clone(&word);
            let waker = std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(20));
                there.store(1, Ordering::Release);
                let flags = rustix::thread::futex::Flags::PRIVATE;
                rustix::thread::futex::wake(&there, flags, 1).unwrap();
            });
            while word.load(Ordering::Acquire) == 0 {
                let waited = timeout(Duration::from_secs(5), futex_wait(&word, 0)).await;
                waited.expect("it is woken").unwrap();
            }
            waker.join().unwrap();
        })
        .unwrap();
    let unsupported = Builder::default()
        .driver(DriverChoice::Epoll)
        .block_on(async { futex_wait(&Arc::default(), 0).await });
    let error = unsupported.unwrap().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::Unsupported);
    assert!(error.to_string().contains("asked for"), "{error}");
}

#[test]
fn a_drain_waits_for_what_goes_on() {
    on_both_drivers(|| async {
        let drain = Drain::new();
        let ended = Rc::new(Cell::new(0));
        for ms in [5, 10] {
            let (guard, ended) = (drain.guard(), Rc::clone(&ended));
            drop(spawn(async move {
                let stopped = guard
                    .drain()
                    .until_started(std::future::pending::<()>())
                    .await;
                assert!(stopped.is_none());
                sleep(Duration::from_millis(ms)).await;
                ended.set(ended.get() + 1);
            }));
        }
        assert_eq!(drain.until_started(async { 1 }).await, Some(1));
        yield_now().await;
        assert!(!drain.has_started());
        drain.done(Duration::from_secs(5)).await.unwrap();
        assert_eq!(ended.get(), 2);
        let stubborn = drain.guard();
        assert!(drain.done(Duration::from_millis(5)).await.is_err());
        drop(stubborn);
        drain.done(Duration::from_millis(5)).await.unwrap();
    });
}

#[test]
fn a_stall_is_reported_with_where_it_is() {
    let stalls: Arc<Mutex<Vec<Stall>>> = Arc::default();
    let reported = Arc::clone(&stalls);
    Builder::default()
        .report_stalls(Duration::from_millis(20), move |stall| {
            reported.lock().unwrap().push(stall.clone());
        })
        .block_on(async {
            // Asleep, it does not stall.
            sleep(Duration::from_millis(100)).await;
            compute_for_too_long(Duration::from_millis(200));
        })
        .unwrap();
    // Looking names up takes its time, on the thread that watches.
    let end = Instant::now() + Duration::from_secs(20);
    let stall = loop {
        if let Some(stall) = stalls.lock().unwrap().first() {
            break stall.clone();
        }
        assert!(Instant::now() < end, "it is noticed");
        std::thread::sleep(Duration::from_millis(10));
    };
    assert!(
        stall.to_string().contains("compute_for_too_long"),
        "{stall}"
    );
}

#[inline(never)]
fn compute_for_too_long(time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        std::hint::black_box(0);
    }
}

/// The traits do what the methods do, for whoever is generic over them.
#[cfg(feature = "futures-io")]
#[test]
fn streams_have_the_traits_of_futures() {
    use futures_io::{AsyncBufRead, AsyncRead, AsyncWrite};
    use std::future::poll_fn;
    use std::pin::Pin;

    on_both_drivers(|| async {
        let (mut one, mut other) = UnixStream::pair().unwrap();
        let count = poll_fn(|cx| AsyncWrite::poll_write(Pin::new(&mut one), cx, b"hello")).await;
        assert_eq!(count.unwrap(), 5);
        poll_fn(|cx| AsyncWrite::poll_close(Pin::new(&mut one), cx))
            .await
            .unwrap();
        poll_fn(|cx| AsyncBufRead::poll_fill_buf(Pin::new(&mut other), cx).map_ok(<[u8]>::len))
            .await
            .unwrap();
        AsyncBufRead::consume(Pin::new(&mut other), 1);
        let mut buffer = [0; 8];
        let count = poll_fn(|cx| AsyncRead::poll_read(Pin::new(&mut other), cx, &mut buffer)).await;
        assert_eq!(&buffer[..count.unwrap()], b"ello");
        let count = poll_fn(|cx| AsyncRead::poll_read(Pin::new(&mut other), cx, &mut buffer)).await;
        assert_eq!(count.unwrap(), 0, "the end");
    });
}

#[cfg(feature = "tokio")]
#[test]
fn streams_have_the_traits_of_tokio() {
    use std::future::poll_fn;
    use std::pin::Pin;
    use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

    on_both_drivers(|| async {
        let (mut one, mut other) = UnixStream::pair().unwrap();
        let count = poll_fn(|cx| AsyncWrite::poll_write(Pin::new(&mut one), cx, b"hello")).await;
        assert_eq!(count.unwrap(), 5);
        poll_fn(|cx| AsyncWrite::poll_shutdown(Pin::new(&mut one), cx))
            .await
            .unwrap();
        let mut memory = [0; 8];
        let mut buffer = ReadBuf::new(&mut memory);
        poll_fn(|cx| AsyncRead::poll_read(Pin::new(&mut other), cx, &mut buffer))
            .await
            .unwrap();
        assert_eq!(buffer.filled(), b"hello");
    });
}

/// A sandbox that forbids io_uring: the shard works, and says why it is not the ring that carries it.
#[test]
fn where_io_uring_is_forbidden_epoll_carries_the_shard() {
    std::thread::spawn(|| {
        forbid_io_uring();
        let (kind, why) = Builder::default()
            .block_on(async {
                let (mut one, mut other) = UnixStream::pair().unwrap();
                one.write_all(b"hello").await.unwrap();
                assert_eq!(other.fill_buf().await.unwrap(), b"hello");
                let features = features();
                (
                    features.driver(),
                    features.why_not(Feature::IoUring).map(str::to_owned),
                )
            })
            .unwrap();
        assert_eq!(kind, DriverKind::Epoll);
        assert!(why.as_ref().unwrap().contains("seccomp"), "{why:?}");
        let refused = Builder::default()
            .driver(DriverChoice::IoUring)
            .block_on(async {});
        let error = refused.unwrap_err().to_string();
        assert!(error.contains("io_uring_disabled"), "{error}");
    })
    .join()
    .unwrap();
}

/// A seccomp filter, of this thread only: io_uring_setup(2) gives EPERM.
fn forbid_io_uring() {
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let jump = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    let give = libc::BPF_RET | libc::BPF_K;
    let step = |code: u32, k: u32, jt: u8, jf: u8| libc::sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    };
    let mut filter = [
        step(load, 0, 0, 0),
        step(jump, libc::SYS_io_uring_setup as u32, 0, 1),
        step(give, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32, 0, 0),
        step(give, libc::SECCOMP_RET_ALLOW, 0, 0),
    ];
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: both calls change this thread's own permissions; the filter is borrowed for the call.
    let results = unsafe {
        [
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
            libc::prctl(
                libc::PR_SET_SECCOMP,
                libc::SECCOMP_MODE_FILTER,
                &raw const program,
            ),
        ]
    };
    assert_eq!(results, [0, 0]);
}
