//! Unmodified programs over shared memory (`local`), side by side with loopback TCP and, where they
//! can use one, with a Unix socket.
//!
//! ```sh
//! cargo run --release -p dmm-benches --bin local
//! cargo run --release -p dmm-benches --bin local -- --workloads redis,ping-pong --rounds 9 --seconds 3
//! cargo run --release -p dmm-benches --bin local -- --json local.json --svg local.svg --at-least-bars
//! ```
//!
//! # How it is measured
//!
//! Each round runs every workload on all sides, one right after the other, and the side that begins
//! changes from round to round, so that whatever drifts on the machine hits all of them. Before each run
//! it waits for a machine that is idle otherwise. The server is pinned to one core and the client to
//! another. The side `local` runs the very programs and addresses of the side `tcp`, both under the
//! preload with the policy `[default] stack = ["local", "kernel"]`.
//!
//! Content is checked in every run: the C clients compare each answer, redis-benchmark parses each
//! reply, wrk must have seen no error and all bytes, sockperf must have lost nothing. After it, the
//! statistics that DMM has published must say that *every* connection, at both ends, was carried by
//! `local`. If not, the run's figures are dropped and the table says what carried them instead, and why.
//!
//! # How to read the table
//!
//! - The columns of the sides are medians over the rounds.
//! - *to tcp*, *to unix*: the ratio of the medians. Of a rate or a latency, how many times better
//!   `local` is; of CPU time, the share that is left. Behind the first, in brackets, the lowest and the
//!   highest of the rounds' own ratios: what the machine's noise does.
//! - *bar*: what the ratio (or, where nothing is compared, the figure of `local` itself) has to be, and
//!   whether it is. `rows.rs` has them all.
//! - *CPU* is the time of both programs, of their children and of whatever helps them, start-up of the
//!   client included, for each request.
//! - *event*: one active session among many in one epoll set, changed every 64 messages; *scattered*:
//!   changed with each, so that its memory is not in the caches.
//! - *an idle session*: growth of the processes' proportional set size, so that a shared page counts half
//!   on either side; memory of the kernel's own (socket buffers) is in none of the figures.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program says what it found"
)]

mod carried;
mod chart;
mod cpu;
mod memory;
mod probes;
mod report;
mod row;
mod rows;
mod side;
mod table;
mod workload;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use dmm_benches::figures::SignificantFigures;
use dmm_benches::idle;
use dmm_benches::place::Place;
use dmm_tests::{Need, Setting};

use carried::Carried;
use probes::Probes;
use report::{Report, Trouble};
use row::Measured;
use side::Side;
use workload::{Run, Workload};

/// The policy of the side `local`.
const LOCAL_FIRST: &str = "[default]\nstack = [\"local\", \"kernel\"]\n";

const READING: &str = "\
Reading the table:
  tcp, local, unix   medians over the rounds
  to tcp, to unix    ratio of the medians: how many times better local is, or, of CPU time, the share
                     that is left; [lowest..highest] of the rounds' own ratios
  bar                what the ratio, or the figure itself, has to be, and whether it is
  CPU                both programs, their children and helpers, for each request

A run whose connections were not all carried by the stack counts as failed; the table says by what
they went instead, and why.";

/// Compares unmodified programs over shared memory, loopback TCP and Unix sockets.
#[derive(Debug, Parser)]
#[command(name = "local", after_help = READING)]
struct Arguments {
    /// Workloads to run [default: all].
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    workloads: Vec<Workload>,

    /// How often each is run on each side.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,

    /// How long one run takes.
    #[arg(long, default_value_t = 2, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,

    /// The server's core.
    #[arg(long, default_value_t = 0)]
    server_core: usize,

    /// The client's core.
    #[arg(long, default_value_t = 1)]
    client_core: usize,

    /// Wait at most this long before each run for a machine that is idle otherwise.
    #[arg(long, default_value_t = 20, value_name = "SECONDS")]
    patience: u64,

    /// Policy file of the side under DMM [default: `local` before `kernel`, for everything].
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,

    /// The stack instance that has to carry all connections of that side.
    #[arg(long, default_value = "local", value_name = "NAME")]
    stack: String,

    /// Write the results as JSON, too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Draw the ratios, too.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,

