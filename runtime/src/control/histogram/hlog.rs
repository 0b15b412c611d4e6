//! The HdrHistogram V2 log: what HistogramLogAnalyzer and its kin read.

use std::io::{self, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};

use super::Latency;

/// One interval, from the start to now, with a tag for each histogram: `kind|rule|stack`.
pub(super) fn write(latencies: &[Latency], start_ns: u64, to: &mut dyn Write) -> io::Result<()> {
    let start = UNIX_EPOCH + Duration::from_nanos(start_ns);
    let duration = SystemTime::now().duration_since(start).unwrap_or_default();
    let mut to = to;
    let mut serializer = V2DeflateSerializer::new();
    let mut log = IntervalLogWriterBuilder::new()
        .add_comment("values are nanoseconds; tags are kind|rule|stack")
        .with_start_time(start)
        .with_max_value_divisor(1e6)
        .begin_log_with(&mut to, &mut serializer)?;
    for latency in latencies {
        let text = tag_text(latency);
        log.write_histogram(
            &latency.histogram,
            Duration::ZERO,
            duration,
            Tag::new(&text),
        )
        .map_err(|error| io::Error::other(format!("{error:?}")))?;
    }
    Ok(())
}

/// A tag holds neither commas nor blanks nor line ends.
fn tag_text(latency: &Latency) -> String {
    let text = format!("{}|{}|{}", latency.kind.name(), latency.rule, latency.stack);
    text.replace([' ', ',', '\t', '\n', '\r'], "_")
}
