//! Starts shards: one pinned thread a core.

use std::fmt;
use std::future::Future;
use std::io;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use core_affinity::CoreId;

use crate::mesh::{Link, link};
use crate::reactor::{Choice, Settings};
use crate::shard::{Beacon, Idle, Life, Local};
use crate::stall::{self, Report, Stall, Watched};
use crate::sync::Arc;

/// Which mechanism is to carry the shards' I/O.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum DriverChoice {
    /// io_uring, or epoll where it cannot be had;
    /// [`features`](crate::features) tells which and why.
    #[default]
    Best,
    /// io_uring, or an error.
    IoUring,
    /// epoll.
    Epoll,
}

/// Why shards could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// There is nothing to run on.
    #[error("no cores were given; name at least one, or leave the choice to the builder")]
    NoCores,
    /// The core does not exist, or may not be used by this process.
    #[error(
        "thread of shard {shard} cannot be pinned to core {core}; see taskset -p and the cpuset of the container, or start with pin(false)"
    )]
    Pin {
        /// Which shard.
        shard: usize,
        /// Which core.
        core: usize,
    },
    /// The kernel refused a thread.
    #[error("a thread for shard {shard} could not be started: {error}")]
    Thread {
        /// Which shard.
        shard: usize,
        /// Why.
        error: io::Error,
    },
    /// No driver could be made.
    #[error("shard {shard} has no I/O driver: {error}")]
    Driver {
        /// Which shard.
        shard: usize,
        /// Why.
        error: io::Error,
    },
    /// Stalls cannot be watched for.
    #[error("shards cannot be watched for stalls: {0}")]
    Watch(io::Error),
    /// A setting that cannot be.
    #[error("{0}")]
    Setting(&'static str),
}

/// How shards are to be.
#[derive(Clone)]
#[must_use = "starts nothing by itself"]
pub struct Builder {
    cores: Option<Vec<usize>>,
    pin: bool,
    idle: Idle,
    mesh_capacity: usize,
    settings: Settings,
    stalls: Option<(Duration, Report)>,
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("cores", &self.cores)
            .field("pin", &self.pin)
            .field("idle", &self.idle)
            .field("mesh_capacity", &self.mesh_capacity)
            .field("settings", &self.settings)
            .field("stalls", &self.stalls.as_ref().map(|(limit, _)| limit))
            .finish()
    }
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            cores: None,
            pin: true,
            idle: Idle::default(),
            mesh_capacity: 1024,
            settings: Settings::default(),
            stalls: None,
        }
    }
}

impl Builder {
    /// The cores to run on, a shard each. All that the process may use, if this is not called.
    pub fn cores(mut self, cores: impl IntoIterator<Item = usize>) -> Self {
        self.cores = Some(cores.into_iter().collect());
        self
    }

    /// Whether threads are pinned to their cores. They are, if this is not called.
    pub fn pin(mut self, pin: bool) -> Self {
        self.pin = pin;
        self
    }

    /// What shards do without work.
    pub fn idle(mut self, idle: Idle) -> Self {
        self.idle = idle;
        self
    }

    /// Which driver carries I/O.
    pub fn driver(mut self, driver: DriverChoice) -> Self {
        self.settings.choice = match driver {
            DriverChoice::Best => Choice::Best,
            DriverChoice::IoUring => Choice::IoUring,
            DriverChoice::Epoll => Choice::Epoll,
        };
        self
    }

    /// Memory for received data on each shard: so many buffers, a power of two of at most 32768, of so many
    /// bytes each. 1024 of 4096, if this is not called.
    pub fn receive_buffers(mut self, buffers: u16, bytes: u32) -> Self {
        self.settings.wish.pool.buffers = buffers;
        self.settings.wish.pool.size = bytes;
        self
    }

    /// Whether a receive buffer is filled piece by piece, where the kernel can (Linux 6.12). That serves
    /// with few large buffers: small messages then do not take a buffer each.
    pub fn incremental_buffers(mut self, incremental: bool) -> Self {
        self.settings.wish.incremental = incremental;
        self
    }

