//! The figures in what well-known clients print.

use serde_json::Value;

/// Requests a second of one command, of `redis-benchmark --csv`.
///
/// # Panics
/// When the report has no such line, as after an error.
pub fn redis_rate(report: &str, command: &str) -> f64 {
    let line = report
        .lines()
        .find_map(|line| line.strip_prefix(&format!("\"{command}\",\"")));
    number(line.and_then(|line| line.split('"').next()), report)
}

/// Requests a second of wrk.
///
/// # Panics
/// When the report does not say.
pub fn wrk_rate(report: &str) -> f64 {
    let rate = report
        .lines()
        .find_map(|line| line.strip_prefix("Requests/sec:"));
    number(rate, report)
}

/// What the receiver got, of `iperf3 -J`.
///
/// # Panics
/// When the report does not say, as after an error.
pub fn iperf3_received(report: &str) -> Received {
    let json: Value = serde_json::from_str(report).unwrap_or_default();
    let received = &json["end"]["sum_received"];
    let figure = |name: &str| {
        let figure = received[name].as_f64();
        figure.unwrap_or_else(|| panic!("no result of iperf3:\n{report}"))
    };
    Received {
        bytes: figure("bytes"),
        bits_per_second: figure("bits_per_second"),
    }
}

/// What arrived in a bulk transfer.
#[derive(Clone, Copy, Debug)]
pub struct Received {
    /// All bytes.
    pub bytes: f64,
    /// The mean rate.
    pub bits_per_second: f64,
}

/// A percentile of sockperf's round trips, as it writes it (`50.000`), in microseconds.
///
/// # Panics
/// When the report does not say.
pub fn sockperf_percentile(report: &str, which: &str) -> f64 {
    let line = report
        .lines()
        .find(|line| line.contains(&format!("percentile {which}")));
    number(line.and_then(|line| line.rsplit('=').next()), report)
}

/// `text` as a number.
///
/// # Panics
/// When it is not there or none; the message has the whole `report` that it was looked for in.
pub fn number(text: Option<&str>, report: &str) -> f64 {
    text.and_then(|text| text.trim().parse().ok())
        .unwrap_or_else(|| panic!("no result in what the client printed:\n{report}"))
}
