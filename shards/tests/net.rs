//! Sockets on both drivers: bytes in order, ends, errors, cancellation, peers that misbehave.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream as StdStream};
use std::time::Duration;

use bytes::Bytes;
use dmm_shards::net::{ListenOptions, TcpListener, TcpStream, UdpSocket, UnixListener, UnixStream};
use dmm_shards::{Builder, DriverChoice, DriverKind, features, sleep, spawn, stats, timeout};

fn local() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

/// Runs a test on every way to carry it.
fn everywhere<F: Future<Output = ()> + 'static>(test: impl Fn() -> F) {
    let pools = |builder: Builder| {
        [
            builder.clone(),
            builder.clone().receive_buffers(4, 512),
            builder.receive_buffers(16, 16384).incremental_buffers(true),
        ]
    };
    for builder in pools(Builder::default().driver(DriverChoice::IoUring)) {
        builder.block_on(test()).unwrap();
    }
    for builder in pools(Builder::default().driver(DriverChoice::Epoll)) {
        builder.block_on(test()).unwrap();
    }
}

/// An echo server of the current shard, for as many connections as come.
fn echo(listener: TcpListener) {
    drop(spawn(async move {
        loop {
            let mut stream = listener.accept().await.unwrap();
            drop(spawn(async move {
                while let Ok(Some(piece)) = stream.read_piece().await {
                    if stream.send(piece).await.is_err() {
                        return;
                    }
                }
            }));
        }
    }));
}

fn pattern(len: usize, seed: u8) -> Vec<u8> {
    (0..len)
        .map(|n| (n as u8).wrapping_mul(31).wrapping_add(seed) ^ (n >> 8) as u8)
        .collect()
}

#[test]
fn the_driver_that_was_asked_for_is_used_and_reported() {
    for (choice, kind) in [
        (DriverChoice::IoUring, DriverKind::IoUring),
        (DriverChoice::Epoll, DriverKind::Epoll),
    ] {
        let features = Builder::default()
            .driver(choice)
            .block_on(async { features() })
            .unwrap();
        assert_eq!(features.driver(), kind, "{features}");
    }
}

#[test]
fn an_echo_gives_back_what_it_was_sent() {
    everywhere(|| async {
        let listener = TcpListener::bind(local()).unwrap();
        let addr = listener.local_addr().unwrap();
        echo(listener);
        let clients: Vec<_> = (0..8u8)
            .map(|seed| {
                spawn(async move {
                    let mut stream = TcpStream::connect(addr).await.unwrap();
                    assert_eq!(stream.peer_addr().unwrap(), addr);
                    for len in [1, 64, 4096, 70_000] {
                        let sent = pattern(len, seed);
                        stream.write_all(&sent).await.unwrap();
                        let mut received = vec![0; len];
                        stream.read_exact(&mut received).await.unwrap();
                        assert!(sent == received, "{len} bytes of client {seed}");
                    }
                })
            })
            .collect();
        for client in clients {
            client.await;
        }
    });
}

/// Far more than fits into all buffers together, both ways at once.
#[test]
fn bulk_is_complete_and_in_order() {
    const BYTES: usize = 8 << 20;
    everywhere(|| async {
        let listener = TcpListener::bind(local()).unwrap();
        let addr = listener.local_addr().unwrap();
        echo(listener);
        let stream = TcpStream::connect(addr).await.unwrap();
        let (mut read, mut write) = stream.into_split();
        let writer = spawn(async move {
            let bytes = Bytes::from(pattern(BYTES, 7));
            let mut at = 0;
            // Payloads and copies in turn, of all sizes.
            for n in 1.. {
                let len = (n * 7919 % 90_000).min(BYTES - at);
                if len == 0 {
                    break;
                }
                if n % 3 == 0 {
                    write.write_all(&bytes[at..at + len]).await.unwrap();
                } else {
                    write.send(bytes.slice(at..at + len)).await.unwrap();
                }
                at += len;
            }
            write.shutdown().await.unwrap();
        });
        let mut received = Vec::new();
        loop {
            let bytes = read.fill_buf().await.unwrap();
            if bytes.is_empty() {
                break;
            }
            let count = bytes.len();
            received.extend_from_slice(bytes);
            read.consume(count);
        }
        writer.await;
        assert!(received == pattern(BYTES, 7), "{} bytes", received.len());
    });
}

#[test]
fn a_dropped_stream_is_sent_to_its_end() {
    everywhere(|| async {
        let listener = TcpListener::bind(local()).unwrap();
        let addr = listener.local_addr().unwrap();
        let client = std::thread::spawn(move || {
            let mut stream = StdStream::connect(addr).unwrap();
            std::thread::sleep(Duration::from_millis(50));
            let mut all = Vec::new();
            stream.read_to_end(&mut all).unwrap();
            all
        });
        let mut stream = listener.accept().await.unwrap();
        // More than the socket's buffer holds, and nobody reads yet.
        let sent = pattern(6 << 20, 3);
        stream.send(sent.clone()).await.unwrap();
        stream.write_all(b"the end").await.unwrap();
        drop(stream);
        while !client.is_finished() {
            sleep(Duration::from_millis(5)).await;
        }
        let received = client.join().unwrap();
        assert!(received[..sent.len()] == sent && &received[sent.len()..] == b"the end");
    });
}

