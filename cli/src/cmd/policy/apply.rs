//! `dmm policy apply`.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use super::diff::{difference, unified};
use super::live::{LiveArgs, Named, current, report};
use crate::Error;
use crate::output::Out;
use crate::policy_file::PolicyFile;

const EXAMPLES: &str = "\
Examples:
  dmm policy apply my.toml -m 'cache goes over bulk'
  dmm policy apply --dry-run my.toml         check it and show what would change
  dmm policy apply --to /srv/app/policy.toml my.toml

New sockets of running programs follow within 100 ms; those that exist stay where they are.
A policy with errors changes nothing.";

/// Make a policy the live one: running programs follow at once.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The policy; - is the standard input.
    file: PathBuf,

    #[command(flatten)]
    live: LiveArgs,

    /// Check it and show what would change, and change nothing.
    #[arg(long)]
    dry_run: bool,

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

/// Checks and applies.
pub fn run(args: &Args, out: &mut Out) -> Result<ExitCode, Error> {
    let file = PolicyFile::read(&args.file)?;
    file.usable(out)?;
    if file.warnings() > 0 {
        out.detail(format_args!(
            "{}; dmm policy check {}",
            file.verdict(),
            args.file.display()
        ));
    }
    let store = args.live.store()?;
    if args.dry_run {
        let new = Named {
            name: args.file.display().to_string(),
            text: file.text,
        };
        let current = current(&store)?;
        let diff = unified(&current, &new, out);
        if out.is_json() {
            out.json(&difference(&current, &new, &diff))?;
        } else {
            out.write_all(diff.as_bytes())?;
        }
        out.notice("dry run: nothing was changed");
        return Ok(ExitCode::SUCCESS);
    }
    let applied = store.apply(&file.text, &args.message)?;
    report(&applied, &store, out)?;
    Ok(ExitCode::SUCCESS)
}
