//! The command line.

use clap::builder::Styles;
use clap::builder::styling::AnsiColor;

use crate::cmd;
use crate::output::{Color, Options};

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

const EXAMPLES: &str = "\
Examples:
  dmm run -- redis-server                    run an unmodified program under DMM
  dmm run --policy my.toml -- nginx -c my.conf
  dmm ss                                     its sockets: which stack, which rule
  dmm why 4711 7                             why descriptor 7 of process 4711 is where it is
  dmm policy check my.toml                   find mistakes before they matter
  dmm doctor                                 what this machine and user can do

Exit codes: 0 done; 1 the thing asked for is not so; 2 the command line was not understood.
'dmm run' has the exit code of the program, or 125 (dmm failed), 126 (it cannot be executed),
127 (it was not found).";

/// Runs unmodified programs on the network stack that a policy chooses, and says what happened.
#[derive(Debug, clap::Parser)]
#[command(name = "dmm", version, styles = STYLES, after_help = EXAMPLES, max_term_width = 100)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,

    #[command(subcommand)]
    pub command: Command,
}

/// Options that every command has.
#[derive(Clone, Copy, Debug, clap::Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Print one JSON document instead of text.
    #[arg(long, global = true)]
    json: bool,

    /// When to use colours; NO_COLOR is honoured.
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value_t)]
    color: Color,

    /// Say more.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,

    /// Say nothing but results and errors.
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
}

impl Global {
    /// For [`crate::output::Out`].
    pub fn options(self) -> Options {
        Options {
            json: self.json,
            color: self.color,
            verbose: self.verbose,
            quiet: self.quiet,
        }
    }
}

/// What to do.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Run a program under DMM.
    Run(cmd::run::Args),
    /// List the processes under DMM.
    Ps(cmd::ps::Args),
    /// List their sockets: addresses, state, stack, rule, bytes.
    Ss(cmd::ss::Args),
    /// Say why a socket is on its stack, and why others were passed over.
    Why(cmd::why::Args),
    /// Show latency histograms of a process.
    Hist(cmd::hist::Args),
    /// Watch rates per process, stack and rule.
    Top(cmd::top::Args),
    /// Check, explain, apply and roll back policies.
    #[command(subcommand_required = true, arg_required_else_help = true)]
    Policy(cmd::policy::Args),
    /// Say what this machine and user can do, and what fixes the rest.
    Doctor(cmd::doctor::Args),
    /// Show DMM at work: two programs, two stack instances, one policy.
    Demo(cmd::demo::Args),
    /// Print a shell completion script.
    Completions(cmd::completions::Args),
    /// Write the manual pages.
    Man(cmd::man::Args),
    /// A plain echo server, for the demo.
    #[command(hide = true)]
    DemoEchoServer(cmd::demo::ServerArgs),
    /// A plain echo client, for the demo.
    #[command(hide = true)]
    DemoEchoClient(cmd::demo::ClientArgs),
    /// Something that the doctor tries in a process of its own.
    #[command(hide = true)]
    Probe(cmd::probe::Args),
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    /// docs/cli.md names each command, option and argument.
    #[test]
    fn the_reference_is_complete() {
        let reference = include_str!("../../docs/cli.md");
        let mut missing = Vec::new();
        let mut commands = vec![Cli::command()];
        commands[0].build();
        while let Some(command) = commands.pop() {
            let name = command
                .get_display_name()
                .unwrap_or("dmm")
                .replace('-', " ");
            if !reference.contains(&format!("`{name}")) {
                missing.push(name.clone());
            }
            for argument in command.get_arguments().filter(|a| !a.is_hide_set()) {
                let long = argument.get_long().map(|long| format!("--{long}"));
                missing.extend(long.filter(|long| !reference.contains(&format!("`{long}"))));
            }
            let visible = command
                .get_subcommands()
                .filter(|sub| !sub.is_hide_set() && sub.get_name() != "help");
            commands.extend(visible.cloned());
        }
        assert!(missing.is_empty(), "not in docs/cli.md: {missing:?}");
    }

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }
}