/// Also when the shard itself ends at once.
#[test]
fn what_was_written_last_arrives_after_the_shard_has_ended() {
    for driver in [DriverChoice::IoUring, DriverChoice::Epoll] {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        Builder::default()
            .driver(driver)
            .block_on(async move {
                let mut stream = TcpStream::connect(addr).await.unwrap();
                stream.write_all(b"farewell").await.unwrap();
            })
            .unwrap();
        let mut all = String::new();
        listener
            .accept()
            .unwrap()
            .0
            .read_to_string(&mut all)
            .unwrap();
        assert_eq!(all, "farewell");
    }
}

#[test]
fn ends_and_errors_are_told() {
    everywhere(|| async {
        let listener = TcpListener::bind(local()).unwrap();
        let addr = listener.local_addr().unwrap();
        let client = StdStream::connect(addr).unwrap();
        let mut stream = listener.accept().await.unwrap();
        (&client).write_all(b"x").unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(stream.fill_buf().await.unwrap(), b"x");
        stream.consume(1);
        assert!(stream.fill_buf().await.unwrap().is_empty(), "the end");
        assert!(stream.fill_buf().await.unwrap().is_empty(), "still");
        let mut buffer = [0; 1];
        let error = stream.read_exact(&mut buffer).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
        // A peer that is gone for good: the first write finds out, a later one tells.
        drop(client);
        let error = loop {
            if let Err(error) = stream.write_all(b"anybody?").await {
                break error;
            }
            if let Err(error) = stream.flush().await {
                break error;
            }
            sleep(Duration::from_millis(1)).await;
        };
        use std::io::ErrorKind::{BrokenPipe, ConnectionReset};
        assert!(
            matches!(error.kind(), BrokenPipe | ConnectionReset),
            "{error}"
        );
        drop(listener);
        // It is closed when the kernel has let go of it.
        sleep(Duration::from_millis(1)).await;
        let refused = TcpStream::connect(addr).await.err().unwrap();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    });
}

#[test]
fn a_connect_that_nobody_answers_times_out() {
    for driver in [DriverChoice::IoUring, DriverChoice::Epoll] {
        let run = async {
            // A listener whose queue is full does not answer.
            let listener = ListenOptions::default().backlog(1).listen(local()).unwrap();
            let addr = listener.local_addr().unwrap();
            let fillers: Vec<_> = (0..8).map(|_| spawn(TcpStream::connect(addr))).collect();
            sleep(Duration::from_millis(50)).await;
            let limit = Duration::from_millis(100);
            let error = TcpStream::connect_timeout(addr, limit).await.err().unwrap();
            assert_eq!(error.kind(), std::io::ErrorKind::TimedOut, "{error}");
            fillers.into_iter().for_each(dmm_shards::JoinHandle::abort);
        };
        Builder::default().driver(driver).block_on(run).unwrap();
    }
}

/// Dropped reads, accepts and connects leave nothing behind, and the data that came meanwhile is there.
#[test]
fn cancellation_loses_nothing_and_leaks_nothing() {
    everywhere(|| async {
        let before = open_descriptors();
        {
            let listener = TcpListener::bind(local()).unwrap();
            let addr = listener.local_addr().unwrap();
            let short = Duration::from_millis(1);
            assert!(timeout(short, listener.accept()).await.is_err());
            let mut client = TcpStream::connect(addr).await.unwrap();
            let mut server = listener.accept().await.unwrap();
            for round in 0..20u8 {
                assert!(timeout(short, server.fill_buf()).await.is_err());
                client.write_all(&[round]).await.unwrap();
                if round % 2 == 0 {
                    // The byte comes while nobody reads.
                    sleep(short).await;
                }
                let mut byte = [0];
                server.read_exact(&mut byte).await.unwrap();
                assert_eq!(byte, [round]);
            }
            // Connections that were accepted and not taken are closed with the listener.
            let mut unclaimed = Vec::new();
            for _ in 0..5 {
                unclaimed.push(TcpStream::connect(addr).await.unwrap());
            }
            assert!(timeout(short, std::future::pending::<()>()).await.is_err());
            drop(listener);
            for mut stream in unclaimed {
                let end = timeout(Duration::from_secs(5), stream.fill_buf())
                    .await
                    .unwrap();
                assert!(end.is_err() || end.is_ok_and(<[u8]>::is_empty));
            }
        }
        // What was dropped ends within a few turns.
        for _ in 0..100 {
            if stats().operations == 0 && open_descriptors() == before {
                return;
            }
            sleep(Duration::from_millis(1)).await;
        }
        panic!(
            "{:?}, descriptors {} instead of {before}",
            stats(),
            open_descriptors()
        );
    });
}

