//! Programs that interpose themselves: another allocator preloaded, and an address sanitizer.

use std::path::PathBuf;

use dmm_tests::need::find_file;
use dmm_tests::net::{free_port, http_get};
use dmm_tests::setting::EVERYTHING_TO_SECOND;
use dmm_tests::{Setting, needs, side_by_side};

#[test]
fn a_preloaded_jemalloc() {
    needs!(File(JEMALLOC), File("/usr/bin/python3"), Program("curl"));
    let jemalloc = find_file(JEMALLOC).expect("found before");
    side_by_side(|setting| {
        let port = free_port();
        let script = setting
            .scratch()
            .file("mirror.py", include_str!("python/mirror.py"));
        let server = setting
            .program_by_run("/usr/bin/python3")
            .arg(script)
            .arg(port.to_string())
            .env("LD_PRELOAD", &jemalloc)
            .start()
            .listening_on(port);
        setting.check(&server);
        let maps = std::fs::read_to_string(format!("/proc/{}/maps", server.pid())).expect("maps");
        assert!(maps.contains("libjemalloc"), "jemalloc was lost:\n{maps}");
        for number in 0..20 {
            assert_eq!(http_get(port, &format!("/echo/{number}")).0, 200);
        }
        let answer = setting
            .program_by_run("curl")
            .words(&format!(
                "-sS --fail -d content http://127.0.0.1:{port}/mirror"
            ))
            .env("LD_PRELOAD", &jemalloc)
            .output();
        assert_eq!(answer, "content");
    });
}

#[test]
fn an_address_sanitizer() {
    run_compiled("-fsanitize=address -fno-omit-frame-pointer");
}

#[test]
fn an_undefined_behaviour_sanitizer_and_fortified_calls() {
    run_compiled("-O2 -D_FORTIFY_SOURCE=2 -fsanitize=undefined");
}

fn run_compiled(options: &str) {
    needs!(Program("cc"));
    let run = |setting: &Setting| {
        let program = compile(setting, options);
        let report = setting.dir().join("report.json");
        let run = setting
            .program_with_report(program.to_str().expect("an ASCII path"), &report)
            .run()
            .success();
        assert_eq!(run.errors(), "", "{}", run.text());
        assert_eq!(run.text().lines().last(), Some("c done"), "{}", run.text());
        (
            run.text(),
            std::fs::read_to_string(report).unwrap_or_default(),
        )
    };
    let (plain, _) = run(&Setting::plain());
    let (under, report) = run(&Setting::under(EVERYTHING_TO_SECOND));
    assert_eq!(plain, under, "left: plain, right: under DMM");
    assert!(
        report.contains("everything") && report.contains("second"),
        "not under DMM: {report}"
    );
}

/// What Debian's libjemalloc2 installs.
const JEMALLOC: &str = "/usr/lib/*/libjemalloc.so.2";

fn compile(setting: &Setting, options: &str) -> PathBuf {
    let source = setting
        .scratch()
        .file("sockets.c", include_str!("c/sockets.c"));
    let program = setting.dir().join("sockets");
    setting
        .tool("cc")
        .words("-g -Wall -Werror -pthread")
        .words(options)
        .arg("-o")
        .args([&program, &source])
        .run()
        .success();
    program
}
