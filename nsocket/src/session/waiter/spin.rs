//! How long to look before lying down.
//!
//! Sleeping costs CPU time (two system calls, the switch, the other side's ring) and latency; a wait
//! that is shorter is better spun through. Whether waits are short is learned: a waiter keeps an
//! average of what a wait *costs if one spins*,
//!
//! ```text
//! cost(wait) = wait                    if wait <= LONGEST_NS
//!              LONGEST_NS + SLEEP_NS   otherwise: spun in vain, and slept all the same
//! ```
//!
//! and spins while that is at most [`WORTH_NS`]. So a wait costs at most 1.5 times the CPU time of
//! sleeping on average, whatever the distribution of waits is; a program whose peers are slow stops
//! spinning after eight waits in a row and does not start again until they are quick; and an idle
//! program spins once and sleeps, using no CPU.
//!
//! Two sides that both sleep would never learn that they could be quick: each wait then holds two ways
//! out of bed. So a waiter that has slept takes its own way ([`WAKE_NS`]) off the measure. If it had to
//! ring for the other ([`Spin::rang`]) it takes that way off too, and spins for as much longer. That
//! the other will not sleep any more once this one is quick is a hope; it fades with each such spin
//! that is longer than `LONGEST_NS`, and comes back slowly.
//!
//! It never spins when cores are short: when the peer was last seen on this very core, when the thread
//! may run on one core only and nobody knows where the peer is, or when others wait for the core. The
//! last is seen by gaps in the spin's own clock and, after each millisecond that was burned, by the
//! thread's involuntary context switches (getrusage(2)). Then it stops for a while, doubling with
//! every time. A quota (cgroup `cpu.max`) is not looked at.
//!
//! What a turn costs (measured: `pause` and the clock 24 ns each) decides its form: the shortest
//! waits are looked through without either, the next without the clock, their length being estimated
//! from what turns have been measured to take.

use crate::sync::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use super::cores;

/// What sleeping and being woken costs, in CPU time of both sides, in ns: see `benches/wake.rs`.
pub const SLEEP_NS: u32 = 16_000;
/// What a woken one loses: from publishing to its return from the kernel, in ns.
pub const WAKE_NS: u32 = 18_000;
/// Longest spin, in ns (but for a peer that was rung for): no single wait costs more than 2.5 times
/// what sleeping at once would have.
pub const LONGEST_NS: u32 = SLEEP_NS / 2 * 3;
/// Spinning is worth it while a wait costs at most this, in ns. Above [`SLEEP_NS`], because latency
/// counts too.
pub const WORTH_NS: u32 = SLEEP_NS / 2 * 3;

/// Looks without a pause: some 100 ns.
const LOOKS: u32 = 64;
/// Looks with a pause, before the clock is read for the first time.
const PAUSES: u32 = 8;
/// Looks with a pause between two readings of the clock.
const PAUSES_A_READING: u32 = 4;
/// A gap between two readings (some 130 ns apart) that only a switch to somebody else explains, in ns.
const SWITCHED_NS: u64 = 100_000;
/// Burned time after which the cores are looked at, in ns.
const CHECK_AFTER_NS: u64 = 1_000_000;
/// Cores are short if the thread was preempted more often than once in this time, in ns.
const PREEMPTED_EVERY_NS: u64 = 10_000_000;
/// Waits that are not spun through after the cores were found short: at first, and at most.
const PAUSED_WAITS: (u32, u32) = (64, 8_192);

/// How a wait ended, as far as spinning goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// There is something.
    Ready,
    /// Not worth looking any longer: lie down, and tell [`Spin::slept`] afterwards.
    Sleep(Began),
}

/// When a wait that led to sleep began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Began {
    at: u64,
    /// Known to have been too long to spin through.
    in_vain: bool,
}

/// What a waiter has learned about its waits. In memory of its own; threads may share one (then it
/// learns from all of them, and an update may get lost).
#[derive(Debug)]
pub struct Spin {
    /// Average cost of a wait if one spins, ns.
    cost: AtomicU32,
    /// What a look with a pause takes, ns.
    pause: AtomicU32,
    burned: AtomicU64,
    /// The peer was rung for since the last wait.
    rang: AtomicBool,
    /// How much of a wait after a ring is taken for the peer's way out of bed, ns.
    hope: AtomicU32,
    /// Waits not to spin through, and what that was set to last.
    skip: AtomicU32,
    skip_last: AtomicU32,
    /// Cores the thread may use; 0 if not asked yet.
    allowed: AtomicU32,
    /// When the cores were looked at: burned time, time, preemptions, and by which thread.
    checked_burned: AtomicU64,
    checked_at: AtomicU64,
    checked_preemptions: AtomicU32,
    checked_by: AtomicU32,
}

