//! `dmm man [DIR]`.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::CommandFactory;
use clap_mangen::Man;

use crate::cli::Cli;
use crate::output::Out;
use crate::{Doing, Error};

const EXAMPLES: &str = "\
Examples:
  dmm man | man -l -                         read dmm(1)
  dmm man ~/.local/share/man/man1            write dmm.1, dmm-run.1, dmm-policy-check.1, ...";

/// Write the manual pages.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Directory for one page a command; without it, dmm(1) is printed.
    dir: Option<PathBuf>,
}

/// Prints one page, or writes all.
pub fn run(args: &Args, out: &mut Out) -> Result<ExitCode, Error> {
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    match &args.dir {
        None => out.write_all(&page(&command)?)?,
        Some(dir) => {
            fs::create_dir_all(dir).doing(|| format!("make {}", dir.display()))?;
            let pages = write_all(&command, dir)?;
            out.notice(format_args!("{pages} pages in {}", dir.display()));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn write_all(command: &clap::Command, dir: &Path) -> Result<usize, Error> {
    // clap's display name is the full one: dmm-policy-check.
    let name = command
        .get_display_name()
        .unwrap_or_else(|| command.get_name());
    let file = dir.join(format!("{name}.1"));
    fs::write(&file, page(command)?).doing(|| format!("write {}", file.display()))?;
    let mut pages = 1;
    for sub in command.get_subcommands() {
        if !sub.is_hide_set() && sub.get_name() != "help" {
            pages += write_all(sub, dir)?;
        }
    }
    Ok(pages)
}

/// clap's pages, but for the end: it would fill the examples like running text.
fn page(command: &clap::Command) -> Result<Vec<u8>, Error> {
    let man = Man::new(command.clone());
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.get_subcommands().any(|sub| !sub.is_hide_set()) {
        man.render_subcommands_section(&mut page)?;
    }
    if let Some(notes) = command.get_after_help() {
        page.extend(notes_section(&notes.to_string()).bytes());
    }
    Ok(page)
}

/// Paragraphs are filled; what has columns or is indented stays line by line. One that starts with
/// `Examples:` becomes a section.
fn notes_section(text: &str) -> String {
    let mut roff = String::new();
    let mut heading = "NOTES";
    for block in text.split("\n\n") {
        let (section, block) = match block.strip_prefix("Examples:\n") {
            Some(block) => ("EXAMPLES", block),
            None => ("NOTES", block),
        };
        if section != heading || roff.is_empty() {
            roff += &format!(".SH {section}\n");
            heading = section;
        } else {
            roff += ".PP\n";
        }
        let as_it_is = block.contains("  ");
        if as_it_is {
            roff += ".nf\n";
        }
        for line in block.lines() {
            roff += &escaped(line);
            roff.push('\n');
        }
        if as_it_is {
            roff += ".fi\n";
        }
    }
    roff
}

/// A line that roff takes as text (groff(7)).
fn escaped(line: &str) -> String {
    let text = line
        .replace('\\', "\\e")
        .replace('-', "\\-")
        .replace('\'', "\\(aq");
    if text.starts_with('.') {
        format!("\\&{text}")
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_stay_line_by_line() {
        let roff = notes_section("Examples:\n  dmm a -b   'x'\n  dmm c\n\nA paragraph\nof text.");
        assert_eq!(
            roff,
            ".SH EXAMPLES\n.nf\n  dmm a \\-b   \\(aqx\\(aq\n  dmm c\n.fi\n\
             .SH NOTES\nA paragraph\nof text.\n"
        );
    }

    #[test]
    fn a_line_is_never_taken_for_a_request() {
        assert_eq!(escaped(".hlog, .csv"), "\\&.hlog, .csv");
        assert_eq!(escaped("\\n"), "\\en");
    }
}
