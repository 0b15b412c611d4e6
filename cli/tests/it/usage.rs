//! Help, bad usage, completions, manual pages, closed pipes.

use std::process::{Command, Stdio};

use crate::fixture::{dmm, have, ran, skip};

#[test]
fn without_a_command_there_is_help_and_exit_code_2() {
    let ran = ran(&mut dmm([] as [&str; 0]));
    assert_eq!(ran.code, Some(2));
    assert!(ran.stderr.contains("Usage: dmm"), "{}", ran.stderr);
}

#[test]
fn a_mistyped_command_gets_a_suggestion() {
    let ran = ran(&mut dmm(["polcy"]));
    assert_eq!(ran.code, Some(2));
    assert!(ran.stderr.contains("'policy'"), "{}", ran.stderr);
}

#[test]
fn quiet_and_verbose_contradict_each_other() {
    let ran = ran(&mut dmm(["-q", "-v", "doctor"]));
    assert_eq!(ran.code, Some(2));
    assert!(ran.stderr.contains("cannot be used with"), "{}", ran.stderr);
}

#[test]
fn every_command_has_a_purpose_and_examples() {
    let help = ran(&mut dmm(["--help"])).stdout;
    let commands: Vec<&str> = help
        .lines()
        .skip_while(|line| !line.starts_with("Commands:"))
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .collect();
    assert!(commands.len() > 8, "{commands:?}");
    for name in commands {
        let ran = ran(&mut dmm([name, "--help"]));
        assert_eq!(ran.code, Some(0), "{name}");
        assert!(ran.stdout.contains("Examples:"), "{name}: {}", ran.stdout);
    }
}

#[test]
fn a_reader_that_leaves_early_is_no_error() {
    let mut command = dmm(["completions", "bash"]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
}

#[test]
fn colours_are_for_terminals_or_on_demand() {
    let plain = ran(&mut dmm(["doctor"]));
    assert!(!plain.stdout.contains('\x1b'), "{}", plain.stdout);
    let coloured = ran(&mut dmm(["doctor", "--color", "always"]));
    assert!(coloured.stdout.contains('\x1b'), "{}", coloured.stdout);
}

#[test]
fn on_a_terminal_there_are_colours_unless_no_color_is_set() {
    if !have("script") {
        let _: Option<()> = skip("no script(1) (apt-get install bsdutils)");
        return;
    }
    let on_terminal = |no_color: Option<&str>| {
        let mut command = Command::new("script");
        command
            .args([
                "-qec",
                concat!(env!("CARGO_BIN_EXE_dmm"), " doctor"),
                "/dev/null",
            ])
            .env("TERM", "xterm")
            .env_remove("NO_COLOR")
            .stdin(Stdio::null());
        if let Some(value) = no_color {
            command.env("NO_COLOR", value);
        }
        ran(&mut command).stdout
    };
    assert!(on_terminal(None).contains('\x1b'));
    assert!(!on_terminal(Some("1")).contains('\x1b'));
}

#[test]
fn completions_know_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let ran = ran(&mut dmm(["completions", shell]));
        assert_eq!(ran.code, Some(0));
        assert!(ran.stdout.contains("rollback"), "{shell}");
    }
}

#[test]
fn each_command_has_a_manual_page() {
    let dir = tempfile::tempdir().unwrap();
    let ran = ran(&mut dmm(["man".as_ref(), dir.path().as_os_str()]));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    for page in ["dmm.1", "dmm-run.1", "dmm-policy.1", "dmm-policy-explain.1"] {
        let text = std::fs::read_to_string(dir.path().join(page)).expect(page);
        assert!(text.contains(".TH"), "{page}");
    }
    assert!(
        !dir.path().join("dmm-probe.1").exists(),
        "hidden commands have none"
    );
}
