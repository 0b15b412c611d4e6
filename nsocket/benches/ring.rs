//! What a ring costs: a small message there and back, and bytes a second.
//!
//! ```sh
//! cargo bench -p dmm-nsocket --bench ring
//! cargo bench -p dmm-nsocket --bench ring -- pingpong     # or: call, stream
//! ```
//!
//! Threads are pinned to cores 0 and 1. Each figure is the median of many short batches, with the best
//! tenth beside it: if the two are far apart, something else was running. Everything is measured as the session layer does it: under the ends' locks, whose
//! release is the barrier, and with the look at who waits after it.

use std::hint::{black_box, spin_loop};
use std::io::Write;
use std::ptr::{NonNull, null_mut};
use std::sync::Barrier;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use dmm_nsocket::session::lock::{Identity, LockWords};
use dmm_nsocket::session::ring::{
    Consumer, ConsumerWords, Exclusive, Memory, Producer, ProducerWords, Ring, RingWords, populate,
};
use dmm_nsocket::session::waiter::fence;
use rustix::fs::MemfdFlags;
use rustix::mm::{MapFlags, ProtFlags};
use rustix::thread::{CpuSet, sched_setaffinity};

/// Of most messages, in bytes.
const MESSAGE: usize = 64;

fn main() {
    let which = std::env::args().nth(1).unwrap_or_default();
    let all = which.is_empty() || which.starts_with("--");
    let mut out = std::io::stdout().lock();
    if all || which == "call" {
        calls(&mut out);
    }
    if all || which == "pingpong" {
        ping_pongs(&mut out);
    }
    if all || which == "stream" {
        streams(&mut out);
    }
}

/// One ring with both its ends, in a memfd as in production.
struct Arena {
    map: NonNull<u8>,
    capacity: usize,
}

// SAFETY: a mapping, and a number.
unsafe impl Send for Arena {}
// SAFETY: as above.
unsafe impl Sync for Arena {}

const PAGE: usize = 4096;

impl Arena {
    fn new(capacity: usize) -> Self {
        let file = rustix::fs::memfd_create(c"ring", MemfdFlags::CLOEXEC).unwrap();
        rustix::fs::ftruncate(&file, (PAGE + capacity) as u64).unwrap();
        // SAFETY: a new mapping overlaps nothing.
        let map = unsafe {
            rustix::mm::mmap(
                null_mut(),
                PAGE + capacity,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                &file,
                0,
            )
        };
        Self {
            map: NonNull::new(map.unwrap().cast()).unwrap(),
            capacity,
        }
    }

    fn ring(&self) -> Ring<'_> {
        // SAFETY: the words are in the first page, the bytes behind it.
        unsafe {
            let memory = Memory::new(self.map.add(PAGE), self.capacity, populate).unwrap();
            Ring::new(RingWords::at(self.map), memory)
        }
    }

    fn producer(&self, who: Identity) -> Exclusive<'_, Producer<'_>> {
        // SAFETY: the words are in the first page; whoever produces locks them.
        unsafe { Exclusive::producer(self.ring(), ProducerWords::at(self.map.add(1024)), who) }
            .unwrap()
    }

    fn consumer(&self, who: Identity) -> Exclusive<'_, Consumer<'_>> {
        // SAFETY: the words are in the first page; whoever consumes locks them.
        unsafe { Exclusive::consumer(self.ring(), ConsumerWords::at(self.map.add(2048)), who) }
            .unwrap()
    }

    /// As the session layer sends: locked, published, released (which is a barrier).
    fn send(&self, bytes: &[u8]) -> usize {
        self.producer(Identity::current().unwrap())
            .write(bytes)
            .unwrap()
    }

    /// As the session layer receives: and then it looks whether a writer waits.
    fn receive(&self, buffer: &mut [u8]) -> usize {
        let n = self
            .consumer(Identity::current().unwrap())
            .read(buffer)
            .unwrap();
        black_box(self.ring().words().space_is_awaited());
        n
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // SAFETY: it is ours, and nothing that borrows it is left.
        unsafe { rustix::mm::munmap(self.map.as_ptr().cast(), PAGE + self.capacity) }.unwrap();
    }
}

