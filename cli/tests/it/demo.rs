//! `dmm demo`, and `dmm run --hist`, with the real preload library.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::fixture::{Ran, dmm, ran, skip};

/// The library that cargo has built beside `dmm`, and a directory for segments.
struct Real {
    library: PathBuf,
    shm: TempDir,
}

impl Real {
    fn new() -> Option<Self> {
        let exe = Path::new(env!("CARGO_BIN_EXE_dmm"));
        let library = exe.with_file_name("libdmm_posix.so");
        if !library.is_file() {
            return skip("no libdmm_posix.so beside dmm (cargo build -p dmm-posix)");
        }
        Some(Self {
            library,
            shm: tempfile::tempdir().unwrap(),
        })
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        ran(&mut self.command(arguments))
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = dmm(arguments);
        command
            .env("DMM_LIBRARY", &self.library)
            .env("DMM_SHM_DIR", self.shm.path());
        command
    }

    fn left_behind(&self) -> Vec<String> {
        fs::read_dir(self.shm.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }
}

#[test]
fn the_demo_shows_two_stacks_two_rules_and_a_reason() {
    let Some(real) = Real::new() else { return };
    let demo = real.run(&["demo", "--seconds", "0.3"]);
    assert_eq!(demo.code, Some(0), "{demo:?}");
    let row = |words: &[&str]| {
        let found = demo
            .stdout
            .lines()
            .any(|line| words.iter().all(|word| line.contains(word)));
        assert!(found, "no line with {words:?} in {}", demo.stdout);
    };
    row(&["demo-server", "listen", "served", "server"]);
    row(&["demo-server", "accept", "served", "server"]);
    row(&["demo-client", "connect", "quick", "client"]);
    row(&["elsewhere", "network namespace does not exist"]);
    row(&["round trip", "the client"]);
    // The second time, in shared memory.
    row(&["demo-server", "listen", "kernel+local", "default"]);
    row(&["demo-server", "accept", "local", "default"]);
    row(&["demo-client", "connect", "local", "default"]);
    row(&["round trip", "quick", "us"]);
    row(&["round trip", "local"]);
    row(&["one way", "local"]);
    assert_eq!(real.left_behind(), [] as [String; 0]);
}

#[test]
fn its_json_adds_up() {
    let Some(real) = Real::new() else { return };
    let demo = real.run(&["demo", "--json", "--seconds", "0.2", "--size", "1000"]);
    let outcome: serde_json::Value = serde_json::from_str(&demo.stdout).unwrap();
    let trips = outcome["client"]["round_trip"]["samples"].as_u64().unwrap();
    assert!(trips > 10, "{trips}");
    let client = outcome["sockets"]
        .as_array()
        .unwrap()
        .iter()
        .find(|socket| socket["label"] == "demo-client")
        .unwrap();
    assert_eq!(client["stack"], "quick");
    assert_eq!(client["sent"].as_u64().unwrap(), trips * 1000);
    assert_eq!(client["received"].as_u64().unwrap(), trips * 1000);
    assert_eq!(client["passed_over"][0]["reason"], "no-such-namespace");
    let local = &outcome["shared_memory"]["sockets"];
    let sessions: Vec<_> = local
        .as_array()
        .unwrap()
        .iter()
        .filter(|socket| socket["stack"] == "local")
        .collect();
    assert_eq!(sessions.len(), 2, "{local}");
    for session in sessions {
        assert_eq!(session["state"], "established");
        let peers = session["session"]["peers"].as_array().unwrap();
        assert_eq!(peers.len(), 1, "{session}");
        assert_ne!(peers[0]["pid"], session["pid"]);
    }
}

#[test]
fn it_works_without_privilege() {
    let Some(real) = Real::new() else { return };
    if !rustix::process::geteuid().is_root() {
        // The other tests have shown it.
        return;
    }
    let nobody = |arguments: &[&str]| {
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .args(["--inh-caps=-all", "--bounding-set=-all"])
            .arg(env!("CARGO_BIN_EXE_dmm"))
            .args(arguments)
            .env("DMM_LIBRARY", &real.library)
            .env("HOME", "/nonexistent")
            .current_dir("/");
        command
    };
    if !nobody(&["--version"])
        .output()
        .is_ok_and(|output| output.status.success())
    {
        let _: Option<()> = skip("an unprivileged user cannot execute the test's dmm");
        return;
    }
    let demo = ran(&mut nobody(&["demo", "--seconds", "0.2"]));
    assert_eq!(demo.code, Some(0), "{demo:?}");
    assert!(demo.stdout.contains("quick"), "{demo:?}");
    let doctor = ran(&mut nobody(&["doctor"]));
    assert_eq!(doctor.code, Some(0), "{doctor:?}");
    assert!(
        doctor.stdout.contains("limited  network-namespaces"),
        "{}",
        doctor.stdout
    );
}

#[test]
fn bad_numbers_are_bad_usage() {
    for arguments in [["--seconds", "0"], ["--seconds", "x"], ["--size", "0"]] {
        let ran = ran(dmm(["demo"]).args(arguments));
        assert_eq!(ran.code, Some(2), "{ran:?}");
    }
}

#[test]
fn histograms_are_written_at_the_end_in_the_format_of_the_ending() {
    let Some(real) = Real::new() else { return };
    let dir = tempfile::tempdir().unwrap();
    for (name, start) in [
        ("h.json", "["),
        ("h.csv", ""),
        ("h.hlog", "#"),
        ("h.svg", "<svg"),
        ("h.html", "<!"),
        ("h.txt", ""),
    ] {
        let file = dir.path().join(name);
        // The shell's child is the one that has sockets, and it is started by a dmm run of its own.
        let dmm = env!("CARGO_BIN_EXE_dmm");
        let script = format!("'{dmm}' run -- '{dmm}' probe preload; exit 3");
        let path = file.to_str().unwrap();
        let run = real.run(&["run", "--hist", path, "--", "sh", "-c", &script]);
        assert_eq!(run.code, Some(3), "{run:?}");
        assert_eq!(run.stderr, "", "{name}");
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.to_lowercase().starts_with(start), "{name}: {text}");
        assert!(text.contains("connect"), "{name}: {text}");
    }
    assert_eq!(real.left_behind(), [] as [String; 0]);
}
