//! `dmm ps`: who is under DMM.

use std::process::ExitCode;
use std::time::Duration;

use dmm::control::{self, Listing, Process};
use serde::Serialize;

use crate::Error;
use crate::output::{Cell, Column, DIM, NAME, Out, Table, WARN, duration};

const EXAMPLES: &str = "\
Examples:
  dmm ps
  dmm ps redis                               whose program or label contains 'redis'
  dmm ps --json | jq '.processes[].pid'

A user sees the own processes, root sees all. What dead processes have left is removed. POLICY is the version in the history, or the hash of the
text; 'stale' means that the process has not taken up the file's latest text yet (it does so with its
next socket), 'refused' that the latest text has errors.";

/// List the processes under DMM.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Only processes whose program or label contains this.
    #[arg(value_name = "NAME")]
    name: Option<String>,
}

#[derive(Serialize)]
struct Answer<'a> {
    processes: Vec<Row<'a>>,
    hidden: &'a [u32],
    broken: &'a [(std::path::PathBuf, String)],
}

#[derive(Serialize)]
struct Row<'a> {
    pid: u32,
    program: &'a str,
    label: &'a str,
    uid: Option<u32>,
    uptime_s: Option<u64>,
    policy: PolicyColumn<'a>,
    sockets: std::collections::BTreeMap<String, usize>,
    counters: Option<&'a dmm_nsocket::stats::Counts>,
}

#[derive(Serialize)]
struct PolicyColumn<'a> {
    file: &'a str,
    hash: Option<String>,
    version: Option<u32>,
    stale: bool,
    refused: &'a str,
}

/// Prints a line for each process.
pub fn run(args: &Args, out: &mut Out) -> Result<ExitCode, Error> {
    let swept = control::sweep()?;
    if !swept.removed.is_empty() {
        out.detail(format_args!(
            "removed {} files of dead processes",
            swept.removed.len()
        ));
    }
    for (path, why) in &swept.failed {
        out.detail(format_args!("cannot remove {}: {why}", path.display()));
    }
    let listing = control::processes()?;
    let chosen: Vec<&Process> = listing
        .processes
        .iter()
        .filter(|process| matches(process, args.name.as_deref()))
        .collect();
    if out.is_json() {
        out.json(&Answer {
            processes: chosen.iter().map(|process| row(process)).collect(),
            hidden: &listing.hidden,
            broken: &listing.broken,
        })?;
        return Ok(ExitCode::SUCCESS);
    }
    if chosen.is_empty() {
        out.notice("no process under DMM; dmm run -- PROGRAM starts one");
    } else {
        out.table(&table(&chosen))?;
    }
    tell_problems(&chosen, &listing, out);
    Ok(ExitCode::SUCCESS)
}

/// `42s`, `3m12s`, `2d4h`.
pub(super) fn age(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        _ => duration(Duration::from_secs(seconds)),
    }
}

fn matches(process: &Process, name: Option<&str>) -> bool {
    name.is_none_or(|name| process.program.contains(name) || process.label().contains(name))
}

fn table(processes: &[&Process]) -> Table {
    let mut table = Table::new([
        Column::number("PID"),
        Column::text("PROGRAM").shrinks(),
        Column::text("LABEL").shrinks(),
        Column::text("POLICY"),
        Column::text("SOCKETS"),
        Column::text("UPTIME"),
    ]);
    for process in processes {
        table.row([
            process.pid.into(),
            process.name().into(),
            process.label().into(),
            policy_cell(process),
            Cell::new(stacks(process)).style(NAME),
            process.uptime_s.map_or_else(String::new, age).into(),
        ]);
    }
    table
}

/// `v4 9c0d1a2b`, with what is not as it should be.
fn policy_cell(process: &Process) -> Cell {
    let Some(snapshot) = &process.snapshot else {
        return Cell::new("-").style(DIM);
    };
    if snapshot.policy.path.is_empty() {
        return Cell::new("built-in").style(DIM);
    }
    let status = process.policy.as_ref();
    let hash = format!("{:08x}", snapshot.policy.hash >> 32);
    let mut text = match status.and_then(|status| status.version.as_ref()) {
        Some(version) => format!("v{} {hash}", version.version),
        None => hash,
    };
    let mut style = anstyle::Style::new();
    if !snapshot.policy.error.is_empty() {
        text.push_str(" refused");
        style = WARN;
    } else if status.is_some_and(|status| status.stale) {
        text.push_str(" stale");
        style = WARN;
    }
    Cell::new(text).style(style)
}

/// `kernel 12, bulk 3`.
fn stacks(process: &Process) -> String {
    let counts = process.sockets_by_stack();
    if counts.is_empty() {
        return "none".to_owned();
    }
    let texts: Vec<String> = counts
        .iter()
        .map(|(stack, n)| {
            let stack = if stack.is_empty() { "unbound" } else { stack };
            format!("{stack} {n}")
        })
        .collect();
    texts.join(", ")
}

fn row(process: &Process) -> Row<'_> {
    let snapshot = process.snapshot.as_ref();
    let status = process.policy.as_ref();
    Row {
        pid: process.pid,
        program: &process.program,
        label: process.label(),
        uid: process.uid,
        uptime_s: process.uptime_s,
        policy: PolicyColumn {
            file: snapshot.map_or("", |snapshot| &snapshot.policy.path),
            hash: snapshot.map(|snapshot| format!("{:016x}", snapshot.policy.hash)),
            version: status.and_then(|status| Some(status.version.as_ref()?.version)),
            stale: status.is_some_and(|status| status.stale),
            refused: snapshot.map_or("", |snapshot| &snapshot.policy.error),
        },
        sockets: process.sockets_by_stack().into_iter().collect(),
        counters: snapshot.map(|snapshot| &snapshot.counters),
    }
}

fn tell_problems(processes: &[&Process], listing: &Listing, out: &mut Out) {
    let mut told = std::collections::HashSet::new();
    for process in processes {
        let error = process
            .snapshot
            .as_ref()
            .map_or("", |snapshot| &snapshot.policy.error);
        if !error.is_empty() && told.insert(error) {
            out.notice(format_args!(
                "the policy's latest text was refused, the one before stays in force: {error}"
            ));
        }
    }
    if !listing.hidden.is_empty() {
        let n = listing.hidden.len();
        let (processes, belong) = if n == 1 {
            ("process", "belongs")
        } else {
            ("processes", "belong")
        };
        out.detail(format_args!(
            "{n} more {processes} under DMM {belong} to other users"
        ));
    }
    for (path, why) in &listing.broken {
        out.notice(format_args!("{}: {why}", path.display()));
    }
}
