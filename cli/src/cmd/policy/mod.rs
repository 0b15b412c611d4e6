//! `dmm policy`: everything one does with policy files.

mod apply;
mod check;
mod diff;
mod explain;
mod history;
mod import;
mod live;
mod rollback;
mod show;
mod subject;

use std::process::ExitCode;

use crate::Error;
use crate::output::Out;

const EXAMPLES: &str = "\
Examples:
  dmm policy check my.toml
  dmm policy explain my.toml --program redis-server connect tcp 10.1.2.3:6379
  dmm policy apply my.toml -m 'cache goes over bulk'
  dmm policy history
  dmm policy diff 3 4
  dmm policy rollback
  dmm policy import rd_config.json module_config.json -o my.toml";

/// Check, explain, apply and roll back policies.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Find mistakes in a policy, each with its place and remedy.
    Check(check::Args),
    /// Say which rule and stack a socket would get, and why.
    Explain(explain::Args),
    /// Make a policy the live one: running programs follow at once.
    Apply(apply::Args),
    /// Print the live policy, or a version of it.
    Show(show::Args),
    /// List the versions of the live policy.
    History(history::Args),
    /// Make an earlier version the live one again.
    Rollback(rollback::Args),
    /// Show what changed between two versions.
    Diff(diff::Args),
    /// Translate the configuration of the C DMM.
    Import(import::Args),
}

/// Does what is asked.
pub fn run(args: &Args, out: &mut Out) -> Result<ExitCode, Error> {
    match &args.command {
        Command::Check(args) => check::run(args, out),
        Command::Explain(args) => explain::run(args, out),
        Command::Apply(args) => apply::run(args, out),
        Command::Show(args) => show::run(args, out),
        Command::History(args) => history::run(args, out),
        Command::Rollback(args) => rollback::run(args, out),
        Command::Diff(args) => diff::run(args, out),
        Command::Import(args) => import::run(args, out),
    }
}
