//! Programs that a preload cannot enter: they run on the kernel as if DMM were not there.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use dmm_tests::net::{free_port, http_get};
use dmm_tests::scratch::pattern;
use dmm_tests::{Entry, eventually, needs, side_by_side_where};

#[test]
fn a_go_program() {
    needs!(Program("go"));
    side_by_side_where(Entry::StaysOut, |setting| {
        let source = setting
            .scratch()
            .file("main.go", include_str!("go/main.go"));
        let program = setting.dir().join("server");
        setting
            .tool("go")
            .args(["build", "-o"])
            .args([&program, &source])
            .env("CGO_ENABLED", "0")
            // Kept between runs: the standard library is compiled once.
            .env(
                "GOCACHE",
                Path::new(env!("CARGO_TARGET_TMPDIR")).join("go-cache"),
            )
            .env("GOFLAGS", "-mod=mod")
            .limit(Duration::from_secs(240))
            .run()
            .success();
        let carried = setting.dir().join("carried.json");
        let report = setting
            .program_with_report(program.to_str().expect("an ASCII path"), &carried)
            .output();
        assert_eq!(report.lines().last(), Some("go done"), "{report}");
        let carried = std::fs::read_to_string(carried).unwrap_or_default();
        assert!(!carried.contains("everything"), "DMM entered: {carried}");
        report
    });
}

#[test]
fn a_static_program() {
    needs!(File("/bin/busybox"));
    side_by_side_where(Entry::StaysOut, |setting| {
        let port = free_port();
        let root = setting.scratch().shared_dir("htdocs");
        setting.scratch().file("htdocs/file", pattern(9, 300_000));
        let _server = setting
            .program_by_run("/bin/busybox")
            .words(&format!("httpd -f -p 127.0.0.1:{port} -h"))
            .arg(root)
            .start()
            .listening_on(port);
        assert!(http_get(port, "/file") == (200, pattern(9, 300_000)));
        let fetched = setting
            .program_by_run("/bin/busybox")
            .words(&format!("wget -q -O - http://127.0.0.1:{port}/file"))
            .run()
            .success();
        assert!(fetched.stdout == pattern(9, 300_000));
    });
}

#[test]
fn a_setuid_program() {
    needs!(Root, Program("nc.openbsd"), Program("setpriv"));
    side_by_side_where(Entry::StaysOut, |setting| {
        let program = setting.dir().join("nc-setuid");
        std::fs::copy("/usr/bin/nc.openbsd", &program).expect("to copy nc");
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o4755)).expect("chmod");
        let program = program.to_str().expect("an ASCII path");
        let port = free_port();
        let server = setting
            .program_as("nobody", program)
            .words(&format!("-l -N 127.0.0.1 {port}"))
            .input("from a setuid program\n")
            .start()
            .listening_on(port);
        let identity =
            std::fs::read_to_string(format!("/proc/{}/status", server.pid())).expect("status");
        // Real user nobody, effective user root: the loader drops every preload.
        let users = identity
            .lines()
            .find(|line| line.starts_with("Uid:"))
            .expect("user ids");
        let users: Vec<&str> = users.split_whitespace().skip(1).take(2).collect();
        assert_eq!(users[1], "0", "/tmp may be mounted nosuid: {identity}");
        assert_ne!(users[0], "0");
        let maps = std::fs::read_to_string(format!("/proc/{}/maps", server.pid())).expect("maps");
        assert!(!maps.contains("libdmm_posix"), "{maps}");
        let client = setting
            .tool("nc.openbsd")
            .words(&format!("-N 127.0.0.1 {port}"))
            .output();
        eventually("the port to be free", || {
            (!dmm_tests::net::is_listening(port)).then_some(())
        });
        client
    });
}
