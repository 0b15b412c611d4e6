//! Fuzz target: whatever the owner of a segment writes into it, the reader ends with a snapshot or an
//! error, in bounded time.

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;

use dmm_nsocket::Reason;
use dmm_nsocket::stats::{
    CreateInfo, HistogramKind, Opened, PassedOver, Segment, Selected, Snapshot, SocketRole,
};

/// A copy of a busy segment.
fn specimen() -> (tempfile::TempDir, File) {
    let dir = tempfile::tempdir().unwrap();
    let c_dir = CString::new(dir.path().as_os_str().as_bytes()).unwrap();
    let segment = Segment::create(&CreateInfo {
        dir: &c_dir,
        run_id: b"1.2.3",
        program: b"/bin/program",
        label: b"",
        argv0: b"program",
        policy_hash: 1,
        policy_path: b"/etc/dmm/policy.toml",
        keep: false,
    })
    .unwrap();
    for fd in 3..40 {
        let socket = segment.socket(fd).unwrap();
        socket.open(&Opened {
            family: 2,
            sock_type: 1,
            protocol: 6,
            inode: 1,
        });
        let stack = segment.stack(&format!("stack {}", fd % 5));
        let passed = PassedOver {
            stack,
            reason: Reason::NoRoute,
            errno: 101,
        };
        let series = socket.select(&Selected {
            role: SocketRole::Connect,
            rule: segment.rule(&format!("rule {}", fd % 7), 1),
            stack,
            class: None,
            policy_hash: 1,
            trail: &[passed; 3],
            options_applied: 0,
            options_refused: &[],
        });
        segment.record_time(series, HistogramKind::Connect, 1 << fd);
    }
    let copy = dir.path().join("copy");
    segment
        .dump(&CString::new(copy.as_os_str().as_bytes()).unwrap())
        .unwrap();
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&copy)
        .unwrap();
    (dir, file)
}

/// Where a change goes: fuzzers find the interesting places of a sparse file of hundreds of
/// megabytes by these few rather than by a plain offset.
fn offset_of(selector: u8, offset: u32, len: u64) -> u64 {
    let offset = u64::from(offset);
    match selector % 4 {
        0 => offset % (32 << 10),
        1 => offset % (1 << 20),
        2 => offset % len,
        _ => len - 1 - offset % (256 << 10),
    }
}

#[test]
fn changed_bytes_never_hurt_the_reader() {
    let (_dir, file) = specimen();
    let len = file.metadata().unwrap().len();
    bolero::check!()
        .with_type::<Vec<(u8, u32, Vec<u8>)>>()
        .for_each(|changes| {
            let mut undo = Vec::new();
            for (selector, offset, bytes) in changes {
                let offset = offset_of(*selector, *offset, len);
                let bytes = &bytes[..bytes.len().min((len - offset) as usize)];
                let mut old = vec![0; bytes.len()];
                file.read_exact_at(&mut old, offset).unwrap();
                file.write_all_at(bytes, offset).unwrap();
                undo.push((offset, old));
            }
            if let Ok(snapshot) = Snapshot::read_file(&file) {
                let all = [&snapshot.program, &snapshot.policy.error, &snapshot.label];
                assert!(all.iter().all(|text| !text.contains(char::is_control)));
                assert!(
                    snapshot
                        .sockets
                        .iter()
                        .all(|s| !s.rule.contains(char::is_control))
                );
            }
            for (offset, old) in undo.iter().rev() {
                file.write_all_at(old, *offset).unwrap();
            }
        });
    assert_eq!(
        Snapshot::read_file(&file).unwrap().sockets.len(),
        37,
        "changes were undone"
    );
}

#[test]
fn any_file_is_a_snapshot_or_an_error() {
    let mut file = tempfile::tempfile().unwrap();
    bolero::check!().for_each(|bytes: &[u8]| {
        use std::io::{Seek, Write};
        file.set_len(0).unwrap();
        file.rewind().unwrap();
        file.write_all(bytes).unwrap();
        assert!(Snapshot::read_file(&file).is_err());
    });
}
