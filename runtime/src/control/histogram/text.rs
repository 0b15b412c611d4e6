//! Percentiles and bars for a terminal.

use std::io::{self, Write};

use super::Latency;

/// How a terminal is written to.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    /// Columns to fill.
    pub width: usize,
    /// Draw with block characters rather than ASCII.
    pub unicode: bool,
}

impl Default for Style {
    fn default() -> Self {
        Self {
            width: 80,
            unicode: false,
        }
    }
}

/// Most rows of bars.
const ROWS: usize = 24;
/// Columns beside a bar: range, share, count.
const BESIDE: usize = 40;

pub(super) fn write(latencies: &[Latency], style: &Style, to: &mut dyn Write) -> io::Result<()> {
    if latencies.is_empty() {
        return writeln!(to, "no samples");
    }
    for (i, latency) in latencies.iter().enumerate() {
        if i > 0 {
            writeln!(to)?;
        }
        one(latency, style, to)?;
    }
    Ok(())
}

fn one(latency: &Latency, style: &Style, to: &mut dyn Write) -> io::Result<()> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a mean lies between smallest and largest sample"
    )]
    let mean = latency.mean_ns as u64;
    writeln!(to, "{}", latency.title())?;
    let samples = if latency.count == 1 {
        "sample"
    } else {
        "samples"
    };
    writeln!(
        to,
        "  {} {samples}, min {}, mean {}, max {}",
        latency.count,
        format_ns(latency.min_ns),
        format_ns(mean),
        format_ns(latency.max_ns),
    )?;
    let percentiles: Vec<String> = latency
        .percentiles
        .iter()
        .filter(|(percentile, _)| *percentile < 100.0)
        .map(|(percentile, value)| format!("p{percentile} {}", format_ns(*value)))
        .collect();
    writeln!(to, "  {}", percentiles.join("  "))?;
    let rows = rows(latency);
    let mut i = 0;
    while let Some(row) = rows.get(i) {
        let empty = rows[i..].iter().take_while(|row| row.count == 0).count();
        if empty > 2 {
            writeln!(to, "{:>14}", "...")?;
            i += empty;
            continue;
        }
        i += 1;
        let bar = bar(row.count, row.largest, style);
        #[expect(clippy::cast_precision_loss, reason = "a share with one decimal")]
        let share = row.count as f64 * 100.0 / latency.count.max(1) as f64;
        let line = format!(
            "  {:>9} .. {:<9} {share:>5.1}% {:>8}  {bar}",
            format_ns(row.from),
            format_ns(row.to),
            row.count
        );
        writeln!(to, "{}", line.trim_end())?;
    }
    Ok(())
}

struct Row {
    from: u64,
    to: u64,
    count: u64,
    largest: u64,
}

/// Samples by ranges that double (or halve again, where few would do).
fn rows(latency: &Latency) -> Vec<Row> {
    let mut steps_an_octave = 4;
    loop {
        let rows = rows_of(latency, steps_an_octave);
        if rows.len() <= ROWS || steps_an_octave == 1 {
            return rows;
        }
        steps_an_octave /= 2;
    }
}

fn rows_of(latency: &Latency, steps: u32) -> Vec<Row> {
    let mut counts = std::collections::BTreeMap::<u32, u64>::new();
    for value in latency.histogram.iter_recorded() {
        *counts
            .entry(step_of(value.value_iterated_to(), steps))
            .or_default() += value.count_since_last_iteration();
    }
    let (Some(first), Some(last)) = (counts.keys().next(), counts.keys().next_back()) else {
        return Vec::new();
    };
    let largest = counts.values().copied().max().unwrap_or(0);
    (*first..=*last)
        .map(|step| Row {
            from: start_of(step, steps),
            to: start_of(step + 1, steps),
            count: counts.get(&step).copied().unwrap_or(0),
            largest,
        })
        .collect()
}

/// Number of the range that a value falls in: `steps` ranges in each power of two.
fn step_of(value: u64, steps: u32) -> u32 {
    let octave = value.max(1).ilog2();
    let above = value.max(1) - (1 << octave);
    octave * steps + u32::try_from((above * u64::from(steps)) >> octave).unwrap_or(0)
}

fn start_of(step: u32, steps: u32) -> u64 {
    let octave = 1_u64 << (step / steps);
    octave + octave * u64::from(step % steps) / u64::from(steps)
}

fn bar(count: u64, largest: u64, style: &Style) -> String {
    const EIGHTHS: [char; 8] = ['▏', '▎', '▍', '▌', '▋', '▊', '▉', '█'];
    let width = style.width.saturating_sub(BESIDE).clamp(10, 60) as u64;
    if count == 0 || largest == 0 {
        return String::new();
    }
    if !style.unicode {
        let cells = (count.saturating_mul(width) / largest).max(1);
        return "#".repeat(usize::try_from(cells).unwrap_or(0));
    }
    let eighths = usize::try_from((count.saturating_mul(width * 8) / largest).max(1)).unwrap_or(0);
    let mut bar: String = std::iter::repeat_n('█', eighths / 8).collect();
    if eighths % 8 > 0 {
        bar.push(EIGHTHS[eighths % 8 - 1]);
    }
    bar
}

/// A duration with three digits and its unit: `870ns`, `12.3us`, `4.56ms`, `1.20s`.
pub fn format_ns(ns: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let value = ns as f64;
    let (value, unit) = match ns {
        0..1_000 => return format!("{ns}ns"),
        1_000..1_000_000 => (value / 1e3, "us"),
        1_000_000..1_000_000_000 => (value / 1e6, "ms"),
        _ => (value / 1e9, "s"),
    };
    match value {
        ..9.995 => format!("{value:.2}{unit}"),
        ..99.95 => format!("{value:.1}{unit}"),
        _ => format!("{value:.0}{unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_tile() {
        for steps in [1, 2, 4] {
            for step in steps * 3..steps * 40 {
                assert_eq!(step_of(start_of(step, steps), steps), step);
                assert_eq!(step_of(start_of(step + 1, steps) - 1, steps), step);
            }
        }
    }

    #[test]
    fn durations_have_three_digits() {
        let texts = [0, 999, 1_000, 12_345, 999_499, 4_560_000, 1_200_000_000].map(format_ns);
        assert_eq!(
            texts,
            [
                "0ns", "999ns", "1.00us", "12.3us", "999us", "4.56ms", "1.20s"
            ]
        );
    }

    #[test]
    fn a_bar_is_never_longer_than_its_room() {
        for unicode in [false, true] {
            let style = Style { width: 80, unicode };
            assert_eq!(
                bar(u64::MAX / 1024, u64::MAX / 1024, &style)
                    .chars()
                    .count(),
                40
            );
            assert_eq!(bar(1, u64::MAX / 1024, &style).chars().count(), 1);
            assert_eq!(bar(0, 5, &style), "");
        }
    }
}
