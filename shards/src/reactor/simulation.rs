//! A kernel made of chance, for what the real one does rarely: a driver that ends requests in any order, with
//! short results, errors, and completions that come long after their future is gone.
//!
//! Each run follows from its seed, which a failure prints (proptest). The driver checks that what requests
//! point at is intact when they end, which is when a real kernel would still write there.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::os::fd::{AsFd, RawFd};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use proptest::prelude::*;

use super::bell::{self, Bell};
use super::driver::{Driver, Wait};
use super::once::Once;
use super::request::{Event, Request};
use super::table::Key;
use super::{DriverKind, Features, Pool, Reactor, pool::Shape};

/// What a simulated read fills its memory with.
const FILL: u8 = 0xa5;

/// A payload that tells of its end.
struct Payload {
    bytes: Vec<u8>,
    alive: Rc<Cell<usize>>,
}

impl Payload {
    fn new(alive: &Rc<Cell<usize>>) -> Self {
        alive.set(alive.get() + 1);
        Self {
            bytes: vec![0; 32],
            alive: Rc::clone(alive),
        }
    }
}

impl Drop for Payload {
    fn drop(&mut self) {
        self.alive.set(self.alive.get() - 1);
        // What is freed must not look intact to a driver that writes to it.
        self.bytes.fill(0xee);
    }
}

/// The world as the test sees it: shared with the driver.
#[derive(Default)]
struct World {
    pending: RefCell<HashMap<Key, Request>>,
    cancelled: RefCell<Vec<Key>>,
    /// Which request ends next, and how.
    chances: RefCell<Vec<u8>>,
}

impl World {
    fn chance(&self) -> u8 {
        self.chances.borrow_mut().pop().unwrap_or(0)
    }

    /// Ends one request, as chance has it.
    fn end_one(&self, events: &mut Vec<Event>) {
        let mut keys: Vec<_> = self.pending.borrow().keys().copied().collect();
        keys.sort_by_key(|key| key.to_bits());
        let nth = usize::from(self.chance()) % keys.len().max(1);
        let Some(key) = keys.get(nth).copied() else {
            return;
        };
        let Some(Request::Read { data, len, .. }) = self.pending.borrow_mut().remove(&key) else {
            return;
        };
        let was_cancelled = self.cancelled.borrow().contains(&key);
        let result = match self.chance() {
            // A cancelled request may be too late to cancel.
            0..128 if was_cancelled => -libc::ECANCELED,
            0..32 => -libc::EIO,
            short => i32::from(short) % (len as i32 + 1),
        };
        // SAFETY: the contract of `Driver::submit`, which is what this tests.
        let memory = unsafe { std::slice::from_raw_parts_mut(data, len as usize) };
        assert!(
            memory.iter().all(|byte| *byte == 0),
            "the memory was touched, or freed"
        );
        memory[..result.max(0) as usize].fill(FILL);
        events.push(Event::last(key, result));
    }
}

struct Simulated {
    world: Rc<World>,
    features: Features,
}

impl Driver for Simulated {
    unsafe fn submit(&mut self, key: Key, request: Request) {
        assert!(
            self.world
                .pending
                .borrow_mut()
                .insert(key, request)
                .is_none()
        );
    }

    fn cancel(&mut self, key: Key) {
        self.world.cancelled.borrow_mut().push(key);
    }

    fn turn(&mut self, _wait: Wait, events: &mut Vec<Event>) -> io::Result<()> {
        self.world.end_one(events);
        Ok(())
    }

    fn has_work(&mut self) -> bool {
        false
    }

    fn ring(&mut self, _bell: &Bell) {}

    fn bell(&self) -> io::Result<Bell> {
        Bell::new(bell::eventfd()?.as_fd(), None)
    }

    fn forget(&mut self, _fd: RawFd) {}

    fn features(&self) -> &Features {
        &self.features
    }
}

