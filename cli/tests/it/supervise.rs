//! `dmm run --hist`: dmm stays the parent, and is not in the way.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use crate::fixture::{Preload, ran};

#[test]
fn the_programs_status_is_the_parents() {
    let Some(preload) = Preload::new() else {
        return;
    };
    let hist = preload.dir.path().join("h.txt");
    let options = ["--hist".as_ref(), hist.as_os_str(), "--".as_ref()];
    let sh = |script: &'static str| {
        let arguments = ["sh".as_ref(), "-c".as_ref(), script.as_ref()];
        ran(&mut preload.run(options.into_iter().chain(arguments)))
    };
    assert_eq!(sh("exit 0").code, Some(0));
    assert_eq!(sh("exit 42").code, Some(42));
    assert_eq!(sh("kill -9 $$").code, Some(137));
    assert_eq!(sh("kill -TERM $$").code, Some(143));
}

#[test]
fn signals_reach_the_program() {
    let Some(preload) = Preload::new() else {
        return;
    };
    let hist = preload.dir.path().join("h.txt");
    // Sleeps in short pieces, as a shell runs a trap only between commands.
    let script = "trap 'echo got-$0; exit 9' SIGNAL; echo ready; while :; do sleep 0.05; done";
    for signal in ["TERM", "INT", "HUP", "QUIT", "USR1", "USR2"] {
        let script = script.replace("SIGNAL", signal);
        let arguments = [
            "--hist".as_ref(),
            hist.as_os_str(),
            "--".as_ref(),
            "sh".as_ref(),
            "-c".as_ref(),
            script.as_ref(),
            signal.as_ref(),
        ];
        let mut child = preload
            .run(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "ready");
        kill(signal, child.id());
        assert_eq!(lines.next().unwrap().unwrap(), format!("got-{signal}"));
        assert_eq!(child.wait().unwrap().code(), Some(9));
    }
}

#[test]
fn stopping_and_continuing_take_both() {
    let Some(preload) = Preload::new() else {
        return;
    };
    let hist = preload.dir.path().join("h.txt");
    let arguments = [
        "--hist".as_ref(),
        hist.as_os_str(),
        "--".as_ref(),
        "sh".as_ref(),
        "-c".as_ref(),
        "echo $$; read line; exit 4".as_ref(),
    ];
    let mut child = preload
        .run(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    stdout.read_line(&mut line).unwrap();
    let program: u32 = line.trim().parse().unwrap();
    kill("TSTP", child.id());
    wait_for_state(program, 'T');
    wait_for_state(child.id(), 'T');
    kill("CONT", child.id());
    wait_for_state(program, 'S');
    drop(child.stdin.take());
    assert_eq!(child.wait().unwrap().code(), Some(4));
}

fn kill(signal: &str, pid: u32) {
    let status = Command::new("kill")
        .args([format!("-{signal}"), pid.to_string()])
        .status()
        .unwrap();
    assert!(status.success());
}

fn wait_for_state(pid: u32, wanted: char) {
    let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
    loop {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let state = stat.rsplit_once(") ").unwrap().1.chars().next();
        if state == Some(wanted) {
            return;
        }
        assert!(
            std::time::Instant::now() < end,
            "process {pid} is {state:?}, not {wanted}"
        );
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

#[test]
fn a_file_that_cannot_be_written_is_said_before_the_program_starts() {
    let Some(preload) = Preload::new() else {
        return;
    };
    let ran = ran(&mut preload.run(["--hist", "/no/such/dir/h.txt", "--", "echo", "x"]));
    assert_eq!(ran.code, Some(125));
    assert_eq!(ran.stdout, "");
    assert!(ran.stderr.contains("/no/such/dir/h.txt"), "{ran:?}");
}
