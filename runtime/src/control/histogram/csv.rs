//! A line for each bucket that holds something (RFC 4180).

use std::io::{self, Write};

use super::Latency;

pub(super) fn write(latencies: &[Latency], to: &mut dyn Write) -> io::Result<()> {
    writeln!(
        to,
        "kind,rule,stack,value_ns,count,cumulative_count,percentile"
    )?;
    for latency in latencies {
        let (rule, stack) = (field(&latency.rule), field(&latency.stack));
        let mut cumulative = 0_u64;
        for value in latency.histogram.iter_recorded() {
            let count = value.count_at_value();
            cumulative = cumulative.saturating_add(count);
            #[expect(
                clippy::cast_precision_loss,
                reason = "a percentile with four decimals"
            )]
            let percentile = cumulative as f64 * 100.0 / latency.count.max(1) as f64;
            writeln!(
                to,
                "{},{rule},{stack},{},{count},{cumulative},{percentile:.4}",
                latency.kind.name(),
                value.value_iterated_to(),
            )?;
        }
    }
    Ok(())
}

/// Names come from policies: quoted where they hold a separator.
fn field(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}
