//! What waiting and waking cost, between core 0 and core 1: where the constants of
//! `session::waiter::spin` come from.
//!
//! `cargo bench -p dmm-nsocket --bench wake` (needs two idle cores)

#![allow(clippy::print_stdout, reason = "prints its results")]

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use dmm_nsocket::session::ready::{ReadyWords, Taker};
use dmm_nsocket::session::waiter::{Bell, Doorbell, Outcome, Ringer, SleepWord, Spin, fence};
use rustix::event::epoll;
use rustix::fd::OwnedFd;
use rustix::thread::{CpuSet, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

fn ns(clock: ClockId) -> u64 {
    let now = clock_gettime(clock);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

fn now() -> u64 {
    ns(ClockId::Monotonic)
}

fn pin(core: usize) {
    let mut set = CpuSet::new();
    set.set(core);
    // Best effort: on a machine with one core the figures are those of one core.
    let _ = sched_setaffinity(None, &set);
}

fn busy(ns: u64) {
    let until = now() + ns;
    while now() < until {
        std::hint::spin_loop();
    }
}

/// p10, p50 and p99.
fn spread(mut values: Vec<u64>) -> String {
    values.sort_unstable();
    let at = |part: usize| values[values.len() * part / 100];
    format!("{:6} {:6} {:6}", at(10), at(50), at(99))
}

/// A waiter as a program has it: set, word, doorbell in an epoll instance.
struct Waiter {
    words: Apart<ReadyWords>,
    word: Apart<SleepWord>,
    taker: Apart<Taker>,
    doorbell: Doorbell,
    bell: Bell,
    epoll: OwnedFd,
    ringer: Apart<Ringer>,
    spin: Apart<Spin>,
    sleeps: AtomicU64,
    /// The core of whoever is waited for.
    peer: u32,
}

/// On cache lines of its own, as it is in different memory in production.
#[repr(align(128))]
struct Apart<T>(T);

impl<T> std::ops::Deref for Apart<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum How {
    Sleeping,
    Spinning,
    Adaptive,
}

impl Waiter {
    fn new(doorbell: Doorbell, peer: u32) -> Self {
        let taker = Taker::new();
        taker.admit(64);
        let bell = Bell::adopt(doorbell.button().try_clone_to_owned().unwrap(), true).unwrap();
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
        let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&epoll, &doorbell, epoll::EventData::new_u64(0), flags).unwrap();
        Self {
            words: Apart(ReadyWords::new()),
            word: Apart(SleepWord::new()),
            taker: Apart(taker),
            doorbell,
            bell,
            epoll,
            ringer: Apart(Ringer::new()),
            spin: Apart(Spin::new()),
            sleeps: AtomicU64::new(0),
            peer,
        }
    }

    /// What its writer does; true if it had to ring.
    fn tell(&self) -> bool {
        fence::full();
        self.words.set(1);
        self.ringer
            .ring_if_asleep(&self.word, || self.bell.ring())
            .unwrap()
    }

    fn wait(&self, how: How) {
        let mut out = [0; 8];
        let ready = || self.taker.is_ready(&self.words);
        while self.taker.take(&self.words, &mut out) == 0 {
            let began = match how {
                How::Sleeping => None,
                How::Spinning => {
                    while !ready() {
                        std::hint::spin_loop();
                    }
                    continue;
                }
                How::Adaptive => match self.spin.wait(Some(self.peer), ready) {
                    Outcome::Ready => continue,
                    Outcome::Sleep(began) => Some(began),
                },
            };
            if let Some(asleep) = self.word.prepare(ready) {
                let mut events = [epoll::Event {
                    flags: epoll::EventFlags::empty(),
                    data: epoll::EventData::new_u64(0),
                }];
                epoll::wait(&self.epoll, &mut events[..], None).unwrap();
                drop(asleep);
                self.sleeps.fetch_add(1, Ordering::Relaxed);
                if let Some(began) = began {
                    self.spin.slept(began);
                }
                self.doorbell.drain().unwrap();
            }
        }
    }
}

/// A message every `gap` ns to a waiter that sleeps.
fn one_way(name: &str, doorbell: Doorbell, gap: u64, how: How) {
    let waiter = Waiter::new(doorbell, 0);
    let (sent, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let messages = (400_000_000 / gap).min(5_000);
    let mut rings = Vec::new();
    let (latency, cpu) = std::thread::scope(|scope| {
        let listener = scope.spawn(|| {
            pin(1);
            let (mut latency, cpu) = (Vec::new(), ns(ClockId::ThreadCPUTime));
            while !stop.load(Ordering::Relaxed) {
                waiter.wait(how);
                latency.push(now() - sent.load(Ordering::Relaxed));
            }
            let cpu = (ns(ClockId::ThreadCPUTime) - cpu) / latency.len() as u64;
            (latency, cpu)
        });
        pin(0);
        std::thread::sleep(Duration::from_millis(20));
        for message in 0..messages {
            busy(gap);
            stop.store(message + 1 == messages, Ordering::Relaxed);
            let began = now();
            sent.store(began, Ordering::Relaxed);
            waiter.tell();
            rings.push(now() - began);
        }
        listener.join().unwrap()
    });
    println!(
        "{name:32} {:5} us | {} | {} | {cpu:6}",
        gap / 1_000,
        spread(latency),
        spread(rings)
    );
}

/// A message to and fro, each side working for `work` ns in between; after some that were slow, so
/// that both sides have got used to sleeping.
fn ping_pong(how: How, work: u64) {
    const SLOW: u64 = 30;
    let sides = [1, 0].map(|peer| Waiter::new(Doorbell::eventfd().unwrap(), peer));
    let rounds = 20_000;
    let pace = |round| match round {
        0..SLOW => busy(1_000_000),
        _ if work != 0 => busy(work),
        _ => {}
    };
    let turn = |mine: usize| {
        if sides[1 - mine].tell() {
            sides[mine].spin.rang();
        }
    };
    let cpu = AtomicU64::new(0);
    let mut latency = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            pin(1);
            let mut began = 0;
            for round in 0..rounds + SLOW {
                sides[1].wait(how);
                if round == SLOW {
                    began = ns(ClockId::ThreadCPUTime);
                }
                pace(round);
                turn(1);
            }
            cpu.fetch_add(ns(ClockId::ThreadCPUTime) - began, Ordering::Relaxed);
        });
        scope.spawn(|| {
            pin(0);
            let mut cpu_began = 0;
            for round in 0..rounds + SLOW {
                if round == SLOW {
                    cpu_began = ns(ClockId::ThreadCPUTime);
                }
                let began = now();
                pace(round);
                turn(0);
                sides[0].wait(how);
                if round >= SLOW {
                    latency.push(now() - began);
                }
            }
            cpu.fetch_add(ns(ClockId::ThreadCPUTime) - cpu_began, Ordering::Relaxed);
        });
    });
    let sleeps: u64 = sides.iter().map(|s| s.sleeps.load(Ordering::Relaxed)).sum();
    let burned: u64 = sides.iter().map(|side| side.spin.burned_ns()).sum();
    println!(
        "{:10} {:>20} ns | {} | {:9} | {:7.3} | {:6}",
        format!("{how:?}"),
        work,
        spread(latency),
        cpu.into_inner() / rounds,
        sleeps as f64 / rounds as f64,
        burned / rounds,
    );
}