    /// How many messages a ring of the mesh holds. 1024, if this is not called.
    pub fn mesh_capacity(mut self, messages: usize) -> Self {
        self.mesh_capacity = messages;
        self
    }

    /// Polls network queues for so long before sleeping (NAPI busy polling), where the kernel and the
    /// device can. Not at all, if this is not called.
    pub fn napi_busy_poll(mut self, time: Duration) -> Self {
        self.settings.wish.napi_us = u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
        self
    }

    /// Calls `report` for every shard that does not come back to its loop for `limit`, and again as long as it
    /// does not: a task computes, or blocks. Uses `SIGURG`, for the shard's backtrace.
    pub fn report_stalls(
        mut self,
        limit: Duration,
        report: impl Fn(&Stall) + Send + Sync + 'static,
    ) -> Self {
        self.stalls = Some((limit, Arc::new(report)));
        self
    }

    /// Runs one shard on the calling thread, unpinned, until `main` ends.
    ///
    /// # Errors
    ///
    /// If there is no driver.
    ///
    /// # Panics
    ///
    /// With the panic of `main`; or inside of a shard.
    pub fn block_on<F: Future + 'static>(self, main: F) -> Result<F::Output, StartError> {
        self.check()?;
        let beacon = Arc::new(Beacon::new(None));
        self.watch(std::iter::once((&beacon, this_thread())))?;
        let local = Local::new(0, &self.settings, beacon, vec![None])
            .map_err(|error| StartError::Driver { shard: 0, error })?;
        let over = std::rc::Rc::new(std::cell::Cell::new(false));
        let set_over = std::rc::Rc::clone(&over);
        let output =
            Life::new(local, self.idle).run(main, move |_| set_over.set(true), || over.get());
        Ok(output.expect("the shard ends when its main future has"))
    }

    /// Starts the shards and runs `main(index)` on each.
    ///
    /// A shard whose `main` has ended serves the others (calls, services) until all have. If one panics, all
    /// are ended.
    ///
    /// # Errors
    ///
    /// If a shard could not be started; then none is left running.
    pub fn start<M, F>(self, main: M) -> Result<Shards<F::Output>, StartError>
    where
        M: Fn(usize) -> F + Clone + Send + 'static,
        F: Future + 'static,
        F::Output: Send + 'static,
    {
        self.check()?;
        let cores = self.chosen_cores()?;
        let beacons: Vec<_> = cores
            .iter()
            .map(|core| Arc::new(Beacon::new(self.pin.then_some(*core))))
            .collect();
        let common = Arc::new(Common {
            go: Go::default(),
            running: AtomicUsize::new(cores.len()),
            stop: AtomicBool::new(false),
            beacons,
        });
        let mut shards = Shards {
            threads: Vec::new(),
            common: Arc::clone(&common),
        };
        let (told, heard) = mpsc::channel();
        let numbers: Vec<_> = cores.iter().map(|_| Arc::new(AtomicU32::new(0))).collect();
        self.watch(common.beacons.iter().zip(numbers.iter().cloned()))?;
        let links = links(&common.beacons, self.mesh_capacity);
        let mut outcome = Ok(());
        for ((shard, links), core) in links.into_iter().enumerate().zip(cores) {
            let thread = Thread {
                shard,
                core: self.pin.then_some(core),
                settings: self.settings.clone(),
                idle: self.idle,
                common: Arc::clone(&common),
                links,
                number: Arc::clone(&numbers[shard]),
            };
            let (main, told) = (main.clone(), told.clone());
            let started = thread::Builder::new()
                .name(format!("shard-{shard}"))
                .spawn(move || thread.run(&main, told));
            match started {
                Ok(thread) => shards.threads.push(thread),
                Err(error) => outcome = outcome.and(Err(StartError::Thread { shard, error })),
            }
        }
        drop(told);
        for ready in heard {
            outcome = outcome.and(ready);
        }
        common.go.tell(outcome.is_ok());
        if let Err(error) = outcome {
            shards
                .threads
                .into_iter()
                .for_each(|thread| drop(thread.join()));
            return Err(error);
        }
        Ok(shards)
    }

    /// Starts the shards as [`start`](Self::start) does, and waits for their end.
    ///
    /// # Errors
    ///
    /// As `start`.
    ///
    /// # Panics
    ///
    /// As [`Shards::join`].
    pub fn run<M, F>(self, main: M) -> Result<Vec<F::Output>, StartError>
    where
        M: Fn(usize) -> F + Clone + Send + 'static,
        F: Future + 'static,
        F::Output: Send + 'static,
    {
        Ok(self.start(main)?.join())
    }

    fn watch<'a>(
        &self,
        shards: impl Iterator<Item = (&'a Arc<Beacon>, Arc<AtomicU32>)>,
    ) -> Result<(), StartError> {
        let Some((limit, report)) = &self.stalls else {
            return Ok(());
        };
        let shards = shards
            .map(|(beacon, thread)| Watched {
                beacon: Arc::clone(beacon),
                thread,
            })
            .collect();
        stall::watch(shards, *limit, Arc::clone(report)).map_err(StartError::Watch)
    }

    fn check(&self) -> Result<(), StartError> {
        let pool = self.settings.wish.pool;
        if !pool.buffers.is_power_of_two() || pool.buffers > 1 << 15 {
            return Err(StartError::Setting(
                "the number of receive buffers must be a power of two of at most 32768",
            ));
        }
        if !(512..=1 << 20).contains(&pool.size) {
            return Err(StartError::Setting(
                "a receive buffer must have 512 bytes at least and 1 MiB at most",
            ));
        }
        if self.mesh_capacity == 0 {
            return Err(StartError::Setting(
                "the rings of the mesh need room for a message at least",
            ));
        }
        Ok(())
    }

    fn chosen_cores(&self) -> Result<Vec<usize>, StartError> {
        let cores = self.cores.clone().unwrap_or_else(|| {
            let allowed = core_affinity::get_core_ids().unwrap_or_default();
            allowed.into_iter().map(|core| core.id).collect()
        });
        if cores.is_empty() {
            return Err(StartError::NoCores);
        }
        Ok(cores)
    }
}

