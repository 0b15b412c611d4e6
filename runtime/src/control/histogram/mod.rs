//! Latencies: merged over processes and series, and shown in the form that is asked for.
//!
//! The buckets of a segment are those of HdrHistogram, so nothing is lost on the way to
//! [`hdrhistogram::Histogram`] and the tools that read its V2 log.

mod csv;
mod hlog;
mod html;
mod svg;
mod text;

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use dmm_nsocket::stats::{
    HistogramInfo, HistogramKind, MAX_VALUE, SIGNIFICANT_FIGURES, SeriesInfo, Snapshot, lowest_of,
};
use hdrhistogram::Histogram;
use serde::Serialize;

use crate::Error;

pub use text::{Style, format_ns};

/// Percentiles that tables show.
pub const PERCENTILES: [f64; 8] = [50.0, 75.0, 90.0, 95.0, 99.0, 99.9, 99.99, 100.0];

/// The series of one or more processes.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// How many segments are in it.
    pub processes: usize,
    /// The earliest segment's making, in nanoseconds since the epoch.
    pub start_ns: u64,
    /// Pairs of rule and stack.
    pub series: Vec<SeriesInfo>,
}

/// One histogram of a report.
#[derive(Clone, Debug, Serialize)]
pub struct Latency {
    /// What it measures.
    pub kind: HistogramKind,
    /// The rule, or "(all)".
    pub rule: String,
    /// The stack instance, or "(all)".
    pub stack: String,
    /// Samples.
    pub count: u64,
    /// Smallest sample, in nanoseconds.
    pub min_ns: u64,
    /// Largest sample, in nanoseconds.
    pub max_ns: u64,
    /// Mean, in nanoseconds.
    pub mean_ns: f64,
    /// Percentiles and their values in nanoseconds.
    pub percentiles: Vec<(f64, u64)>,
    /// The samples.
    #[serde(skip)]
    pub histogram: Histogram<u64>,
}

/// What to leave out of a report. Empty: nothing.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only this rule.
    pub rule: Option<String>,
    /// Only this stack instance.
    pub stack: Option<String>,
    /// Only these kinds; all if empty.
    pub kinds: Vec<HistogramKind>,
}

/// A form in which histograms are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Percentiles and bars, for people.
    Text,
    /// HdrHistogram V2 interval log.
    HdrLog,
    /// A line for each bucket that holds something.
    Csv,
    /// Curves of latency by percentile.
    Svg,
    /// The picture and the tables in one page without references to others.
    Html,
    /// Percentiles, for programs.
    Json,
}

impl Format {
    /// By the ending of a file's name; text for others.
    pub fn of(path: &Path) -> Self {
        let ending = path
            .extension()
            .and_then(|ending| ending.to_str())
            .unwrap_or_default();
        match ending.to_ascii_lowercase().as_str() {
            "hlog" => Self::HdrLog,
            "csv" => Self::Csv,
            "svg" => Self::Svg,
            "html" | "htm" => Self::Html,
            "json" => Self::Json,
            _ => Self::Text,
        }
    }
}

impl Report {
    /// Adds what one process did.
    pub fn add(&mut self, snapshot: &Snapshot) {
        if self.processes == 0 || snapshot.created_ns < self.start_ns {
            self.start_ns = snapshot.created_ns;
        }
        self.processes += 1;
        for series in &snapshot.series {
            // Lines are left out: the same rule of two versions of a policy is one here.
            let same =
                |mine: &&mut SeriesInfo| mine.rule == series.rule && mine.stack == series.stack;
            match self.series.iter_mut().find(same) {
                Some(mine) => mine.merge(series),
                None => self.series.push(series.clone()),
            }
        }
    }

    /// The histograms that a filter lets through, one for each kind, rule and stack.
    pub fn latencies(&self, filter: &Filter) -> Vec<Latency> {
        let mut latencies: Vec<Latency> = self
            .filtered(filter)
            .map(|(series, histogram)| {
                Latency::new(series.rule.to_string(), series.stack.to_string(), histogram)
            })
            .collect();
        latencies.sort_by_key(|latency| (latency.kind as u8, std::cmp::Reverse(latency.count)));
        latencies
    }

