//! Models of the mesh: two shards, a ring with room for one message between them, and both may sleep.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p dmm-shards --release --lib models`

use dmm_nsocket::session::waiter::fence;
use dmm_nsocket::sync::{AtomicU32, Ordering as Order};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

use super::gate::Gate;
use crate::wake::door::Door;

/// The two indexes of a ring of one.
struct Ring {
    written: AtomicU32,
    read: AtomicU32,
}

impl Ring {
    fn has_room(&self) -> bool {
        self.written.load(Order::Relaxed) == self.read.load(Order::Acquire)
    }

    fn has_message(&self) -> bool {
        self.written.load(Order::Acquire) != self.read.load(Order::Relaxed)
    }
}

struct Shard {
    door: Door<()>,
    rung: Mutex<bool>,
    changed: Condvar,
}

impl Shard {
    fn new() -> Self {
        Self {
            door: Door::new(),
            rung: Mutex::new(false),
            changed: Condvar::new(),
        }
    }

    fn ring(&self) {
        *self.rung.lock().unwrap() = true;
        self.changed.notify_one();
    }

    fn sleep_unless(&self, ready: impl FnOnce() -> bool) {
        let Some(asleep) = self.door.lie_down(ready) else {
            return;
        };
        let mut rung = self.rung.lock().unwrap();
        while !*rung {
            rung = self.changed.wait(rung).unwrap();
        }
        *rung = false;
        drop(rung);
        drop(asleep);
    }
}

struct World {
    ring: Ring,
    gate: Gate,
    producer: Shard,
    consumer: Shard,
}

impl World {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            ring: Ring {
                written: AtomicU32::new(0),
                read: AtomicU32::new(0),
            },
            gate: Gate::new(),
            producer: Shard::new(),
            consumer: Shard::new(),
        })
    }

    fn produce(&self, messages: u32) {
        for message in 1..=messages {
            while !self.ring.has_room() {
                self.gate.set_blocked(true);
                self.producer.sleep_unless(|| self.ring.has_room());
            }
            self.gate.set_blocked(false);
            self.ring.written.store(message, Order::Release);
            fence::full();
            self.consumer.door.ring_if_asleep(|| self.consumer.ring());
        }
    }

    fn consume(&self, messages: u32) {
        for message in 1..=messages {
            while !self.ring.has_message() {
                self.consumer.sleep_unless(|| self.ring.has_message());
            }
            self.ring.read.store(message, Order::Release);
            self.gate
                .made_room(&self.producer.door, || self.producer.ring());
        }
    }
}

fn exchange(messages: u32, bound: usize) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(bound);
    model.check(move || {
        let world = World::new();
        let producer = {
            let world = Arc::clone(&world);
            thread::spawn(move || world.produce(messages))
        };
        world.consume(messages);
        producer.join().unwrap();
    });
}

#[test]
fn a_message_wakes_the_consumer() {
    exchange(1, 4);
}

#[test]
fn room_wakes_the_producer() {
    exchange(2, 3);
}

#[test]
fn both_sleep_and_wake_more_than_once() {
    exchange(3, 2);
}