fn reactor(world: &Rc<World>) -> Rc<Reactor> {
    let shape = Shape {
        buffers: 2,
        size: 64,
    };
    let driver = Simulated {
        world: Rc::clone(world),
        features: Features::new(DriverKind::Epoll),
    };
    Reactor::with_driver(Box::new(driver), Pool::with_list(shape).unwrap())
}

fn read(reactor: &Rc<Reactor>, alive: &Rc<Cell<usize>>) -> Once<Payload> {
    // SAFETY: the request points into the payload's vector.
    unsafe {
        Once::start(reactor, Payload::new(alive), |payload| Request::Read {
            file: -1,
            data: payload.bytes.as_mut_ptr(),
            len: payload.bytes.len() as u32,
            offset: 0,
        })
    }
}

/// Polls once; tells whether it was ready, after checking what it gave.
fn poll(once: &mut Once<Payload>) -> bool {
    let mut cx = Context::from_waker(Waker::noop());
    let Poll::Ready((result, payload)) = pin!(once).poll(&mut cx) else {
        return false;
    };
    let read = result.map_or(0, |read| read as usize);
    assert!(payload.bytes[..read].iter().all(|byte| *byte == FILL));
    assert!(payload.bytes[read..].iter().all(|byte| *byte == 0));
    true
}

proptest! {
    /// Futures are made, polled and dropped, and requests end, in any order; then the reactor closes.
    #[test]
    fn memory_stays_until_the_kernel_lets_go(
        steps in proptest::collection::vec(0..4u8, 1..120),
        chances in proptest::collection::vec(any::<u8>(), 400),
    ) {
        let world = Rc::new(World::default());
        *world.chances.borrow_mut() = chances;
        let reactor = reactor(&world);
        let alive = Rc::new(Cell::new(0));
        let mut futures = Vec::new();
        for step in steps {
            let nth = usize::from(world.chance()) % (futures.len() + 1);
            match step {
                0 => futures.push(read(&reactor, &alive)),
                1 => reactor.turn(Wait::Not).unwrap(),
                2 if nth < futures.len() => drop(futures.swap_remove(nth)),
                3 if nth < futures.len() && poll(&mut futures[nth]) => {
                    drop(futures.swap_remove(nth));
                }
                _ => {}
            }
            prop_assert!(alive.get() >= world.pending.borrow().len(), "a payload is gone too early");
            prop_assert_eq!(reactor.in_flight(), world.pending.borrow().len());
        }
        reactor.close();
        prop_assert_eq!(reactor.in_flight(), 0);
        // A closed reactor starts nothing, and says so at once.
        let mut late = read(&reactor, &alive);
        prop_assert!(poll(&mut late));
        drop(late);
        drop(futures);
        prop_assert_eq!(alive.get(), 0, "a payload was leaked");
    }
}

/// A kernel that never lets go: the memory is leaked rather than freed.
#[test]
fn what_the_kernel_keeps_is_leaked() {
    struct Stuck(Features);
    impl Driver for Stuck {
        unsafe fn submit(&mut self, _key: Key, _request: Request) {}
        fn cancel(&mut self, _key: Key) {}
        fn turn(&mut self, _wait: Wait, _events: &mut Vec<Event>) -> io::Result<()> {
            Err(io::ErrorKind::Other.into())
        }
        fn has_work(&mut self) -> bool {
            false
        }
        fn ring(&mut self, _bell: &Bell) {}
        fn bell(&self) -> io::Result<Bell> {
            Bell::new(bell::eventfd()?.as_fd(), None)
        }
        fn forget(&mut self, _fd: RawFd) {}
        fn features(&self) -> &Features {
            &self.0
        }
    }
    let shape = Shape {
        buffers: 2,
        size: 64,
    };
    let driver = Box::new(Stuck(Features::new(DriverKind::Epoll)));
    let reactor = Reactor::with_driver(driver, Pool::with_list(shape).unwrap());
    let alive = Rc::new(Cell::new(0));
    drop(read(&reactor, &alive));
    reactor.close();
    drop(reactor);
    assert_eq!(alive.get(), 1, "the kernel may still write to it");
}
