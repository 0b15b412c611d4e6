//! The limit: an io_uring loop for this one purpose. Multishot receives into provided buffers, which are
//! sent from; no tasks, no streams, no buffers of its own; what cannot happen in this benchmark is not
//! handled.
//!
//! It knows the same tricks as the shard's driver: one system call a turn, a registered ring, and sends
//! that only tell of failure.

use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use io_uring::types::{BufRingEntry, Fd};
use io_uring::{IoUring, cqueue, opcode, squeue};

use super::cpu_time;

const BUFFERS: u16 = 1024;
const SIZE: usize = 4096;
/// Between the beginnings of two buffers: first lines fall into different sets of the caches.
const STRIDE: usize = SIZE + 64;

#[repr(C, align(4096))]
struct Ring([[u64; 2]; BUFFERS as usize]);

pub(super) fn serve(streams: Vec<TcpStream>) -> Duration {
    let mut buffers = Buffers::new();
    let mut ring: IoUring = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_coop_taskrun()
        .setup_cqsize(4096)
        .build(1024)
        .expect("the kernel has io_uring");
    // SAFETY: the memory is kept until the ring is gone, as it was declared before.
    unsafe {
        ring.submitter()
            .register_buf_ring_with_flags(buffers.entries() as u64, BUFFERS, 0, 0)
            .expect("the kernel has rings of buffers");
    }
    let began = cpu_time();
    let (mut submitter, mut sq, mut cq) = ring.split();
    submitter
        .register_ring_fd()
        .expect("the kernel registers rings");
    for (nth, stream) in (0..).zip(&streams) {
        push(&mut sq, &receive(stream, nth));
    }
    let mut open = streams.len();
    let mut used = Vec::new();
    while open != 0 {
        sq.sync();
        submitter.submit_and_wait(1).expect("it submits");
        // What was sent is sent.
        for buffer in used.drain(..) {
            buffers.provide(buffer);
        }
        cq.sync();
        for completion in &mut cq {
            let nth = completion.user_data();
            let stream = &streams[nth as usize];
            let Some(buffer) = cqueue::buffer_select(completion.flags()) else {
                match completion.result() {
                    0 => open -= 1,
                    error if -error == libc::ENOBUFS => push(&mut sq, &receive(stream, nth)),
                    error => panic!("a receive or send failed with {error}"),
                }
                continue;
            };
            let len = completion.result() as u32;
            let flags = libc::MSG_NOSIGNAL | libc::MSG_WAITALL | libc::MSG_DONTWAIT;
            let send = opcode::Send::new(Fd(stream.as_raw_fd()), buffers.at(buffer), len)
                .flags(flags)
                .build()
                .flags(squeue::Flags::SKIP_SUCCESS)
                .user_data(nth);
            push(&mut sq, &send);
            used.push(buffer);
            if !cqueue::more(completion.flags()) {
                push(&mut sq, &receive(stream, nth));
            }
        }
    }
    let time = cpu_time() - began;
    drop(streams);
    time
}

fn receive(stream: &TcpStream, nth: u64) -> squeue::Entry {
    opcode::RecvMulti::new(Fd(stream.as_raw_fd()), 0)
        .build()
        .user_data(nth)
}

fn push(sq: &mut squeue::SubmissionQueue<'_>, entry: &squeue::Entry) {
    // SAFETY: entries point at buffers, which are kept until they are submitted and longer.
    unsafe { sq.push(entry) }.expect("a turn fits into the queue");
}

struct Buffers {
    ring: Box<Ring>,
    memory: Vec<u8>,
    tail: u16,
}

impl Buffers {
    fn new() -> Self {
        let mut buffers = Self {
            ring: Box::new(Ring([[0; 2]; BUFFERS as usize])),
            memory: vec![0; usize::from(BUFFERS) * STRIDE],
            tail: 0,
        };
        for buffer in 0..BUFFERS {
            buffers.provide(buffer);
        }
        buffers
    }

    fn entries(&self) -> *const BufRingEntry {
        (&raw const self.ring.0).cast()
    }

    fn at(&self, buffer: u16) -> *const u8 {
        self.memory[usize::from(buffer) * STRIDE..].as_ptr()
    }

    fn provide(&mut self, buffer: u16) {
        let address = self.at(buffer) as u64;
        let place = usize::from(self.tail & (BUFFERS - 1));
        let base: *mut BufRingEntry = (&raw mut self.ring.0).cast();
        // SAFETY: inside of the ring, at a place that the kernel has used.
        let entry = unsafe { &mut *base.add(place) };
        entry.set_addr(address);
        entry.set_len(SIZE as u32);
        entry.set_bid(buffer);
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: the tail lies in the first entry, and is aligned.
        let tail = unsafe { AtomicU16::from_ptr(BufRingEntry::tail(base).cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }
}
