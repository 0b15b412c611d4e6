//! nginx: a master that hands listening sockets to workers by fork and to its successor by exec.

use std::path::Path;
use std::time::Duration;

use dmm_tests::net::{free_port, http_get, wait_for_listener};
use dmm_tests::scratch::pattern;
use dmm_tests::{
    Program, Running, Setting, eventually, needs, side_by_side, side_by_side_and_local,
};
use rustix::process::{Pid, Signal, kill_process};

use crate::support::{certificate, children_of, drop_to, is_gone};

#[test]
fn files_arrive_whole() {
    needs!(Program("nginx"), Program("curl"));
    side_by_side(|setting| {
        let port = free_port();
        let nginx = serve(setting, port);
        let mut sizes = Vec::new();
        for (name, size) in FILES {
            let (status, body) = http_get(port, &format!("/{name}"));
            assert_eq!(status, 200, "{name}");
            assert!(
                body == pattern(size as u64, size),
                "{name} came back different"
            );
            sizes.push(body.len());
        }
        let spread_port = port_of(setting, "spread");
        for _ in 0..20 {
            assert_eq!(http_get(spread_port, "/small"), (200, pattern(1, 1)));
        }
        let (missing, _page) = http_get(port, "/no-such-file");
        assert_eq!(missing, 404);

        // One connection carries all of them, also over IPv6, and a part of a file is that part.
        let urls: Vec<String> = FILES
            .iter()
            .map(|(name, _)| format!("http://[::1]:{port}/{name}"))
            .collect();
        let report = setting
            .program("curl")
            .words("-sS --fail -w %{num_connects},%{http_code},%{size_download}\\n")
            .args(urls.iter().flat_map(|url| ["-o", "/dev/null", url]))
            .output();
        assert_eq!(
            report.lines().filter(|line| line.starts_with("1,")).count(),
            1,
            "{report}"
        );
        let part = setting
            .program("curl")
            .words(&format!(
                "-sS --fail -r 1000-1999 http://127.0.0.1:{port}/large"
            ))
            .run()
            .success();
        assert!(
            part.stdout == pattern(8 << 20, 8 << 20)[1000..2000],
            "the range came back different"
        );
        nginx.stop_by(Signal::QUIT).success();
        (sizes, report)
    });
}

#[test]
fn tls_and_http2_work() {
    needs!(Program("nginx"), Program("curl"), Program("openssl"));
    side_by_side_and_local(|setting| {
        let port = free_port();
        let nginx = serve(setting, port);
        let tls_port = port_of(setting, "tls");
        for version in ["--http1.1", "--http2"] {
            let fetched = setting
                .program("curl")
                .words("-sS --fail --parallel --cacert")
                .arg(setting.dir().join("cert.pem"))
                .arg(version)
                .args((0..4).flat_map(|_| {
                    [
                        "-o".to_owned(),
                        "-".to_owned(),
                        format!("https://localhost:{tls_port}/medium"),
                    ]
                }))
                .run()
                .success();
            assert_eq!(fetched.stdout.len(), 4 << 18);
        }
        let one = setting
            .program("curl")
            .words("-sS --fail --cacert")
            .arg(setting.dir().join("cert.pem"))
            .arg(format!("https://localhost:{tls_port}/medium"))
            .run()
            .success();
        assert!(
            one.stdout == pattern(1 << 18, 1 << 18),
            "the file came back different"
        );
        nginx.stop_by(Signal::QUIT).success();
    });
}

#[test]
fn a_reload_under_load_fails_no_request() {
    needs!(Program("nginx"), Program("wrk"));
    side_by_side(|setting| {
        let port = free_port();
        let nginx = serve(setting, port);
        let load = start_load(setting, port);
        for _ in 0..5 {
            let before = children_of(nginx.pid());
            nginx.signal(Signal::HUP);
            eventually("new workers", || {
                let now = children_of(nginx.pid());
                let fresh: Vec<_> = now.iter().filter(|pid| !before.contains(pid)).collect();
                (fresh.len() >= 2)
                    .then(|| fresh.into_iter().for_each(|pid| setting.check_pid(*pid)))
            });
        }
        check_load(load);
        nginx.stop_by(Signal::QUIT).success();
    });
}

#[test]
fn a_binary_upgrade_under_load_fails_no_request() {
    needs!(Program("nginx"), Program("wrk"));
    side_by_side(|setting| {
        let port = free_port();
        // A master that is not a daemon refuses to be replaced.
        configure(setting, port, "daemon on;");
        start(setting).leaves_daemon().run().success();
        let pid_file = setting.dir().join("nginx.pid");
        let old_master = eventually("the master's pid file", || pid_in(&pid_file));
        setting.adopt(old_master);
        wait_for_listener(port);
        let load = start_load(setting, port);
        send(old_master, Signal::USR2);
        let new_master = eventually("the new master", || {
            pid_in(&pid_file).filter(|pid| *pid != old_master)
        });
        setting.adopt(new_master);
        eventually("workers of the new master", || {
            (children_of(new_master).len() >= 2).then_some(())
        });
        setting.check_pid(new_master);
        children_of(new_master)
            .into_iter()
            .for_each(|pid| setting.check_pid(pid));
        send(old_master, Signal::QUIT);
        eventually("the old master to end", || {
            is_gone(old_master).then_some(())
        });
        check_load(load);
        assert!(http_get(port, "/medium").1 == pattern(1 << 18, 1 << 18));
        send(new_master, Signal::QUIT);
        eventually("the new master to end", || {
            is_gone(new_master).then_some(())
        });
    });
}

