//! The tools against segments of this very process, which is under DMM as far as they can tell.

use std::ffi::CString;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use dmm_nsocket::Reason;
use dmm_nsocket::stats::{
    CreateInfo, HistogramKind, Opened, PassedOver, Segment, Selected, SocketRole,
};

use super::collect::Collector;
use super::histogram::Filter;
use super::processes::processes_in;
use super::sockets::sockets;
use super::sweep::sweep_in;

fn segment(dir: &Path, keep: bool) -> Segment {
    let dir = CString::new(dir.as_os_str().as_bytes()).unwrap();
    Segment::create(&CreateInfo {
        dir: &dir,
        run_id: b"run-1",
        program: b"/opt/bin/server",
        label: b"blue",
        argv0: b"server",
        policy_hash: 1,
        policy_path: b"",
        keep,
    })
    .unwrap()
}

fn record(segment: &Segment, fd: i32, stack: &str, trail: &[PassedOver]) {
    let socket = segment.socket(fd).unwrap();
    socket.open(&Opened {
        family: 2,
        sock_type: 1,
        protocol: 6,
        inode: 0,
    });
    let series = socket.select(&Selected {
        role: SocketRole::Listen,
        rule: segment.rule("web", 4),
        stack: segment.stack(stack),
        class: None,
        policy_hash: 1,
        trail,
        options_applied: 0,
        options_refused: &[],
    });
    segment.record_time(series, HistogramKind::Accept, 5_000);
}

fn file_of(segment: &Segment) -> PathBuf {
    PathBuf::from(segment.path().to_str().unwrap())
}

/// A segment's copy under a number that is nobody's.
fn of_a_dead_process(dir: &Path, segment: &Segment) -> PathBuf {
    // Above the largest number that a kernel gives (PID_MAX_LIMIT).
    let path = dir.join("dmm.4194305.00000001");
    segment
        .dump(&CString::new(path.as_os_str().as_bytes()).unwrap())
        .unwrap();
    path
}

#[test]
fn this_process_is_listed_with_its_sockets() {
    let dir = tempfile::tempdir().unwrap();
    let segment = segment(dir.path(), false);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let blue = PassedOver {
        stack: segment.stack("blue"),
        reason: Reason::NoSuchNamespace,
        errno: 2,
    };
    record(&segment, listener.as_raw_fd(), "kernel", &[blue]);
    // A descriptor that is closed, one that is a file, and one whose socket is another by now.
    record(&segment, 1 << 10, "kernel", &[]);
    let file = std::fs::File::open("/").unwrap();
    record(&segment, file.as_raw_fd(), "kernel", &[]);
    let other = UdpSocket::bind("127.0.0.1:0").unwrap();
    record(&segment, other.as_raw_fd(), "kernel", &[]);
    segment.socket(other.as_raw_fd()).unwrap().replaced(1, 17);

    let listing = processes_in(dir.path()).unwrap();
    let process = listing
        .processes
        .iter()
        .find(|p| p.pid == std::process::id())
        .unwrap();
    assert_eq!((process.name(), process.label()), ("server", "blue"));
    assert_eq!(process.sockets_by_stack(), [("kernel".to_owned(), 4)]);
    let sockets = sockets(&listing.processes);
    let [entry] = &sockets[..] else {
        panic!("{sockets:?}")
    };
    assert_eq!((entry.state(), &*entry.protocol()), ("listen", "tcp"));
    assert_eq!(entry.local(), listener.local_addr().ok());
    assert_eq!(entry.remote(), None);
    let json = serde_json::to_value(entry).unwrap();
    assert_eq!(json["passed_over"][0]["reason"], "no-such-namespace");
    assert_eq!(json["passed_over"][0]["stack"], "blue");
    assert_eq!(json["state"], "listen");
    assert_eq!(json["stack"], "kernel");
    assert_eq!(json["local"], listener.local_addr().unwrap().to_string());
}

#[test]
fn only_what_is_dead_is_swept() {
    let dir = tempfile::tempdir().unwrap();
    let alive = segment(dir.path(), false);
    record(&alive, 1, "kernel", &[]);
    let dead = of_a_dead_process(dir.path(), &alive);
    let broken = dir.path().join("dmm.4194306.00000002");
    std::fs::write(&broken, "x").unwrap();
    // What this process had before it executed another program: not mapped any more.
    let left = dir
        .path()
        .join(format!("dmm.{}.00000003", std::process::id()));
    std::fs::copy(&dead, &left).unwrap();
    let foreign = dir.path().join("dmm.conf");
    std::fs::write(&foreign, "x").unwrap();

    assert_eq!(processes_in(dir.path()).unwrap().broken.len(), 1);
    let mut removed = sweep_in(dir.path()).unwrap().removed;
    removed.sort();
    let mut expected = vec![dead, broken, left];
    expected.sort();
    assert_eq!(removed, expected);
    assert!(file_of(&alive).exists());
    assert!(foreign.exists());
}

#[test]
fn a_run_is_collected_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut collector = Collector::start_in(dir.path(), "run-1");
    let running = segment(dir.path(), true);
    record(&running, 1, "kernel", &[]);
    let dead = of_a_dead_process(dir.path(), &running);
    assert!(
        sweep_in(dir.path()).unwrap().removed.is_empty(),
        "somebody waits for it"
    );
    collector.poll().unwrap();
    assert!(!dead.exists());
    record(&running, 1, "kernel", &[]);
    let report = collector.finish().unwrap();
    assert_eq!(report.processes, 2);
    let [latency] = &report.latencies(&Filter::default())[..] else {
        panic!()
    };
    assert_eq!(
        (latency.count, latency.min_ns, &*latency.rule),
        (3, 5_000, "web")
    );
    assert!(file_of(&running).exists(), "it still runs");
}
