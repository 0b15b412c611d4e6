//! A shard's I/O: operations that own their memory, carried by a driver.
//!
//! | module | what it holds |
//! |---|---|
//! | [`driver`] | the trait of what carries operations |
//! | [`uring`], [`epoll`] | the two that there are |
//! | [`request`] | what is asked of a driver, and what it answers |
//! | [`table`] | what is in flight |
//! | [`pool`] | memory that is lent while data is there |
//! | [`once`] | an operation as a future |
//! | [`fd`] | descriptors that stay open while they are used |
//! | [`bell`] | what wakes a shard that sleeps |
//! | [`features`] | what of the kernel is used |
//!
//! # Who owns memory, and until when
//!
//! The kernel may read or write a request's memory until it has told the request's end; a future can be
//! dropped at any time. So the memory is never the future's: it belongs to an [`Operation`], which the
//! in-flight table holds until the last event. A dropped future asks for the operation's end and goes;
//! the operation follows when the kernel says so, with what it has got (a connection that was accepted in
//! the last moment is closed). When the reactor ends, it ends everything in flight first, then
//! the driver, then the memory; what the kernel does not let go is leaked rather than freed.

pub(crate) mod bell;
pub(crate) mod driver;
mod epoll;
pub(crate) mod fd;
mod features;
pub(crate) mod once;
mod pool;
pub(crate) mod request;
#[cfg(test)]
mod simulation;
mod start;
pub(crate) mod table;
mod uring;

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use bell::Bell;
use driver::{Driver, Wait};
use request::{Event, Request};
use table::{Key, Table};

pub use features::{DriverKind, Feature, Features};
pub use pool::Lent;
pub(crate) use pool::Pool;
pub(crate) use start::{Choice, Settings};

/// How long the end of a reactor waits for what was sent to leave.
const LINGER: Duration = Duration::from_secs(1);
/// How long it then waits for the kernel to let go of memory.
const LET_GO: Duration = Duration::from_secs(5);

/// Something in flight. It owns all that its request points at.
pub(crate) trait Operation {
    /// Bytes were received; [`complete`](Self::complete) follows.
    fn data(&self, _data: Lent) {}

    /// The request's result: a count or a descriptor, or the error.
    fn complete(self: Rc<Self>, outcome: Outcome);

    /// Whether it is given time to end by itself when the reactor ends.
    fn lingers(&self) -> bool {
        false
    }
}

/// What an event says to its operation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcome {
    pub(crate) result: Result<u32, Errno>,
    /// There will be more.
    pub(crate) more: bool,
    /// The end of a zero-copy send; `Some(true)` if the kernel has copied after all.
    pub(crate) notification: Option<bool>,
}

/// Work that is put off to the end of the turn, so that a turn's writes become one.
pub(crate) trait Deferred {
    fn run(self: Rc<Self>, reactor: &Rc<Reactor>);
}

/// One shard's reactor.
pub(crate) struct Reactor {
    driver: RefCell<Box<dyn Driver>>,
    operations: RefCell<Table<Rc<dyn Operation>>>,
    events: Cell<Vec<Event>>,
    deferred: RefCell<Vec<Rc<dyn Deferred>>>,
    /// What waits for the pool to have buffers again.
    starved: RefCell<Vec<Rc<dyn Deferred>>>,
    pool: Rc<Pool>,
    features: Features,
    /// Vectors for outgoing bytes, the last used first.
    scraps: RefCell<Vec<Vec<u8>>>,
    closed: Cell<bool>,
}

/// Vectors kept for outgoing bytes: so many, and so large at most.
const SCRAPS: usize = 64;
const SCRAP_BYTES: usize = 64 << 10;

impl Reactor {
    /// A reactor for the calling thread.
    ///
    /// # Errors
    ///
    /// If no driver can be made; which one was chosen and why is in [`features`](Self::features).
    pub(crate) fn new(settings: &Settings) -> io::Result<Rc<Self>> {
        let (driver, pool) = start::start(settings)?;
        Ok(Self::with_driver(driver, pool))
    }

    pub(crate) fn with_driver(driver: Box<dyn Driver>, pool: Rc<Pool>) -> Rc<Self> {
        Rc::new(Self {
            features: driver.features().clone(),
            driver: RefCell::new(driver),
            operations: RefCell::new(Table::new()),
            events: Cell::default(),
            deferred: RefCell::default(),
            starved: RefCell::default(),
            pool,
            scraps: RefCell::default(),
            closed: Cell::new(false),
        })
    }

    /// Submits a request of `operation`'s, which is kept until its last event.
    ///
    /// # Safety
    ///
    /// What `request` points at belongs to `operation` and stays where it is, and as it is, until
    /// `operation` was told of the last event. Its descriptors stay open as long.
    pub(crate) unsafe fn start(&self, operation: Rc<dyn Operation>, request: Request) -> Key {
        let key = self.operations.borrow_mut().insert(operation);
        if self.closed.get() {
            self.dispatch(Event::last(key, -libc::ECANCELED));
            return key;
        }
        // SAFETY: the table keeps the operation, and with it what the request points at.
        unsafe { self.driver.borrow_mut().submit(key, request) };
        key
    }

    /// Asks for the end of an operation. It is told as usual.
    pub(crate) fn cancel(&self, key: Key) {
        if self.operations.borrow().find(key).is_some() {
            self.driver.borrow_mut().cancel(key);
        }
    }

