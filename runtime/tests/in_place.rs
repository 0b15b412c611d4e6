//! `dmm::InPlace`, by the example, with and without the preload.

use std::path::{Path, PathBuf};
use std::process::Command;

#[test]
fn bytes_are_right_whatever_carries_them() {
    assert_eq!(example(None), "copied, right\n");
    let Some(library) = library() else { return };
    let kernel = "[default]\nstack = [\"kernel\"]\n";
    assert_eq!(example(Some((&library, kernel))), "copied, right\n");
    let local = "[default]\nstack = [\"local\", \"kernel\"]\n";
    assert_eq!(example(Some((&library, local))), "in place, right\n");
}

fn example(under: Option<(&Path, &str)>) -> String {
    // Cargo builds examples together with tests.
    let mut command = Command::new(profile().join("examples/in_place"));
    command.env_remove("LD_PRELOAD");
    let policy = tempfile::NamedTempFile::new().expect("a temporary file");
    if let Some((library, text)) = under {
        std::fs::write(&policy, text).expect("a policy file");
        command
            .env("LD_PRELOAD", library)
            .env("DMM_POLICY", policy.path());
    }
    let ran = command.output().expect("the example starts");
    assert!(ran.status.success(), "{ran:?}");
    String::from_utf8(ran.stdout).expect("text")
}

#[allow(clippy::print_stdout, reason = "what a test says is printed")]
fn library() -> Option<PathBuf> {
    let library = profile().join("libdmm_posix.so");
    if library.is_file() {
        return Some(library);
    }
    println!("SKIPPED: no libdmm_posix.so (cargo build -p dmm-posix)");
    assert!(std::env::var_os("DMM_TEST_NO_SKIP").is_none());
    None
}

/// `target/PROFILE`: the test is `target/PROFILE/deps/TEST`.
fn profile() -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    test.ancestors().nth(2).expect("two folders up").to_owned()
}
