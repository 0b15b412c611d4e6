//! Time: sleeping, time limits, intervals.
//!
//! All timers of a shard are in one [wheel](wheel) of ticks of 2^16 ns (65.5 µs). A timer is never early,
//! and late by a tick at most, plus what the shard is busy with.

mod interval;
mod sleep;
mod wheel;

use std::cell::{Cell, RefCell};
use std::task::Waker;
use std::time::{Duration, Instant};

use wheel::{TimerKey, Wheel};

pub use interval::{Interval, interval};
pub use sleep::{Elapsed, Sleep, Timeout, sleep, sleep_until, timeout};

/// The length of a tick, as a power of two of ns.
const TICK: u32 = 16;

/// The timers of one shard.
pub(crate) struct Timers {
    start: Instant,
    wheel: RefCell<Wheel<Waker>>,
    armed: Cell<bool>,
}

impl Timers {
    pub(crate) fn new() -> Self {
        Self {
            start: Instant::now(),
            wheel: RefCell::new(Wheel::new()),
            armed: Cell::new(false),
        }
    }

    /// How long until there may be something due: `None` without timers.
    pub(crate) fn until_next(&self) -> Option<Duration> {
        if !self.armed.get() {
            return None;
        }
        let next = self.wheel.borrow().next()?;
        let at = Duration::from_nanos(next.saturating_mul(1 << TICK));
        Some(at.saturating_sub(self.start.elapsed()))
    }

    /// Wakes those whose time has come. Does not read the clock if there are no timers.
    #[inline]
    pub(crate) fn fire(&self) {
        if self.armed.get() {
            self.fire_due();
        }
    }

    fn fire_due(&self) {
        let now = self.ticks(Instant::now());
        let mut wheel = self.wheel.borrow_mut();
        // A waker only puts its task into a queue, so the wheel may stay borrowed.
        wheel.advance(now, Waker::wake);
        self.armed.set(!wheel.is_empty());
    }

    /// Wakes `waker` at `deadline`.
    fn arm(&self, deadline: Instant, waker: Waker) -> TimerKey {
        let due = (deadline.saturating_duration_since(self.start)).as_nanos();
        // Rounded up: never early.
        let due = u64::try_from(due.div_ceil(1 << TICK)).unwrap_or(u64::MAX);
        self.armed.set(true);
        let now = self.ticks(Instant::now());
        self.wheel.borrow_mut().insert(now, due, waker)
    }

    /// Changes whom a timer wakes. `false` if it is over.
    fn update(&self, key: TimerKey, waker: &Waker) -> bool {
        let mut wheel = self.wheel.borrow_mut();
        let Some(armed) = wheel.find_mut(key) else {
            return false;
        };
        if !armed.will_wake(waker) {
            armed.clone_from(waker);
        }
        true
    }

    fn disarm(&self, key: TimerKey) {
        // Dropped after the wheel is free: a waker may be the last one of its task.
        let waker = self.wheel.borrow_mut().cancel(key);
        drop(waker);
    }

    fn ticks(&self, now: Instant) -> u64 {
        let elapsed = now.saturating_duration_since(self.start).as_nanos();
        u64::try_from(elapsed >> TICK).unwrap_or(u64::MAX)
    }
}