    /// Exit with status 1 if a bar is missed, too, and not only if a run failed.
    #[arg(long)]
    at_least_bars: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("local: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let policy = match &arguments.policy {
        Some(file) => read_policy(file)?,
        None => LOCAL_FIRST.to_owned(),
    };
    let workloads = if arguments.workloads.is_empty() {
        Workload::ALL.to_vec()
    } else {
        arguments.workloads.clone()
    };
    let mut missing: Vec<String> = workloads
        .iter()
        .flat_map(|workload| workload.needs())
        .filter_map(Need::missing)
        .collect();
    missing.sort();
    missing.dedup();
    if !missing.is_empty() {
        return Err(format!("missing: {}", missing.join(", ")).into());
    }
    let report = measure(arguments, &workloads, &policy, &Probes::compile()?);
    print!("{}", table::text(&report));
    if let Some(file) = &arguments.json {
        std::fs::write(file, report.json())
            .map_err(|error| format!("{}: {error}", file.display()))?;
    }
    if let Some(file) = &arguments.svg {
        std::fs::write(file, chart::svg(&report.lines()))
            .map_err(|error| format!("{}: {error}", file.display()))?;
    }
    let failed = if arguments.at_least_bars {
        !report.meets_all_bars()
    } else {
        !report.troubles().is_empty()
    };
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// A policy with errors would be passed over by the programs, which then run by the built-in one.
fn read_policy(file: &Path) -> Result<String, String> {
    let name = file.display().to_string();
    let text = std::fs::read_to_string(file).map_err(|error| format!("{name}: {error}"))?;
    let parsed = dmm_policy::parse(&text, &name);
    if parsed.policy.is_some() {
        return Ok(text);
    }
    let errors: Vec<String> = parsed
        .diagnostics
        .iter()
        .map(|diagnostic| diagnostic.render(&text, false))
        .collect();
    Err(errors.join("\n"))
}

fn measure(arguments: &Arguments, workloads: &[Workload], policy: &str, probes: &Probes) -> Report {
    let place = Place {
        server_core: arguments.server_core,
        client_core: arguments.client_core,
        seconds: arguments.seconds,
    };
    let mut report = Report::new(&arguments.stack);
    for round in 0..arguments.rounds {
        let mut sides = Side::ALL;
        sides.rotate_left(usize::from(round) % Side::ALL.len());
        for workload in workloads {
            for side in sides.into_iter().filter(|side| workload.can_run(*side)) {
                let idle = idle::wait(Duration::from_secs(arguments.patience));
                let setting = match side {
                    Side::Tcp | Side::Unix => Setting::plain(),
                    Side::Local => Setting::under(policy),
                };
                let run = Run::new(&setting, side, place, probes);
                let outcome = run_once(*workload, &run, &setting, &arguments.stack);
                eprintln!(
                    "round {}/{}, {workload}, {side}: {} (machine {:.0} % idle before)",
                    round + 1,
                    arguments.rounds,
                    said(&outcome),
                    idle * 100.0
                );
                match outcome {
                    Ok(values) => report.add(side, &values),
                    Err(what) => report.add_trouble(Trouble {
                        workload: *workload,
                        side,
                        what,
                    }),
                }
            }
        }
    }
    report
}

/// The figures of one run, or why there are none.
fn run_once(
    workload: Workload,
    run: &Run<'_>,
    setting: &Setting,
    stack: &str,
) -> Result<Vec<Measured>, String> {
    let values = catch_unwind(AssertUnwindSafe(|| workload.run(run))).map_err(|panic| {
        let message = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("failed");
        shortened(message)
    })?;
    if setting.is_dmm() {
        Carried::read(setting.segments()).all_by(stack)?;
    }
    Ok(values)
}

/// The first line of a message, and the last: what went wrong, and the last that a program said.
fn shortened(message: &str) -> String {
    let mut lines = message
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty());
    let first = lines.next().unwrap_or_default();
    match lines.next_back() {
        Some(last) if !last.starts_with("--") => format!("{first} ... {last}"),
        _ => first.to_owned(),
    }
}

fn said(outcome: &Result<Vec<Measured>, String>) -> String {
    match outcome {
        Err(what) => what.clone(),
        Ok(values) => values
            .iter()
            .map(|Measured { row, value }| {
                format!("{}: {} {}", row.name, SignificantFigures(*value), row.unit)
            })
            .collect::<Vec<_>>()
            .join(", "),
    }
}
