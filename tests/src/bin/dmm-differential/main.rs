//! The differential test: generated sequences of socket calls, performed in a plain process and in
//! one that runs under the preload library, must give the same results, errors, data, readiness and
//! descriptor numbers, step by step.
//!
//! `compare` runs both sides and reports the first difference of each sequence, shrunk to the ops
//! that matter. `run` performs sequences and prints their traces; it is what `compare` starts on
//! both sides, and what one runs by hand, perhaps under strace or gdb. `show` prints the ops.
//!
//! - [`op`]: what a sequence is made of
//! - [`generate`]: from a seed to a sequence
//! - [`exec`]: performing it, and the trace
//! - [`compare`]: both sides, the difference, the shrinker
//! - [`policies`]: what the preloaded side runs under
//! - [`isolate`]: network namespaces, so that no two runs meet

mod compare;
mod exec;
mod generate;
mod isolate;
mod op;
mod policies;
mod rng;
mod sys;

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use self::exec::{Executor, Handover, Mask, Names, Setting, Settle};

#[derive(Parser)]
#[command(name = "dmm-differential", about, long_about = None)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Compare plain and preloaded runs; exit status 1 if any sequence differs.
    Compare(compare::Options),
    /// Perform sequences in this process and print their traces.
    Run(RunArgs),
    /// Print a policy that `compare` uses.
    Policy { name: String },
    /// Print the ops of a seed.
    Show { seed: u64 },
    /// Go on with a sequence that another process began.
    #[command(hide = true)]
    Resume(ResumeArgs),
    /// Keep a network namespace until standard input ends.
    #[command(hide = true)]
    Hold,
}

#[derive(Args)]
struct Place {
    /// The CPU to run on.
    #[arg(long, default_value_t = 0)]
    cpu: usize,
    /// Options whose values are left out of the trace: `LEVEL:NAME,...`.
    #[arg(long, default_value = "")]
    mask: String,
    /// Register with epoll for levels where the sequence asks for edges.
    #[arg(long)]
    no_edges: bool,
    /// Let no listener's queue be full: make short backlogs long.
    #[arg(long)]
    long_backlogs: bool,
}

#[derive(Args)]
struct RunArgs {
    /// The first seed.
    #[arg(long)]
    first: u64,
    /// How many sequences.
    #[arg(long, default_value_t = 1)]
    count: u64,
    /// Perform only these ops of each sequence (indexes, separated by commas).
    #[arg(long, value_delimiter = ',')]
    keep: Option<Vec<usize>>,
    /// Leave out ops that hold this text, as `show` prints them, such as `Wrong(PollNull`.
    #[arg(long)]
    except: Vec<String>,
    #[command(flatten)]
    place: Place,
}

#[derive(Args)]
struct ResumeArgs {
    #[arg(long)]
    seed: u64,
    #[arg(long, value_delimiter = ',')]
    keep: Vec<usize>,
    #[arg(long)]
    from: usize,
    #[arg(long, value_delimiter = ',', allow_hyphen_values = true)]
    slots: Vec<i32>,
    #[arg(long, default_value = "")]
    names: String,
    #[command(flatten)]
    place: Place,
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Compare(options) => compare::run(&options, &mut io::stdout()),
        Command::Run(args) => run(&args).map(|()| true),
        Command::Policy { name } => policy(name).map(|()| true),
        Command::Show { seed } => show(seed).map(|()| true),
        Command::Resume(args) => resume(args).map(|()| true),
        Command::Hold => hold().map(|()| true),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(message) => {
            let _ = writeln!(io::stderr(), "dmm-differential: {message}");
            ExitCode::from(2)
        }
    }
}

fn run(args: &RunArgs) -> Result<(), String> {
    let setting = setting(&args.place)?;
    for seed in args.first..args.first + args.count {
        let ops = generate::sequence(seed);
        let kept = args
            .keep
            .clone()
            .unwrap_or_else(|| (0..ops.len()).collect());
        let wanted = |&index: &usize| {
            ops.get(index).is_some_and(|op| {
                let text = format!("{op:?}");
                !args.except.iter().any(|part| text.contains(part.as_str()))
            })
        };
        let kept: Vec<usize> = kept.into_iter().filter(wanted).collect();
        Executor::new(seed, &ops, &kept, &setting).run();
    }
    Ok(())
}

fn resume(args: ResumeArgs) -> Result<(), String> {
    let setting = setting(&args.place)?;
    let ops = generate::sequence(args.seed);
    let names = Names::restore(&args.names);
    let handover = Handover {
        from: args.from,
        slots: args.slots,
        names,
    };
    Executor::resume(args.seed, &ops, &args.keep, &setting, handover);
    Ok(())
}

fn policy(name: String) -> Result<(), String> {
    let text = policies::Policy::named(&[name])?
        .into_iter()
        .map(|policy| policy.text("/run/netns/NAME"));
    write!(io::stdout(), "{}", text.collect::<String>()).map_err(|error| error.to_string())
}

fn show(seed: u64) -> Result<(), String> {
    for (index, op) in generate::sequence(seed).iter().enumerate() {
        writeln!(io::stdout(), "{index}: {op:?}").map_err(|error| error.to_string())?;
    }
    Ok(())
}

fn hold() -> Result<(), String> {
    let wait = || {
        writeln!(io::stdout(), "ready")?;
        io::copy(&mut io::stdin(), &mut io::sink())
    };
    wait().map(|_| ()).map_err(|error| error.to_string())
}

fn setting(place: &Place) -> Result<Setting, String> {
    exec::handle_signals();
    let mask = place.mask.split(',').filter_map(|pair| {
        let (level, name) = pair.split_once(':')?;
        Some((level.parse().ok()?, name.parse().ok()?))
    });
    let mut arguments = vec![
        format!("--cpu={}", place.cpu),
        format!("--mask={}", place.mask),
    ];
    if place.no_edges {
        arguments.push("--no-edges".to_owned());
    }
    if place.long_backlogs {
        arguments.push("--long-backlogs".to_owned());
    }
    Ok(Setting {
        settle: Settle::new(place.cpu)?,
        mask: Mask(mask.collect()),
        no_edges: place.no_edges,
        long_backlogs: place.long_backlogs,
        arguments,
    })
}

/// Where this program is.
fn own_path() -> Result<PathBuf, String> {
    std::env::current_exe().map_err(|error| format!("own path: {error}"))
}
