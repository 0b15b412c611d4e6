//! `dmm demo`: the main job in one go.
//!
//! Two plain programs, an echo server and its client, run under the preload: first with a small policy
//! that sends their sockets to different instances of the kernel stack, then with one that lets shared
//! memory carry them. What happened is read from their statistics segments, as `dmm ss`, `dmm why` and
//! `dmm hist` do. No privilege is needed.

mod echo;
mod pair;
mod report;

pub use echo::{ClientArgs, ServerArgs, client, server};

use std::ffi::CString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use dmm_nsocket::mailbox::MailboxPath;

use crate::output::Out;
use crate::places::shm_dir;
use crate::program::Library;
use crate::{Doing, Error};

const EXAMPLES: &str = "\
Examples:
  dmm demo
  dmm demo --seconds 10 --size 16384
  dmm demo --json | jq '.client.round_trip.p99, .shared_memory.client.round_trip.p99'";

/// The policy of the demo. It shows a rule with options, a preference list, and a stack that is passed
/// over with a reason; all of it works without privilege.
const POLICY: &str = r#"# The policy of 'dmm demo'.

[stack.served]                      # the kernel with larger buffers
type = "kernel"
options = { send_buffer = "256KiB", receive_buffer = "256KiB" }

[stack.elsewhere]                   # in a network namespace that does not exist
type = "kernel"
netns = "dmm-demo-nowhere"

[stack.quick]                       # another congestion control, small segments at once
type = "kernel"
congestion = "reno"
options = { nodelay = true }

[[rule]]
name = "server"
match = { label = "demo-server", role = "listen", protocol = "tcp" }
stack = "served"

[[rule]]
name = "client"
match = { label = "demo-client", role = "connect", remote = "127.0.0.0/8" }
stack = ["elsewhere", "quick"]
"#;

/// The policy of the second run.
const LOCAL_POLICY: &str = r#"# The second policy of 'dmm demo'.

[default]
stack = ["local", "kernel"]         # shared memory between two programs of this host
"#;

/// Show DMM at work: two programs, first on two kernel stacks, then in shared memory.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// How long the client goes on, each time.
    #[arg(long, value_name = "N", default_value_t = 2.0, value_parser = seconds)]
    seconds: f64,

    /// Bytes in a message, 1 to 1048576.
    #[arg(long, value_name = "BYTES", default_value_t = 64,
          value_parser = clap::value_parser!(u32).range(1..=1_048_576))]
    size: u32,

    /// The preload library, where it is not beside dmm or in ../lib/dmm.
    #[arg(long, value_name = "PATH", env = "DMM_LIBRARY", hide_env_values = true)]
    library: Option<PathBuf>,
}

/// Runs the two programs and prints what happened.
pub fn run(args: &Args, out: &mut Out) -> Result<ExitCode, Error> {
    let library = Library::find(args.library.as_deref())?;
    let dir = tempfile::Builder::new()
        .prefix("dmm-demo.")
        .tempdir()
        .doing(|| "make a temporary directory".to_owned())?;
    let time = Duration::from_secs_f64(args.seconds);
    let under = |name: &str, text: &str| {
        let policy = dir.path().join(name);
        std::fs::write(&policy, text).doing(|| format!("write {}", policy.display()))?;
        let outcome = pair::run(&library, &policy, time, args.size);
        remove_mailbox(&policy);
        outcome
    };
    if !out.is_json() {
        report::introduce(POLICY, out)?;
    }
    let mut outcome = under("policy.toml", POLICY)?;
    if !out.is_json() {
        report::print(&outcome, out)?;
        report::introduce_local(LOCAL_POLICY, out)?;
    }
    let local = under("local.toml", LOCAL_POLICY)?;
    if out.is_json() {
        outcome.shared_memory = Some(Box::new(local));
        out.json(&outcome)?;
    } else {
        report::print_local(&outcome, &local, out)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The programs have made a mailbox, in which they would have been told of a newer version of the
/// policy. It would outlive the policy, which is in a temporary directory.
fn remove_mailbox(policy: &Path) {
    let remove = || {
        let canonical = policy.canonicalize().ok()?;
        let dir = CString::new(shm_dir().into_os_string().into_vec()).ok()?;
        let owner = rustix::process::geteuid().as_raw();
        let path = canonical.as_os_str().as_bytes();
        let mailbox = MailboxPath::new(&dir, owner, path)?;
        rustix::fs::unlink(mailbox.as_c_str()).ok()
    };
    // There is none if the programs did not come so far.
    remove();
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.01..=3600.0).contains(&seconds) => Ok(seconds),
        _ => Err("expected a number of seconds from 0.01 to 3600".to_owned()),
    }
}