    /// Puts work off to the end of the turn.
    #[inline]
    pub(crate) fn defer(&self, work: Rc<dyn Deferred>) {
        self.deferred.borrow_mut().push(work);
    }

    /// Puts work off until the pool has buffers.
    pub(crate) fn defer_until_buffers(&self, work: Rc<dyn Deferred>) {
        self.starved.borrow_mut().push(work);
    }

    /// Ends a turn: does what was put off, submits, waits, and tells operations what came of them.
    ///
    /// # Errors
    ///
    /// Those that make the driver useless.
    pub(crate) fn turn(self: &Rc<Self>, wait: Wait) -> io::Result<()> {
        self.run_deferred();
        let mut events = self.events.take();
        let result = self.driver.borrow_mut().turn(wait, &mut events);
        for event in events.drain(..) {
            self.dispatch(event);
        }
        self.events.set(events);
        result
    }

    /// Whether a turn would find something to do, without asking the kernel.
    #[inline]
    pub(crate) fn has_work(&self) -> bool {
        !self.deferred.borrow().is_empty() || self.driver.borrow_mut().has_work()
    }

    /// Wakes another shard, with this turn's system call where that is possible.
    pub(crate) fn ring(&self, bell: &Bell) {
        self.driver.borrow_mut().ring(bell);
    }

    /// A handle of what wakes this reactor.
    ///
    /// # Errors
    ///
    /// If there are no more descriptors.
    pub(crate) fn bell(&self) -> io::Result<Bell> {
        self.driver.borrow().bell()
    }

    pub(crate) fn features(&self) -> &Features {
        &self.features
    }

    pub(crate) fn pool(&self) -> &Rc<Pool> {
        &self.pool
    }

    /// How many operations are in flight.
    pub(crate) fn in_flight(&self) -> usize {
        self.operations.borrow().len()
    }

    /// An empty vector for outgoing bytes.
    #[inline]
    pub(crate) fn scrap(&self) -> Vec<u8> {
        self.scraps.borrow_mut().pop().unwrap_or_default()
    }

    /// Takes such a vector back.
    #[inline]
    pub(crate) fn recycle(&self, mut scrap: Vec<u8>) {
        let mut scraps = self.scraps.borrow_mut();
        if scraps.len() < SCRAPS && scrap.capacity() <= SCRAP_BYTES {
            scrap.clear();
            scraps.push(scrap);
        }
    }

    /// Ends everything in flight, and lets nothing begin any more. Sends are given [`LINGER`] to end by
    /// themselves.
    pub(crate) fn close(self: &Rc<Self>) {
        self.run_deferred();
        self.cancel_all(|operation| !operation.lingers());
        self.turn_until_empty(LINGER);
        self.closed.set(true);
        self.deferred.borrow_mut().clear();
        self.starved.borrow_mut().clear();
        self.cancel_all(|_| true);
        self.turn_until_empty(LET_GO);
        // The kernel may still use their memory: it is never freed.
        let stuck = std::mem::replace(&mut *self.operations.borrow_mut(), Table::new());
        if !stuck.is_empty() {
            std::mem::forget(stuck);
            std::mem::forget(Rc::clone(&self.pool));
        }
    }

    fn run_deferred(self: &Rc<Self>) {
        if !self.starved.borrow().is_empty() && self.pool.has_supply() {
            let fed = self.starved.take();
            self.deferred.borrow_mut().extend(fed);
        }
        // What is put off by what was put off belongs to this turn too.
        loop {
            let Some(work) = self.deferred.borrow_mut().pop() else {
                return;
            };
            work.run(self);
        }
    }

    fn dispatch(&self, event: Event) {
        let operation = if event.more {
            self.operations.borrow().find(event.key).cloned()
        } else {
            self.operations.borrow_mut().remove(event.key)
        };
        if let Some(provided) = event.data {
            self.pool.lend(provided, |data| {
                if let Some(operation) = &operation {
                    operation.data(data);
                }
            });
        }
        let Some(operation) = operation else { return };
        operation.complete(Outcome {
            result: if event.notification {
                Ok(0)
            } else {
                result(event.result)
            },
            more: event.more,
            notification: event.notification.then_some(event.result == Event::COPIED),
        });
    }

    fn cancel_all(&self, which: impl Fn(&dyn Operation) -> bool) {
        let keys: Vec<_> = {
            let operations = self.operations.borrow();
            let chosen = |key: &Key| operations.find(*key).is_some_and(|op| which(&**op));
            operations.keys().filter(chosen).collect()
        };
        for key in keys {
            self.driver.borrow_mut().cancel(key);
        }
    }

    fn turn_until_empty(self: &Rc<Self>, limit: Duration) {
        let end = Instant::now() + limit;
        while !self.operations.borrow().is_empty() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || self.turn(Wait::AtMost(left)).is_err() {
                return;
            }
        }
    }

    /// A descriptor is about to be closed.
    fn forget(&self, fd: RawFd) {
        self.driver.borrow_mut().forget(fd);
    }
}

fn result(raw: i32) -> Result<u32, Errno> {
    u32::try_from(raw).map_err(|_| Errno::from_raw_os_error(raw.wrapping_neg()))
}
