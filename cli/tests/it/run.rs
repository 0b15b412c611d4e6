//! `dmm run`: what a program is started with, and what `dmm` exits with.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::fixture::{Preload, dmm, ran};

#[test]
fn an_ordinary_program_runs_under_the_preload_with_its_own_status() {
    let Some(preload) = Preload::new() else {
        return;
    };
    let ran = ran(&mut preload.run(["--", "sh", "-c", "echo out; echo err >&2; exit 42"]));
    assert_eq!(ran.code, Some(42));
    assert_eq!(ran.stdout, "out\n");
    assert_eq!(ran.stderr, "err\n", "dmm says nothing of its own");
    assert_eq!(preload.marks(), ["sh"]);
}

#[test]
fn the_program_may_follow_without_dashes_and_keeps_its_options() {
    let Some(preload) = Preload::new() else {
        return;
    };
    let ran = ran(&mut preload.run(["echo", "--json", "-v", "--", "x"]));
    assert_eq!(ran.stdout, "--json -v -- x\n");
}

#[test]
fn no_parent_is_left() {
    let Some(preload) = Preload::new() else {
        return;
    };
    let child = preload.run(["--", "sleep", "30"]).spawn().unwrap();
    let comm = Path::new("/proc").join(child.id().to_string()).join("comm");
    let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while fs::read_to_string(&comm).unwrap() != "sleep\n" {
        assert!(std::time::Instant::now() < end, "dmm did not become sleep");
        std::thread::yield_now();
    }
    kill(child);
}

fn kill(mut child: std::process::Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn the_environment_says_policy_label_and_run() {
    let Some(preload) = Preload::new() else {
        return;
    };
    fs::write(preload.dir.path().join("p.toml"), "").unwrap();
    let mut command = preload.run(["--policy", "p.toml", "--label", "web", "--", "env"]);
    let ran = ran(command
        .current_dir(preload.dir.path())
        .env("LD_PRELOAD", "libm.so.6"));
    let value = |name: &str| {
        ran.stdout
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
            .unwrap_or_else(|| panic!("no {name} in {ran:?}"))
    };
    let policy = preload.dir.path().join("p.toml");
    assert_eq!(value("DMM_POLICY"), policy.to_str().unwrap());
    assert_eq!(value("DMM_LABEL"), "web");
    assert_eq!(value("DMM_RUN_ID").len(), 16);
    assert_eq!(
        value("LD_PRELOAD"),
        format!("{}:libm.so.6", preload.library.display())
    );
}

#[test]
fn a_library_in_a_directory_with_a_blank_is_loaded() {
    let Some(preload) = Preload::in_subdirectory("with blank: and colon") else {
        return;
    };
    let links = tempfile::tempdir().unwrap();
    let ran = ran(preload.run(["--", "true"]).env("DMM_SHM_DIR", links.path()));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(ran.stderr, "");
    assert_eq!(preload.marks(), ["true"]);
}

#[test]
fn a_missing_program_is_127_and_one_that_cannot_run_126() {
    let Some(preload) = Preload::new() else {
        return;
    };
    let missing = ran(&mut preload.run(["--", "no-such-program"]));
    assert_eq!(missing.code, Some(127));
    assert_eq!(
        missing.stderr,
        "error: no program no-such-program in PATH\n"
    );
    let directory = ran(&mut preload.run(["--", "/tmp"]));
    assert_eq!(directory.code, Some(126));
    assert!(
        directory.stderr.contains("it is a directory"),
        "{directory:?}"
    );
    let script = preload.script("orphan", "#!/no/such/shell\n");
    let orphan = ran(&mut preload.run(["--".as_ref(), script.as_os_str()]));
    assert_eq!(orphan.code, Some(126));
    assert!(
        orphan.stderr.contains("/no/such/shell does not exist"),
        "{orphan:?}"
    );
}

#[test]
fn without_the_library_it_is_125_with_a_remedy() {
    let ran = ran(&mut dmm([
        "run",
        "--library",
        "/no/such/lib.so",
        "--",
        "true",
    ]));
    assert_eq!(ran.code, Some(125));
    assert!(
        ran.stderr.contains("/no/such/lib.so cannot be preloaded"),
        "{ran:?}"
    );
}

#[test]
fn without_a_program_it_is_bad_usage() {
    assert_eq!(ran(&mut dmm(["run"])).code, Some(2));
}

#[test]
fn signals_and_closed_descriptors_are_handed_on_as_they_were() {
    let Some(preload) = Preload::new() else {
        return;
    };
    let show = r#"grep -E '^Sig(Blk|Ign)' /proc/self/status; ls /proc/self/fd"#;
    for prepare in ["", "trap '' PIPE; ", "trap '' PIPE INT; exec <&-; "] {
        let under = format!(
            "{prepare}exec {} run --library {} -- sh -c '{}'",
            env!("CARGO_BIN_EXE_dmm"),
            preload.library.display(),
            show.replace('\'', "'\\''")
        );
        let plain = format!("{prepare}exec sh -c '{}'", show.replace('\'', "'\\''"));
        let sh = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script]).env_remove("DMM_POLICY");
            ran(&mut command)
        };
        assert_eq!(sh(&under).stdout, sh(&plain).stdout, "after {prepare:?}");
    }
}

#[test]
fn a_policy_with_errors_keeps_the_program_from_starting() {
    let Some(preload) = Preload::new() else {
        return;
    };
    let policy = preload.dir.path().join("bad.toml");
    fs::write(&policy, "[[rule]]\nname = \"x\"\nstack = \"nowhere\"\n").unwrap();
    let arguments = [
        "--policy".as_ref(),
        policy.as_os_str(),
        "--".as_ref(),
        "echo".as_ref(),
    ];
    let ran = ran(&mut preload.run(arguments));
    assert_eq!(ran.code, Some(125));
    assert_eq!(ran.stdout, "", "the program did not run");
    assert!(ran.stderr.contains("bad.toml:3:9"), "{}", ran.stderr);
    assert!(ran.stderr.contains("1 error"), "{}", ran.stderr);
}

#[test]
fn a_file_without_the_execute_bit_is_126() {
    let Some(preload) = Preload::new() else {
        return;
    };
    let path = preload.dir.path().join("data");
    fs::write(&path, "x").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let ran = ran(&mut preload.run(["--".as_ref(), path.as_os_str()]));
    assert_eq!(ran.code, Some(126));
    assert!(ran.stderr.contains("permission denied"), "{ran:?}");
}

#[test]
fn argv0_is_what_was_typed() {
    let Some(preload) = Preload::new() else {
        return;
    };
    let ran = ran(&mut preload.run(["--", "sh", "-c", "cat /proc/$$/cmdline"]));
    assert!(ran.stdout.starts_with("sh\0-c\0"), "{ran:?}");
}
