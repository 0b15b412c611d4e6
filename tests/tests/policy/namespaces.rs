//! Kernel instances in another network namespace.

use std::net::TcpListener;

use dmm_nsocket::Reason;
use dmm_tests::net::free_port;
use dmm_tests::netns::Namespace;
use dmm_tests::{Running, Setting, eventually, needs};

use crate::probe::{Probe, choice};

#[test]
fn a_rule_takes_a_program_to_a_server_in_a_namespace() {
    needs!(
        Root,
        Program("ip"),
        Program("curl"),
        File("/usr/bin/python3")
    );
    let namespace = Namespace::new();
    let port = free_port();
    let setting = Setting::under(&policy(namespace.name(), port));
    let _server = greet_inside(&setting, &namespace, port);
    // Nobody listens on that port here; over there it is on loopback and on the namespace's address.
    for host in ["127.0.0.1", &namespace.inner()] {
        let url = format!("http://{host}:{port}/");
        let answer = setting
            .program("curl")
            .words("-sS --max-time 20")
            .arg(&url)
            .output();
        assert_eq!(answer, "from inside\n");
    }
    let refused = setting
        .tool("curl")
        .words("-sS --max-time 20")
        .arg(format!("http://127.0.0.1:{port}/"))
        .run();
    assert_eq!(refused.code(), 7, "{}", refused.errors());

    let mut probe = Probe::start(&setting);
    let socket = probe.open(&format!("connect 127.0.0.1 {port}"));
    assert_eq!(choice(&socket), "blue by over there", "{socket:?}");
    // Another port of the same program stays here.
    let here = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let here = here.local_addr().expect("its address").port();
    assert_eq!(
        choice(&probe.open(&format!("connect 127.0.0.1 {here}"))),
        "kernel by default"
    );
    probe.finish();
}

#[test]
fn a_server_listens_in_a_namespace() {
    needs!(Root, Program("ip"), Program("curl"), Program("nginx"));
    let namespace = Namespace::new();
    let port = free_port();
    let setting = Setting::under(&policy(namespace.name(), port));
    setting.scratch().file("page", "served over there\n");
    let dir = setting.dir().display();
    let config = format!(
        "daemon off; worker_processes 1; user root; pid {dir}/nginx.pid; error_log stderr notice;
         events {{ worker_connections 64; }}
         http {{ access_log off; client_body_temp_path {dir}/t1; proxy_temp_path {dir}/t2;
             fastcgi_temp_path {dir}/t3; uwsgi_temp_path {dir}/t4; scgi_temp_path {dir}/t5;
             server {{ listen 0.0.0.0:{port}; root {dir}; }} }}"
    );
    let config = setting.scratch().file("nginx.conf", config);
    let _server = setting.program("nginx").arg("-c").arg(config).start();
    // Reached from here by the namespace's address, and not by any of ours.
    let url = format!("http://{}:{port}/page", namespace.inner());
    let answer = eventually("the server", || {
        let answer = setting
            .tool("curl")
            .words("-sS --max-time 5")
            .arg(&url)
            .run();
        answer.status.success().then(|| answer.text())
    });
    assert_eq!(answer, "served over there\n");
    assert!(!dmm_tests::net::is_listening(port), "it listens here, too");
}

#[test]
fn without_the_namespace_the_kernel_carries_it_and_says_why() {
    needs!(File("/usr/bin/python3"));
    let port = free_port();
    let setting = Setting::under(&policy("dmmtest-no-such-namespace", port));
    let _listener = TcpListener::bind(("127.0.0.1", port)).expect("a listener");
    let mut probe = Probe::start(&setting);
    let socket = probe.open(&format!("connect 127.0.0.1 {port}"));
    assert_eq!(choice(&socket), "kernel by over there", "{socket:?}");
    assert_eq!(socket.passed_over.len(), 1, "{socket:?}");
    assert_eq!(&*socket.passed_over[0].stack, "blue");
    assert_eq!(
        socket.passed_over[0].reason.known(),
        Some(Reason::NoSuchNamespace),
        "{socket:?}"
    );
    let why = setting
        .dmm(&format!("why {} {}", probe.pid(), socket.fd))
        .output();
    assert!(
        why.contains("passed over blue") && why.contains("ip netns add"),
        "{why}"
    );
    probe.finish();
}

#[test]
fn without_the_right_to_enter_it_the_kernel_carries_it_and_says_why() {
    needs!(
        Root,
        Program("ip"),
        Program("setpriv"),
        File("/usr/bin/python3")
    );
    let namespace = Namespace::new();
    let port = free_port();
    let setting = Setting::under(&policy(namespace.name(), port));
    let _listener = TcpListener::bind(("127.0.0.1", port)).expect("a listener");
    let program = setting.program_as("nobody", "/usr/bin/python3");
    let mut probe = Probe::start_with(&setting, program);
    let socket = probe.open(&format!("connect 127.0.0.1 {port}"));
    assert_eq!(choice(&socket), "kernel by over there", "{socket:?}");
    assert_eq!(
        socket.passed_over[0].reason.known(),
        Some(Reason::NamespaceDenied),
        "{socket:?}"
    );
    probe.finish();
}

fn policy(namespace: &str, port: u16) -> String {
    format!(
        r#"
        [stack.blue]
        type = "kernel"
        netns = "{namespace}"

        [[rule]]
        name = "over there"
        match = {{ port = {port} }}
        stack = ["blue", "kernel"]
        "#
    )
}

/// A server inside, on all of the namespace's addresses.
fn greet_inside(setting: &Setting, namespace: &Namespace, port: u16) -> Running {
    let script = setting
        .scratch()
        .file("greet.py", include_str!("python/greet.py"));
    let server = setting
        .tool("ip")
        .words(&namespace.exec())
        .arg("/usr/bin/python3")
        .arg(script)
        .args(["0.0.0.0", &port.to_string(), "from inside"])
        .start();
    eventually("the server inside", || {
        let sockets = setting
            .tool("ip")
            .words(&namespace.exec())
            .words("ss -ltn")
            .output();
        sockets.contains(&format!(":{port}")).then_some(())
    });
    server
}
