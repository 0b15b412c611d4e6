//! memcached: threads that each have an event base, fed with accepted sockets by a listener thread.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpStream, UdpSocket};

use dmm_tests::net::{connect, free_port};
use dmm_tests::scratch::pattern;
use dmm_tests::wait::PATIENCE;
use dmm_tests::{Running, Setting, needs, side_by_side, side_by_side_and_local};

#[test]
fn values_of_many_clients_come_back() {
    needs!(Program("memcached"));
    side_by_side(|setting| {
        let port = free_port();
        let server = serve(setting, port);
        let clients: Vec<_> = (0..24)
            .map(|client| std::thread::spawn(move || store_and_fetch(port, client)))
            .collect();
        for client in clients {
            client.join().expect("a client to succeed");
        }
        server.stop().success();
    });
}

#[test]
fn the_protocol_suite_passes() {
    needs!(Program("memcached"), Program("memccapable"));
    side_by_side(|setting| {
        let port = free_port();
        let _server = serve(setting, port);
        let suite = setting
            .program("memccapable")
            .words(&format!("-h 127.0.0.1 -p {port} -a"))
            .run();
        let report = suite.text();
        assert!(
            report.contains("ascii get") && report.contains("[pass]"),
            "{report}{}",
            suite.errors()
        );
        report
    });
}

#[test]
fn a_load_generator_runs_through() {
    needs!(Program("memcached"), Program("memcslap"));
    side_by_side_and_local(|setting| {
        let port = free_port();
        let _server = serve(setting, port);
        setting
            .program("memcslap")
            .words(&format!(
                "--servers=127.0.0.1:{port} --concurrency=16 --test=get"
            ))
            .words("--execute-number=500 --initial-load=1000")
            .run()
            .success();
    });
}

#[test]
fn datagrams_are_answered() {
    needs!(Program("memcached"));
    side_by_side(|setting| {
        let port = free_port();
        let _server = serve(setting, port);
        store(&mut connect(port), "by-tcp", b"read by udp");
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a UDP socket");
        socket.connect(("127.0.0.1", port)).expect("to connect it");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        // An eight-byte frame goes before each datagram: request id, sequence number, count.
        socket
            .send(b"\0\x2a\0\0\0\x01\0\0get by-tcp\r\n")
            .expect("to ask");
        let mut answer = [0; 1500];
        let length = socket.recv(&mut answer).expect("an answer");
        assert_eq!(&answer[..8], b"\0\x2a\0\0\0\x01\0\0");
        assert_eq!(
            &answer[8..length],
            b"VALUE by-tcp 0 11\r\nread by udp\r\nEND\r\n"
        );
    });
}

fn serve(setting: &Setting, port: u16) -> Running {
    // -u is for root, who may not run it otherwise, and ignored for others.
    let server = setting
        .program("memcached")
        .words(&format!(
            "-t 4 -l 127.0.0.1 -p {port} -U {port} -I 4m -m 128 -u nobody -c 512"
        ))
        .start()
        .listening_on(port);
    setting.check(&server);
    server
}

/// Stores values of one byte to a megabyte, reads them back one by one and all at once.
fn store_and_fetch(port: u16, client: u64) {
    let mut stream = connect(port);
    let sizes = [1_usize, 100, 5000, 70_000, 1_000_000];
    let value = |size: usize| pattern(client * 1000 + size as u64, size);
    let mut all = String::from("get");
    for size in sizes {
        let key = format!("{client}:{size}");
        store(&mut stream, &key, &value(size));
        write!(all, " {key}").expect("to format");
    }
    write!(stream, "{all}\r\n").expect("to ask");
    let mut reader = BufReader::new(stream);
    for size in sizes {
        let mut line = String::new();
        reader.read_line(&mut line).expect("a header");
        assert_eq!(line, format!("VALUE {client}:{size} 0 {size}\r\n"));
        let mut body = vec![0; size + 2];
        reader.read_exact(&mut body).expect("a value");
        assert!(
            body[..size] == value(size),
            "the value of {client}:{size} differs"
        );
    }
    let mut end = String::new();
    reader.read_line(&mut end).expect("the end");
    assert_eq!(end, "END\r\n");
}

fn store(stream: &mut TcpStream, key: &str, value: &[u8]) {
    write!(stream, "set {key} 0 0 {}\r\n", value.len()).expect("to send");
    stream.write_all(value).expect("to send");
    stream.write_all(b"\r\n").expect("to send");
    let mut answer = [0; 8];
    stream.read_exact(&mut answer).expect("an answer");
    assert_eq!(&answer, b"STORED\r\n");
}