impl Spin {
    /// A waiter that has learned nothing yet, and starts with hope.
    pub const fn new() -> Self {
        Self {
            cost: AtomicU32::new(0),
            pause: AtomicU32::new(25),
            burned: AtomicU64::new(0),
            rang: AtomicBool::new(false),
            hope: AtomicU32::new(WAKE_NS),
            skip: AtomicU32::new(0),
            skip_last: AtomicU32::new(0),
            allowed: AtomicU32::new(0),
            checked_burned: AtomicU64::new(0),
            checked_at: AtomicU64::new(0),
            checked_preemptions: AtomicU32::new(0),
            checked_by: AtomicU32::new(0),
        }
    }

    /// Looks until there is something or it is not worth looking any longer. `peer` is the core that
    /// the one waited for was last seen on (of many: the one heard of last), if it has told.
    ///
    /// `ready` should be cheap (loads). Who also waits for descriptors of the kernel's looks at those in
    /// between, every some hundred looks: nothing else does while this spins, for [`LONGEST_NS`] and
    /// [`WAKE_NS`] at most.
    #[inline]
    pub fn wait(&self, peer: Option<u32>, ready: impl FnMut() -> bool) -> Outcome {
        self.wait_on(&Kernel, peer, ready)
    }

    /// Learns from a wait that went on asleep. To be called when the waiter is back.
    pub fn slept(&self, began: Began) {
        self.slept_on(&Kernel, began);
    }

    /// Tells that the one waited for was asleep and has been rung for: the next wait holds its way out
    /// of bed.
    pub fn rang(&self) {
        self.rang.store(true, Ordering::Relaxed);
    }

    /// How many ns were spent looking, so far: for the statistics. Looks shorter than half a
    /// microsecond are estimated.
    pub fn burned_ns(&self) -> u64 {
        self.burned.load(Ordering::Relaxed)
    }

    /// Whether the next wait would be spun through.
    fn is_worth_it(&self, machine: &impl Machine, peer: Option<u32>) -> bool {
        if self.cost.load(Ordering::Relaxed) > WORTH_NS {
            return false;
        }
        let skip = self.skip.load(Ordering::Relaxed);
        if skip != 0 {
            self.skip.store(skip - 1, Ordering::Relaxed);
            if skip == 1 {
                // The mask may have changed by now.
                self.allowed.store(0, Ordering::Relaxed);
            }
            return false;
        }
        match peer {
            Some(peer) => peer != machine.current_core(),
            None if self.allowed(machine) > 1 => true,
            None => {
                // Asked again after that.
                self.skip.store(PAUSED_WAITS.0, Ordering::Relaxed);
                false
            }
        }
    }

    fn wait_on(
        &self,
        machine: &impl Machine,
        peer: Option<u32>,
        mut ready: impl FnMut() -> bool,
    ) -> Outcome {
        if ready() {
            return Outcome::Ready;
        }
        if !self.is_worth_it(machine, peer) {
            return Outcome::Sleep(Began {
                at: machine.now(),
                in_vain: false,
            });
        }
        for look in 1..LOOKS {
            if ready() {
                self.spun(look * 2);
                return Outcome::Ready;
            }
        }
        let pause = self.pause.load(Ordering::Relaxed);
        for look in 1..=PAUSES {
            machine.pause();
            if ready() {
                self.spun(LOOKS * 2 + look * pause);
                return Outcome::Ready;
            }
        }
        self.wait_by_the_clock(machine, LOOKS * 2 + PAUSES * pause, ready)
    }

    /// The rest of a spin that has taken about `so_far` ns.
    #[cold]
    #[inline(never)]
    fn wait_by_the_clock(
        &self,
        machine: &impl Machine,
        so_far: u32,
        mut ready: impl FnMut() -> bool,
    ) -> Outcome {
        let longest = LONGEST_NS + self.hope();
        let start = machine.now();
        let began = start.saturating_sub(u64::from(so_far));
        let (mut last, mut readings, mut switched) = (start, 0, false);
        let found = loop {
            let found = (0..PAUSES_A_READING).any(|_| {
                machine.pause();
                ready()
            });
            let now = machine.now();
            switched |= now.saturating_sub(last) > SWITCHED_NS;
            last = now;
            readings += 1;
            if found {
                break true;
            }
            if switched || now.saturating_sub(began) >= u64::from(longest) {
                break false;
            }
        };
        let took = last.saturating_sub(start);
        if switched {
            self.pause_spinning();
        } else if let Some(pause) = took.checked_div(readings * u64::from(PAUSES_A_READING)) {
            // A hiccup must not distort the estimates.
            self.pause
                .store((pause as u32).clamp(5, 500), Ordering::Relaxed);
        }
        let whole = u32::try_from(last.saturating_sub(began)).unwrap_or(u32::MAX);
        let whole = whole.min(2 * LONGEST_NS);
        self.check_cores(machine, last);
        if found {
            self.spun(whole);
            Outcome::Ready
        } else {
            self.burn(whole);
            Outcome::Sleep(Began {
                at: began,
                in_vain: !switched,
            })
        }
    }

