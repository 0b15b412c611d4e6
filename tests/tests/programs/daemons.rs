//! Daemons that fork or execute a program a connection: git, rsync, Apache.

use std::path::Path;
use std::time::Duration;

use dmm_tests::net::{free_port, http_get};
use dmm_tests::scratch::pattern;
use dmm_tests::{Finished, Setting, eventually, needs, side_by_side};
use rustix::process::Signal;

use crate::support::{children_of, drop_to};

#[test]
fn git_clones_and_pushes() {
    needs!(Program("git"));
    side_by_side(|setting| {
        let dir = setting.dir();
        let git = |words: &str| git(setting, words);
        git("init -q --bare -b main base/repo.git");
        git("init -q -b main work");
        for number in 0..30 {
            setting
                .scratch()
                .file(&format!("work/{number}"), pattern(number, 40_000));
        }
        git("-C work add .");
        git("-C work commit -q -m first");
        let port = free_port();
        let daemon = setting
            .program("git")
            .words("daemon --reuseaddr --export-all --enable=receive-pack --listen=127.0.0.1")
            .words(&format!("--port={port} --base-path={}/base", dir.display()))
            .env("HOME", dir)
            .start()
            .listening_on(port);
        let url = format!("git://127.0.0.1:{port}/repo.git");
        git(&format!("-C work push -q {url} main"));
        git(&format!("clone -q {url} copy"));
        git("-C copy fsck --full --strict");
        for number in 0..30 {
            let copied =
                std::fs::read(dir.join(format!("copy/{number}"))).expect("a file of the clone");
            assert!(copied == pattern(number, 40_000), "file {number} differs");
        }
        let missing = git_may_fail(
            setting,
            &format!("ls-remote git://127.0.0.1:{port}/nothing"),
        );
        assert_eq!(missing.code(), 128, "{}", missing.errors());
        daemon.stop();
        (
            git("-C copy rev-parse HEAD"),
            git("-C base/repo.git rev-parse main"),
        )
    });
}

#[test]
fn rsync_transfers_a_tree_both_ways() {
    needs!(Program("rsync"));
    side_by_side(|setting| {
        let dir = setting.dir();
        for sub in ["source", "source/sub", "module"] {
            setting.scratch().shared_dir(sub);
        }
        for number in 0..40 {
            let name = if number % 2 == 0 {
                "source"
            } else {
                "source/sub"
            };
            setting.scratch().file(
                &format!("{name}/{number}"),
                pattern(number, 3000 * number as usize),
            );
        }
        let jail = drop_to("use chroot = yes\nuid = nobody\ngid = nogroup");
        let jail = if jail.is_empty() {
            "use chroot = no"
        } else {
            jail
        };
        let config = setting.scratch().file(
            "rsyncd.conf",
            format!(
                "{jail}\n[module]\npath = {}/module\nread only = no\n",
                dir.display()
            ),
        );
        let port = free_port();
        let daemon = setting
            .program("rsync")
            .words(&format!(
                "--daemon --no-detach --address=127.0.0.1 --port={port} --config"
            ))
            .arg(config)
            .start()
            .listening_on(port);
        let url = format!("rsync://127.0.0.1:{port}/module/");
        let path = |name: &str| format!("{}/{name}/", dir.display());
        let rsync = |from: &str, to: &str| {
            setting
                .program("rsync")
                .args(["-rzc", "--stats", from, to])
                .output()
        };
        rsync(&path("source"), &url);
        rsync(&url, &path("back"));
        let again = rsync(&path("source"), &url);
        assert!(
            again.contains("Number of regular files transferred: 0"),
            "{again}"
        );
        assert_same_tree(&dir.join("source"), &dir.join("back"));
        daemon.stop();
    });
}

