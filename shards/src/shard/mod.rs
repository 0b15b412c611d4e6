//! One shard: a thread's reactor, executor, timers and end of the mesh, and the loop that turns them.

mod beacon;
mod life;
mod stats;

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::ptr::null;
use std::rc::Rc;

use crate::executor::Executor;
use crate::mesh::{Link, Mesh};
use crate::reactor::{Features, Reactor, Settings};
use crate::sync::Arc;
use crate::timer::Timers;

pub(crate) use beacon::Beacon;
pub use life::Idle;
pub(crate) use life::Life;
pub use stats::{ShardStats, stats};

/// What lives on one shard's thread.
pub(crate) struct Local {
    index: usize,
    count: usize,
    reactor: Rc<Reactor>,
    executor: Executor,
    timers: Timers,
    mesh: Mesh,
    beacon: Arc<Beacon>,
    services: RefCell<HashMap<u64, Rc<dyn Any>>>,
    sleeps: Cell<u64>,
}

impl Local {
    /// A shard of the calling thread.
    pub(crate) fn new(
        index: usize,
        settings: &Settings,
        beacon: Arc<Beacon>,
        links: Vec<Option<Link>>,
    ) -> io::Result<Rc<Self>> {
        let reactor = Reactor::new(settings)?;
        beacon.set_bell(reactor.bell()?);
        Ok(Rc::new(Self {
            index,
            count: links.len(),
            reactor,
            executor: Executor::new(),
            timers: Timers::new(),
            mesh: Mesh::new(links),
            beacon,
            services: RefCell::default(),
            sleeps: Cell::new(0),
        }))
    }

    pub(crate) fn index(&self) -> usize {
        self.index
    }

    pub(crate) fn count(&self) -> usize {
        self.count
    }

    #[inline]
    pub(crate) fn reactor(&self) -> &Rc<Reactor> {
        &self.reactor
    }

    #[inline]
    pub(crate) fn executor(&self) -> &Executor {
        &self.executor
    }

    pub(crate) fn timers(&self) -> &Timers {
        &self.timers
    }

    #[inline]
    pub(crate) fn mesh(&self) -> &Mesh {
        &self.mesh
    }

    #[inline]
    pub(crate) fn beacon(&self) -> &Arc<Beacon> {
        &self.beacon
    }

    pub(crate) fn services(&self) -> &RefCell<HashMap<u64, Rc<dyn Any>>> {
        &self.services
    }
}

thread_local! {
    /// The shard of this thread: points into the frame of [`enter`], or nowhere.
    static CURRENT: Cell<*const Rc<Local>> = const { Cell::new(null()) };
}

/// Makes a shard the current one of this thread while `run` runs.
///
/// # Panics
///
/// On a thread that has a shard: one cannot run inside another.
pub(crate) fn enter<T>(local: &Rc<Local>, run: impl FnOnce() -> T) -> T {
    struct Leave;
    impl Drop for Leave {
        fn drop(&mut self) {
            CURRENT.set(null());
        }
    }
    assert!(
        CURRENT.replace(std::ptr::from_ref(local)).is_null(),
        "this thread runs a shard already"
    );
    let _leave = Leave;
    run()
}

/// The shard of this thread, if it has one.
#[inline]
pub(crate) fn with_current<T>(run: impl FnOnce(Option<&Rc<Local>>) -> T) -> T {
    let current = CURRENT.get();
    // SAFETY: not null only while `enter` borrows what it points at, further up on this stack.
    run(unsafe { current.as_ref() })
}

/// The shard of this thread.
///
/// # Panics
///
/// If it has none.
#[inline]
#[track_caller]
pub(crate) fn current() -> Rc<Local> {
    let current = with_current(|local| local.map(Rc::clone));
    current.expect("this needs a shard: it was called from a thread that runs none")
}

/// The index of the current shard, from 0.
///
/// # Panics
///
/// Outside of a shard.
pub fn index() -> usize {
    current().index
}

/// How many shards there are.
///
/// # Panics
///
/// Outside of a shard.
pub fn count() -> usize {
    current().count
}

/// What of the kernel the current shard uses, and what not and why.
///
/// # Panics
///
/// Outside of a shard.
pub fn features() -> Features {
    current().reactor.features().clone()
}
