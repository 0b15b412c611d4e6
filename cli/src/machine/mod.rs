//! What this machine and this user can do, found by trying where trying is harmless, else by reading
//! what the kernel says of itself.
//!
//! Every fact is a [`Check`]: what was found, what of DMM depends on it, and the command that changes it.

mod dpdk;
mod local;
mod network;
mod preload;
mod probe;
mod process;
mod system;
mod uring;

pub mod namespace;
pub mod stack;

use std::fs;
use std::path::Path;

use rustix::thread::CapabilitySet;
use serde::Serialize;

/// How far something works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it should be.
    Ok,
    /// In part, or not for this user.
    Limited,
    /// Not at all.
    Missing,
}

/// One fact about the machine.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// Stable name, for scripts.
    pub id: &'static str,
    /// How far it works.
    pub state: State,
    /// What was found.
    pub found: String,
    /// What of DMM depends on it.
    pub needed_for: &'static str,
    /// What changes it, a command where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
    /// Whether programs can run under DMM's default without it.
    pub required: bool,
}

/// Facts that belong together.
#[derive(Clone, Debug, Serialize)]
pub struct Group {
    /// Head of the group.
    pub title: &'static str,
    /// In the order in which they are worth reading.
    pub checks: Vec<Check>,
}

impl Check {
    fn new(
        id: &'static str,
        needed_for: &'static str,
        state: State,
        found: impl Into<String>,
    ) -> Self {
        Self {
            id,
            state,
            found: found.into(),
            needed_for,
            fix: None,
            required: false,
        }
    }

    fn ok(id: &'static str, needed_for: &'static str, found: impl Into<String>) -> Self {
        Self::new(id, needed_for, State::Ok, found)
    }

    fn limited(id: &'static str, needed_for: &'static str, found: impl Into<String>) -> Self {
        Self::new(id, needed_for, State::Limited, found)
    }

    fn missing(id: &'static str, needed_for: &'static str, found: impl Into<String>) -> Self {
        Self::new(id, needed_for, State::Missing, found)
    }

    fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }

    fn required(mut self) -> Self {
        self.required = true;
        self
    }
}

/// All facts. Takes some tens of milliseconds: programs are started to see whether they start.
pub fn examine(library: Option<&Path>) -> Vec<Group> {
    vec![
        Group {
            title: "Embedded default",
            checks: preload::checks(library),
        },
        Group {
            title: "System",
            checks: system::checks(),
        },
        Group {
            title: "Shared memory between programs",
            checks: local::checks(),
        },
        Group {
            title: "io_uring",
            checks: uring::checks(),
        },
        Group {
            title: "Kernel stack instances",
            checks: network::instance_checks(),
        },
        Group {
            title: "Devices for user-space stacks",
            checks: network::device_checks()
                .into_iter()
                .chain(dpdk::checks())
                .collect(),
        },
        Group {
            title: "Limits and memory",
            checks: process::checks(),
        },
    ]
}

/// Whether the effective user has a capability in this process.
fn has_capability(capability: CapabilitySet) -> bool {
    rustix::thread::capabilities(None).is_ok_and(|sets| sets.effective.contains(capability))
}

/// How to give a program a capability. Not file capabilities: the loader drops the preload then.
fn ambient(capability: &str) -> String {
    let user = rustix::process::getuid().as_raw();
    format!(
        "sudo setpriv --reuid={user} --inh-caps=+{capability} --ambient-caps=+{capability} dmm run -- PROGRAM"
    )
}

/// A one-line file of /proc or /sys.
fn read_line(path: &str) -> Option<String> {
    fs::read_to_string(path)
        .ok()
        .map(|text| text.trim_end().to_owned())
}

fn read_number(path: &str) -> Option<u64> {
    read_line(path)?.parse().ok()
}
