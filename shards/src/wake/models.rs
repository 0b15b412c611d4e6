//! Models of the executor's wake path: who wakes a task from another thread, and the shard that lies
//! down meanwhile, in every order that the memory model allows.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p dmm-shards --release --lib models`

use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

use super::door::Door;
use super::inbox::Inbox;

/// An eventfd that is watched edge-triggered: a ring before the sleep ends it at once.
#[derive(Default)]
struct Bell {
    rung: Mutex<bool>,
    changed: Condvar,
}

impl Bell {
    fn ring(&self) {
        *self.rung.lock().unwrap() = true;
        self.changed.notify_one();
    }

    fn wait(&self) {
        let mut rung = self.rung.lock().unwrap();
        while !*rung {
            rung = self.changed.wait(rung).unwrap();
        }
        *rung = false;
    }
}

struct World {
    door: Door<u32>,
    bell: Bell,
}

impl World {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            door: Door::new(),
            bell: Bell::default(),
        })
    }

    /// What a shard does, until it has run `expected` tasks. A lost wake-up is a deadlock, which loom
    /// reports.
    fn run(&self, expected: usize) -> Vec<u32> {
        let mut run = Vec::new();
        while run.len() < expected {
            let before = run.len();
            run.extend(self.door.take());
            if run.len() != before {
                continue;
            }
            if let Some(asleep) = self.door.lie_down(|| false) {
                self.bell.wait();
                drop(asleep);
            }
        }
        run
    }
}

fn check(bound: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(bound);
    builder.check(model);
}

#[test]
fn two_threads_wake_a_shard() {
    check(3, || {
        let world = World::new();
        let wakers = [1, 2].map(|task| {
            let world = Arc::clone(&world);
            thread::spawn(move || world.door.send(task, || world.bell.ring()).unwrap())
        });
        let mut run = world.run(2);
        run.sort_unstable();
        assert_eq!(run, [1, 2]);
        for waker in wakers {
            waker.join().unwrap();
        }
    });
}

#[test]
fn one_thread_wakes_a_shard_twice() {
    check(4, || {
        let world = World::new();
        let waker = {
            let world = Arc::clone(&world);
            thread::spawn(move || {
                for task in [1, 2] {
                    world.door.send(task, || world.bell.ring()).unwrap();
                }
            })
        };
        assert_eq!(world.run(2), [1, 2], "in the order of their being woken");
        waker.join().unwrap();
    });
}

/// A task is woken while its shard ends: it is either taken by the shard or given back.
#[test]
fn nothing_is_lost_when_the_door_closes() {
    loom::model(|| {
        let inbox = Arc::new(Inbox::new());
        let waker = {
            let inbox = Arc::clone(&inbox);
            thread::spawn(move || inbox.push(1).is_err())
        };
        let taken = inbox.take().count() + inbox.close().count();
        let given_back = waker.join().unwrap();
        assert_eq!(taken, usize::from(!given_back));
        assert!(inbox.is_empty());
    });
}
