//! The differential test in CI: a few thousand generated sequences of socket calls, plain and under
//! the preload, over all policies. See `src/bin/dmm-differential/`.
//!
//! More by hand: `cargo build -p dmm-tests -p dmm-posix`, then
//! `target/debug/dmm-differential compare --library target/debug/libdmm_posix.so --count 1000000`.

use std::process::Command;

use dmm_tests::artifacts::artifacts;

/// Sequences that are compared; `DMM_TEST_SEQUENCES` is another number of them.
const SEQUENCES: u64 = 3_000;

/// The sequences of a run: those of every CI run begin at 0, so that it is the same run each time.
#[test]
fn plain_and_preloaded_are_alike() {
    let count = std::env::var("DMM_TEST_SEQUENCES")
        .ok()
        .and_then(|text| text.parse().ok());
    compare(&[
        "--library",
        artifacts().library.to_str().expect("a path in UTF-8"),
        "--count",
        &count.unwrap_or(SEQUENCES).to_string(),
    ]);
}

/// What the comparison rests on: the trace of a sequence is the same in every run.
#[test]
fn traces_are_steady() {
    compare(&["--plain", "--count", "1000"]);
}

fn compare(arguments: &[&str]) {
    let output = Command::new(env!("CARGO_BIN_EXE_dmm-differential"))
        .arg("compare")
        .args(arguments)
        .output()
        .expect("dmm-differential starts");
    let (text, errors) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(
        output.status.success(),
        "dmm-differential {}\n{text}\n{errors}",
        arguments.join(" ")
    );
    print(text.lines().last().unwrap_or_default());
}

#[allow(clippy::print_stdout, reason = "the seeds of a run are printed")]
fn print(text: &str) {
    println!("{text}");
}
