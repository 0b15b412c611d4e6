//! `dmm.h`: reading and writing in place, by C programs under the preload, on a session and on the
//! kernel; and that the header is good for C and C++, and for programs that run without DMM.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const LOCAL: &str = "[default]\nstack = [\"local\", \"kernel\"]\n";
const KERNEL: &str = "[default]\nstack = [\"kernel\"]\n";

#[test]
fn on_a_session_it_is_in_place() {
    let Some(program) = compile("tests/zero_copy/in_place.c", "in-place") else {
        return;
    };
    let ran = run(&program, "session", Some(LOCAL));
    assert_eq!(text(&ran), "ok\n", "{ran:?}");
}

#[test]
fn on_the_kernel_it_is_not_supported() {
    let Some(program) = compile("tests/zero_copy/in_place.c", "not-in-place") else {
        return;
    };
    let ran = run(&program, "kernel", Some(KERNEL));
    assert_eq!(text(&ran), "ok\n", "{ran:?}");
}

#[test]
fn the_example_works_with_and_without_dmm() {
    let Some(program) = compile("examples/in_place/checksum.c", "checksum") else {
        return;
    };
    for (policy, expected) in [
        (None, "carried by the kernel, without DMM;"),
        (Some(KERNEL), "carried by kernel;"),
        (Some(LOCAL), "carried by local;"),
    ] {
        let ran = run(&program, "example", policy);
        let said = text(&ran);
        assert!(said.starts_with(expected), "{ran:?}");
        assert!(said.contains("which is right"), "{ran:?}");
        let in_place = said.contains("read in place");
        assert_eq!(in_place, policy == Some(LOCAL), "{ran:?}");
    }
}

#[test]
fn the_header_is_good_for_c_and_for_cpp() {
    for (language, standard) in [("c", "c99"), ("c++", "c++11")] {
        let checked = compiler()
            .args(["-fsyntax-only", "-Wall", "-Wextra", "-Wpedantic", "-Werror"])
            .args(["-x", language, &format!("-std={standard}")])
            .arg(folder().join("include/dmm.h"))
            .output();
        let Ok(checked) = checked else {
            return skip("there is no C compiler");
        };
        if language == "c++" && errors(&checked).contains("cc1plus") {
            return skip("there is no C++ compiler");
        }
        assert!(checked.status.success(), "{}", errors(&checked));
    }
}

fn compile(source: &str, name: &str) -> Option<PathBuf> {
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("zero-copy-{name}"));
    let compiled = compiler()
        .args(["-O2", "-g", "-Wall", "-Wextra", "-Werror", "-pthread", "-I"])
        .arg(folder().join("include"))
        .arg("-o")
        .args([&program, &folder().join(source)])
        .arg("-ldl")
        .output();
    let Ok(compiled) = compiled else {
        skip("there is no C compiler (Debian: apt-get install gcc libc6-dev)");
        return None;
    };
    assert!(compiled.status.success(), "{}", errors(&compiled));
    Some(program)
}

fn compiler() -> Command {
    Command::new("cc")
}

/// The program with an argument, under a policy or without DMM. It is killed if it hangs.
fn run(program: &Path, argument: &str, policy: Option<&str>) -> Output {
    let mut command = Command::new("timeout");
    command
        .args(["--signal=KILL", "60"])
        .args([program.as_os_str(), argument.as_ref()])
        .env_remove("LD_PRELOAD");
    if let Some(policy) = policy {
        let file = program.with_extension(format!("{}.toml", dmm_policy::text_hash(policy)));
        std::fs::write(&file, policy).expect("a policy file beside the program");
        command.env("LD_PRELOAD", library()).env("DMM_POLICY", file);
    }
    command.output().expect("timeout(1) starts")
}

fn text(ran: &Output) -> String {
    String::from_utf8_lossy(&ran.stdout).into_owned()
}

fn errors(ran: &Output) -> String {
    String::from_utf8_lossy(&ran.stderr).into_owned()
}

fn folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The library that this test's build has made, beside the test's own folder.
fn library() -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    let folder = test.ancestors().nth(2).expect("target/PROFILE/deps/TEST");
    folder.join("libdmm_posix.so")
}

/// Says what is missing; where nothing may be skipped, fails.
#[allow(clippy::print_stdout, reason = "what a test says is printed")]
fn skip(what: &str) {
    println!("SKIPPED: {what}");
    assert!(
        std::env::var_os("DMM_TEST_NO_SKIP").is_none(),
        "DMM_TEST_NO_SKIP is set, and {what}"
    );
}
