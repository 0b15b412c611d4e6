//! `dmm policy history`.

use std::process::ExitCode;

use dmm::policy_store::{Origin, Version};
use serde::Serialize;

use super::live::{LiveArgs, versions};
use crate::Error;
use crate::output::{Cell, Column, DIM, GOOD, Out, Table};

const EXAMPLES: &str = "\
Examples:
  dmm policy history
  dmm policy history --json | jq '.versions[-1]'

Edits of the live file by hand are versions too, from the next look on.";

/// List the versions of the live policy.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    live: LiveArgs,
}

#[derive(Serialize)]
struct Answer<'a> {
    live: String,
    current: Option<u32>,
    versions: &'a [Version],
}

/// Prints them, the newest last.
pub fn run(args: &Args, out: &mut Out) -> Result<ExitCode, Error> {
    let store = args.live.store()?;
    let versions = versions(&store)?;
    let current = store.current()?.map(|version| version.version);
    if out.is_json() {
        out.json(&Answer {
            live: store.live().display().to_string(),
            current,
            versions: &versions,
        })?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new([
        Column::number("VERSION"),
        Column::text("TIME"),
        Column::text("BY"),
        Column::text("HOW"),
        Column::text("HASH"),
        Column::text("NOTE").shrinks(),
    ]);
    for version in &versions {
        let number = Cell::from(version.version);
        table.row([
            if Some(version.version) == current {
                number.style(GOOD)
            } else {
                number
            },
            time(version.time_ms).into(),
            format!("uid {}", version.uid).into(),
            how(version).into(),
            Cell::new(format!("{:08x}", version.text_hash >> 32)).style(DIM),
            version.note.as_str().into(),
        ]);
    }
    out.table(&table)?;
    match current {
        Some(version) => out.detail(format_args!("version {version} is in force")),
        None => out.notice(format_args!(
            "what is in {} is none of these: it has errors, or was not looked at by its owner yet",
            store.live().display()
        )),
    }
    Ok(ExitCode::SUCCESS)
}

fn how(version: &Version) -> String {
    match (version.origin, version.restores) {
        (Origin::Rollback, Some(restored)) => format!("rollback to {restored}"),
        (Origin::Rollback, None) => "rollback".to_owned(),
        (Origin::Apply, _) => "apply".to_owned(),
        (Origin::Edit, _) => "edit".to_owned(),
    }
}

/// In the user's time zone, to the second.
fn time(ms: u64) -> String {
    let ms = i64::try_from(ms).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(ms).map_or_else(
        |_| "?".to_owned(),
        |time| {
            time.to_zoned_datetime(jiff::tz::TimeZone::system())
                .strftime("%Y-%m-%d %H:%M:%S")
                .to_string()
        },
    )
}
