//! `dmm run` on each kind of program: what is said about it, and that it runs all the same.

use std::fs;
use std::os::unix::fs::chown;
use std::path::Path;
use std::process::Command;

use crate::fixture::{Preload, have, make_executable, ran, skip};

#[test]
fn a_static_program_runs_unchanged_and_that_is_said() {
    let Some(preload) = Preload::new() else {
        return;
    };
    let source = "#include <stdio.h>\nint main(void) { puts(\"static\"); return 3; }";
    let Some(program) = preload.program("prog", source, &["-static"]) else {
        return;
    };
    let said = ran(&mut preload.run(["--".as_ref(), program.as_os_str()]));
    assert_eq!((said.code, said.stdout.as_str()), (Some(3), "static\n"));
    assert_eq!(
        said.stderr,
        format!(
            "dmm: {} is statically linked: the preload cannot enter it; the kernel carries all its sockets\n",
            program.display()
        )
    );
    let quiet = ran(&mut preload.run(["-q".as_ref(), "--".as_ref(), program.as_os_str()]));
    assert_eq!((quiet.code, quiet.stderr.as_str()), (Some(3), ""));
    let static_pie = preload.program("pie", source, &["-static-pie"]);
    if let Some(program) = static_pie {
        let said = ran(&mut preload.run(["--".as_ref(), program.as_os_str()]));
        assert!(said.stderr.contains("statically linked"), "{said:?}");
    }
    assert!(preload.marks().is_empty());
}

#[test]
fn a_go_program_runs_and_its_raw_system_calls_are_mentioned() {
    let Some(preload) = Preload::new() else {
        return;
    };
    if !have("go") {
        let _: Option<()> = skip("no Go compiler (apt-get install golang-go)");
        return;
    }
    let source = preload.dir.path().join("main.go");
    fs::write(&source, "package main\nfunc main() { print(\"go\") }\n").unwrap();
    for flags in [&["-ldflags="][..], &["-ldflags=-s -w"]] {
        let program = preload.dir.path().join("goprog");
        let built = Command::new("go")
            .arg("build")
            .args(flags)
            .arg("-o")
            .args([&program, &source])
            .env("GOCACHE", preload.dir.path().join("cache"))
            .env("GO111MODULE", "off")
            .status()
            .unwrap();
        assert!(built.success());
        let ran = ran(&mut preload.run(["--".as_ref(), program.as_os_str()]));
        assert_eq!(ran.code, Some(0));
        assert!(ran.stderr.contains("raw system calls"), "{ran:?}");
        assert!(ran.stderr.ends_with("go"), "{ran:?}");
    }
}

#[test]
fn a_setuid_program_loses_the_preload_and_that_is_said() {
    let Some(preload) = Preload::new() else {
        return;
    };
    if !rustix::process::geteuid().is_root() {
        let _: Option<()> = skip("making a setuid program needs root");
        return;
    }
    let program = preload.dir.path().join("setuid-true");
    fs::copy("/bin/true", &program).unwrap();
    chown(&program, Some(65534), None).unwrap();
    make_executable(&program, 0o4755);
    if is_nosuid(preload.dir.path()) {
        let _: Option<()> = skip("the temporary directory is mounted nosuid");
        return;
    }
    let ran = ran(&mut preload.run(["--".as_ref(), program.as_os_str()]));
    assert_eq!(ran.code, Some(0));
    assert!(
        ran.stderr.contains("is setuid (it runs as uid 65534)"),
        "{ran:?}"
    );
    assert!(
        ran.stderr.contains("the loader drops the preload"),
        "{ran:?}"
    );
    assert!(preload.marks().is_empty(), "the loader did drop it");
}

