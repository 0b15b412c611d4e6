//! A segment as its process writes it and as the tools read it.

use std::ffi::CString;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use dmm_nsocket::Reason;
use dmm_nsocket::stats::{
    Counter, CreateInfo, HistogramKind, MAX_VALUE, Opened, OptionRefusal, PassedOver,
    SIGNIFICANT_FIGURES, Segment, Selected, SeriesCounter, Snapshot, SnapshotError, SocketRole,
    SocketState, pid_of_file_name,
};

const TCP: Opened = Opened {
    family: 2,
    sock_type: 1,
    protocol: 6,
    inode: 4711,
};

fn create(dir: &Path) -> Segment {
    let dir = CString::new(dir.as_os_str().as_bytes()).unwrap();
    Segment::create(&CreateInfo {
        dir: &dir,
        run_id: b"run",
        program: b"/usr/bin/program",
        label: b"label",
        argv0: b"program",
        policy_hash: 7,
        policy_path: b"/etc/dmm/policy.toml",
        keep: false,
    })
    .expect("a segment in a temporary directory")
}

fn file_of(segment: &Segment) -> PathBuf {
    PathBuf::from(segment.path().to_str().unwrap())
}

fn read(segment: &Segment) -> Snapshot {
    Snapshot::read(&file_of(segment)).expect("a readable segment")
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn select(segment: &Segment, fd: i32, rule: &str, stack: &str) {
    let socket = segment.socket(fd).unwrap();
    socket.open(&TCP);
    socket.select(&Selected {
        role: SocketRole::Connect,
        rule: segment.rule(rule, 3),
        stack: segment.stack(stack),
        class: None,
        policy_hash: 7,
        trail: &[],
        options_applied: 0,
        options_refused: &[],
    });
}

#[test]
fn what_is_written_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let segment = create(dir.path());
    segment.add(Counter::Forks, 2);
    let rule = segment.rule("cache traffic", 14);
    let (bulk, kernel) = (segment.stack("bulk"), segment.stack("kernel"));
    let socket = segment.socket(5).unwrap();
    socket.open(&TCP);
    assert_eq!(socket.series(), None);
    socket.select(&Selected {
        role: SocketRole::Connect,
        rule,
        stack: kernel,
        class: Some(segment.class("gold")),
        policy_hash: 0xabc,
        trail: &[PassedOver {
            stack: bulk,
            reason: Reason::ProtocolRefused,
            errno: 93,
        }],
        options_applied: 3,
        options_refused: &[OptionRefusal {
            level: 1,
            option: 36,
            errno: 1,
        }],
    });
    socket.local(address("10.0.0.1:40000"));
    socket.connecting(address("[fe80::1]:6379"));
    socket.connected(Some(250_000));
    socket.add_sent(100);
    socket.add_received(30);

    let snapshot = read(&segment);
    assert_eq!(snapshot.pid, std::process::id());
    assert_eq!(&*snapshot.program, "/usr/bin/program");
    assert_eq!(&*snapshot.policy.path, "/etc/dmm/policy.toml");
    assert_eq!(snapshot.counters.of(Counter::Forks), 2);
    assert_eq!(snapshot.counters.of(Counter::Fallbacks), 1);
    let [rule] = &snapshot.rules[..] else {
        panic!("{:?}", snapshot.rules)
    };
    assert_eq!(
        (&*rule.name, rule.line, rule.hits, rule.fallbacks),
        ("cache traffic", 14, 1, 1)
    );
    let [socket] = &snapshot.sockets[..] else {
        panic!("{:?}", snapshot.sockets)
    };
    assert_eq!((socket.fd, socket.state), (5, SocketState::Connected));
    assert_eq!(
        (&*socket.rule, &*socket.stack, &*socket.class),
        ("cache traffic", "kernel", "gold")
    );
    assert_eq!(socket.local, Some(address("10.0.0.1:40000")));
    assert_eq!(socket.remote, Some(address("[fe80::1]:6379")));
    assert_eq!(
        (socket.inode, socket.policy_hash, socket.connect_ns),
        (4711, 0xabc, 250_000)
    );
    assert_eq!(&*socket.passed_over[0].stack, "bulk");
    assert_eq!(
        socket.passed_over[0].reason.known(),
        Some(Reason::ProtocolRefused)
    );
    assert_eq!(
        (socket.options_applied, socket.options_refused[0].option),
        (3, 36)
    );
    let [series] = &snapshot.series[..] else {
        panic!("{:?}", snapshot.series)
    };
    assert_eq!(series.counters.of(SeriesCounter::BytesSent), 100);
    assert_eq!(
        series
            .histogram(HistogramKind::Connect)
            .map(|h| (h.count, h.min)),
        Some((1, 250_000))
    );

    segment.socket(5).unwrap().close();
    let snapshot = read(&segment);
    assert!(snapshot.sockets.is_empty());
    assert_eq!(
        snapshot.series[0].counters.of(SeriesCounter::BytesReceived),
        30
    );
    assert_eq!(snapshot.series[0].counters.of(SeriesCounter::Closes), 1);
}

