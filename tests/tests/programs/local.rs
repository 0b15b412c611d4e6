//! Shared memory between real programs, and what is not for it: a program without DMM, another user, a
//! lot of data.

use std::io::{Read, Write};

use dmm_tests::net::{connect, free_port, http_get};
use dmm_tests::observe::carried;
use dmm_tests::scratch::pattern;
use dmm_tests::setting::LOCAL_FIRST;
use dmm_tests::{Running, Setting, needs};
use rustix::process::Signal;

#[test]
fn a_client_without_dmm_is_served_by_the_kernel() {
    needs!(Program("redis-server"), Program("redis-cli"));
    let setting = Setting::under(LOCAL_FIRST);
    let port = free_port();
    let _server = redis(&setting, port);
    let pong = setting
        .tool("redis-cli")
        .words(&format!("-h 127.0.0.1 -p {port} PING"))
        .output();
    assert_eq!(pong, "PONG\n");
    let mut stream = connect(port);
    stream.write_all(b"ECHO plain\r\n").expect("to ask");
    let mut answer = [0; 11];
    stream.read_exact(&mut answer).expect("an answer");
    assert_eq!(&answer, b"$5\r\nplain\r\n");
    assert_eq!(sessions(&setting), 0);
}

#[test]
fn a_server_without_dmm_is_reached_by_the_kernel() {
    needs!(Program("redis-server"), Program("redis-cli"));
    let setting = Setting::under(LOCAL_FIRST);
    let port = free_port();
    let _server = setting
        .tool("redis-server")
        .words(&format!("--port {port} --bind 127.0.0.1 --dir"))
        .arg(setting.dir())
        .start()
        .listening_on(port);
    assert_eq!(cli(&setting, port, "PING"), "PONG\n");
    assert_eq!(sessions(&setting), 0);
    let carried = carried(setting.segments());
    assert!(carried.contains("everything > second"), "{carried:?}");
}

#[test]
fn programs_of_two_users_meet() {
    needs!(
        Root,
        Program("redis-server"),
        Program("redis-cli"),
        Program("setpriv")
    );
    for (server, client) in [(None, Some("nobody")), (Some("nobody"), None)] {
        let setting = Setting::under(LOCAL_FIRST);
        let by = |user: Option<&str>, name| match user {
            Some(user) => setting.program_as(user, name),
            None => setting.program(name),
        };
        let port = free_port();
        let server = by(server, "redis-server")
            .words(&format!(
                "--port {port} --bind 127.0.0.1 --save  --dir /tmp"
            ))
            .start()
            .listening_on(port);
        let pong = by(client, "redis-cli")
            .words(&format!("-h 127.0.0.1 -p {port} PING"))
            .output();
        assert_eq!(pong, "PONG\n");
        assert!(sessions(&setting) > 0, "{:?}", carried(setting.segments()));
        drop(server);
    }
}

#[test]
fn a_large_value_comes_back() {
    needs!(Program("redis-server"), Program("redis-cli"));
    let setting = Setting::under(LOCAL_FIRST);
    let port = free_port();
    let _server = redis(&setting, port);
    let letters: Vec<u8> = pattern(9, 64 << 20)
        .iter()
        .map(|byte| b'a' + byte % 26)
        .collect();
    let stored = setting
        .program("redis-cli")
        .words(&format!("-h 127.0.0.1 -p {port} -x SET big"))
        .input(letters.clone())
        .output();
    assert_eq!(stored, "OK\n");
    let fetched = setting
        .program("redis-cli")
        .words(&format!("-h 127.0.0.1 -p {port} --raw GET big"))
        .run()
        .success();
    assert!(
        fetched.stdout[..letters.len()] == letters[..],
        "the value came back different"
    );
    assert!(sessions(&setting) >= 2);
}

#[test]
fn a_large_file_comes_whole() {
    needs!(Program("nginx"), Program("curl"));
    const SIZE: usize = 100 << 20;
    let setting = Setting::under(LOCAL_FIRST);
    let port = free_port();
    let root = setting.scratch().shared_dir("htdocs");
    setting.scratch().file("htdocs/huge", pattern(3, SIZE));
    let dir = setting.dir().display().to_string();
    let config = setting.scratch().file(
        "nginx.conf",
        format!(
            "daemon off; worker_processes 2; {user} pid {dir}/pid; error_log {dir}/error.log;
             events {{ }}
             http {{ access_log off; sendfile on; server {{ listen 127.0.0.1:{port}; root {root}; }} }}",
            user = crate::support::drop_to("user www-data;"),
            root = root.display(),
        ),
    );
    let nginx = setting
        .program("nginx")
        .arg("-p")
        .arg(setting.dir())
        .arg("-c")
        .arg(config)
        .start()
        .listening_on(port);
    let fetched = setting
        .program("curl")
        .words(&format!("-sS --fail http://127.0.0.1:{port}/huge"))
        .run()
        .success();
    assert!(fetched.stdout == pattern(3, SIZE), "it came back different");
    assert!(sessions(&setting) > 0, "{:?}", carried(setting.segments()));
    assert_eq!(http_get(port, "/none").0, 404);
    nginx.stop_by(Signal::QUIT).success();
}

fn redis(setting: &Setting, port: u16) -> Running {
    let server = setting
        .program("redis-server")
        .words(&format!(
            "--port {port} --bind 127.0.0.1 --save  --appendonly no --dir"
        ))
        .arg(setting.dir())
        .start()
        .listening_on(port);
    setting.check(&server);
    server
}

fn cli(setting: &Setting, port: u16, words: &str) -> String {
    setting
        .program("redis-cli")
        .words(&format!("-h 127.0.0.1 -p {port} {words}"))
        .output()
}

/// How many sockets shared memory has carried.
fn sessions(setting: &Setting) -> u64 {
    dmm_tests::observe::snapshots(setting.segments())
        .iter()
        .flat_map(|snapshot| &snapshot.series)
        .filter(|series| &*series.stack == "local")
        .map(|series| {
            series
                .counters
                .of(dmm_nsocket::stats::SeriesCounter::Sockets)
        })
        .sum()
}
