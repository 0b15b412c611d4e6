//! `dmm policy diff`.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;

use similar::{ChangeTag, TextDiff};

use super::live::{LiveArgs, Named, current, named, versions};
use crate::Error;
use crate::output::{BAD, BOLD, DIM, GOOD, Out, Styled};

const EXAMPLES: &str = "\
Examples:
  dmm policy diff                            what the last change was
  dmm policy diff 3                          from version 3 to the live policy
  dmm policy diff 3 4
  dmm policy diff 4 my.toml                  a file works as well as a number

Exit codes: 0 no difference; 1 there is one, as of diff(1).";

/// Show what changed between two versions.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The older: a version or a file; without it, the version before the one in force.
    #[arg(value_name = "A")]
    from: Option<String>,

    /// The newer: a version or a file; without it, the live policy.
    #[arg(value_name = "B")]
    to: Option<String>,

    #[command(flatten)]
    live: LiveArgs,
}

/// Prints a unified diff.
pub fn run(args: &Args, out: &mut Out) -> Result<ExitCode, Error> {
    let store = args.live.store()?;
    let from = match &args.from {
        Some(what) => named(&store, what)?,
        None => {
            let current = store.current()?.map_or(u32::MAX, |version| version.version);
            let before = versions(&store)?
                .into_iter()
                .rev()
                .find(|version| version.version < current);
            match before {
                Some(version) => named(&store, &version.version.to_string())?,
                None => return Err(Error::not_so("there is only one version")),
            }
        }
    };
    let to = match &args.to {
        Some(what) => named(&store, what)?,
        None => current(&store)?,
    };
    let diff = unified(&from, &to, out);
    if out.is_json() {
        out.json(&difference(&from, &to, &diff))?;
    } else {
        out.write_all(diff.as_bytes())?;
    }
    Ok(if from.text == to.text {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The answer for `--json`.
pub fn difference(from: &Named, to: &Named, diff: &str) -> serde_json::Value {
    serde_json::json!({
        "from": from.name,
        "to": to.name,
        "different": from.text != to.text,
        "diff": diff,
    })
}

/// The difference as patch(1) takes it, with colours where they are on; empty if there is none.
pub fn unified(from: &Named, to: &Named, out: &Out) -> String {
    const CONTEXT: usize = 3;
    let mut text = String::new();
    let styled = out.has_color() && !out.is_json();
    let mut line = |style, line: &str| {
        // Writing to a string cannot fail.
        let _ = if styled {
            write!(text, "{}", Styled(line, style))
        } else {
            write!(text, "{line}")
        };
        text.push('\n');
    };
    let diff = TextDiff::from_lines(&from.text, &to.text);
    for (i, hunk) in diff
        .unified_diff()
        .context_radius(CONTEXT)
        .iter_hunks()
        .enumerate()
    {
        if i == 0 {
            line(BOLD, &format!("--- {}", from.name));
            line(BOLD, &format!("+++ {}", to.name));
        }
        line(DIM, &hunk.header().to_string());
        for change in hunk.iter_changes() {
            let (sign, style) = match change.tag() {
                ChangeTag::Delete => ('-', BAD),
                ChangeTag::Insert => ('+', GOOD),
                ChangeTag::Equal => (' ', anstyle::Style::new()),
            };
            let value: &str = change.value();
            line(style, &format!("{sign}{}", value.trim_end_matches('\n')));
            if change.missing_newline() {
                line(DIM, "\\ No newline at end of file");
            }
        }
    }
    text
}
