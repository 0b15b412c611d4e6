//! `dmm doctor`: what works here, what does not, what depends on it, and what changes it.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;

use crate::Error;
use crate::machine::{self, Check, Group, State};
use crate::output::{BAD, BOLD, DIM, GOOD, Out, Styled, WARN};

const EXAMPLES: &str = "\
Examples:
  dmm doctor
  dmm doctor --problems                      only what is limited or missing
  dmm doctor --json | jq '.groups[].checks[] | select(.state != \"ok\")'

Exit codes: 0 if unmodified programs can run under DMM's default (no check marked * is missing);
1 if not.";

/// Say what this machine and user can do, and what fixes the rest.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Only what is limited or missing.
    #[arg(long)]
    problems: bool,

    /// The preload library, where it is not beside dmm or in ../lib/dmm.
    #[arg(long, value_name = "PATH", env = "DMM_LIBRARY", hide_env_values = true)]
    library: Option<PathBuf>,
}

#[derive(Serialize)]
struct Report {
    works: bool,
    groups: Vec<Group>,
}

/// Examines the machine and prints what was found.
pub fn run(args: &Args, out: &mut Out) -> Result<ExitCode, Error> {
    let mut groups = machine::examine(args.library.as_deref());
    let works = groups
        .iter()
        .flat_map(|group| &group.checks)
        .all(|check| !check.required || check.state != State::Missing);
    if args.problems {
        for group in &mut groups {
            group.checks.retain(|check| check.state != State::Ok);
        }
        groups.retain(|group| !group.checks.is_empty());
    }
    let report = Report { works, groups };
    if out.is_json() {
        out.json(&report)?;
    } else {
        print(&report, out)?;
    }
    Ok(if works {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn print(report: &Report, out: &mut Out) -> Result<(), Error> {
    for group in &report.groups {
        writeln!(out, "{}", Styled(group.title, BOLD))?;
        for check in &group.checks {
            print_check(check, out)?;
        }
        writeln!(out)?;
    }
    if report.works {
        writeln!(
            out,
            "{} programs can run under DMM here: dmm run -- PROGRAM",
            Styled("ok:", GOOD)
        )?;
    } else {
        writeln!(
            out,
            "{} something that is marked * is not there: programs cannot run under DMM here",
            Styled("missing:", BAD)
        )?;
    }
    Ok(())
}

fn print_check(check: &Check, out: &mut Out) -> Result<(), Error> {
    let (word, style) = match check.state {
        State::Ok => ("ok", GOOD),
        State::Limited => ("limited", WARN),
        State::Missing => ("missing", BAD),
    };
    let mark = if check.required { "*" } else { " " };
    writeln!(
        out,
        "  {}{mark}{:<24}{}",
        Styled(format_args!("{word:<8}"), style),
        check.id,
        check.found
    )?;
    // What works needs no explanation, unless it is asked for.
    if check.state != State::Ok || out.verbose() > 0 {
        writeln!(
            out,
            "           {}",
            Styled(format_args!("for: {}", check.needed_for), DIM)
        )?;
    }
    if let Some(fix) = &check.fix {
        writeln!(out, "           fix: {fix}")?;
    }
    Ok(())
}