fn pin(core: usize) {
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).unwrap();
}

/// Writes the median of some batches, and where their best tenth ends.
fn line(out: &mut impl Write, what: &str, mut batches: Vec<f64>, unit: &str) {
    batches.sort_by(f64::total_cmp);
    if unit == "GB/s" {
        batches.reverse();
    }
    let (median, best) = (batches[batches.len() / 2], batches[batches.len() / 10]);
    writeln!(
        out,
        "{what:48} {median:9.2} {unit:4}   best tenth {best:9.2}"
    )
    .unwrap();
}

/// Nanoseconds each, batch by batch.
fn batches(count: usize, times: u32, mut what: impl FnMut()) -> Vec<f64> {
    let batch = |_| {
        let began = Instant::now();
        for _ in 0..times {
            what();
        }
        began.elapsed().as_secs_f64() * 1e9 / f64::from(times)
    };
    (0..count).map(batch).collect()
}

/// What the instructions cost, when everything is in this core's cache.
fn calls(out: &mut impl Write) {
    pin(0);
    let arena = Arena::new(64 << 10);
    let (message, mut buffer) = ([1; MESSAGE], [0; MESSAGE]);
    let me = Identity::current().unwrap();
    let ns = |out: &mut _, what: &str, run: &mut dyn FnMut()| {
        line(out, what, batches(200, 10_000, run), "ns");
    };
    ns(out, "identity of the calling thread", &mut || {
        black_box(Identity::current());
    });
    let lock = LockWords::default();
    ns(out, "lock, release", &mut || drop(black_box(lock.lock(me))));
    ns(out, "full barrier", &mut fence::full);
    {
        let mut producer = arena.producer(me);
        let mut consumer = arena.consumer(me);
        ns(out, "write and read 64 B, locks held", &mut || {
            producer.write(black_box(&message)).unwrap();
            consumer.read(black_box(&mut buffer)).unwrap();
        });
        ns(out, "used() and free()", &mut || {
            black_box((consumer.used().unwrap(), producer.free().unwrap()));
        });
    }
    ns(out, "send and receive 64 B", &mut || {
        arena.send(black_box(&message));
        arena.receive(black_box(&mut buffer));
    });
}

fn ping_pongs(out: &mut impl Write) {
    for len in [MESSAGE, 1 << 10, 4 << 10, 16 << 10, 64 << 10] {
        let what = format!("{len} B there and back, cores 0 and 1, spinning");
        line(out, &what, ping_pong([0, 1], len, spin_loop), "ns");
    }
    let same = ping_pong([0, 0], MESSAGE, std::thread::yield_now);
    line(
        out,
        "64 B there and back, core 0 alone, yielding",
        same,
        "ns",
    );
    line(
        out,
        "for comparison: one word there and back",
        cache_line(),
        "ns",
    );
}

const BATCHES: usize = 1000;
const BATCH: u32 = 200;

fn ping_pong(cores: [usize; 2], len: usize, wait: fn()) -> Vec<f64> {
    let (there, back) = (Arena::new(1 << 20), Arena::new(1 << 20));
    let start = Barrier::new(2);
    std::thread::scope(|scope| {
        let echo = || {
            pin(cores[1]);
            start.wait();
            let mut buffer = vec![0; len];
            for _ in 0..BATCHES as u32 * BATCH {
                receive_all(&there, &mut buffer, wait);
                send_all(&back, &buffer);
            }
        };
        scope.spawn(echo);
        pin(cores[0]);
        start.wait();
        let mut buffer = vec![7; len];
        batches(BATCHES, BATCH, || {
            send_all(&there, &buffer);
            receive_all(&back, &mut buffer, wait);
        })
    })
}

