//! HAProxy: chroot and setuid, workers under a master, and hand-over of listening sockets to a
//! successor by inheritance (`-sf`) and over a Unix socket (`-x`).

use dmm_tests::net::{free_port, http_get, is_listening};
use dmm_tests::scratch::pattern;
use dmm_tests::{Running, Setting, eventually, needs, side_by_side};
use rustix::process::Signal;

use crate::support::{children_of, drop_to};

#[test]
fn requests_pass_through_it() {
    needs!(Program("haproxy"), Program("nginx"), Program("curl"));
    side_by_side(|setting| {
        let backend = backend(setting);
        let port = free_port();
        configure(setting, port, backend);
        let proxy = start(setting, "", port);
        let (status, body) = http_get(port, "/file");
        assert_eq!(status, 200);
        assert!(
            body == pattern(7, FILE_SIZE),
            "the file came back different"
        );
        let many: Vec<String> = (0..20)
            .flat_map(|_| {
                [
                    "-o".into(),
                    "/dev/null".into(),
                    format!("http://127.0.0.1:{port}/file"),
                ]
            })
            .collect();
        let report = setting
            .program("curl")
            .words("-sS --fail -w %{num_connects}:%{size_download}\\n")
            .args(many)
            .output();
        assert_eq!(
            report.lines().filter(|line| line.starts_with("1:")).count(),
            1,
            "{report}"
        );
        // The log and statistics socket is a Unix socket that it made before it gave up root.
        let info = setting
            .program("socat")
            .args([
                "-t5".to_owned(),
                "-".to_owned(),
                format!("UNIX:{}/stats", setting.dir().display()),
            ])
            .input("show info\n")
            .output();
        assert!(info.contains("CumReq: "), "{info}");
        (report, proxy.stop().code())
    });
}

#[test]
fn a_successor_takes_over_under_load() {
    needs!(Program("haproxy"), Program("nginx"), Program("wrk"));
    side_by_side(|setting| {
        let backend = backend(setting);
        let port = free_port();
        configure(setting, port, backend);
        let mut proxy = start(setting, "", port);
        let load = setting
            .program("wrk")
            .words("-t1 -c4 -d4s --timeout 20s -H")
            .arg("Connection: close")
            .arg(format!("http://127.0.0.1:{port}/file"))
            .start();
        for _ in 0..3 {
            // -x fetches the listening sockets over the Unix socket, -sf lets the old one finish.
            let handover = format!("-x {}/stats -sf {}", setting.dir().display(), proxy.pid());
            let successor = start(setting, &handover, port);
            proxy.wait().success();
            proxy = successor;
        }
        let report = load.wait().success().text();
        assert!(
            !report.contains("Socket errors") && !report.contains("Non-2xx"),
            "{report}"
        );
        assert!(http_get(port, "/file").1 == pattern(7, FILE_SIZE));
        proxy.stop().code()
    });
}

#[test]
fn a_master_reloads_its_worker() {
    needs!(Program("haproxy"), Program("nginx"));
    side_by_side(|setting| {
        let backend = backend(setting);
        let port = free_port();
        configure(setting, port, backend);
        let master = start(setting, "-W", port);
        let first = eventually("the worker", || children_of(master.pid()).first().copied());
        setting.check_pid(first);
        // The master executes itself anew and starts another worker. It does so once already right
        // after its start, and a signal that comes then is lost: hence again and again.
        let mut pauses = 0;
        let second = eventually("a new worker alone", || {
            if pauses % 50 == 0 {
                master.signal(Signal::USR2);
            }
            pauses += 1;
            let workers = children_of(master.pid());
            (workers.len() == 1 && workers[0] != first).then(|| workers[0])
        });
        setting.check_pid(master.pid());
        setting.check_pid(second);
        assert!(http_get(port, "/file").1 == pattern(7, FILE_SIZE));
        master.stop();
        assert!(!is_listening(port));
    });
}

const FILE_SIZE: usize = 100_000;

/// A server with one file behind the proxy; its port.
fn backend(setting: &Setting) -> u16 {
    let port = free_port();
    let root = setting.scratch().shared_dir("htdocs");
    setting.scratch().file("htdocs/file", pattern(7, FILE_SIZE));
    let config = format!(
        "worker_processes 1; {user} pid {dir}/nginx.pid; error_log stderr notice; daemon on;
         events {{ worker_connections 512; }}
         http {{ access_log off; client_body_temp_path {dir}/t1; proxy_temp_path {dir}/t2;
             fastcgi_temp_path {dir}/t3; uwsgi_temp_path {dir}/t4; scgi_temp_path {dir}/t5;
             server {{ listen 127.0.0.1:{port}; root {root}; }} }}",
        user = drop_to("user www-data;"),
        dir = setting.dir().display(),
        root = root.display(),
    );
    let config = setting.scratch().file("nginx.conf", config);
    setting
        .program("nginx")
        .arg("-p")
        .arg(setting.dir())
        .arg("-c")
        .arg(config)
        .leaves_daemon()
        .run()
        .success();
    let pid = eventually("the backend's pid file", || {
        std::fs::read_to_string(setting.dir().join("nginx.pid"))
            .ok()?
            .trim()
            .parse()
            .ok()
    });
    setting.adopt(pid);
    dmm_tests::net::wait_for_listener(port);
    port
}

fn configure(setting: &Setting, port: u16, backend: u16) {
    let dir = setting.dir().display().to_string();
    let jail = setting.scratch().shared_dir("jail");
    let privileges = drop_to("user haproxy\n group haproxy\n");
    let chroot = drop_to(&format!("chroot {}\n", jail.display())).to_owned();
    let config = format!(
        "global\n stats socket {dir}/stats mode 600 expose-fd listeners level admin\n {privileges} {chroot}\
         \ndefaults\n mode http\n option splice-auto\n timeout connect 10s\n timeout client 30s\n timeout server 30s\n\
         \nfrontend front\n bind 127.0.0.1:{port}\n default_backend back\n\
         \nbackend back\n server one 127.0.0.1:{backend} check inter 200ms\n"
    );
    setting.scratch().file("haproxy.cfg", config);
}

fn start(setting: &Setting, options: &str, port: u16) -> Running {
    let proxy = setting
        .program("haproxy")
        .arg("-f")
        .arg(setting.dir().join("haproxy.cfg"))
        .arg("-db")
        .words(options)
        .start()
        .listening_on(port);
    setting.check(&proxy);
    proxy
}
