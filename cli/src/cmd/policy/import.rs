//! `dmm policy import`.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use dmm_policy::import::{ImportError, Imported, Source, c_dmm};

use crate::output::Out;
use crate::{Doing, Error};

const EXAMPLES: &str = "\
Examples:
  dmm policy import rd_config.json
  dmm policy import rd_config.json module_config.json -o my.toml

What has no counterpart becomes a comment in the policy and a line on the standard error.";

/// Translate the configuration of the C DMM.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// rd_config.json: which addresses and protocols go to which stack.
    rd_config: PathBuf,

    /// module_config.json: which stacks there are, and the default one.
    module_config: Option<PathBuf>,

    /// Where to write the policy; it must not exist yet.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Prints or writes the policy.
pub fn run(args: &Args, out: &mut Out) -> Result<ExitCode, Error> {
    let rd_config = read(&args.rd_config)?;
    let module_config = args.module_config.as_deref().map(read).transpose()?;
    let imported =
        c_dmm(&rd_config, module_config.as_deref()).map_err(|error| refused(args, &error))?;
    if out.is_json() {
        out.json(&imported)?;
    } else {
        say_notes(args, &imported, out);
    }
    match &args.output {
        Some(file) => {
            write_new(file, &imported.toml).doing(|| format!("write {}", file.display()))?;
            out.notice(format_args!(
                "{} is written; dmm policy check {} says what else to look at",
                file.display(),
                file.display()
            ));
        }
        None if !out.is_json() => out.write_all(imported.toml.as_bytes())?,
        None => {}
    }
    Ok(ExitCode::SUCCESS)
}

fn read(path: &Path) -> Result<String, Error> {
    fs::read_to_string(path).doing(|| format!("read {}", path.display()))
}

/// Not over a file that somebody has worked on.
fn write_new(path: &Path, text: &str) -> io::Result<()> {
    fs::File::options()
        .write(true)
        .create_new(true)
        .open(path)?
        .write_all(text.as_bytes())
}

fn say_notes(args: &Args, imported: &Imported, out: &mut Out) {
    for note in &imported.notes {
        out.notice(format_args!(
            "{}:{}:{}: {}",
            path_of(args, note.source).display(),
            note.line,
            note.column,
            note.message
        ));
    }
}

fn refused(args: &Args, error: &ImportError) -> Error {
    Error::not_so(format!(
        "{}:{}:{}: {}",
        path_of(args, error.origin).display(),
        error.line,
        error.column,
        error.message
    ))
}

/// The file as the user named it.
fn path_of(args: &Args, source: Source) -> &Path {
    match (source, &args.module_config) {
        (Source::ModuleConfig, Some(path)) => path,
        _ => &args.rd_config,
    }
}
