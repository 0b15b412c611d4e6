//! The policy changes while everything runs.

use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use dmm_tests::net::free_port;
use dmm_tests::{Setting, eventually, needs, observe};

use crate::probe::{Probe, choice};

/// How soon new sockets follow a change.
const SOON: Duration = Duration::from_millis(100);

#[test]
fn new_connections_follow_a_hundred_reloads_under_load() {
    needs!(
        Program("redis-server"),
        Program("redis-benchmark"),
        File("/usr/bin/python3")
    );
    let setting = Setting::under(&policy("a", 0));
    let port = free_port();
    let _server = setting
        .program("redis-server")
        .words(&format!(
            "--port {port} --bind 127.0.0.1 --save  --appendonly no"
        ))
        .start()
        .listening_on(port);
    // -k 0: a connection for each request, so that there is always one being made.
    let mut load = setting
        .program("redis-benchmark")
        .words(&format!(
            "-h 127.0.0.1 -p {port} -k 0 -c 10 -n 100000000 -t set,get --csv"
        ))
        .limit(Duration::from_secs(180))
        .start();
    let mut probe = Probe::start(&setting);
    for round in 1..=100 {
        let stack = if round % 2 == 0 { "a" } else { "b" };
        let text = policy(stack, round);
        if round % 4 < 2 {
            replace(setting.policy(), &text);
        } else {
            apply(&setting, &text);
        }
        std::thread::sleep(SOON);
        let socket = probe.open(&format!("connect 127.0.0.1 {port}"));
        assert_eq!(
            choice(&socket),
            format!("{stack} by all of round {round}"),
            "{socket:?}"
        );
        probe.ask("close");
    }
    assert!(
        load.is_running(),
        "the load ended early\n{}",
        load.transcript()
    );
    let errors = load.stop().errors();
    // That it makes a connection for each request it says itself.
    let errors: Vec<&str> = errors
        .lines()
        .filter(|line| !line.contains("Keepalive disabled"))
        .collect();
    assert_eq!(errors, [""; 0], "the load saw errors");
    // The load's own sockets went both ways, and none was lost on the way.
    let carried = observe::carried(setting.segments());
    assert!(
        carried.iter().any(|pair| pair.ends_with("> a")),
        "{carried:?}"
    );
    assert!(
        carried.iter().any(|pair| pair.ends_with("> b")),
        "{carried:?}"
    );
    probe.finish();
}

#[test]
fn a_broken_edit_is_refused_and_told() {
    needs!(File("/usr/bin/python3"));
    let setting = Setting::under(&policy("a", 1));
    let port = free_port();
    let _listener = TcpListener::bind(("127.0.0.1", port)).expect("a listener");
    let connect = format!("connect 127.0.0.1 {port}");
    let mut probe = Probe::start(&setting);
    assert_eq!(choice(&probe.open(&connect)), "a by all of round 1");

    // By the tool: refused at once, and the file is as it was.
    let broken = setting
        .scratch()
        .file("broken.toml", "[[rule]]\nnmae = \"typo\"\n");
    let refused = setting
        .dmm("policy apply --live")
        .args([setting.policy(), &broken])
        .run();
    assert_eq!(refused.code(), 1, "{}{}", refused.text(), refused.errors());
    assert!(refused.errors().contains("nmae"), "{}", refused.errors());
    assert_eq!(
        std::fs::read_to_string(setting.policy()).expect("the policy"),
        policy("a", 1)
    );

    // By hand: the program keeps the old one and says so.
    replace(setting.policy(), "[[rule]\nthis is no TOML\n");
    std::thread::sleep(SOON);
    assert_eq!(choice(&probe.open(&connect)), "a by all of round 1");
    let told = eventually("dmm ps to tell of the broken file", || {
        let processes = observe::json(&setting, "ps");
        let rows = processes["processes"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let row = rows.into_iter().find(|row| row["pid"] == probe.pid())?;
        let refused = row["policy"]["refused"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        (!refused.is_empty()).then_some(refused)
    });
    assert!(told.contains("policy.toml"), "no place in {told:?}");

    // Mended, it is followed.
    replace(setting.policy(), &policy("b", 2));
    std::thread::sleep(SOON);
    assert_eq!(choice(&probe.open(&connect)), "b by all of round 2");
    probe.finish();
}

#[test]
fn a_version_is_rolled_back() {
    needs!(File("/usr/bin/python3"));
    let setting = Setting::under(&policy("a", 1));
    let port = free_port();
    let _listener = TcpListener::bind(("127.0.0.1", port)).expect("a listener");
    let connect = format!("connect 127.0.0.1 {port}");
    let mut probe = Probe::start(&setting);
    apply(&setting, &policy("a", 1));
    apply(&setting, &policy("b", 2));
    std::thread::sleep(SOON);
    assert_eq!(choice(&probe.open(&connect)), "b by all of round 2");
    setting
        .dmm("policy rollback --live")
        .arg(setting.policy())
        .run()
        .success();
    std::thread::sleep(SOON);
    assert_eq!(choice(&probe.open(&connect)), "a by all of round 1");
    let history = setting
        .dmm("policy history --live")
        .arg(setting.policy())
        .output();
    assert!(
        history
            .lines()
            .filter(|line| !line.trim().is_empty())
            .count()
            >= 3,
        "{history}"
    );
    probe.finish();
}

/// Everything to one of two instances; each round is another text.
fn policy(stack: &str, round: u32) -> String {
    format!(
        "[stack.a]\ntype = \"kernel\"\n[stack.b]\ntype = \"kernel\"\n\n\
         [[rule]]\nname = \"all of round {round}\"\nstack = [\"{stack}\"]\n\n\
         [[rule]]\nname = \"the other is used\"\nmatch = {{ label = \"none\" }}\nstack = [\"a\", \"b\"]\n"
    )
}

/// As an editor does it: a new file in the place of the old one.
fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, text).expect("to write the policy");
    std::fs::rename(&new, path).expect("to put it in place");
}

fn apply(setting: &Setting, text: &str) {
    let file = setting.scratch().file("next.toml", text);
    setting
        .dmm("policy apply --live")
        .args([setting.policy(), &file])
        .run()
        .success();
}