fn send_all(arena: &Arena, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        bytes = &bytes[arena.send(bytes)..];
    }
}

/// Looks for bytes without the lock, as a waiter does, and then takes them.
fn receive_all(arena: &Arena, buffer: &mut [u8], wait: fn()) {
    let mut at = 0;
    while at < buffer.len() {
        let position = arena.consumer(Identity::current().unwrap()).position();
        while !arena.ring().words().head_is_beyond(position) {
            wait();
        }
        at += arena.receive(&mut buffer[at..]);
    }
}

/// How fast two cores can tell each other anything at all.
fn cache_line() -> Vec<f64> {
    use std::sync::atomic::AtomicU32;
    use std::sync::atomic::Ordering::{Acquire, Release};

    #[derive(Default)]
    #[repr(align(128))]
    struct Line(AtomicU32);

    let (there, back) = (Line::default(), Line::default());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            pin(1);
            for n in 1..=BATCHES as u32 * BATCH {
                while there.0.load(Acquire) != n {
                    spin_loop();
                }
                back.0.store(n, Release);
            }
        });
        pin(0);
        let mut n = 0;
        batches(BATCHES, BATCH, || {
            n += 1;
            there.0.store(n, Release);
            while back.0.load(Acquire) != n {
                spin_loop();
            }
        })
    })
}

fn streams(out: &mut impl Write) {
    for capacity in [64, 128, 256, 512, 1024, 2048, 4096].map(|kib| kib << 10) {
        for len in [64, 4 << 10, 64 << 10, 128 << 10] {
            let what = format!("stream, {len} B writes, capacity {} KiB", capacity >> 10);
            let (batches, overall) = stream(capacity, len);
            line(out, &what, batches, "GB/s");
            writeln!(out, "{:48} {overall:9.2} GB/s", "  all of it, by the clock").unwrap();
        }
    }
}

/// Gigabytes a second, from a buffer of the sender's to one of the receiver's: batch by batch, and of
/// everything.
///
/// A batch is many times what the ring holds. Otherwise a receiver that was off its core finds whole
/// batches waiting, and what is measured is how fast it catches up.
fn stream(capacity: usize, len: usize) -> (Vec<f64>, f64) {
    let batch = 16 * capacity as u64;
    let count = ((if len < 1024 { 200 << 20 } else { 2 << 30 }) / batch).clamp(4, 400);
    let arena = Arena::new(capacity);
    let (start, stop) = (Barrier::new(2), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            pin(1);
            let bytes = vec![1; len];
            start.wait();
            let mut left = &bytes[..];
            let mut sent = 0;
            while !stop.load(Relaxed) {
                let n = arena.send(left);
                sent += n as u64;
                left = &left[n..];
                if n == 0 {
                    spin_loop();
                }
                if left.is_empty() {
                    left = &bytes;
                }
            }
            sent
        });
        pin(0);
        let mut buffer = vec![0; 128 << 10];
        let mut received = 0;
        let mut receive = |bytes: u64| {
            let (began, mut total) = (Instant::now(), 0);
            while total < bytes {
                let n = arena.receive(&mut buffer);
                total += n as u64;
                if n == 0 {
                    spin_loop();
                }
            }
            received += total;
            total as f64 / began.elapsed().as_secs_f64() / 1e9
        };
        start.wait();
        // Until the window has grown.
        receive(batch);
        let began = Instant::now();
        let batches = (0..count).map(|_| receive(batch)).collect();
        let overall = (count * batch) as f64 / began.elapsed().as_secs_f64() / 1e9;
        stop.store(true, Relaxed);
        let sent = sender.join().unwrap();
        let mut rest = 0;
        while let n @ 1.. = arena.receive(&mut buffer) {
            rest += n as u64;
        }
        assert_eq!(received + rest, sent, "every byte was sent once");
        (batches, overall)
    })
}
