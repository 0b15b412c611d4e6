//! The clients, on a thread of their own: each connection keeps its messages under way.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::event::epoll;

use super::{Shape, pin};

/// Runs for `time`; tells how many messages came back, and how long it took.
pub(super) fn run(streams: Vec<TcpStream>, shape: Shape, time: Duration) -> (u64, Duration) {
    std::thread::spawn(move || {
        pin(1);
        if shape.connections == 1 && shape.depth == 1 {
            one(&streams[0], shape, time)
        } else {
            many(&streams, shape, time)
        }
    })
    .join()
    .expect("the clients end well")
}

fn one(mut stream: &TcpStream, shape: Shape, time: Duration) -> (u64, Duration) {
    let message = vec![7; shape.bytes];
    let mut back = vec![0; shape.bytes];
    let began = Instant::now();
    let mut messages = 0;
    while began.elapsed() < time {
        stream.write_all(&message).expect("the server lives");
        stream.read_exact(&mut back).expect("the server answers");
        messages += 1;
    }
    (messages, began.elapsed())
}

fn many(streams: &[TcpStream], shape: Shape, time: Duration) -> (u64, Duration) {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).expect("descriptors are left");
    let message = vec![7; shape.bytes];
    let burst = vec![7; shape.bytes * shape.depth];
    let mut back = vec![0; 1 << 17];
    let mut missing = vec![shape.bytes; streams.len()];
    for (nth, stream) in (0..).zip(streams) {
        let data = epoll::EventData::new_u64(nth);
        epoll::add(&epoll, stream, data, epoll::EventFlags::IN).expect("sockets can be watched");
    }
    let began = Instant::now();
    for mut stream in streams {
        stream.write_all(&burst).expect("the server lives");
    }
    let mut messages = 0;
    let mut under_way = streams.len() * shape.depth;
    let mut events = Vec::with_capacity(64);
    while under_way != 0 {
        events.clear();
        epoll::wait(&epoll, rustix::buffer::spare_capacity(&mut events), None).expect("waits");
        let go_on = began.elapsed() < time;
        for event in &events {
            let nth = event.data.u64() as usize;
            let mut stream = &streams[nth];
            let mut count = stream.read(&mut back).expect("the server answers");
            assert_ne!(count, 0, "the server has ended a connection");
            let mut whole = 0;
            while count >= missing[nth] {
                count -= missing[nth];
                missing[nth] = shape.bytes;
                whole += 1;
            }
            missing[nth] -= count;
            messages += whole as u64;
            for _ in 0..whole {
                if go_on {
                    stream.write_all(&message).expect("the server lives");
                } else {
                    under_way -= 1;
                }
            }
        }
    }
    (messages, began.elapsed())
}
