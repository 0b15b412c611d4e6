//! Kernel instances with options of their own.

use std::net::TcpListener;

use dmm_tests::net::free_port;
use dmm_tests::{Setting, eventually, needs};

use crate::probe::{Probe, choice};

#[test]
fn options_are_set_on_the_sockets() {
    needs!(Root, Congestion("reno"), File("/usr/bin/python3"));
    let port = free_port();
    let setting = Setting::under(&format!(
        r#"
        [stack.tuned]
        type = "kernel"
        congestion = "reno"
        options = {{ nodelay = true, busy_poll = "50us", dscp = "af41", mark = 7, priority = 6,
                     send_buffer = "64KiB", receive_buffer = "128KiB", device = "lo" }}

        [[rule]]
        name = "tuned port"
        match = {{ port = {port} }}
        stack = ["tuned"]
        "#
    ));
    let _listener = TcpListener::bind(("127.0.0.1", port)).expect("a listener");
    let plain_port = free_port();
    let _plain = TcpListener::bind(("127.0.0.1", plain_port)).expect("a listener");
    let mut probe = Probe::start(&setting);
    let socket = probe.open(&format!("connect 127.0.0.1 {port}"));
    assert_eq!(choice(&socket), "tuned by tuned port", "{socket:?}");
    for (option, value) in [
        ("nodelay", "1"),
        ("congestion", "reno"),
        ("tos", "136"),
        ("mark", "7"),
        ("priority", "6"),
        ("busy_poll", "50"),
        // The kernel gives twice what is asked for, see socket(7).
        ("send_buffer", "131072"),
        ("receive_buffer", "262144"),
        ("device", "lo"),
    ] {
        assert_eq!(probe.option(option), value, "{option}");
    }
    let seen = setting
        .tool("ss")
        .words(&format!("-tinoe dport = :{port}"))
        .output();
    assert!(
        seen.contains("reno") && seen.contains("fwmark:0x7"),
        "{seen}"
    );

    // The instances are side by side in one program: another port has none of it.
    let socket = probe.open(&format!("connect 127.0.0.1 {plain_port}"));
    assert_eq!(choice(&socket), "kernel by default");
    assert_eq!(probe.option("nodelay"), "0");
    assert_eq!(probe.option("mark"), "0");
    assert_eq!(probe.option("device"), "none");
    probe.finish();
}

#[test]
fn an_instance_whose_options_are_refused_is_passed_over() {
    needs!(Root, File("/usr/bin/python3"), Program("setpriv"));
    let port = free_port();
    let setting = Setting::under(
        r#"
        [stack.marked]
        type = "kernel"
        options = { mark = 7 }

        [[rule]]
        name = "marked if possible"
        stack = ["marked", "kernel"]
        "#,
    );
    let _listener = TcpListener::bind(("127.0.0.1", port)).expect("a listener");
    let program = setting.program_as("nobody", "/usr/bin/python3");
    let mut probe = Probe::start_with(&setting, program);
    let socket = probe.open(&format!("connect 127.0.0.1 {port}"));
    assert_eq!(
        choice(&socket),
        "kernel by marked if possible",
        "{socket:?}"
    );
    assert_eq!(socket.passed_over.len(), 1, "{socket:?}");
    assert_eq!(&*socket.passed_over[0].stack, "marked");
    assert_eq!(socket.passed_over[0].errno, libc::EPERM, "{socket:?}");
    let why = setting
        .dmm(&format!("why {} {}", probe.pid(), socket.fd))
        .output();
    assert!(why.contains("marked"), "{why}");
    probe.finish();
}

#[test]
fn multipath_tcp_carries_both_ends() {
    needs!(
        Mptcp,
        Program("curl"),
        File("/usr/bin/python3"),
        Program("ss")
    );
    let port = free_port();
    let setting = Setting::under(&format!(
        r#"
        [stack.multi]
        type = "kernel"
        protocol = "mptcp"

        [[rule]]
        name = "several paths"
        match = {{ protocol = "tcp", port = {port} }}
        stack = ["multi", "kernel"]
        "#
    ));
    let mut server = Probe::start(&setting);
    let listener = server.open(&format!("listen 127.0.0.1 {port}"));
    assert_eq!(choice(&listener), "multi by several paths", "{listener:?}");
    let mut client = Probe::start(&setting);
    let connection = client.open(&format!("connect 127.0.0.1 {port}"));
    assert_eq!(
        choice(&connection),
        "multi by several paths",
        "{connection:?}"
    );
    let seen = eventually("the connection to be listed", || {
        let seen = setting
            .tool("ss")
            .words(&format!("-Mn dport = :{port}"))
            .output();
        seen.contains(&format!(":{port}")).then_some(seen)
    });
    assert!(seen.contains("ESTAB"), "{seen}");
    let subflow = setting
        .tool("ss")
        .words(&format!("-tin dport = :{port}"))
        .output();
    assert!(subflow.contains("tcp-ulp-mptcp"), "{subflow}");
    client.finish();
    server.finish();
}
