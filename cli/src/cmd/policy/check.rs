//! `dmm policy check`.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::Error;
use crate::output::{BAD, GOOD, Out, Styled, WARN};
use crate::policy_file::PolicyFile;

const EXAMPLES: &str = "\
Examples:
  dmm policy check my.toml
  dmm policy check --deny warnings my.toml   for CI
  dmm policy check - < my.toml

Exit codes: 0 the policy can be used; 1 it has errors (or warnings, with --deny warnings).";

/// Find mistakes in a policy, each with its place and remedy.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The policy; - is the standard input.
    file: PathBuf,

    /// What else counts as an error.
    #[arg(long, value_name = "WHAT")]
    deny: Option<Deny>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Deny {
    Warnings,
}

/// Prints the findings.
pub fn run(args: &Args, out: &mut Out) -> Result<ExitCode, Error> {
    let policy = PolicyFile::read(&args.file)?;
    let denied = args.deny == Some(Deny::Warnings) && policy.warnings() > 0;
    let refused = policy.errors() > 0 || denied;
    if out.is_json() {
        out.json(&policy.findings())?;
    } else {
        for finding in policy.rendered(out.has_color()) {
            writeln!(out, "{finding}\n")?;
        }
        let (word, style) = match (refused, policy.warnings()) {
            (true, _) => ("refused", BAD),
            (false, 0) => ("ok", GOOD),
            (false, _) => ("ok", WARN),
        };
        writeln!(out, "{}: {}", Styled(word, style), policy.verdict())?;
    }
    Ok(if refused {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}
