//! One file a command. Each has its `Args`, with the help text, and a `run`.

pub mod completions;
pub mod demo;
pub mod doctor;
pub mod hist;
pub mod man;
pub mod policy;
pub mod probe;
pub mod ps;
pub mod run;
pub mod ss;
pub mod top;
pub mod why;

use std::process::ExitCode;

use crate::Error;
use crate::cli::Command;
use crate::output::Out;

/// Does what the command line says.
pub fn run(command: &Command, out: &mut Out) -> Result<ExitCode, Error> {
    match command {
        Command::Run(args) => run::run(args, out),
        Command::Ps(args) => ps::run(args, out),
        Command::Ss(args) => ss::run(args, out),
        Command::Why(args) => why::run(args, out),
        Command::Hist(args) => hist::run(args, out),
        Command::Top(args) => top::run(args, out),
        Command::Policy(args) => policy::run(args, out),
        Command::Doctor(args) => doctor::run(args, out),
        Command::Demo(args) => demo::run(args, out),
        Command::Completions(args) => completions::run(args, out),
        Command::Man(args) => man::run(args, out),
        Command::DemoEchoServer(args) => demo::server(args, out),
        Command::DemoEchoClient(args) => demo::client(args, out),
        Command::Probe(args) => probe::run(args, out),
    }
}