#[test]
fn a_killed_worker_is_replaced() {
    needs!(Program("nginx"));
    side_by_side(|setting| {
        let port = free_port();
        let nginx = serve(setting, port);
        let victims = children_of(nginx.pid());
        for victim in &victims {
            send(*victim, Signal::KILL);
        }
        let replaced = eventually("two new workers", || {
            let now = children_of(nginx.pid());
            (now.len() == 2 && now.iter().all(|pid| !victims.contains(pid))).then_some(now)
        });
        replaced.into_iter().for_each(|pid| setting.check_pid(pid));
        assert_eq!(http_get(port, "/small"), (200, pattern(1, 1)));
        nginx.stop_by(Signal::QUIT).success();
    });
}

const FILES: [(&str, usize); 5] = [
    ("empty", 0),
    ("small", 1),
    ("page", 4096),
    ("medium", 1 << 18),
    ("large", 8 << 20),
];

/// Starts a master and two workers; see [`configure`].
fn serve(setting: &Setting, port: u16) -> Running {
    configure(setting, port, "daemon off;");
    let nginx = start(setting)
        .limit(Duration::from_secs(120))
        .start()
        .listening_on(port);
    eventually("two workers", || {
        (children_of(nginx.pid()).len() == 2).then_some(())
    });
    setting.check(&nginx);
    children_of(nginx.pid())
        .into_iter()
        .for_each(|pid| setting.check_pid(pid));
    nginx
}

fn start(setting: &Setting) -> Program {
    let dir = setting.dir();
    setting
        .program("nginx")
        .arg("-p")
        .arg(dir)
        .arg("-c")
        .arg(dir.join("nginx.conf"))
}

/// A master and two workers with [`FILES`] on `port`, and TLS on another.
fn configure(setting: &Setting, port: u16, daemon: &str) {
    let root = setting.scratch().shared_dir("htdocs");
    for (name, size) in FILES {
        setting
            .scratch()
            .file(&format!("htdocs/{name}"), pattern(size as u64, size));
    }
    let dir = setting.dir().display().to_string();
    let tls_port = free_port();
    setting.scratch().file("tls.port", tls_port.to_string());
    // A listening socket for each worker, among which the kernel spreads connections.
    let spread_port = free_port();
    setting
        .scratch()
        .file("spread.port", spread_port.to_string());
    certificate(setting);
    let config = format!(
        "{daemon} master_process on; worker_processes 2; {user}
         pid {dir}/nginx.pid; error_log {dir}/error.log notice;
         events {{ worker_connections 512; }}
         http {{
             access_log off; sendfile on; tcp_nopush on; client_body_temp_path {dir}/body;
             proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/fcgi; uwsgi_temp_path {dir}/uwsgi;
             scgi_temp_path {dir}/scgi;
             server {{
                 listen 127.0.0.1:{port}; listen [::1]:{port}; root {root};
                 listen 127.0.0.1:{tls_port} ssl http2; listen [::1]:{tls_port} ssl http2;
                 listen 127.0.0.1:{spread_port} reuseport;
                 ssl_certificate {dir}/cert.pem; ssl_certificate_key {dir}/key.pem;
             }}
         }}",
        root = root.display(),
        user = drop_to("user www-data;"),
    );
    setting.scratch().file("nginx.conf", config);
}

fn port_of(setting: &Setting, name: &str) -> u16 {
    let text =
        std::fs::read_to_string(setting.dir().join(format!("{name}.port"))).expect("a port file");
    text.parse().expect("a port")
}

/// One connection a request: a reload may close an idle connection that a client holds, with or
/// without DMM, but must not refuse or cut one with a request on it.
fn start_load(setting: &Setting, port: u16) -> Running {
    let load = setting
        .program("wrk")
        .words("-t1 -c8 -d4s --timeout 20s -H")
        .arg("Connection: close")
        .arg(format!("http://127.0.0.1:{port}/page"))
        .start();
    setting.check(&load);
    // The load is on once connections of it are seen by nginx; the page is asked for by others, too.
    eventually("the first answered requests", || {
        (http_get(port, "/page").0 == 200).then_some(())
    });
    load
}

fn check_load(load: Running) {
    let report = load.wait().success().text();
    assert!(report.contains("requests in"), "{report}");
    assert!(!report.contains("\n  0 requests in"), "{report}");
    for trouble in ["Socket errors", "Non-2xx"] {
        assert!(!report.contains(trouble), "{report}");
    }
}

fn pid_in(path: &Path) -> Option<u32> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn send(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(pid.cast_signed()).expect("a process id");
    kill_process(pid, signal).unwrap_or_else(|error| panic!("{signal:?} to {pid:?}: {error}"));
}