#[test]
fn the_file_is_private_sparse_and_without_a_descriptor() {
    let dir = tempfile::tempdir().unwrap();
    let segment = create(dir.path());
    select(&segment, 3, "rule", "kernel");
    let file = file_of(&segment);
    let metadata = std::fs::metadata(&file).unwrap();
    assert_eq!(metadata.mode() & 0o777, 0o600);
    assert!(
        metadata.blocks() * 512 < 256 * 1024,
        "{} blocks",
        metadata.blocks()
    );
    assert_eq!(
        pid_of_file_name(file.file_name().unwrap().to_str().unwrap()),
        Some(std::process::id())
    );
    for entry in std::fs::read_dir("/proc/self/fd").unwrap() {
        let target = std::fs::read_link(entry.unwrap().path()).unwrap_or_default();
        assert_ne!(target, file);
    }
    segment.finish();
    assert!(!file.exists());
}

#[test]
fn an_accepted_and_a_duplicated_socket_keep_their_history() {
    let dir = tempfile::tempdir().unwrap();
    let segment = create(dir.path());
    select(&segment, 3, "rule", "kernel");
    let listener = segment.socket(3).unwrap();
    listener.local(address("0.0.0.0:80"));
    listener.listening();
    listener.listening();
    segment
        .socket(4)
        .unwrap()
        .accepted(listener, 99, Some(address("10.1.1.1:5")));
    segment
        .socket(500)
        .unwrap()
        .adopt(segment.socket(4).unwrap());
    segment.socket(4).unwrap().adopt(segment.socket(4).unwrap());
    let snapshot = read(&segment);
    let fds: Vec<_> = snapshot.sockets.iter().map(|socket| socket.fd).collect();
    assert_eq!(fds, [3, 4, 500]);
    assert_eq!(snapshot.sockets[1].role, Some(SocketRole::Accept));
    assert_eq!(snapshot.sockets[2].remote, Some(address("10.1.1.1:5")));
    assert_eq!(&*snapshot.sockets[2].rule, "rule");
    assert_eq!(snapshot.series[0].counters.of(SeriesCounter::Listens), 1);
    assert_eq!(snapshot.series[0].counters.of(SeriesCounter::Accepts), 1);
}

#[test]
fn a_child_takes_over_what_it_still_holds() {
    let dir = tempfile::tempdir().unwrap();
    let parent = create(dir.path());
    // Numbers differ between the segments: the parent knows more names.
    select(&parent, 3, "first", "blue");
    let socket = parent.socket(7).unwrap();
    socket.open(&TCP);
    socket.select(&Selected {
        role: SocketRole::Connect,
        rule: parent.rule("second", 3),
        stack: parent.stack("kernel"),
        class: Some(parent.class("gold")),
        policy_hash: 7,
        trail: &[PassedOver {
            stack: parent.stack("green"),
            reason: Reason::NoRoute,
            errno: 0,
        }],
        options_applied: 0,
        options_refused: &[],
    });
    socket.add_sent(1000);
    let child = create(dir.path());
    child.inherit(&parent, |fd| fd == 7);
    let snapshot = read(&child);
    let [socket] = &snapshot.sockets[..] else {
        panic!("{:?}", snapshot.sockets)
    };
    assert_eq!(
        (socket.fd, &*socket.rule, &*socket.stack, socket.sent),
        (7, "second", "kernel", 0)
    );
    assert_eq!(&*socket.class, "gold");
    assert_eq!(&*socket.passed_over[0].stack, "green");
    assert_eq!(snapshot.counters.of(Counter::SocketsInherited), 1);
}

#[test]
fn full_tables_lead_to_other_and_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let segment = create(dir.path());
    for i in 0..2000 {
        select(
            &segment,
            3,
            &format!("rule {i}"),
            &format!("stack {}", i % 100),
        );
    }
    let snapshot = read(&segment);
    assert!(snapshot.counters.of(Counter::NamesOverflowed) > 0);
    let other = snapshot
        .rules
        .iter()
        .find(|rule| &*rule.name == "(other)")
        .unwrap();
    assert_eq!(other.hits, 2000 - 1023);
    let total: u64 = snapshot
        .series
        .iter()
        .map(|series| series.counters.of(SeriesCounter::Sockets))
        .sum();
    assert_eq!(total, 2000);
}

