//! Unmodified programs on the kernel's stack, plain and under DMM, side by side: what the preload
//! costs where it changes nothing.
//!
//! ```sh
//! cargo run --release -p dmm-benches --bin apps
//! cargo run --release -p dmm-benches --bin apps -- --rounds 9 --json apps.json --svg apps.svg
//! ```
//!
//! Each round runs every workload on both sides, one right after the other, the first side first in
//! one round and last in the next, so that whatever drifts on the machine hits both. The server is
//! pinned to one core and the client to another. What counts is the ratio of the medians over the
//! rounds, turned so that above 1 DMM is the better one.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program says what it found"
)]

mod chart;
mod report;
mod workload;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use dmm_benches::idle;
use dmm_benches::place::Place;
use dmm_tests::setting::EVERYTHING_TO_SECOND;
use dmm_tests::{Need, Setting};

use report::{Report, Side};
use workload::Workload;

/// Compares unmodified programs with and without DMM.
#[derive(Debug, Parser)]
#[command(name = "apps")]
struct Arguments {
    /// Workloads to run [default: all].
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    workloads: Vec<Workload>,

    /// How often each is run on either side.
    #[arg(long, default_value_t = 5)]
    rounds: usize,

    /// How long one run takes, where a workload can be told.
    #[arg(long, default_value_t = 3, value_name = "SECONDS")]
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

    /// Policy file of the side under DMM [default: a rule that sends everything to a second kernel
    /// instance].
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,

    /// Write the results as JSON, too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Draw the ratios, too.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,

    /// Fail if a ratio of medians is below this.
    #[arg(long, value_name = "RATIO")]
    at_least: Option<f64>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("apps: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let policy = match &arguments.policy {
        Some(file) => {
            std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?
        }
        None => EVERYTHING_TO_SECOND.to_owned(),
    };
    let workloads = if arguments.workloads.is_empty() {
        Workload::ALL.to_vec()
    } else {
        arguments.workloads.clone()
    };
    let missing: Vec<String> = workloads
        .iter()
        .flat_map(|workload| workload.needs())
        .filter_map(Need::missing)
        .collect();
    if !missing.is_empty() {
        return Err(format!("missing: {}", missing.join(", ")).into());
    }
    let place = Place {
        server_core: arguments.server_core,
        client_core: arguments.client_core,
        seconds: arguments.seconds,
    };
    let report = measure(arguments, &workloads, place, &policy);
    print!("{}", report.table());
    if let Some(file) = &arguments.json {
        std::fs::write(file, report.json())
            .map_err(|error| format!("{}: {error}", file.display()))?;
    }
    if let Some(file) = &arguments.svg {
        std::fs::write(file, chart::svg(&report.rows()))
            .map_err(|error| format!("{}: {error}", file.display()))?;
    }
    Ok(match arguments.at_least {
        Some(least) if report.rows().iter().any(|row| row.ratio < least) => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    })
}

fn measure(arguments: &Arguments, workloads: &[Workload], place: Place, policy: &str) -> Report {
    let patience = Duration::from_secs(arguments.patience);
    let mut report = Report::default();
    for round in 0..arguments.rounds {
        let mut sides = [Side::Plain, Side::Dmm];
        if round % 2 == 1 {
            sides.reverse();
        }
        for workload in workloads {
            for side in sides {
                let idle = idle::wait(patience);
                let setting = match side {
                    Side::Plain => Setting::plain(),
                    Side::Dmm => Setting::under(policy),
                };
                let values = workload.run(&setting, place);
                eprintln!(
                    "round {}/{}, {workload}, {side}: {} (machine {:.0} % idle before)",
                    round + 1,
                    arguments.rounds,
                    values
                        .iter()
                        .map(ToString::to_string)
                        .collect::<Vec<_>>()
                        .join(", "),
                    idle * 100.0
                );
                report.add(side, values);
            }
        }
    }
    report
}
