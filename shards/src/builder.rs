//! Starts shards: one pinned thread a core.

use std::fmt;
use std::future::Future;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::reactor::{Choice, Settings};
use crate::shard::{Beacon, Idle, Life, Local};
use crate::stall::{self, Report, Stall, Watched};
use crate::sync::Arc;
use crate::threads::{Common, Go, Shards, Thread, links, this_thread};

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