    /// One histogram for each kind, over all rules and stacks that a filter lets through.
    pub fn totals(&self, filter: &Filter) -> Vec<Latency> {
        let mut totals: Vec<HistogramInfo> = Vec::new();
        for (_, histogram) in self.filtered(filter) {
            match totals.iter_mut().find(|total| total.kind == histogram.kind) {
                Some(total) => total.merge(histogram),
                None => totals.push(histogram.clone()),
            }
        }
        totals.sort_by_key(|total| total.kind as u8);
        let name = |wanted: &Option<String>| wanted.clone().unwrap_or_else(|| "(all)".to_owned());
        totals
            .iter()
            .map(|total| Latency::new(name(&filter.rule), name(&filter.stack), total))
            .collect()
    }

    fn filtered(&self, filter: &Filter) -> impl Iterator<Item = (&SeriesInfo, &HistogramInfo)> {
        let passes = |wanted: &Option<String>, name: &str| {
            wanted.as_ref().is_none_or(|wanted| wanted == name)
        };
        self.series
            .iter()
            .filter(move |series| {
                passes(&filter.rule, &series.rule) && passes(&filter.stack, &series.stack)
            })
            .flat_map(|series| {
                series
                    .histograms
                    .iter()
                    .map(move |histogram| (series, histogram))
            })
            .filter(|(_, histogram)| {
                filter.kinds.is_empty() || filter.kinds.contains(&histogram.kind)
            })
    }

    /// Writes the histograms that a filter lets through.
    ///
    /// # Errors
    ///
    /// Those of the writer.
    pub fn write(&self, filter: &Filter, format: Format, to: &mut dyn Write) -> io::Result<()> {
        let latencies = self.latencies(filter);
        match format {
            Format::Text => text::write(&latencies, &Style::default(), to),
            Format::HdrLog => hlog::write(&latencies, self.start_ns, to),
            Format::Csv => csv::write(&latencies, to),
            Format::Svg => to.write_all(svg::plot(&latencies).as_bytes()),
            Format::Html => to.write_all(html::page(self, &latencies).as_bytes()),
            Format::Json => {
                serde_json::to_writer_pretty(&mut *to, &latencies).map_err(io::Error::from)?;
                to.write_all(b"\n")
            }
        }
    }

    /// Writes all histograms to a file, in the form that its name asks for.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn write_file(&self, path: &Path) -> Result<(), Error> {
        self.write_file_as(&Filter::default(), Format::of(path), path)
    }

    /// Writes the histograms that a filter lets through to a file.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn write_file_as(&self, filter: &Filter, format: Format, path: &Path) -> Result<(), Error> {
        let write = || {
            let mut file = BufWriter::new(File::create(path)?);
            self.write(filter, format, &mut file)?;
            file.flush()
        };
        write().map_err(Error::file("write", path))
    }
}

/// Prints histograms for people.
///
/// # Errors
///
/// Those of the writer.
pub fn print(latencies: &[Latency], style: &Style, to: &mut dyn Write) -> io::Result<()> {
    text::write(latencies, style, to)
}

impl Latency {
    fn new(rule: String, stack: String, info: &HistogramInfo) -> Self {
        let histogram = to_hdr(info);
        // The exact extremes are known; buckets would give their edges.
        let value_at = |percentile: f64| match percentile {
            100.0.. => info.max,
            _ => histogram
                .value_at_percentile(percentile)
                .clamp(info.min, info.max.max(info.min)),
        };
        #[expect(clippy::cast_precision_loss, reason = "a mean of measurements")]
        let mean_ns = info.sum as f64 / info.count.max(1) as f64;
        Self {
            kind: info.kind,
            rule,
            stack,
            count: info.count,
            min_ns: info.min,
            max_ns: info.max,
            mean_ns,
            percentiles: PERCENTILES
                .map(|percentile| (percentile, value_at(percentile)))
                .to_vec(),
            histogram,
        }
    }

    /// What it is, in a line: `connect, rule "x", stack bulk`.
    pub fn title(&self) -> String {
        format!(
            "{}, rule \"{}\", stack {}",
            self.kind.name(),
            self.rule,
            self.stack
        )
    }
}

/// The same samples, bucket for bucket.
fn to_hdr(info: &HistogramInfo) -> Histogram<u64> {
    let mut histogram = Histogram::new_with_bounds(1, MAX_VALUE, SIGNIFICANT_FIGURES)
        .expect("the bounds are constants that hdrhistogram accepts");
    for (bucket, count) in &info.buckets {
        // Values in a bucket are at most `MAX_VALUE`, and `saturating_` takes what is not.
        histogram.saturating_record_n(lowest_of(usize::from(*bucket)), *count);
    }
    histogram
}

#[cfg(test)]
mod tests;
