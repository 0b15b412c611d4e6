//! `dmm hist`: how long connecting, accepting and waiting took.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use dmm::control;
use dmm::control::histogram::{self, Filter, Format, Report, Style};
use dmm_nsocket::stats::{HistogramKind, Snapshot};

use crate::Error;
use crate::output::Out;

const EXAMPLES: &str = "\
Examples:
  dmm hist 4711                              percentiles and bars
  dmm hist 4711 --kind connect --stack bulk
  dmm hist 4711 --html latency.html --csv latency.csv
  dmm hist 4711 --hlog latency.hlog          for HdrHistogram's log analysers
  dmm hist --from dump                       a copy that a program wrote on SIGUSR2
  dmm hist 4711 --total                      over all rules and stacks

Kinds: connect (from connect until the connection stands), accept (in blocking accept calls), blocking
(in other calls that may block: read, recv, send, poll; once there are many, only some are timed), one-way
(of sessions: from a write on the other side to the read here; about one write in 257 is measured).
Values are kept to 1 %.";

/// Show latency histograms of a process.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The process.
    #[arg(required_unless_present = "from", conflicts_with = "from")]
    pid: Option<u32>,

    /// Read a copy of a segment instead; may be given several times.
    #[arg(long, value_name = "FILE")]
    from: Vec<PathBuf>,

    /// Only this rule.
    #[arg(long, value_name = "NAME")]
    rule: Option<String>,

    /// Only this stack instance.
    #[arg(long, value_name = "NAME")]
    stack: Option<String>,

    /// Only this kind; may be given several times.
    #[arg(long, value_enum)]
    kind: Vec<Kind>,

    /// One histogram for each kind, over all rules and stacks.
    #[arg(long)]
    total: bool,

    /// Write an HdrHistogram V2 log.
    #[arg(long, value_name = "FILE")]
    hlog: Option<PathBuf>,

    /// Write a table of buckets.
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,

    /// Write a picture: latency by percentile.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,

    /// Write a page with picture and percentiles.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Kind {
    /// Until a connection stands.
    Connect,
    /// In blocking accept calls.
    Accept,
    /// In other calls that may block.
    Blocking,
    /// From a write on the other side of a session to the read here.
    OneWay,
}

impl From<Kind> for HistogramKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Connect => Self::Connect,
            Kind::Accept => Self::Accept,
            Kind::Blocking => Self::Blocking,
            Kind::OneWay => Self::OneWay,
        }
    }
}

/// Prints the histograms, or writes them where files are named.
pub fn run(args: &Args, out: &mut Out) -> Result<ExitCode, Error> {
    let report = args.report()?;
    let filter = Filter {
        rule: args.rule.clone(),
        stack: args.stack.clone(),
        kinds: args.kind.iter().copied().map(HistogramKind::from).collect(),
    };
    let files = [
        (&args.hlog, Format::HdrLog),
        (&args.csv, Format::Csv),
        (&args.svg, Format::Svg),
        (&args.html, Format::Html),
    ];
    let mut written = false;
    for (file, format) in files {
        if let Some(file) = file {
            report.write_file_as(&filter, format, file)?;
            out.detail(format_args!("{} written", file.display()));
            written = true;
        }
    }
    let latencies = if args.total {
        report.totals(&filter)
    } else {
        report.latencies(&filter)
    };
    if out.is_json() {
        out.json(&latencies)?;
    } else if !written {
        if latencies.is_empty() {
            out.notice(args.nothing(&report));
            return Ok(ExitCode::SUCCESS);
        }
        let style = Style {
            width: out.width().unwrap_or(80),
            unicode: unicode(out),
        };
        let mut text = Vec::new();
        histogram::print(&latencies, &style, &mut text)?;
        out.write_all(&text)?;
    }
    Ok(ExitCode::SUCCESS)
}

impl Args {
    fn report(&self) -> Result<Report, Error> {
        let mut report = Report::default();
        for path in &self.from {
            let snapshot = Snapshot::read(path).map_err(|source| dmm::Error::Segment {
                path: path.clone(),
                source,
            })?;
            report.add(&snapshot);
        }
        if let Some(pid) = self.pid
            && let Some(snapshot) = &control::process(pid)?.snapshot
        {
            report.add(snapshot);
        }
        Ok(report)
    }

    /// Why there is nothing to show.
    fn nothing(&self, report: &Report) -> String {
        let names = |name: fn(&dmm_nsocket::stats::SeriesInfo) -> &str| {
            let mut names: Vec<&str> = report.series.iter().map(name).collect();
            names.sort_unstable();
            names.dedup();
            names.join(", ")
        };
        if self.rule.is_some() || self.stack.is_some() {
            return format!(
                "no samples of that rule and stack; there are rules {}, stacks {}",
                names(|series| &series.rule),
                names(|series| &series.stack)
            );
        }
        "no samples yet".to_owned()
    }
}

/// Whether the terminal shows block characters: by the locale, as it is in UTF-8 nearly everywhere.
fn unicode(out: &Out) -> bool {
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
        .into_iter()
        .find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
        .unwrap_or_default()
        .to_ascii_lowercase();
    out.is_terminal() && (locale.contains("utf-8") || locale.contains("utf8"))
}
