//! `dmm run`: the shortest way from an unmodified program to one whose sockets follow a policy.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use dmm::control::collect::Collector;

use crate::Error;
use crate::output::Out;
use crate::policy_file::PolicyFile;
use crate::program::{Launch, Library, Program, RunError, RunId, supervise};

const EXAMPLES: &str = "\
Examples:
  dmm run -- redis-server --port 6379
  dmm run --policy bulk.toml -- iperf3 -c 10.0.0.2
  dmm run --label batch -- ./job.sh          rules can match the label
  dmm run --hist latency.html -- curl -s http://127.0.0.1/
  dmm run -q -- ./static-program             without the notice that it cannot be entered

The same without dmm run:
  LD_PRELOAD=/path/to/libdmm_posix.so DMM_POLICY=bulk.toml iperf3 -c 10.0.0.2

Programs that the preload cannot enter (static, Go, setuid, another C library) run unchanged on
the kernel, and a line on the standard error says so.

Exit codes: the program's own; 128+N if signal N ended it and --hist made dmm stay its parent;
125 dmm failed before the program started (also: the policy has errors); 126 the program cannot be
executed; 127 it was not found.";

/// Run a program under DMM: each of its sockets goes where the policy says.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Policy file the program follows; without it, the live policy.
    #[arg(
        short,
        long,
        value_name = "FILE",
        env = "DMM_POLICY",
        hide_env_values = true
    )]
    policy: Option<PathBuf>,

    /// Name for rules to match (match = { label = "..." }).
    #[arg(
        short,
        long,
        value_name = "LABEL",
        env = "DMM_LABEL",
        hide_env_values = true
    )]
    label: Option<String>,

    /// Stay the parent and write latency histograms at the program's end; the ending decides the
    /// format: .hlog, .csv, .svg, .html, .json, else text.
    #[arg(long, value_name = "FILE")]
    hist: Option<PathBuf>,

    /// The preload library, where it is not beside dmm or in ../lib/dmm.
    #[arg(long, value_name = "PATH", env = "DMM_LIBRARY", hide_env_values = true)]
    library: Option<PathBuf>,

    /// The program and its arguments.
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_hint = clap::ValueHint::CommandWithArguments,
        value_name = "PROGRAM"
    )]
    program: Vec<OsString>,
}

/// Becomes the program, or stays its parent if there is something to do at its end.
pub fn run(args: &Args, out: &mut Out) -> Result<ExitCode, Error> {
    // clap's `required` makes sure of the first.
    let (name, arguments) = args.program.split_first().expect("a program is required");
    let policy = args.policy.as_deref().map(absolute).transpose()?;
    match &policy {
        Some(path) => check_given_policy(path, out)?,
        None => check_live_policy(out),
    }
    let library = Library::find(args.library.as_deref())?;
    let program = Program::inspect(name, arguments, Some(library.target))?;
    say_what_will_happen(name, &program, out);
    let collected = RunId::collected().filter(|_| args.hist.is_none());
    let launch = Launch {
        library: Some(&library),
        policy: policy.as_deref(),
        label: args.label.as_deref(),
        run_id: collected.unwrap_or_else(RunId::random),
        keep_stats: args.hist.is_some() || collected.is_some(),
    };
    out.detail(format_args!(
        "preload {}, run {}",
        library.path.display(),
        launch.run_id
    ));
    let mut command = launch.command(name, arguments, &program)?;
    match &args.hist {
        None => Err(become_program(&mut command, program).into()),
        Some(file) => stay_parent(&mut command, program, launch.run_id, file, out),
    }
}

/// Returns only if it failed.
fn become_program(command: &mut Command, program: Program) -> RunError {
    let error = command.exec();
    RunError::not_executable(program.path, error)
}

fn stay_parent(
    command: &mut Command,
    program: Program,
    run_id: RunId,
    file: &Path,
    out: &mut Out,
) -> Result<ExitCode, Error> {
    // Better now than after hours.
    let writable = File::options().create(true).append(true).open(file);
    writable.map_err(|source| RunError::Io {
        doing: format!("write {}", file.display()),
        source,
    })?;
    let mut collector = Collector::start(&run_id.to_string());
    // What cannot be collected now can be at the end, where an error is said.
    let status = supervise::run(command, || drop(collector.poll()))
        .map_err(|error| RunError::not_executable(program.path, error))?;
    let written = collector.finish().and_then(|report| {
        report.write_file(file)?;
        Ok(report.processes)
    });
    // The program's status counts for more than our report: an error in it is only said.
    match written {
        Ok(0) => out.notice(format_args!(
            "no process had a socket under DMM: there is nothing in {}",
            file.display()
        )),
        Ok(_) => {}
        Err(error) => out.error(&error.into()),
    }
    Ok(ExitCode::from(supervise::exit_code(status)))
}

/// A program is not started under a policy that it would refuse.
fn check_given_policy(path: &Path, out: &mut Out) -> Result<(), Error> {
    let policy = PolicyFile::read(path).map_err(|error| RunError::Policy(error.to_string()))?;
    if policy.errors() > 0 {
        policy.print_diagnostics(out);
        return Err(RunError::Policy(format!("{}; nothing was run", policy.verdict())).into());
    }
    count_warnings(&policy, out);
    Ok(())
}

/// Programs keep the last good version of the live policy, so what is wrong with it is only said.
fn check_live_policy(out: &mut Out) {
    let path = dmm::policy_store::live_path();
    if !path.exists() {
        out.detail("no live policy: the kernel carries everything");
        return;
    }
    match PolicyFile::read(&path) {
        Ok(policy) if policy.errors() > 0 => out.notice(format_args!(
            "{}; the last good version is used (dmm policy check {})",
            policy.verdict(),
            path.display()
        )),
        Ok(policy) => count_warnings(&policy, out),
        Err(error) => out.notice(error),
    }
}

fn count_warnings(policy: &PolicyFile, out: &mut Out) {
    let path = policy.path.display();
    if policy.warnings() > 0 {
        out.detail(format_args!(
            "{}; dmm policy check {path}",
            policy.verdict()
        ));
    } else {
        out.detail(format_args!("policy {path}"));
    }
}

fn say_what_will_happen(name: &OsStr, program: &Program, out: &mut Out) {
    let name = name.to_string_lossy();
    if changes_user(&program.image) {
        out.notice(format_args!(
            "{name} starts programs as another user, without the preload; put dmm run behind it \
             ({name} dmm run -- PROGRAM)"
        ));
        return;
    }
    if let Some(obstacle) = &program.obstacle {
        if program.image == program.path {
            out.notice(format_args!("{name} {obstacle}"));
        } else {
            out.notice(format_args!(
                "{name} is run by {}, which {obstacle}",
                program.image.display()
            ));
        }
    }
    if let Some(sanitizer) = &program.sanitizer {
        out.detail(format_args!(
            "{name} needs {sanitizer}, which is loaded before the preload"
        ));
    }
}

/// The usual ways to become somebody else. They are setuid, but what matters is what they start: it
/// gets an environment that was cleaned.
fn changes_user(image: &Path) -> bool {
    matches!(
        image.file_name().and_then(OsStr::to_str),
        Some("sudo" | "doas" | "pkexec" | "su" | "runuser")
    )
}

fn absolute(path: &Path) -> Result<PathBuf, Error> {
    // Symbolic links stay: whoever replaces the link's target means to replace the policy.
    std::path::absolute(path).map_err(|source| {
        RunError::Io {
            doing: format!("make {} absolute", path.display()),
            source,
        }
        .into()
    })
}
