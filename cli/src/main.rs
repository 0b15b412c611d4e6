//! `dmm`: runs programs under DMM, says what happens to their sockets, and keeps the policy.
//!
//! Where to find things:
//!
//! - [`cli`]: the command line as clap sees it; [`cmd`]: one file a command;
//! - [`output`]: text, tables, JSON and colours; [`error`]: what goes wrong and its exit code;
//! - [`program`]: finding, inspecting and starting a program;
//! - [`policy_file`]: reading a policy with its diagnostics;
//! - [`places`]: where DMM keeps things on this host;
//! - [`machine`]: what this machine and user can do, for `dmm doctor` and `dmm policy explain`.
//!
//! The tool holds no logic of its own about policies, sockets or statistics: those are in the crates
//! `dmm-policy`, `dmm-nsocket` and `dmm`.

#![allow(
    unreachable_pub,
    reason = "nobody sees into a program: `pub` marks what a module offers to the others"
)]

mod cli;
mod cmd;
mod error;
mod machine;
mod output;
mod places;
mod policy_file;
mod program;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

pub use error::{Doing, Error, plain};

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let mut out = output::Out::stdout(cli.global.options());
    let result = cmd::run(&cli.command, &mut out).and_then(|code| {
        out.flush()?;
        Ok(code)
    });
    match result {
        Ok(code) => code,
        Err(error) if error.is_closed_pipe() => ExitCode::SUCCESS,
        Err(error) => {
            out.error(&error);
            error.exit_code()
        }
    }
}
