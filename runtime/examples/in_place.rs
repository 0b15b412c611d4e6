//! A megabyte through a TCP connection, in place where shared memory carries it:
//!
//! ```sh
//! cargo build --release -p dmm --example in_place
//! target/release/examples/in_place                                     # copied
//! dmm run --policy local.toml -- target/release/examples/in_place      # in place
//! ```

#![allow(clippy::print_stdout, reason = "a program")]

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;

use dmm::InPlace;

const TOTAL: usize = 1 << 20;

fn main() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let stream = TcpStream::connect(listener.local_addr()?)?;
    let (peer, _) = listener.accept()?;
    let sender = thread::spawn(move || send(stream));
    let how = if InPlace::of(&peer).is_some() {
        "in place"
    } else {
        "copied"
    };
    let received = receive(peer)?;
    sender
        .join()
        .map_err(|_| io::Error::other("the sender ended"))??;
    let right = received.len() == TOTAL && received.iter().enumerate().all(|(i, b)| *b == byte(i));
    println!("{how}, {}", if right { "right" } else { "WRONG" });
    Ok(())
}

fn byte(at: usize) -> u8 {
    (at * 31) as u8
}

fn send(mut stream: TcpStream) -> io::Result<()> {
    let message: Vec<u8> = (0..TOTAL).map(byte).collect();
    let mut rest = &message[..];
    while !rest.is_empty() {
        let sent = match InPlace::of(&stream) {
            Some(in_place) => in_place.write(rest.len().min(4096), |[first, second]| {
                let n = first.copy_from(rest);
                let n = n + second.copy_from(&rest[n..]);
                (n, n)
            })?,
            None => stream.write(rest)?,
        };
        rest = &rest[sent..];
    }
    stream.shutdown(Shutdown::Write)
}

fn receive(mut stream: TcpStream) -> io::Result<Vec<u8>> {
    let mut received = Vec::new();
    if let Some(in_place) = InPlace::of(&stream) {
        let mut take = |parts: [dmm::Part<'_>; 2]| {
            let before = received.len();
            for part in parts {
                let start = received.len();
                received.resize(start + part.len(), 0);
                part.copy_to(&mut received[start..]);
            }
            (received.len() - before, ())
        };
        while in_place.read(&mut take)?.is_some() {}
    } else {
        stream.read_to_end(&mut received)?;
    }
    Ok(received)
}