#[test]
fn apache_serves_by_threads_and_by_processes() {
    needs!(File("/usr/sbin/apache2"), Program("ab"));
    side_by_side(|setting| {
        for mpm in ["event", "prefork"] {
            let port = free_port();
            let root = setting.scratch().shared_dir("htdocs");
            setting.scratch().file("htdocs/file", pattern(6, 30_000));
            let modules = "/usr/lib/apache2/modules";
            let config = format!(
                "ServerName localhost\nListen 127.0.0.1:{port}\nServerRoot {dir}\nPidFile {dir}/{mpm}.pid\n\
                 ErrorLog {dir}/{mpm}.log\nDocumentRoot {root}\nMutex pthread\nDefaultRuntimeDir {dir}\n\
                 LoadModule mpm_{mpm}_module {modules}/mod_mpm_{mpm}.so\n\
                 LoadModule authz_core_module {modules}/mod_authz_core.so\n\
                 KeepAlive On\nMaxKeepAliveRequests 0\nStartServers 2\n{user}",
                dir = setting.dir().display(),
                root = root.display(),
                user = drop_to("User www-data\nGroup www-data\n"),
            );
            let config = setting.scratch().file(&format!("{mpm}.conf"), config);
            let server = setting
                .program("apache2")
                .args(["-DFOREGROUND", "-f"])
                .arg(config)
                .limit(Duration::from_secs(120))
                .start()
                .listening_on(port);
            setting.check(&server);
            for keep_alive in ["-k", ""] {
                benchmark(setting, port, keep_alive);
            }
            let before = children_of(server.pid());
            server.signal(Signal::USR1);
            eventually("children of a new generation", || {
                children_of(server.pid())
                    .iter()
                    .any(|pid| !before.contains(pid))
                    .then_some(())
            });
            assert!(http_get(port, "/file") == (200, pattern(6, 30_000)));
            server.stop().success();
        }
    });
}

/// ApacheBench counts what failed and what came back with another length.
fn benchmark(setting: &Setting, port: u16, keep_alive: &str) {
    let report = setting
        .program("ab")
        .words(&format!(
            "-q -n 1500 -c 20 {keep_alive} http://127.0.0.1:{port}/file"
        ))
        .output();
    assert!(report.contains("Complete requests:      1500"), "{report}");
    assert!(report.contains("Failed requests:        0"), "{report}");
    assert!(
        report.contains("Document Length:        30000 bytes"),
        "{report}"
    );
}

fn git(setting: &Setting, words: &str) -> String {
    git_may_fail(setting, words).success().text()
}

fn git_may_fail(setting: &Setting, words: &str) -> Finished {
    let mut program = setting
        .program("git")
        .words(words)
        .current_dir(setting.dir());
    // The same commits, with the same names, in each run.
    for (name, value) in [
        ("GIT_AUTHOR_NAME", "A U Thor"),
        ("GIT_AUTHOR_EMAIL", "author@example.com"),
        ("GIT_AUTHOR_DATE", "2026-01-01T00:00:00Z"),
        ("GIT_COMMITTER_NAME", "C O Mitter"),
        ("GIT_COMMITTER_EMAIL", "committer@example.com"),
        ("GIT_COMMITTER_DATE", "2026-01-01T00:00:00Z"),
        ("GIT_CONFIG_NOSYSTEM", "1"),
    ] {
        program = program.env(name, value);
    }
    program.env("HOME", setting.dir()).run()
}

fn assert_same_tree(left: &Path, right: &Path) {
    let mut count = 0;
    for entry in std::fs::read_dir(left).expect("a directory") {
        let entry = entry.expect("an entry");
        let other = right.join(entry.file_name());
        if entry.path().is_dir() {
            assert_same_tree(&entry.path(), &other);
        } else {
            let (ours, theirs) = (std::fs::read(entry.path()), std::fs::read(&other));
            assert!(
                ours.expect("a file") == theirs.expect("a file"),
                "{} differs",
                other.display()
            );
        }
        count += 1;
    }
    assert_eq!(
        count,
        std::fs::read_dir(right).expect("a directory").count()
    );
}