/// The same by a futex, as a floor: it cannot be waited for together with descriptors.
fn futex(gap: u64) {
    use rustix::thread::futex;
    let (word, sent, stop) = (AtomicU32::new(0), AtomicU64::new(0), AtomicBool::new(false));
    let messages = 5_000;
    let mut rings = Vec::new();
    let (latency, cpu) = std::thread::scope(|scope| {
        let listener = scope.spawn(|| {
            pin(1);
            let (mut latency, cpu) = (Vec::new(), ns(ClockId::ThreadCPUTime));
            let mut seen = 0;
            while !stop.load(Ordering::Relaxed) {
                // Interrupted, or changed already: looks again.
                let _ = futex::wait(&word, futex::Flags::empty(), seen, None);
                let current = word.load(Ordering::Acquire);
                if current != seen {
                    seen = current;
                    latency.push(now() - sent.load(Ordering::Relaxed));
                }
            }
            let cpu = (ns(ClockId::ThreadCPUTime) - cpu) / latency.len() as u64;
            (latency, cpu)
        });
        pin(0);
        std::thread::sleep(Duration::from_millis(20));
        for message in 0..messages {
            busy(gap);
            stop.store(message + 1 == messages, Ordering::Relaxed);
            let began = now();
            sent.store(began, Ordering::Relaxed);
            word.fetch_add(1, Ordering::Release);
            futex::wake(&word, futex::Flags::empty(), 1).unwrap();
            rings.push(now() - began);
        }
        listener.join().unwrap()
    });
    println!(
        "{:32} {:5} us | {} | {} | {cpu:6}",
        "futex",
        gap / 1_000,
        spread(latency),
        spread(rings)
    );
}

fn main() {
    println!(
        "one message, p10 p50 p99 ns          gap | publish to waiter    | telling              | waiter's CPU"
    );
    for gap in [15_000, 50_000, 1_000_000] {
        let eventfd = || Doorbell::eventfd().unwrap();
        one_way("asleep, eventfd", eventfd(), gap, How::Sleeping);
        one_way(
            "asleep, sockets",
            Doorbell::socket().unwrap(),
            gap,
            How::Sleeping,
        );
        one_way("spinning", eventfd(), gap, How::Spinning);
    }
    futex(50_000);
    println!();
    println!(
        "there and back            work a side | p10 p50 p99 ns       | CPU, both | sleeps  | burned"
    );
    for work in [0, 1_000, 5_000, 15_000, 50_000] {
        for how in [How::Sleeping, How::Spinning, How::Adaptive] {
            ping_pong(how, work);
        }
    }
}