#[test]
fn a_program_with_file_capabilities_loses_the_preload_too() {
    let Some(preload) = Preload::new() else {
        return;
    };
    if !rustix::process::geteuid().is_root() || !have("setcap") || !have("setpriv") {
        let _: Option<()> = skip("needs root, setcap and setpriv (apt-get install libcap2-bin)");
        return;
    }
    let program = preload.dir.path().join("capable-true");
    fs::copy("/bin/true", &program).unwrap();
    make_executable(&program, 0o755);
    make_executable(preload.dir.path(), 0o777);
    let given = Command::new("setcap")
        .arg("cap_net_raw+ep")
        .arg(&program)
        .status();
    if !given.is_ok_and(|status| status.success()) {
        let _: Option<()> = skip("this file system has no file capabilities");
        return;
    }
    let run = |user: &str| {
        let mut command = Command::new("setpriv");
        command
            .args([format!("--reuid={user}"), "--clear-groups".to_owned()])
            .arg(env!("CARGO_BIN_EXE_dmm"))
            .args(["run", "--library"])
            .arg(&preload.library)
            .arg("--")
            .arg(&program)
            .env_remove("DMM_POLICY")
            .env("DMM_TEST_MARK", preload.mark_file());
        ran(&mut command)
    };
    if run("65534").code == Some(126) {
        let _: Option<()> = skip("an unprivileged user cannot execute the test's dmm");
        return;
    }
    let nobody = run("65534");
    assert!(
        nobody.stderr.contains("has file capabilities"),
        "{nobody:?}"
    );
    assert!(preload.marks().is_empty(), "the loader did drop it");
    let root = run("0");
    assert_eq!((root.code, root.stderr.as_str()), (Some(0), ""));
    assert_eq!(
        preload.marks(),
        ["capable-true"],
        "root gains nothing by them"
    );
}

#[test]
fn a_program_with_another_loader_runs_without_the_preload() {
    let Some(preload) = Preload::new() else {
        return;
    };
    // A copy of the loader under musl's name: what the program is linked for, it still finds.
    let Some(own) = loader_of("/bin/true") else {
        return;
    };
    let loader = preload.dir.path().join("ld-musl-x86_64.so.1");
    fs::copy(own, &loader).unwrap();
    make_executable(&loader, 0o755);
    let flag = format!("-Wl,--dynamic-linker={}", loader.display());
    let Some(program) = preload.program("musl", "int main(void) { return 6; }", &[&flag]) else {
        return;
    };
    let there = ran(&mut preload.run(["--".as_ref(), program.as_os_str()]));
    assert_eq!(there.code, Some(6));
    assert!(
        there.stderr.contains("uses the musl C library"),
        "{there:?}"
    );
    assert!(
        preload.marks().is_empty(),
        "it was started without LD_PRELOAD"
    );
    fs::remove_file(&loader).unwrap();
    let gone = ran(&mut preload.run(["--".as_ref(), program.as_os_str()]));
    assert_eq!(gone.code, Some(126));
    assert!(gone.stderr.contains("its loader"), "{gone:?}");
    assert!(gone.stderr.contains("does not exist"), "{gone:?}");
}

fn loader_of(program: &str) -> Option<String> {
    let output = Command::new("ldd").arg(program).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let loader = text
        .split_ascii_whitespace()
        .find(|word| word.starts_with('/') && word.contains("/ld-"));
    loader
        .map(str::to_owned)
        .or_else(|| skip("ldd does not name the loader"))
}

#[test]
fn programs_that_change_the_user_are_to_be_put_in_front() {
    let Some(preload) = Preload::new() else {
        return;
    };
    let sudo = preload.script("sudo", "#!/bin/sh\n");
    fs::remove_file(&sudo).unwrap();
    fs::copy("/bin/true", &sudo).unwrap();
    let ran = ran(&mut preload.run(["--".as_ref(), sudo.as_os_str()]));
    assert!(ran.stderr.contains("sudo dmm run -- PROGRAM"), "{ran:?}");
}

#[test]
fn setuid_to_the_same_user_changes_nothing() {
    let Some(preload) = Preload::new() else {
        return;
    };
    let program = preload.dir.path().join("own-true");
    fs::copy("/bin/true", &program).unwrap();
    make_executable(&program, 0o4755);
    let ran = ran(&mut preload.run(["--".as_ref(), program.as_os_str()]));
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    assert_eq!(preload.marks(), ["own-true"]);
}

