//! Models: the set and the sleep protocol together, in every order that the memory model allows.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p dmm-nsocket --release --lib session`

use std::convert::Infallible;

use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

use crate::session::waiter::{Ringer, SleepWord, fence};
use crate::sync::{AtomicU32, Ordering};

use super::{BITS, ReadyWords, Taker};

/// A small set: two groups of one leaf.
type Words = ReadyWords<2, 1>;

/// A session's ring, as far as it matters here: how many bytes were published, and read.
struct Session {
    published: AtomicU32,
}

struct World {
    words: Words,
    sleep: SleepWord,
    sessions: [Session; 2],
    bell: Bell,
}

/// An eventfd.
struct Bell {
    rung: Mutex<bool>,
    changed: Condvar,
}

/// Session 0 in the first group, 1 in the second or beside the first.
fn bits(same_group: bool) -> [u16; 2] {
    [3, if same_group { 4 } else { BITS as u16 }]
}

impl World {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            words: Words::new(),
            sleep: SleepWord::new(),
            sessions: [0, 1].map(|_| Session {
                published: AtomicU32::new(0),
            }),
            bell: Bell {
                rung: Mutex::new(false),
                changed: Condvar::new(),
            },
        })
    }

    /// What a writer does.
    fn tell(&self, session: usize, bit: u16, ringer: &Ringer) {
        self.sessions[session]
            .published
            .fetch_add(1, Ordering::Relaxed);
        fence::full();
        self.words.set(bit);
        self.ring(ringer);
    }

    fn ring(&self, ringer: &Ringer) {
        let _ = ringer.ring_if_asleep(&self.sleep, || {
            *self.bell.rung.lock().unwrap() = true;
            self.bell.changed.notify_one();
            Ok::<_, Infallible>(())
        });
    }

    /// What a waiter does, until it has read as much as it expects. A lost wake-up is a deadlock,
    /// which loom reports.
    fn hear(&self, taker: &Taker, bits: [u16; 2], expected: u32) {
        let mut read = [0; 2];
        let mut out = [0; 2];
        while read.iter().sum::<u32>() < expected {
            let taken = taker.take(&self.words, &mut out);
            for bit in &out[..taken] {
                let session = bits
                    .iter()
                    .position(|b| b == bit)
                    .expect("a bit that was set");
                read[session] = self.sessions[session].published.load(Ordering::Relaxed);
            }
            if taken != 0 {
                continue;
            }
            self.sleep(taker);
        }
    }

    /// What one of several waiters does: takes one session, and sees to it that others take the rest.
    fn hear_one(&self, taker: &Taker) -> u16 {
        let mut out = [0];
        while taker.take(&self.words, &mut out) == 0 {
            self.sleep(taker);
        }
        if taker.is_ready(&self.words) {
            self.ring(&Ringer::new());
        }
        out[0]
    }

    /// Sleeps until the doorbell is rung, as `epoll_wait` does with `EPOLLET`.
    fn sleep(&self, taker: &Taker) {
        let Some(asleep) = self.sleep.prepare(|| taker.is_ready(&self.words)) else {
            return;
        };
        let mut rung = self.bell.rung.lock().unwrap();
        while !*rung {
            rung = self.bell.changed.wait(rung).unwrap();
        }
        *rung = false;
        drop(rung);
        drop(asleep);
    }
}

fn two_writers_and_a_waiter(same_group: bool) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(move || {
        let world = World::new();
        let bits = bits(same_group);
        let writers = [0, 1].map(|session| {
            let world = Arc::clone(&world);
            thread::spawn(move || world.tell(session, bits[session], &Ringer::new()))
        });
        let taker = Taker::new();
        taker.admit(2 * BITS as u32);
        world.hear(&taker, bits, 2);
        for writer in writers {
            writer.join().unwrap();
        }
    });
}

#[test]
fn two_writers_of_one_leaf_wake_the_waiter() {
    two_writers_and_a_waiter(true);
}

#[test]
fn two_writers_of_two_groups_wake_the_waiter() {
    two_writers_and_a_waiter(false);
}

/// The bit is found set the second time, and the sleep may be the one that was rung for.
#[test]
fn a_writer_that_tells_twice_wakes_the_waiter_twice() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(4);
    model.check(|| {
        let world = World::new();
        let bits = bits(true);
        let writer = {
            let world = Arc::clone(&world);
            thread::spawn(move || {
                let ringer = Ringer::new();
                world.tell(0, bits[0], &ringer);
                world.tell(0, bits[0], &ringer);
            })
        };
        let taker = Taker::new();
        taker.admit(BITS as u32);
        world.hear(&taker, bits, 2);
        writer.join().unwrap();
    });
}

/// Two threads of one process write, with one ringer between them.
#[test]
fn writers_that_share_a_ringer_wake_the_waiter() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let world = World::new();
        let bits = bits(true);
        let ringer = Arc::new(Ringer::new());
        let writers = [0, 1].map(|session| {
            let (world, ringer) = (Arc::clone(&world), Arc::clone(&ringer));
            thread::spawn(move || world.tell(session, bits[session], &ringer))
        });
        let taker = Taker::new();
        taker.admit(BITS as u32);
        world.hear(&taker, bits, 2);
        for writer in writers {
            writer.join().unwrap();
        }
    });
}

/// Two threads wait at one set, and each is busy for good once it has something to do. The second
/// must be woken by the writer or by the first.
#[test]
fn a_wake_up_is_passed_on() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(2);
    model.check(|| {
        let world = World::new();
        let bits = bits(true);
        let taker = Arc::new(Taker::new());
        taker.admit(BITS as u32);
        let other = {
            let (world, taker) = (Arc::clone(&world), Arc::clone(&taker));
            thread::spawn(move || world.hear_one(&taker))
        };
        let writer = {
            let world = Arc::clone(&world);
            thread::spawn(move || {
                let ringer = Ringer::new();
                world.tell(0, bits[0], &ringer);
                world.tell(1, bits[1], &ringer);
            })
        };
        let mut heard = [world.hear_one(&taker), other.join().unwrap()];
        heard.sort_unstable();
        assert_eq!(heard, bits);
        writer.join().unwrap();
    });
}

/// A waiter gives up (its time is over) while a writer tells; the next sleep must not miss it.
#[test]
fn a_cancelled_sleep_loses_nothing() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(4);
    model.check(|| {
        let world = World::new();
        let bits = bits(true);
        let writer = {
            let world = Arc::clone(&world);
            thread::spawn(move || world.tell(0, bits[0], &Ringer::new()))
        };
        let taker = Taker::new();
        taker.admit(BITS as u32);
        if let Some(asleep) = world.sleep.prepare(|| taker.is_ready(&world.words)) {
            asleep.cancel();
        }
        world.hear(&taker, bits, 1);
        writer.join().unwrap();
        assert_eq!(world.sleep.sleepers(), 0);
    });
}

/// Room for one session only: what is left is found by the next call.
#[test]
fn what_does_not_fit_stays() {
    loom::model(|| {
        let world = World::new();
        let bits = bits(true);
        let writer = {
            let world = Arc::clone(&world);
            thread::spawn(move || {
                world.words.set(bits[0]);
                world.words.set(bits[1]);
            })
        };
        let taker = Taker::new();
        taker.admit(BITS as u32);
        let mut out = [0];
        let mut taken = taker.take(&world.words, &mut out);
        writer.join().unwrap();
        while taker.is_ready(&world.words) {
            taken += taker.take(&world.words, &mut out);
        }
        assert_eq!(taken, 2);
    });
}
