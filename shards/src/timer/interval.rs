//! Something to do again and again.

use std::time::{Duration, Instant};

use super::sleep::{Sleep, sleep_until};

/// Ticks every `period`, for the first time after one period.
///
/// # Panics
///
/// If `period` is zero.
pub fn interval(period: Duration) -> Interval {
    assert!(!period.is_zero(), "an interval needs a period above zero");
    Interval {
        period,
        sleep: sleep_until(Instant::now() + period),
    }
}

/// Ticks that keep their rhythm: one that comes late does not shift those after it. Ticks that were
/// missed altogether are left out.
pub struct Interval {
    period: Duration,
    sleep: Sleep,
}

impl Interval {
    /// Waits for the next tick, and tells when it was due.
    pub async fn tick(&mut self) -> Instant {
        (&mut self.sleep).await;
        let due = self.sleep.deadline();
        let late = Instant::now().saturating_duration_since(due);
        let missed = u32::try_from(late.as_nanos() / self.period.as_nanos()).unwrap_or(u32::MAX);
        self.sleep
            .reset(due + self.period.saturating_mul(missed.saturating_add(1)));
        due
    }
}
