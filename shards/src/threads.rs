//! The threads of shards, from their start to their end.

use std::future::Future;
use std::panic::resume_unwind;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError, mpsc};
use std::thread;

use core_affinity::CoreId;

use crate::builder::{Builder, StartError};
use crate::mesh::{Link, link};
use crate::reactor::Settings;
use crate::shard::{Beacon, Idle, Life, Local};
use crate::sync::Arc;

/// Shards that run.
#[must_use = "dropped, it leaves the shards to themselves"]
pub struct Shards<T> {
    pub(crate) threads: Vec<thread::JoinHandle<Option<T>>>,
    pub(crate) common: Arc<Common>,
}

impl<T> Shards<T> {
    /// A builder.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Waits for all, and gives what each `main` gave, by shard. Without the outputs of those that
    /// [`stop`](Self::stop) has ended before.
    ///
    /// # Panics
    ///
    /// With the first panic of a shard, after all have ended.
    pub fn join(self) -> Vec<T> {
        let ends: Vec<_> = self
            .threads
            .into_iter()
            .map(thread::JoinHandle::join)
            .collect();
        ends.into_iter()
            .filter_map(|end| end.unwrap_or_else(|panic| resume_unwind(panic)))
            .collect()
    }

    /// Ends all shards at their next turn, whatever their tasks wait for.
    pub fn stop(&self) {
        self.common.stop();
    }
}

/// What the threads share.
pub(crate) struct Common {
    pub(crate) go: Go,
    /// Shards whose `main` has not ended.
    pub(crate) running: AtomicUsize,
    pub(crate) stop: AtomicBool,
    pub(crate) beacons: Vec<Arc<Beacon>>,
}

impl Common {
    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.running.load(Ordering::Acquire) == 0
    }

    fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        self.ring_all();
    }

    /// A shard's `main` has ended: well, or by a panic, which ends all.
    fn main_has_ended(&self, well: bool) {
        if !well {
            self.stop();
        }
        if self.running.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.ring_all();
        }
    }

    fn ring_all(&self) {
        self.beacons.iter().for_each(|beacon| beacon.ring());
    }
}

/// Whether shards that are ready may begin: told when all are, or one is not.
#[derive(Default)]
pub(crate) struct Go {
    told: Mutex<Option<bool>>,
    changed: Condvar,
}

impl Go {
    pub(crate) fn tell(&self, go: bool) {
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) = Some(go);
        self.changed.notify_all();
    }

    fn wait(&self) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match *told {
                Some(go) => return go,
                None => {
                    told = self
                        .changed
                        .wait(told)
                        .unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }
}

/// What one thread is made with.
pub(crate) struct Thread {
    pub(crate) shard: usize,
    pub(crate) core: Option<usize>,
    pub(crate) settings: Settings,
    pub(crate) idle: Idle,
    pub(crate) common: Arc<Common>,
    pub(crate) links: Vec<Option<Link>>,
    /// Where it tells its number, for who watches.
    pub(crate) number: Arc<AtomicU32>,
}

impl Thread {
    pub(crate) fn run<M, F>(
        self,
        main: &M,
        told: mpsc::Sender<Result<(), StartError>>,
    ) -> Option<F::Output>
    where
        M: Fn(usize) -> F,
        F: Future + 'static,
    {
        /// Ends the others if this one does not end as it should.
        struct Watch(Arc<Common>);
        impl Drop for Watch {
            fn drop(&mut self) {
                if thread::panicking() {
                    self.0.stop();
                }
            }
        }
        let Self {
            shard,
            common,
            idle,
            ..
        } = self;
        let local = match set_up(shard, self.core, &self.settings, &common, self.links) {
            Ok(local) => local,
            Err(error) => {
                // Heard by `Builder::start`, which waits for it.
                let _ = told.send(Err(error));
                return None;
            }
        };
        let _ = told.send(Ok(()));
        drop(told);
        if !common.go.wait() {
            return None;
        }
        self.number
            .store(this_thread().load(Ordering::Relaxed), Ordering::Release);
        let _watch = Watch(Arc::clone(&common));
        Life::new(local, idle).run(
            main(shard),
            |well| common.main_has_ended(well),
            || common.is_over(),
        )
    }
}

/// The number of the calling thread.
pub(crate) fn this_thread() -> Arc<AtomicU32> {
    let number = rustix::thread::gettid().as_raw_nonzero().get();
    Arc::new(AtomicU32::new(number as u32))
}

fn set_up(
    shard: usize,
    core: Option<usize>,
    settings: &Settings,
    common: &Common,
    links: Vec<Option<Link>>,
) -> Result<Rc<Local>, StartError> {
    if let Some(core) = core {
        let allowed = core_affinity::get_core_ids().unwrap_or_default();
        let pinned = allowed.contains(&CoreId { id: core })
            && core_affinity::set_for_current(CoreId { id: core });
        if !pinned {
            return Err(StartError::Pin { shard, core });
        }
    }
    let beacon = Arc::clone(&common.beacons[shard]);
    Local::new(shard, settings, beacon, links).map_err(|error| StartError::Driver { shard, error })
}

/// Every shard's links to the others.
pub(crate) fn links(beacons: &[Arc<Beacon>], capacity: usize) -> Vec<Vec<Option<Link>>> {
    let count = beacons.len();
    let mut all: Vec<Vec<Option<Link>>> = (0..count)
        .map(|_| (0..count).map(|_| None).collect())
        .collect();
    for a in 0..count {
        for b in a + 1..count {
            let (of_a, of_b) = link(&beacons[a], &beacons[b], capacity);
            all[a][b] = Some(of_a);
            all[b][a] = Some(of_b);
        }
    }
    all
}
