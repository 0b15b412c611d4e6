//! SO_RCVTIMEO and SO_SNDTIMEO. The kernel keeps them in ticks of its clock, rounded up, and so they
//! are kept here: what was asked and what is read back differ by as much.

use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};

use libc::c_int;

use super::Refused;
use super::scratch::Scratch;
use super::value::{copy, pair};

const MICROS: i64 = 1_000_000;

/// How long a blocking call waits at most.
pub(super) struct Timeout(AtomicI64);

/// The kernel's MAX_SCHEDULE_TIMEOUT, in ticks: no end.
const ENDLESS: i64 = i64::MAX;

impl Timeout {
    pub(super) const fn new() -> Self {
        Self(AtomicI64::new(ENDLESS))
    }

    pub(super) fn reset(&self) {
        self.0.store(ENDLESS, Ordering::Relaxed);
    }

    /// Nanoseconds; 0 if a call must not wait at all, as after a negative time.
    pub(super) fn nanos(&self) -> Option<u64> {
        let ticks = self.0.load(Ordering::Relaxed);
        // A session with a timeout has measured the tick when it was set.
        (ticks != ENDLESS).then(|| {
            let tick = u64::from(TICK.load(Ordering::Relaxed).max(1)) * 1_000;
            (ticks as u64).saturating_mul(tick)
        })
    }

    /// Takes a `struct timeval`, or a `struct __kernel_sock_timeval`: the same on 64-bit machines.
    pub(super) fn set(&self, value: &[u8]) -> Result<(), Refused> {
        let [seconds, micros] = pair(value)?.map(i64::from_ne_bytes);
        if !(0..MICROS).contains(&micros) {
            return Err(Refused::Errno(libc::EDOM));
        }
        let tick = tick_micros();
        let hertz = MICROS / tick;
        let ticks = if seconds < 0 {
            0
        } else if (seconds == 0 && micros == 0) || seconds >= ENDLESS / hertz - 1 {
            ENDLESS
        } else {
            seconds * hertz + (micros + tick - 1) / tick
        };
        self.0.store(ticks, Ordering::Relaxed);
        Ok(())
    }

    pub(super) fn answer(&self, out: &mut [u8]) -> usize {
        let ticks = self.0.load(Ordering::Relaxed);
        let (seconds, micros) = if ticks == ENDLESS {
            (0, 0)
        } else {
            let tick = tick_micros();
            let hertz = MICROS / tick;
            (ticks / hertz, ticks % hertz * tick)
        };
        let mut value = [0; 16];
        value[..8].copy_from_slice(&seconds.to_ne_bytes());
        value[8..].copy_from_slice(&micros.to_ne_bytes());
        copy(&value, out)
    }

    pub(super) fn copy(&self, from: &Self) {
        self.0
            .store(from.0.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

/// How many seconds the kernel's longest wait is.
pub(super) fn endless_seconds() -> i64 {
    ENDLESS / (MICROS / tick_micros())
}

/// Microseconds of the kernel's tick; 0 before it was measured.
static TICK: AtomicU32 = AtomicU32::new(0);

fn tick_micros() -> i64 {
    let known = TICK.load(Ordering::Relaxed);
    if known != 0 {
        return i64::from(known);
    }
    // In a sandbox: what the finest kernels have.
    let tick = measure().unwrap_or(1_000);
    TICK.store(tick, Ordering::Relaxed);
    i64::from(tick)
}

/// What the kernel makes of the shortest time.
fn measure() -> Option<u32> {
    const NAME: c_int = libc::SO_RCVTIMEO;
    let scratch = Scratch::open(libc::AF_INET).ok()?;
    let mut value = [0; 16];
    value[8..].copy_from_slice(&1i64.to_ne_bytes());
    scratch.set(libc::SOL_SOCKET, NAME, &value).ok()?;
    scratch.get(libc::SOL_SOCKET, NAME, &mut value).ok()?;
    let [_, micros] = pair(&value).ok()?.map(i64::from_ne_bytes);
    u32::try_from(micros)
        .ok()
        .filter(|tick| (1..=MICROS as u32).contains(tick))
}
