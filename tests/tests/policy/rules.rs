//! Which rule decides.

use std::net::TcpListener;

use dmm_tests::net::free_port;
use dmm_tests::{Setting, needs, observe};

use crate::probe::{Probe, choice};

const POLICY: &str = r#"
[stack.a]
type = "kernel"
[stack.b]
type = "kernel"
[stack.c]
type = "kernel"

[[rule]]
name = "labelled"
match = { label = "special-*" }
stack = ["c"]

[[rule]]
name = "by program"
match = { program = "redis-*" }
stack = ["b"]

[[rule]]
name = "listeners"
match = { role = "listen" }
stack = ["a"]

[[rule]]
name = "datagrams"
match = { role = "datagram", remote = "127.0.0.2/32" }
stack = ["c"]

[[rule]]
name = "one port over ipv6"
match = { role = "connect", family = "inet6", port = PORT }
stack = ["b"]

[[rule]]
name = "one port"
match = { role = "connect", protocol = "tcp", remote = "127.0.0.0/8", port = PORT }
stack = ["a"]
"#;

#[test]
fn role_port_family_and_prefix_decide() {
    needs!(File("/usr/bin/python3"));
    let (port, other) = (free_port(), free_port());
    let setting = Setting::under(&POLICY.replace("PORT", &port.to_string()));
    let _listeners = [(port, "127.0.0.1"), (port, "::1"), (other, "127.0.0.1")]
        .map(|(port, host)| TcpListener::bind((host, port)).expect("a listener"));
    let mut probe = Probe::start(&setting);
    let own = free_port();
    for (command, expected) in [
        (format!("connect 127.0.0.1 {port}"), "a by one port"),
        (format!("connect ::1 {port}"), "b by one port over ipv6"),
        (
            format!("connect ::ffff:127.0.0.1 {port}"),
            "b by one port over ipv6",
        ),
        (format!("connect 127.0.0.1 {other}"), "kernel by default"),
        (format!("listen 127.0.0.1 {own}"), "a by listeners"),
        (format!("datagram 127.0.0.2 {port}"), "c by datagrams"),
        (format!("datagram 127.0.0.3 {port}"), "kernel by default"),
    ] {
        let socket = probe.open(&command);
        assert_eq!(choice(&socket), expected, "{command}: {socket:?}");
    }
    probe.finish();
}

#[test]
fn label_and_program_decide_and_the_tools_say_so() {
    needs!(Program("redis-server"), File("/usr/bin/python3"));
    let port = free_port();
    let setting = Setting::under(&POLICY.replace("PORT", &port.to_string()));
    let server = setting
        .program_by_run("redis-server")
        .words(&format!(
            "--port {port} --bind 127.0.0.1 --save  --appendonly no"
        ))
        .start()
        .listening_on(port);
    let listener = observe::socket_of(&setting, server.pid(), |socket| !socket.stack.is_empty());
    assert_eq!(choice(&listener), "b by by program");

    let labelled = setting
        .program("/usr/bin/python3")
        .env("DMM_LABEL", "special-1");
    let mut probe = Probe::start_with(&setting, labelled);
    let connection = probe.open(&format!("connect 127.0.0.1 {port}"));
    assert_eq!(choice(&connection), "c by labelled");

    let listed = observe::json(&setting, "ss -a");
    let text = listed.to_string();
    let rows = listed.as_array().or_else(|| listed["sockets"].as_array());
    let rows = rows.unwrap_or_else(|| panic!("no list of sockets: {text}"));
    let row = |pid: u32| {
        let row = rows
            .iter()
            .find(|row| row["pid"] == pid && row["rule"] != "");
        row.unwrap_or_else(|| panic!("no socket of process {pid}: {text}"))
    };
    assert_eq!(row(server.pid())["stack"], "b", "{text}");
    assert_eq!(row(server.pid())["rule"], "by program", "{text}");
    assert_eq!(row(probe.pid())["stack"], "c", "{text}");
    assert_eq!(row(probe.pid())["rule"], "labelled", "{text}");

    let processes = observe::json(&setting, "ps");
    let processes = processes["processes"]
        .as_array()
        .expect("a list of processes");
    let process = processes
        .iter()
        .find(|row| row["pid"] == probe.pid())
        .expect("the probe");
    assert_eq!(process["label"], "special-1");

    let why = setting
        .dmm(&format!("why {} {}", probe.pid(), connection.fd))
        .output();
    assert!(why.contains("labelled") && why.contains('c'), "{why}");
    probe.finish();
}
