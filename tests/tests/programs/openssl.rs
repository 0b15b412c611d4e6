//! `openssl s_server` and `s_client`: TLS and DTLS over blocking sockets and select.

use std::io::Write;

use dmm_tests::net::{free_port, wait_for_udp};
use dmm_tests::scratch::pattern;
use dmm_tests::{Program, Setting, eventually, needs, side_by_side, side_by_side_and_local};

use crate::support::certificate;

#[test]
fn lines_come_back_reversed() {
    needs!(Program("openssl"));
    side_by_side(|setting| {
        certificate(setting);
        let mut answers = Vec::new();
        for version in ["-tls1_2", "-tls1_3"] {
            let port = free_port();
            let server = server(setting, port, &format!("{version} -rev"))
                .start()
                .listening_on(port);
            setting.check(&server);
            let mut client = client(setting, port, version).piped_input().start();
            let mut stdin = client.stdin();
            stdin.write_all(b"stressed\ndesserts\n").expect("to type");
            client.wait_for_text("desserts\nstressed\n");
            setting.check(&client);
            drop(stdin);
            answers.push(client.wait().success().text());
        }
        answers
    });
}

#[test]
fn bulk_content_is_the_same_at_the_other_end() {
    needs!(Program("openssl"));
    side_by_side_and_local(|setting| {
        certificate(setting);
        let port = free_port();
        // An s_server takes the end of its input for the end of the session, so that it is kept open.
        let server = server(setting, port, "-naccept 1")
            .piped_input()
            .start()
            .listening_on(port);
        // Digits only: some letters, where a read of the input happens to begin, are commands to s_client.
        let content: Vec<u8> = pattern(5, 2 << 20)
            .into_iter()
            .map(|byte| b'0' + byte % 10)
            .collect();
        let mut content: Vec<u8> = content
            .chunks(100)
            .flat_map(|line| [line, b"\n"].concat())
            .collect();
        content.push(b'\n');
        let mut client = client(setting, port, "").piped_input().start();
        let mut stdin = client.stdin();
        stdin.write_all(&content).expect("to type");
        // The client is kept until all has come over: when it closes with session tickets unread,
        // the kernel resets the connection.
        eventually("the content", || {
            (server.stdout().len() >= content.len()).then_some(())
        });
        drop(stdin);
        client.wait().success();
        assert!(
            server.wait().stdout == content,
            "the content came over different"
        );
    });
}

#[test]
fn datagram_tls_works() {
    needs!(Program("openssl"));
    side_by_side(|setting| {
        certificate(setting);
        let port = free_port();
        let mut server = server(setting, port, "-dtls").piped_input().start();
        wait_for_udp(port);
        let mut client = client(setting, port, "-dtls").piped_input().start();
        let mut stdin = client.stdin();
        stdin.write_all(b"over datagrams\n").expect("to type");
        server.wait_for_text("over datagrams");
        setting.check(&client);
    });
}

fn server(setting: &Setting, port: u16, options: &str) -> Program {
    setting
        .program("openssl")
        .words(&format!(
            "s_server -quiet -accept 127.0.0.1:{port} -key key.pem -cert cert.pem {options}"
        ))
        .current_dir(setting.dir())
}

fn client(setting: &Setting, port: u16, options: &str) -> Program {
    setting
        .program("openssl")
        .words(&format!("s_client -quiet -no_ign_eof -verify_quiet -CAfile cert.pem -connect localhost:{port} {options}"))
        .current_dir(setting.dir())
}
