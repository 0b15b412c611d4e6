//! socat: relays between sockets of all kinds, one forked child a connection.

use std::io::{Read, Write};
use std::net::Shutdown;

use dmm_tests::net::{connect, free_port, wait_for_udp};
use dmm_tests::scratch::pattern;
use dmm_tests::{Running, Setting, eventually, needs, side_by_side, side_by_side_and_local};

#[test]
fn a_chain_of_relays_keeps_content_and_half_closes() {
    needs!(Program("socat"));
    side_by_side_and_local(|setting| {
        let (front, back) = (free_port(), free_port());
        let unix = setting.dir().join("relay.sock");
        let unix = unix.display();
        // TCP to Unix to TCP to a cat: the end of input has to travel to the cat, and the cat's last
        // bytes all the way back.
        let _back = listen(setting, back, "EXEC:cat");
        let middle = relay(
            setting,
            &format!("UNIX-LISTEN:{unix},fork"),
            &format!("TCP4:127.0.0.1:{back}"),
        );
        eventually("the Unix socket", || {
            setting.dir().join("relay.sock").exists().then_some(())
        });
        let _front = listen(setting, front, &format!("UNIX-CONNECT:{unix}"));
        let clients: Vec<_> = (0..4)
            .map(|client| {
                std::thread::spawn(move || {
                    let content = pattern(client, 3 << 20);
                    let mut stream = connect(front);
                    let mut reader = stream.try_clone().expect("a second handle");
                    let sent = content.clone();
                    let writer = std::thread::spawn(move || {
                        stream.write_all(&sent).expect("to send");
                        stream.shutdown(Shutdown::Write).expect("to half-close");
                    });
                    let mut echoed = Vec::new();
                    reader.read_to_end(&mut echoed).expect("an echo");
                    writer.join().expect("the writer");
                    assert!(
                        echoed == content,
                        "client {client}: {} bytes came back",
                        echoed.len()
                    );
                })
            })
            .collect();
        for client in clients {
            client.join().expect("a client to succeed");
        }
        setting.check(&middle);
    });
}

#[test]
fn a_program_started_by_inetd_has_the_socket_as_its_standard_streams() {
    needs!(Program("socat"), Program("perl"));
    side_by_side(|setting| {
        let port = free_port();
        let script = setting
            .scratch()
            .file("inetd.pl", include_str!("perl/inetd.pl"));
        // nofork: the socket itself is descriptors 0 and 1 of what is executed.
        let _server = listen(
            setting,
            port,
            &format!("EXEC:perl {},nofork", script.display()),
        );
        let answer = setting
            .program("socat")
            .args(["-t20", "-", &format!("TCP4:127.0.0.1:{port}")])
            .input("one\ntwo\nthree\n")
            .output();
        assert_eq!(
            answer,
            "port 1\nONE\nTWO\nTHREE\nlines 3\n".replace("port 1", &format!("port {port}"))
        );
    });
}

#[test]
fn datagrams_are_relayed() {
    needs!(Program("socat"));
    side_by_side(|setting| {
        let port = free_port();
        let _server = relay(
            setting,
            &format!("UDP4-LISTEN:{port},bind=127.0.0.1,fork"),
            "EXEC:cat",
        );
        wait_for_udp(port);
        let answer = setting
            .program("socat")
            .args(["-t1", "-", &format!("UDP4:127.0.0.1:{port}")])
            .input("a datagram")
            .output();
        assert_eq!(answer, "a datagram");
        let v6 = free_port();
        let _server = relay(
            setting,
            &format!("UDP6-RECVFROM:{v6},fork"),
            "SYSTEM:'tr a-z A-Z'",
        );
        wait_for_udp(v6);
        let answer = setting
            .program("socat")
            .args(["-t1", "-", &format!("UDP6:[::1]:{v6}")])
            .input("shout")
            .output();
        assert_eq!(answer, "SHOUT");
    });
}

#[test]
fn options_are_applied_to_sockets() {
    needs!(Program("socat"));
    side_by_side(|setting| {
        let port = free_port();
        let _server = relay(
            setting,
            &format!(
                "TCP4-LISTEN:{port},bind=127.0.0.1,reuseaddr,fork,nodelay,keepalive,rcvbuf=65536"
            ),
            "SYSTEM:'echo hello; cat'",
        );
        dmm_tests::net::wait_for_listener(port);
        let source = free_port();
        let answer = setting
            .program("socat")
            .args(["-t20", "-"])
            .arg(format!(
                "TCP4:127.0.0.1:{port},bind=127.0.0.7:{source},nodelay,tos=16,sndbuf=65536,linger=1,\
                 keepalive,keepidle=30,keepintvl=5,keepcnt=3"
            ))
            .input("content\n")
            .output();
        assert_eq!(answer, "hello\ncontent\n");
    });
}

fn listen(setting: &Setting, port: u16, to: &str) -> Running {
    let address = format!("TCP4-LISTEN:{port},bind=127.0.0.1,reuseaddr,fork,backlog=64");
    let relay = relay(setting, &address, to).listening_on(port);
    setting.check(&relay);
    relay
}

fn relay(setting: &Setting, from: &str, to: &str) -> Running {
    setting.program("socat").args(["-t20", from, to]).start()
}