#[test]
fn a_histogram_is_what_hdrhistogram_would_hold() {
    let dir = tempfile::tempdir().unwrap();
    let segment = create(dir.path());
    let series = segment.series(segment.rule("rule", 1), segment.stack("kernel"));
    let mut reference =
        hdrhistogram::Histogram::<u64>::new_with_bounds(1, MAX_VALUE, SIGNIFICANT_FIGURES).unwrap();
    let mut value = 1_u64;
    for i in 0..50_000_u64 {
        value = value
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(i);
        let sample = (value >> 20) >> (i % 44);
        segment.record_time(series, HistogramKind::Blocking, sample);
        reference.saturating_record(sample.min(MAX_VALUE));
    }
    let snapshot = read(&segment);
    let histogram = snapshot.series[0]
        .histogram(HistogramKind::Blocking)
        .unwrap();
    assert_eq!(histogram.count, reference.len());
    let ours: Vec<(u64, u64)> = histogram
        .buckets
        .iter()
        .map(|(bucket, count)| (dmm_nsocket::stats::highest_of(usize::from(*bucket)), *count))
        .collect();
    let theirs: Vec<(u64, u64)> = reference
        .iter_recorded()
        .map(|value| (value.value_iterated_to(), value.count_at_value()))
        .collect();
    assert_eq!(ours, theirs);
}

#[test]
fn a_dump_is_a_segment() {
    let dir = tempfile::tempdir().unwrap();
    let segment = create(dir.path());
    select(&segment, 300, "rule", "kernel");
    let series = segment.socket(300).unwrap().series().unwrap();
    segment.record_time(series, HistogramKind::Accept, 1_000_000_000);
    let copy = dir.path().join("copy");
    segment
        .dump(&CString::new(copy.as_os_str().as_bytes()).unwrap())
        .unwrap();
    drop(segment);
    let snapshot = Snapshot::read(&copy).unwrap();
    assert_eq!(snapshot.sockets.len(), 1);
    assert_eq!(
        snapshot.series[0]
            .histogram(HistogramKind::Accept)
            .unwrap()
            .count,
        1
    );
    assert_eq!(snapshot.counters.of(Counter::HistogramDumps), 1);
}

#[test]
fn descriptors_beyond_the_table_are_counted_only() {
    let dir = tempfile::tempdir().unwrap();
    let segment = create(dir.path());
    assert!(segment.socket(i32::MAX).is_none());
    assert!(segment.socket(-1).is_none());
    assert!(segment.existing_socket(12).is_none());
    assert_eq!(read(&segment).counters.of(Counter::SocketsUnrecorded), 2);
}

#[test]
fn many_writers_and_a_reader_agree() {
    const THREADS: i32 = 4;
    const ROUNDS: u64 = 3_000;
    let dir = tempfile::tempdir().unwrap();
    let segment = create(dir.path());
    // A reader reads the names first: those that come later it does not know.
    for rule in 0..5 {
        segment.rule(&format!("rule {rule}"), 3);
    }
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..THREADS)
            .map(|thread| {
                let segment = &segment;
                scope.spawn(move || {
                    for round in 0..ROUNDS {
                        // One number in two places: a mixture of two writes would show.
                        let port = (round % 60_000) as u16 + 1;
                        let peer = SocketAddr::from(([10, 0, thread as u8, 1], port));
                        select(
                            segment,
                            10 + thread,
                            &format!("rule {}", round % 5),
                            "kernel",
                        );
                        let socket = segment.socket(10 + thread).unwrap();
                        socket.peer(Some(peer));
                        socket.add_sent(1);
                        segment.record_time(
                            socket.series().unwrap(),
                            HistogramKind::Connect,
                            round,
                        );
                        socket.close();
                    }
                })
            })
            .collect();
        let reader = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                for socket in read(&segment).sockets {
                    let Some(SocketAddr::V4(peer)) = socket.remote else {
                        continue;
                    };
                    assert_eq!(u32::from(peer.ip().octets()[2]) + 10, socket.fd);
                    let round = u64::from(peer.port()) - 1;
                    assert_eq!(&*socket.rule, format!("rule {}", round % 5));
                }
            }
        });
        for writer in writers {
            writer.join().unwrap();
        }
        done.store(true, Ordering::Relaxed);
        reader.join().unwrap();
    });
    let snapshot = read(&segment);
    let sum = |counter| {
        snapshot
            .series
            .iter()
            .map(|s| s.counters.of(counter))
            .sum::<u64>()
    };
    let expected = THREADS as u64 * ROUNDS;
    assert_eq!(sum(SeriesCounter::Sockets), expected);
    assert_eq!(sum(SeriesCounter::BytesSent), expected);
    assert_eq!(snapshot.series.len(), 5);
    let samples: u64 = snapshot.series.iter().map(|s| s.histograms[0].count).sum();
    assert_eq!(samples, expected);
}

#[test]
fn other_files_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    std::fs::write(&path, vec![0x55; 1 << 16]).unwrap();
    assert!(matches!(
        Snapshot::read(&path),
        Err(SnapshotError::NotASegment)
    ));
    std::fs::write(&path, b"DMMSTAT\0").unwrap();
    assert!(matches!(
        Snapshot::read(&path),
        Err(SnapshotError::Truncated)
    ));
    assert!(matches!(
        Snapshot::read(dir.path()),
        Err(SnapshotError::NotAFile)
    ));
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    assert!(matches!(Snapshot::read(&link), Err(SnapshotError::Open(_))));
}
