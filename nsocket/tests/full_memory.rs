//! A full `/dev/shm` costs statistics, not the program: a store to a page that cannot be had would be a
//! SIGBUS. Runs in a mount namespace of its own, with a file system of 256 KiB.

use std::ffi::CString;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;

use dmm_nsocket::stats::{
    Counter, CreateInfo, HistogramKind, Opened, Segment, Selected, SeriesCounter, Snapshot,
    SocketRole,
};

const INNER: &str = "DMM_TEST_SMALL_DIR";

#[test]
fn a_full_file_system_is_survived() {
    if let Some(dir) = std::env::var_os(INNER) {
        return use_everything(Path::new(&dir));
    }
    let dir = tempfile::tempdir().unwrap();
    let script = "mount -t tmpfs -o size=256k none \"$1\" && shift && exec \"$@\"";
    let output = Command::new("unshare")
        .args(["--mount", "--map-root-user", "sh", "-c", script, "sh"])
        .arg(dir.path())
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "a_full_file_system_is_survived", "--nocapture"])
        .env(INNER, dir.path())
        .output()
        .expect("unshare(1) of util-linux");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.signal(), None, "{said}");
    let said = format!("{said}{}", String::from_utf8_lossy(&output.stdout));
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}"
    );
}

fn use_everything(dir: &Path) {
    let dir = CString::new(dir.to_str().unwrap()).unwrap();
    let info = CreateInfo {
        dir: &dir,
        run_id: b"",
        program: b"",
        label: b"",
        argv0: b"",
        policy_hash: 0,
        policy_path: b"",
        keep: false,
    };
    let segment = Segment::create(&info).expect("room for the first pages");
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile)
        .maximum
        .unwrap_or(64);
    for i in 0..5_000_u64 {
        let rule = segment.rule(&format!("rule {i}"), 1);
        let stack = segment.stack(&format!("stack {}", i % 80));
        let series = segment.series(rule, stack);
        segment.record_time(series, HistogramKind::Connect, 1 << (i % 42));
        segment.count(series, SeriesCounter::Connects, 1);
        if let Some(socket) = segment.socket((i * 16 % limit.min(1 << 20)) as i32) {
            socket.open(&Opened {
                family: 2,
                sock_type: 1,
                protocol: 6,
                inode: 0,
            });
            socket.select(&Selected {
                role: SocketRole::Connect,
                rule,
                stack,
                class: None,
                policy_hash: 0,
                trail: &[],
                options_applied: 0,
                options_refused: &[],
            });
            socket.close();
        }
    }
    let snapshot = Snapshot::read(Path::new(segment.path().to_str().unwrap())).unwrap();
    assert!(snapshot.counters.of(Counter::SamplesLost) > 0);
    assert!(snapshot.counters.of(Counter::SocketsUnrecorded) > 0);
    let connects: u64 = snapshot
        .series
        .iter()
        .map(|series| series.counters.of(SeriesCounter::Connects))
        .sum();
    assert_eq!(
        connects, 5_000,
        "counters have their place from the start or go to (other)"
    );
    assert!(
        Segment::create(&info).is_err(),
        "there is no room for another one"
    );
}
