//! Waiting for a machine that has nothing else to do.

use std::time::{Duration, Instant};

/// The share of idle time that counts as an idle machine.
const ENOUGH: f64 = 0.9;
const WINDOW: Duration = Duration::from_millis(400);

/// Waits until the cores were mostly idle for a moment, at most `patience`; the idle share seen last.
pub fn wait(patience: Duration) -> f64 {
    let deadline = Instant::now() + patience;
    loop {
        let before = ticks();
        std::thread::sleep(WINDOW);
        let after = ticks();
        let all = after.1.saturating_sub(before.1).max(1);
        let share = after.0.saturating_sub(before.0) as f64 / all as f64;
        if share >= ENOUGH || Instant::now() >= deadline {
            return share;
        }
    }
}

/// Idle and all clock ticks of all cores since boot, see proc_stat(5).
fn ticks() -> (u64, u64) {
    let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let first = text.lines().next().unwrap_or_default();
    let fields: Vec<u64> = first
        .split_whitespace()
        .skip(1)
        .take(8)
        .filter_map(|field| field.parse().ok())
        .collect();
    let idle = fields.get(3).unwrap_or(&0) + fields.get(4).unwrap_or(&0);
    (idle, fields.iter().sum())
}
