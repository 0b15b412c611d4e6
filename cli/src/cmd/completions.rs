//! `dmm completions SHELL`.

use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::Error;
use crate::cli::Cli;
use crate::output::Out;

const EXAMPLES: &str = "\
Examples:
  dmm completions bash > ~/.local/share/bash-completion/completions/dmm
  dmm completions zsh  > ~/.zfunc/_dmm
  dmm completions fish > ~/.config/fish/completions/dmm.fish";

/// Print a shell completion script.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The shell it is for.
    shell: Shell,
}

/// Prints the script.
pub fn run(args: &Args, out: &mut Out) -> Result<ExitCode, Error> {
    use std::io::Write;
    // clap_complete panics when it cannot write: give it memory.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "dmm", &mut script);
    out.write_all(&script)?;
    Ok(ExitCode::SUCCESS)
}