/// Shards that run.
#[must_use = "dropped, it leaves the shards to themselves"]
pub struct Shards<T> {
    threads: Vec<thread::JoinHandle<Option<T>>>,
    common: Arc<Common>,
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
struct Common {
    go: Go,
    /// Shards whose `main` has not ended.
    running: AtomicUsize,
    stop: AtomicBool,
    beacons: Vec<Arc<Beacon>>,
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
struct Go {
    told: Mutex<Option<bool>>,
    changed: Condvar,
}

impl Go {
    fn tell(&self, go: bool) {
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
struct Thread {
    shard: usize,
    core: Option<usize>,
    settings: Settings,
    idle: Idle,
    common: Arc<Common>,
    links: Vec<Option<Link>>,
    /// Where it tells its number, for who watches.
    number: Arc<AtomicU32>,
}

impl Thread {
    fn run<M, F>(self, main: &M, told: mpsc::Sender<Result<(), StartError>>) -> Option<F::Output>
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
        self.number.store(this_thread().load(Ordering::Relaxed), Ordering::Release);
        let _watch = Watch(Arc::clone(&common));
        Life::new(local, idle).run(
            main(shard),
            |well| common.main_has_ended(well),
            || common.is_over(),
        )
    }
}

/// The number of the calling thread.
fn this_thread() -> Arc<AtomicU32> {
    let number = rustix::thread::gettid().as_raw_nonzero().get();
    Arc::new(AtomicU32::new(number as u32))
}

fn set_up(
    shard: usize,
    core: Option<usize>,
    settings: &Settings,
    common: &Common,
    links: Vec<Option<Link>>,
) -> Result<std::rc::Rc<Local>, StartError> {
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
fn links(beacons: &[Arc<Beacon>], capacity: usize) -> Vec<Vec<Option<Link>>> {
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