    fn slept_on(&self, machine: &impl Machine, began: Began) {
        let hope = self.hope();
        self.rang.store(false, Ordering::Relaxed);
        if began.in_vain {
            self.fade();
            self.learn(u64::MAX);
            return;
        }
        let more = self.hope.load(Ordering::Relaxed) + WAKE_NS / 64;
        self.hope.store(more.min(WAKE_NS), Ordering::Relaxed);
        let whole = machine.now().saturating_sub(began.at);
        self.learn(whole.saturating_sub(u64::from(WAKE_NS + hope)));
    }

    /// Learns from a wait that was spun through in `ns`.
    #[inline]
    fn spun(&self, ns: u32) {
        self.burn(ns);
        if !self.rang.load(Ordering::Relaxed) {
            // The peer is up: what was hoped for.
            self.hope.store(WAKE_NS, Ordering::Relaxed);
            self.learn(u64::from(ns));
            return;
        }
        self.learn(u64::from(ns.saturating_sub(self.hope())));
        if ns > LONGEST_NS {
            self.fade();
        }
        self.rang.store(false, Ordering::Relaxed);
    }

    /// How much of the current wait is taken for the peer's way out of bed, in ns.
    fn hope(&self) -> u32 {
        if self.rang.load(Ordering::Relaxed) {
            self.hope.load(Ordering::Relaxed)
        } else {
            0
        }
    }

    fn fade(&self) {
        let hope = self.hope.load(Ordering::Relaxed);
        self.hope.store(hope - hope / 4, Ordering::Relaxed);
    }

    fn burn(&self, ns: u32) {
        let burned = self.burned.load(Ordering::Relaxed);
        self.burned.store(burned + u64::from(ns), Ordering::Relaxed);
    }

    fn learn(&self, wait: u64) {
        let cost = if wait <= u64::from(LONGEST_NS) {
            wait as u32
        } else {
            LONGEST_NS + SLEEP_NS
        };
        let average = self.cost.load(Ordering::Relaxed);
        self.cost
            .store(average - average / 8 + cost / 8, Ordering::Relaxed);
    }

    fn allowed(&self, machine: &impl Machine) -> u32 {
        match self.allowed.load(Ordering::Relaxed) {
            0 => {
                let allowed = machine.allowed_cores().max(1);
                self.allowed.store(allowed, Ordering::Relaxed);
                allowed
            }
            allowed => allowed,
        }
    }

    /// Cores are short: no spinning for a while, twice as long as the last time.
    fn pause_spinning(&self) {
        let (first, most) = PAUSED_WAITS;
        let last = self.skip_last.load(Ordering::Relaxed);
        let skip = (last.saturating_mul(2)).clamp(first, most);
        self.skip_last.store(skip, Ordering::Relaxed);
        self.skip.store(skip, Ordering::Relaxed);
    }

    /// Asks the kernel how it goes, every millisecond of burned time: 0.6 us of system calls.
    fn check_cores(&self, machine: &impl Machine, now: u64) {
        let burned = self.burned.load(Ordering::Relaxed);
        if burned.wrapping_sub(self.checked_burned.load(Ordering::Relaxed)) < CHECK_AFTER_NS {
            return;
        }
        self.checked_burned.store(burned, Ordering::Relaxed);
        self.allowed.store(0, Ordering::Relaxed);
        let (thread, preemptions) = (machine.thread(), machine.preemptions());
        let elapsed = now.saturating_sub(self.checked_at.swap(now, Ordering::Relaxed));
        let before = self
            .checked_preemptions
            .swap(preemptions, Ordering::Relaxed);
        if self.checked_by.swap(thread, Ordering::Relaxed) != thread {
            return; // Another thread's count says nothing about this one's.
        }
        if u64::from(preemptions.wrapping_sub(before)) * PREEMPTED_EVERY_NS > elapsed {
            self.pause_spinning();
        } else {
            let last = self.skip_last.load(Ordering::Relaxed);
            self.skip_last.store(last / 2, Ordering::Relaxed);
        }
    }
}

impl Default for Spin {
    fn default() -> Self {
        Self::new()
    }
}

/// What spinning asks of the machine, so that tests can answer.
trait Machine {
    fn now(&self) -> u64;
    fn pause(&self);
    fn current_core(&self) -> u32;
    fn allowed_cores(&self) -> u32;
    fn preemptions(&self) -> u32;
    fn thread(&self) -> u32;
}

struct Kernel;

impl Machine for Kernel {
    /// CLOCK_MONOTONIC, ns.
    #[inline]
    fn now(&self) -> u64 {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
    }

    #[inline]
    fn pause(&self) {
        core::hint::spin_loop();
    }

    fn current_core(&self) -> u32 {
        cores::current()
    }

    fn allowed_cores(&self) -> u32 {
        cores::allowed()
    }

    fn preemptions(&self) -> u32 {
        cores::preemptions()
    }

    fn thread(&self) -> u32 {
        rustix::thread::gettid().as_raw_nonzero().get() as u32
    }
}

#[cfg(test)]
mod tests;
