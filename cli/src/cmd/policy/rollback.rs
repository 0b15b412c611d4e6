//! `dmm policy rollback`.

use std::process::ExitCode;

use super::live::{LiveArgs, report};
use crate::Error;
use crate::output::Out;

const EXAMPLES: &str = "\
Examples:
  dmm policy rollback                        to the version before the one in force
  dmm policy rollback 3 -m 'bulk is down'

It makes a new version with the old text, so that it can be undone as well. Rolling back again
goes back further.";

/// Make an earlier version the live one again.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The version; without it, the one before the one in force.
    version: Option<u32>,

    #[command(flatten)]
    live: LiveArgs,

    /// Why, for the history.
    #[arg(
        short,
        long = "message",
        visible_alias = "note",
        value_name = "TEXT",
        default_value = ""
    )]
    message: String,
}

/// Rolls back.
pub fn run(args: &Args, out: &mut Out) -> Result<ExitCode, Error> {
    let store = args.live.store()?;
    let applied = store.rollback(args.version, &args.message)?;
    report(&applied, &store, out)?;
    Ok(ExitCode::SUCCESS)
}