fn open_descriptors() -> usize {
    // Of this test's shard alone it cannot be told; nextest runs each test in its own process.
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Those who send and never read, or never send, do not hold up the others, nor fill the memory.
#[test]
fn slow_readers_do_not_hold_up_others() {
    everywhere(|| async {
        let listener = TcpListener::bind(local()).unwrap();
        let addr = listener.local_addr().unwrap();
        echo(listener);
        // More of them than there are buffers in the small pools.
        let mut slow = Vec::new();
        for _ in 0..20 {
            let mut stream = TcpStream::connect(addr).await.unwrap();
            drop(
                timeout(
                    Duration::from_millis(10),
                    stream.write_all(&vec![1; 1 << 20]),
                )
                .await,
            );
            slow.push(stream);
        }
        let mut good = TcpStream::connect(addr).await.unwrap();
        for round in 0..50u8 {
            good.write_all(&[round; 100]).await.unwrap();
            let mut back = [0; 100];
            timeout(Duration::from_secs(5), good.read_exact(&mut back))
                .await
                .expect("others go on")
                .unwrap();
            assert_eq!(back, [round; 100]);
        }
        drop(slow);
    });
}

#[test]
fn datagrams_come_whole_and_with_their_sender() {
    everywhere(|| async {
        let server = UdpSocket::bind(local()).unwrap();
        let addr = server.local_addr().unwrap();
        drop(spawn(async move {
            loop {
                let datagram = server.recv().await.unwrap();
                server
                    .send_to(&datagram, datagram.from().unwrap())
                    .await
                    .unwrap();
            }
        }));
        let client = UdpSocket::bind(local()).unwrap();
        client.connect(addr).unwrap();
        for len in [0, 1, 200, 400] {
            let sent = pattern(len, 9);
            client.send(&sent).await.unwrap();
            let back = client.recv().await.unwrap();
            assert!(*back == sent, "{back:?} instead of {len} bytes");
            assert_eq!(back.from(), Some(addr));
            assert!(!back.is_cut());
        }
        // More at once than there are buffers: those that find none wait in the socket.
        for n in 0..40u8 {
            client.send(&[n; 100]).await.unwrap();
        }
        for n in 0..40u8 {
            let back = timeout(Duration::from_secs(5), client.recv())
                .await
                .unwrap();
            assert_eq!(*back.unwrap(), [n; 100]);
        }
    });
}

#[test]
fn a_datagram_that_does_not_fit_says_that_it_is_cut() {
    for driver in [DriverChoice::IoUring, DriverChoice::Epoll] {
        let run = async {
            let server = UdpSocket::bind(local()).unwrap();
            let client = UdpSocket::bind(local()).unwrap();
            client
                .send_to(&[7; 3000], server.local_addr().unwrap())
                .await
                .unwrap();
            let datagram = server.recv().await.unwrap();
            assert!(datagram.is_cut());
            assert!(datagram.len() < 1024 && datagram.iter().all(|byte| *byte == 7));
            let nobody = client.local_addr().unwrap();
            drop(client);
            server.connect(nobody).unwrap();
            server.send(b"anybody?").await.unwrap();
            let refused = timeout(Duration::from_secs(5), server.recv())
                .await
                .unwrap();
            assert_eq!(
                refused.unwrap_err().kind(),
                std::io::ErrorKind::ConnectionRefused
            );
        };
        Builder::default()
            .driver(driver)
            .receive_buffers(8, 1024)
            .block_on(run)
            .unwrap();
    }
}

#[test]
fn unix_streams_meet_by_path_and_by_name() {
    everywhere(|| async {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let name = format!("dmm-shards-test-{}", std::process::id());
        for listener in [
            UnixListener::bind(&path).unwrap(),
            UnixListener::bind_abstract(name.as_bytes()).unwrap(),
        ] {
            drop(spawn(async move {
                let mut stream = listener.accept().await.unwrap();
                stream.write_all(b"hello").await.unwrap();
            }));
        }
        for stream in [
            UnixStream::connect(&path).await,
            UnixStream::connect_abstract(name.as_bytes()).await,
        ] {
            let mut hello = [0; 5];
            stream.unwrap().read_exact(&mut hello).await.unwrap();
            assert_eq!(&hello, b"hello");
        }
        let long = "x".repeat(200);
        assert!(UnixStream::connect(&long).await.is_err());
        let (mut one, mut other) = UnixStream::pair().unwrap();
        one.write_vectored(&[std::io::IoSlice::new(b"a"), std::io::IoSlice::new(b"b")])
            .await
            .unwrap();
        assert_eq!(other.fill_buf().await.unwrap(), b"ab");
    });
}
