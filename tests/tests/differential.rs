//! The differential test in CI: a few thousand generated sequences of socket calls, plain and under
//! the preload, over all policies. See `src/bin/dmm-differential/`.
//!
//! More by hand: `cargo build -p dmm-tests -p dmm-posix`, then
//! `target/debug/dmm-differential compare --library target/debug/libdmm_posix.so --count 1000000`.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use dmm_tests::artifacts::artifacts;

/// Sequences that are compared; `DMM_TEST_SEQUENCES` is another number of them. They begin at seed 0,
/// so that each run in CI is the same.
const SEQUENCES: u64 = 3_000;

/// What `faulty.c` can do wrong.
const FAULTS: u32 = 6;

#[test]
fn plain_and_preloaded_are_alike() {
    let count = std::env::var("DMM_TEST_SEQUENCES").ok();
    let count = count.map_or(SEQUENCES, |text| {
        text.parse().expect("DMM_TEST_SEQUENCES: a number")
    });
    expect_alike(compare(&artifacts().library).args(["--count", &count.to_string()]));
}

/// Both ends of a connection over shared memory: more of them than of other policies, and without what
/// only happens to descriptors that leave the process (exec, descriptors passed on, stdio), which
/// tests of their own look at.
#[test]
fn sessions_are_like_tcp() {
    let elsewhere = [
        "Rest(Exec",
        "Rest(Spawn",
        "Stdio",
        "Dprintf",
        "SendDescriptor",
    ];
    let mut command = compare(&artifacts().library);
    command.args("--policy local --first 1000 --count 1500".split(' '));
    expect_alike(command.args(elsewhere.iter().map(|part| format!("--except={part}"))));
}

/// What the comparison rests on: the trace of a sequence is the same in every run.
#[test]
fn traces_are_steady() {
    expect_alike(driver().args(["compare", "--plain", "--count", "1000"]));
}

/// And it sees what is wrong.
#[test]
fn faults_are_found() {
    dmm_tests::needs!(Program("cc"));
    for fault in 1..=FAULTS {
        let library = faulty_library(fault);
        let mut command = compare(&library);
        let output = command
            .args("--policy default --count 500 --limit 1 --no-shrink".split(' '))
            .output();
        let (status, text) = read(&output.expect("dmm-differential starts"));
        assert_eq!(status, Some(1), "fault {fault} was not found\n{text}");
        assert!(
            text.contains(" differs under the policy default"),
            "fault {fault}\n{text}"
        );
    }
}

fn faulty_library(fault: u32) -> PathBuf {
    let library = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("libfaulty{fault}.so"));
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/differential/faulty.c");
    let status = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", &format!("-DFAULT={fault}"), "-o"])
        .arg(&library)
        .arg(source)
        .status();
    assert!(status.is_ok_and(|status| status.success()), "cc {source}");
    library
}

fn expect_alike(command: &mut Command) {
    let (status, text) = read(&command.output().expect("dmm-differential starts"));
    assert_eq!(status, Some(0), "{command:?}\n{text}");
    print(&text);
}

fn compare(library: &Path) -> Command {
    let mut command = driver();
    command.arg("compare").arg("--library").arg(library);
    command
}

fn driver() -> Command {
    Command::new(env!("CARGO_BIN_EXE_dmm-differential"))
}

fn read(output: &Output) -> (Option<i32>, String) {
    let text = [&output.stdout[..], &output.stderr].concat();
    (
        output.status.code(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

#[allow(clippy::print_stdout, reason = "the seeds of a run are printed")]
fn print(text: &str) {
    println!("{text}");
}
