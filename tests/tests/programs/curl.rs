//! curl: non-blocking connections, name look-ups in threads, timeouts and clear errors.

use std::io::{Read, Write};
use std::net::TcpListener;

use dmm_tests::net::free_port;
use dmm_tests::scratch::pattern;
use dmm_tests::{Finished, Running, Setting, needs, side_by_side};

use crate::support::certificate;

#[test]
fn large_uploads_and_downloads_keep_their_content() {
    needs!(Program("curl"), File("/usr/bin/python3"));
    side_by_side(|setting| {
        let (port, _server) = mirror(setting);
        let content = pattern(3, 20 << 20);
        let file = setting.scratch().file("upload", &content);
        let echoed = setting
            .program("curl")
            .words("-sS --fail -T")
            .arg(file)
            .arg(format!("http://localhost:{port}/mirror"))
            .run()
            .success();
        assert!(
            echoed.stdout == content,
            "what came back is not what was sent"
        );
    });
}

#[test]
fn both_families_are_tried() {
    needs!(Program("curl"), File("/usr/bin/python3"));
    side_by_side(|setting| {
        // The server listens on 127.0.0.1 only: localhost, that is ::1 first, has to fall back.
        let (port, _server) = mirror(setting);
        let answer = curl(
            setting,
            "-sS --fail -d content",
            &format!("http://localhost:{port}/mirror"),
        );
        assert_eq!(answer.success().text(), "content");
        let answer = curl(
            setting,
            "-sS --fail -d content --interface 127.0.0.9 -w :%{local_ip}",
            &format!("http://127.0.0.1:{port}/mirror"),
        );
        assert_eq!(answer.success().text(), "content:127.0.0.9");
        let local_port = free_port();
        let answer = curl(
            setting,
            &format!("-sS --fail -d content --local-port {local_port} -w :%{{local_port}}"),
            &format!("http://127.0.0.1:{port}/mirror"),
        );
        assert_eq!(answer.success().text(), format!("content:{local_port}"));
    });
}

#[test]
fn tls_is_verified() {
    needs!(Program("curl"), Program("openssl"));
    side_by_side(|setting| {
        certificate(setting);
        let port = free_port();
        let server = setting
            .program("openssl")
            .words(&format!(
                "s_server -quiet -WWW -accept 127.0.0.1:{port} -key key.pem -cert cert.pem"
            ))
            .current_dir(setting.dir())
            .start()
            .listening_on(port);
        setting.check(&server);
        setting.scratch().file("page", "over TLS\n");
        let url = format!("https://localhost:{port}/page");
        let trust = format!("--cacert {}", setting.dir().join("cert.pem").display());
        assert_eq!(
            curl(setting, &format!("-sS --fail {trust}"), &url)
                .success()
                .text(),
            "over TLS\n"
        );
        // The certificate is nobody's that curl knows.
        assert_eq!(curl(setting, "-sS", &url).code(), 60);
    });
}

#[test]
fn failures_are_told_apart() {
    needs!(Program("curl"));
    side_by_side(|setting| {
        let refused = curl(
            setting,
            "-sS",
            &format!("http://127.0.0.1:{}/", free_port()),
        );
        assert_eq!(refused.code(), 7, "{}", refused.errors());

        // Somebody who listens and never answers.
        let silent = TcpListener::bind("127.0.0.1:0").expect("a listener");
        let port = silent.local_addr().expect("its address").port();
        let timed_out = curl(
            setting,
            "-sS --max-time 1",
            &format!("http://127.0.0.1:{port}/"),
        );
        assert_eq!(timed_out.code(), 28, "{}", timed_out.errors());

        // Somebody who cuts the connection in the middle of an answer.
        let cutting = TcpListener::bind("127.0.0.1:0").expect("a listener");
        let port = cutting.local_addr().expect("its address").port();
        let cutter = std::thread::spawn(move || {
            let (mut stream, _) = cutting.accept().expect("curl to connect");
            let mut request = [0; 1000];
            let _length = stream.read(&mut request).expect("a request");
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf")
                .expect("to answer");
        });
        let cut = curl(setting, "-sS", &format!("http://127.0.0.1:{port}/"));
        cutter.join().expect("the server to have served");
        assert_eq!(
            (cut.code(), cut.text().as_str()),
            (18, "half"),
            "{}",
            cut.errors()
        );

        let unknown = curl(setting, "-sS", "http://no-such-host.invalid/");
        assert_eq!(unknown.code(), 6, "{}", unknown.errors());
        let codes = [refused.code(), timed_out.code(), cut.code(), unknown.code()];
        (
            codes,
            refused
                .errors()
                .replace(|letter: char| letter.is_ascii_digit(), ""),
        )
    });
}

#[test]
fn many_transfers_at_once() {
    needs!(Program("curl"), File("/usr/bin/python3"));
    side_by_side(|setting| {
        let (port, _server) = mirror(setting);
        let list: String = (0..60)
            .map(|number| format!("url = \"http://127.0.0.1:{port}/echo/{number}\"\n"))
            .collect();
        let config = setting.scratch().file("curl.conf", list);
        let all = setting
            .program("curl")
            .words("-sS --fail --parallel --parallel-max 20 -K")
            .arg(config)
            .output();
        let mut numbers: Vec<u32> = all
            .split_whitespace()
            .map(|path| {
                path.rsplit('/')
                    .next()
                    .and_then(|number| number.parse().ok())
                    .expect("a path")
            })
            .collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..60).collect::<Vec<u32>>());
    });
}

fn curl(setting: &Setting, options: &str, url: &str) -> Finished {
    setting.program("curl").words(options).arg(url).run()
}

/// A server that sends back what it is sent, on 127.0.0.1, and its port.
fn mirror(setting: &Setting) -> (u16, Running) {
    let port = free_port();
    let script = setting
        .scratch()
        .file("mirror.py", include_str!("python/mirror.py"));
    let server = setting
        .program("/usr/bin/python3")
        .arg(script)
        .arg(port.to_string())
        .start()
        .listening_on(port);
    setting.check(&server);
    (port, server)
}