#[test]
fn a_script_is_judged_by_its_interpreter() {
    let Some(preload) = Preload::new() else {
        return;
    };
    let shell = preload.script("hello", "#!/usr/bin/env sh\necho \"$@\"\n");
    let hello = ran(&mut preload.run([
        "--".as_ref(),
        shell.as_os_str(),
        "a".as_ref(),
        "b c".as_ref(),
    ]));
    assert_eq!(
        (hello.stdout.as_str(), hello.stderr.as_str()),
        ("a b c\n", "")
    );
    assert_eq!(preload.marks(), ["env", "sh"], "env is entered, then sh");

    let source = "int main(void) { return 7; }";
    let Some(program) = preload.program("interp", source, &["-static"]) else {
        return;
    };
    let script = preload.script("s", &format!("#!{}\n", program.display()));
    let ran = ran(&mut preload.run(["--".as_ref(), script.as_os_str()]));
    assert_eq!(ran.code, Some(7));
    assert!(
        ran.stderr.contains(&format!(
            "{} is run by {}, which is statically linked",
            script.display(),
            program.display()
        )),
        "{ran:?}"
    );
}

#[test]
fn a_text_file_without_an_interpreter_goes_to_the_shell() {
    let Some(preload) = Preload::new() else {
        return;
    };
    let script = preload.script("bare", "echo bare\n");
    let ran = ran(&mut preload.run(["--".as_ref(), script.as_os_str()]));
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "bare\n"));
}

#[test]
fn env_that_replaces_the_preload_is_mentioned() {
    let Some(preload) = Preload::new() else {
        return;
    };
    let ran = ran(&mut preload.run(["--", "env", "LD_PRELOAD=libm.so.6", "true"]));
    assert_eq!(ran.code, Some(0));
    assert!(ran.stderr.contains("LD_PRELOAD"), "{ran:?}");
    assert!(ran.stderr.contains("env LD_PRELOAD=... dmm run"), "{ran:?}");
}

#[test]
fn a_program_with_address_sanitizer_runs() {
    let Some(preload) = Preload::new() else {
        return;
    };
    let source = "#include <stdlib.h>\nint main(void) { free(malloc(8)); return 5; }";
    let Some(program) = preload.program("asan", source, &["-fsanitize=address"]) else {
        return;
    };
    let ran = ran(&mut preload.run(["--".as_ref(), program.as_os_str()]));
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(5), ""));
    assert_eq!(preload.marks(), ["asan"]);
}

#[test]
fn a_program_of_another_machine_is_named_as_such() {
    let Some(preload) = Preload::new() else {
        return;
    };
    // A machine that Linux has never run on, so that no emulator is registered for it either.
    let mut header = fs::read("/bin/true").unwrap();
    header[18..20].copy_from_slice(&36_u16.to_le_bytes());
    let program = preload.dir.path().join("foreign");
    fs::write(&program, header).unwrap();
    make_executable(&program, 0o755);
    let ran = ran(&mut preload.run(["--".as_ref(), program.as_os_str()]));
    assert_eq!(ran.code, Some(126), "{ran:?}");
    assert!(ran.stderr.contains("64-bit machine 36"), "{ran:?}");
}

#[test]
fn a_file_that_is_being_written_is_busy() {
    let Some(preload) = Preload::new() else {
        return;
    };
    let program = preload.dir.path().join("busy");
    fs::copy("/bin/true", &program).unwrap();
    let _writer = fs::File::options().append(true).open(&program).unwrap();
    let ran = ran(&mut preload.run(["--".as_ref(), program.as_os_str()]));
    assert_eq!(ran.code, Some(126));
    assert!(ran.stderr.contains("open for writing"), "{ran:?}");
}

fn is_nosuid(path: &Path) -> bool {
    let output = Command::new("findmnt")
        .args(["-n", "-o", "OPTIONS", "-T"])
        .arg(path)
        .output();
    output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("nosuid"))
}
