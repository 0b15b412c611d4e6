//! Shells: sockets as redirections, pipelines, and the netcats.

use std::io::Write;

use dmm_tests::net::free_port;
use dmm_tests::scratch::pattern;
use dmm_tests::{needs, side_by_side};

#[test]
fn redirections_to_sockets_and_pipelines() {
    needs!(Program("bash"), Program("perl"), Program("openssl"));
    side_by_side(|setting| {
        let port = free_port();
        let server = setting
            .scratch()
            .file("prefork.pl", include_str!("perl/prefork.pl"));
        let script = setting
            .scratch()
            .file("dialogue.sh", include_str!("sh/dialogue.sh"));
        let server = setting
            .program("perl")
            .arg(server)
            .arg(port.to_string())
            .start()
            .listening_on(port);
        let report = setting
            .program("bash")
            .arg(script)
            .arg(port.to_string())
            .output();
        assert_eq!(report.lines().last(), Some("shell done"), "{report}");
        server.stop();
        report
    });
}

#[test]
fn the_openbsd_netcat() {
    needs!(Program("nc.openbsd"));
    side_by_side(|setting| {
        let content = pattern(4, 4 << 20);
        for (host, options) in [("127.0.0.1", ""), ("::1", "-6")] {
            let port = free_port();
            let receiver = setting
                .program("nc.openbsd")
                .words(&format!("-N -l {options} {host} {port}"))
                .start()
                .listening_on(port);
            setting.check(&receiver);
            setting
                .program("nc.openbsd")
                .words(&format!("-N {options} {host} {port}"))
                .input(content.clone())
                .run()
                .success();
            assert!(
                receiver.wait().success().stdout == content,
                "the content differs"
            );
        }
        // A scan of ports tells open from closed ones.
        let (open, closed) = (free_port(), free_port());
        let _listener = std::net::TcpListener::bind(("127.0.0.1", open)).expect("a listener");
        let scan = |port: u16| {
            setting
                .program("nc.openbsd")
                .words(&format!("-z -w 20 127.0.0.1 {port}"))
                .run()
                .code()
        };
        assert_eq!((scan(open), scan(closed)), (0, 1));
    });
}

#[test]
fn the_nmap_netcat() {
    needs!(Program("ncat"));
    side_by_side(|setting| {
        let port = free_port();
        let server = setting
            .program("ncat")
            .words(&format!("-l -k 127.0.0.1 {port} --sh-exec"))
            // It ends its command as soon as its client has no more to say.
            .arg("read -r line; echo answer to $line")
            .start()
            .listening_on(port);
        setting.check(&server);
        (0..5)
            .map(|number| {
                let words = format!("127.0.0.1 {port}");
                let mut client = setting.program("ncat").words(&words).piped_input().start();
                let mut stdin = client.stdin();
                writeln!(stdin, "client {number}").expect("to type");
                client.wait_for_text(&format!("answer to client {number}\n"));
                drop(stdin);
                client.wait().success().text()
            })
            .collect::<Vec<_>>()
    });
}
