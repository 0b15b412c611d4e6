//! `dmm policy show`.

use std::io::Write;
use std::process::ExitCode;

use dmm_policy::Policy;
use serde::Serialize;

use super::live::LiveArgs;
use crate::Error;
use crate::output::Out;

const EXAMPLES: &str = "\
Examples:
  dmm policy show                            the live policy
  dmm policy show 3                          version 3 of it
  dmm policy show --json | jq '.policy.rules[].name'";

/// Print the live policy, or a version of it.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The version; without it, the one in force.
    version: Option<u32>,

    #[command(flatten)]
    live: LiveArgs,
}

/// The answer for `--json`.
#[derive(Serialize)]
struct Answer<'a> {
    live: String,
    /// Whether there is no file, so that the built-in policy is in force.
    built_in: bool,
    version: Option<u32>,
    text: &'a str,
    /// What the text means; nothing if it has errors.
    policy: Option<Policy>,
}

/// Prints its text.
pub fn run(args: &Args, out: &mut Out) -> Result<ExitCode, Error> {
    let store = args.live.store()?;
    let (text, version) = match args.version {
        Some(version) => (Some(store.text(version)?), Some(version)),
        None => {
            let version = store.current()?.map(|version| version.version);
            (store.current_text()?, version)
        }
    };
    if out.is_json() {
        let policy = match &text {
            Some(text) => store.check(text).ok().map(|(policy, _)| policy),
            None => Some(Policy::builtin()),
        };
        out.json(&Answer {
            live: store.live().display().to_string(),
            built_in: text.is_none(),
            version,
            text: text.as_deref().unwrap_or_default(),
            policy,
        })?;
        return Ok(ExitCode::SUCCESS);
    }
    match (&text, version) {
        (None, _) => out.notice(format_args!(
            "there is no {}: the built-in policy gives everything to the kernel",
            store.live().display()
        )),
        (Some(_), Some(version)) => {
            out.detail(format_args!(
                "{}, version {version}",
                store.live().display()
            ));
        }
        (Some(_), None) => out.detail(format_args!(
            "{}, not in the history yet",
            store.live().display()
        )),
    }
    out.write_all(text.unwrap_or_default().as_bytes())?;
    Ok(ExitCode::SUCCESS)
}
