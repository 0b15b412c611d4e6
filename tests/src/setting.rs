//! A run of a scenario: plain, or under DMM.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fmt::Debug;
use std::fs::Permissions;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tempfile::TempDir;

use rustix::process::{
    Pid, PidfdFlags, Signal, getpgid, getpgrp, kill_process, kill_process_group, pidfd_open,
    pidfd_send_signal,
};

use crate::artifacts::artifacts;
use crate::need::find_program;
use crate::observe;
use crate::program::{Program, Running};
use crate::scratch::Scratch;
use crate::wait::eventually_within;

/// The policy that scenarios run under: all sockets go to a second kernel instance, by a rule, so
/// that what chose and what carried them is seen. Options are left alone, so that nothing differs.
pub const EVERYTHING_TO_SECOND: &str = r#"
[stack.second]
type = "kernel"

[[rule]]
name = "everything"
match = {}
stack = ["second", "kernel"]
"#;

/// A policy by which two programs of a scenario talk through shared memory where they can. What else
/// there is goes to the second kernel instance, as by [`EVERYTHING_TO_SECOND`].
pub const LOCAL_FIRST: &str = r#"
[stack.local]

[stack.second]
type = "kernel"

[[rule]]
name = "everything"
match = {}
stack = ["local", "second", "kernel"]
"#;

/// The environment variable that marks all processes of a setting, to find those that got away.
const MARK: &str = "DMM_TEST_SETTING";

/// Whether DMM is expected to enter a scenario's programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// The sockets are looked up in the policy.
    Enters,
    /// It has to stay out (a static binary, Go): the programs run as if it were not there.
    StaysOut,
}

/// One run of a scenario, with a directory and a stats directory of its own.
#[derive(Debug)]
pub struct Setting {
    scratch: Scratch,
    dmm: Option<UnderDmm>,
    mark: String,
    adopted: RefCell<Vec<Adopted>>,
}

/// A process that is not in the group of a [`Running`], and its group.
#[derive(Debug)]
struct Adopted {
    handle: OwnedFd,
    group: Pid,
}

#[derive(Debug)]
struct UnderDmm {
    policy: PathBuf,
    segments: TempDir,
    library: PathBuf,
}

/// Runs `scenario` plain and then under DMM, and expects the same of both.
///
/// `DMM_TEST_VARIANT=plain` or `=dmm` runs one half, to see which of the two is broken.
///
/// # Panics
/// When the scenario does, when the two differ, or when no socket was carried by the rule of
/// [`EVERYTHING_TO_SECOND`] in the second run.
#[track_caller]
pub fn side_by_side<T: PartialEq + Debug>(scenario: impl FnMut(&Setting) -> T) {
    side_by_side_where(Entry::Enters, scenario);
}

/// [`side_by_side`] for programs that DMM may have to stay out of.
///
/// # Panics
/// As [`side_by_side`]; with [`Entry::StaysOut`], when DMM did enter.
#[track_caller]
pub fn side_by_side_where<T: PartialEq + Debug>(
    entry: Entry,
    mut scenario: impl FnMut(&Setting) -> T,
) {
    let variant = std::env::var("DMM_TEST_VARIANT").unwrap_or_default();
    if variant == "local" {
        let _seen = scenario(&Setting::under(LOCAL_FIRST));
        return;
    }
    let plain = (variant != "dmm").then(|| scenario(&Setting::plain()));
    let under = (variant != "plain").then(|| {
        let setting = Setting::under(EVERYTHING_TO_SECOND);
        let seen = scenario(&setting);
        setting.check_entry(entry);
        seen
    });
    if let (Some(plain), Some(under)) = (plain, under) {
        assert_eq!(plain, under, "left: plain, right: under DMM");
    }
}

/// [`side_by_side`], and a third time with shared memory between the programs of the scenario, of
/// which at least two must be under DMM.
///
/// # Panics
/// As [`side_by_side`], and when no socket was carried by `local` in the third run.
#[track_caller]
pub fn side_by_side_and_local<T: PartialEq + Debug>(mut scenario: impl FnMut(&Setting) -> T) {
    let variant = std::env::var("DMM_TEST_VARIANT").unwrap_or_default();
    let local = (variant == "local" || variant.is_empty()).then(|| {
        let setting = Setting::under(LOCAL_FIRST);
        let seen = scenario(&setting);
        let carried = observe::carried(setting.segments());
        assert!(
            carried.contains("everything > local"),
            "no socket was carried by shared memory; seen: {carried:?}"
        );
        seen
    });
    if variant == "local" {
        return;
    }
    side_by_side(|setting| {
        let seen = scenario(setting);
        if let Some(local) = &local {
            assert_eq!(&seen, local, "right: with shared memory");
        }
        seen
    });
}

impl Setting {
    /// Programs as they are.
    pub fn plain() -> Self {
        Self {
            scratch: Scratch::new(),
            dmm: None,
            mark: fresh_mark(),
            adopted: RefCell::default(),
        }
    }

    /// Programs under DMM with this policy.
    ///
    /// # Panics
    /// When DMM cannot be built.
    pub fn under(policy: &str) -> Self {
        let scratch = Scratch::new();
        let policy = scratch.file("policy.toml", policy);
        let segments = segments_dir();
        // A copy that every user can read: a checkout may lie where others may not look.
        let library = scratch.path().join("libdmm_posix.so");
        std::fs::copy(&artifacts().library, &library)
            .unwrap_or_else(|error| panic!("{}: {error}", artifacts().library.display()));
        let dmm = UnderDmm {
            policy,
            segments,
            library,
        };
        Self {
            scratch,
            dmm: Some(dmm),
            mark: fresh_mark(),
            adopted: RefCell::default(),
        }
    }

    /// Whether programs run under DMM here.
    pub fn is_dmm(&self) -> bool {
        self.dmm.is_some()
    }

    /// The run's own directory, and files in it.
    pub fn scratch(&self) -> &Scratch {
        &self.scratch
    }

    /// The run's own directory.
    pub fn dir(&self) -> &Path {
        self.scratch.path()
    }

    /// The policy file.
    ///
    /// # Panics
    /// In a plain setting.
    pub fn policy(&self) -> &Path {
        &self.under_dmm().policy
    }

    /// The directory of the stats segments.
    ///
    /// # Panics
    /// In a plain setting.
    pub fn segments(&self) -> &Path {
        self.under_dmm().segments.path()
    }

    /// The preload library that the programs of this setting load.
    ///
    /// # Panics
    /// In a plain setting.
    pub fn library(&self) -> &Path {
        &self.under_dmm().library
    }

    /// A program as the setting has it: plain, or with DMM preloaded.
    ///
    /// # Panics
    /// When there is no such program.
    #[track_caller]
    pub fn program(&self, name: &str) -> Program {
        let mut command = Command::new(locate(name));
        self.prepare(&mut command);
        if let Some(dmm) = &self.dmm {
            command
                .env("LD_PRELOAD", &dmm.library)
                .env("DMM_POLICY", &dmm.policy);
            // The segments of processes that have ended are looked at, too.
            command.env("DMM_LABEL", "test").env("DMM_KEEP_STATS", "1");
        }
        Program::new(command, name, self.dir())
    }

    /// [`Setting::program`] by `dmm run`, which looks into the program first: for those that need
    /// it, as the preload cannot enter them or has to stand behind another one.
    ///
    /// # Panics
    /// When there is no such program.
    #[track_caller]
    pub fn program_by_run(&self, name: &str) -> Program {
        self.by_run(name, &[])
    }

    /// [`Setting::program_by_run`] that also leaves a report of what was carried, in this file, as
    /// `dmm run --hist` does. The process started is the program's parent then.
    ///
    /// # Panics
    /// When there is no such program.
    #[track_caller]
    pub fn program_with_report(&self, name: &str, report: &Path) -> Program {
        self.by_run(name, &["--hist".as_ref(), report.as_os_str()])
    }

    #[track_caller]
    fn by_run(&self, name: &str, options: &[&OsStr]) -> Program {
        let path = locate(name);
        let mut command = match &self.dmm {
            None => Command::new(path),
            Some(dmm) => {
                let mut command = Command::new(&artifacts().dmm);
                command
                    .args(["--quiet", "run", "--label", "test", "--policy"])
                    .arg(&dmm.policy);
                command
                    .arg("--library")
                    .arg(&dmm.library)
                    .args(options)
                    .arg("--")
                    .arg(path);
                command
            }
        };
        self.prepare(&mut command);
        Program::new(command, name, self.dir())
    }

    /// The program of another user, as root would start it: by setpriv(1), itself under DMM.
    ///
    /// # Panics
    /// When there is no such program.
    #[track_caller]
    pub fn program_as(&self, user: &str, name: &str) -> Program {
        let group = primary_group(user).unwrap_or_else(|| panic!("no user {user} in /etc/passwd"));
        let identity = [
            format!("--reuid={user}"),
            format!("--regid={group}"),
            "--init-groups".into(),
        ];
        self.program("setpriv")
            .args(identity)
            .arg("--")
            .arg(locate(name))
    }

    /// A program that has nothing to do with what is tested: never under DMM.
    ///
    /// # Panics
    /// When there is no such program.
    #[track_caller]
    pub fn tool(&self, name: &str) -> Program {
        let mut command = Command::new(locate(name));
        self.prepare(&mut command);
        Program::new(command, name, self.dir())
    }

    /// The `dmm` program itself.
    ///
    /// # Panics
    /// In a plain setting.
    #[track_caller]
    pub fn dmm(&self, words: &str) -> Program {
        let mut command = Command::new(&artifacts().dmm);
        self.prepare(&mut command);
        assert!(
            self.is_dmm(),
            "the tool has nothing to say of a plain setting"
        );
        Program::new(command, "dmm", self.dir()).words(words)
    }

    /// Checks that a running program is under DMM, if the setting is.
    ///
    /// # Panics
    /// When it is not.
    #[track_caller]
    pub fn check(&self, running: &Running) {
        self.check_pid(running.pid());
    }

    /// [`Setting::check`] by process id.
    ///
    /// # Panics
    /// When it is not.
    #[track_caller]
    pub fn check_pid(&self, pid: u32) {
        if self.is_dmm() {
            // It may just be about to execute its program.
            eventually_within(
                Duration::from_secs(10),
                &format!("process {pid} to be under DMM"),
                || {
                    let maps =
                        std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
                    maps.contains("libdmm_posix").then_some(())
                },
            );
        }
    }

    /// Ends this process and its group, too, when the setting ends: a daemon that covers its tracks, as nginx
    /// does by writing its title over its environment.
    ///
    /// # Panics
    /// When there is no such process.
    #[track_caller]
    pub fn adopt(&self, pid: u32) {
        // A descriptor, as the number may be somebody else's by then.
        let process = Pid::from_raw(pid.cast_signed()).expect("a process id");
        let handle = pidfd_open(process, PidfdFlags::empty())
            .unwrap_or_else(|error| panic!("process {pid}: {error}"));
        let group = getpgid(Some(process)).unwrap_or(process);
        assert_ne!(
            group,
            getpgrp(),
            "process {pid} is in the group of the tests"
        );
        self.adopted.borrow_mut().push(Adopted { handle, group });
    }

    /// Whether a process, by its directory in /proc, comes from this setting: it carries the mark in
    /// its environment, or still writes to a file of the setting's.
    fn has_started(&self, process: &Path) -> bool {
        let mark = format!("{MARK}={}", self.mark);
        let environment = std::fs::read(process.join("environ")).unwrap_or_default();
        let marked = environment
            .split(|byte| *byte == 0)
            .any(|entry| entry == mark.as_bytes());
        marked
            || ["fd/1", "fd/2"].iter().any(|output| {
                std::fs::read_link(process.join(output))
                    .is_ok_and(|file| file.starts_with(self.dir()))
            })
    }

    fn prepare(&self, command: &mut Command) {
        command
            .env(MARK, &self.mark)
            .env("LC_ALL", "C.UTF-8")
            .env("TZ", "UTC");
        for leaked in [
            "LD_PRELOAD",
            "DMM_POLICY",
            "DMM_LABEL",
            "DMM_RUN_ID",
            "DMM_KEEP_STATS",
        ] {
            command.env_remove(leaked);
        }
        if let Some(dmm) = &self.dmm {
            command
                .env("DMM_SHM_DIR", dmm.segments.path())
                .env("DMM_STATE_DIR", self.dir().join("state"));
        }
    }

    /// Checks at the end of a scenario that DMM entered its programs, or did not.
    #[track_caller]
    fn check_entry(&self, entry: Entry) {
        let carried = observe::carried(self.segments());
        match entry {
            Entry::Enters => assert!(
                carried.contains("everything > second"),
                "no socket was carried by the rule of the policy; seen: {carried:?}"
            ),
            Entry::StaysOut => assert_eq!(carried, BTreeSet::new(), "DMM was not expected here"),
        }
    }

    #[track_caller]
    fn under_dmm(&self) -> &UnderDmm {
        self.dmm.as_ref().expect("a setting under DMM")
    }
}

impl Drop for Setting {
    fn drop(&mut self) {
        for process in self.adopted.take() {
            // Its group holds its workers; the group is there as long as its member is.
            if pidfd_send_signal(&process.handle, Signal::KILL).is_ok() {
                let _gone_with_it = kill_process_group(process.group, Signal::KILL);
            }
        }
        // Daemons leave their process group: they are known by what they have inherited.
        for process in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let pid = process
                .file_name()
                .to_str()
                .and_then(|name| name.parse::<i32>().ok());
            if let Some(pid) = pid.and_then(Pid::from_raw)
                && self.has_started(&process.path())
            {
                let _gone_by_itself = kill_process(pid, Signal::KILL);
            }
        }
    }
}

/// In memory as the real ones, and open to all: servers drop their privileges.
fn segments_dir() -> TempDir {
    let memory = Path::new("/dev/shm");
    let parent = if memory.is_dir() {
        memory.to_owned()
    } else {
        std::env::temp_dir()
    };
    let dir = tempfile::Builder::new()
        .prefix("dmm-test-")
        .tempdir_in(parent)
        .expect("a directory for the stats segments");
    std::fs::set_permissions(dir.path(), Permissions::from_mode(0o1777)).expect("chmod 1777");
    dir
}

#[track_caller]
fn locate(name: &str) -> PathBuf {
    if name.contains('/') {
        return PathBuf::from(name);
    }
    find_program(name).unwrap_or_else(|| panic!("no program {name}: tests/setup.sh installs it"))
}

fn primary_group(user: &str) -> Option<String> {
    let passwd = std::fs::read_to_string("/etc/passwd").ok()?;
    let mut fields = passwd
        .lines()
        .find_map(|line| line.strip_prefix(user)?.strip_prefix(':'))?
        .split(':');
    fields.nth(2).map(str::to_owned)
}

fn fresh_mark() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!(
        "{}.{}",
        std::process::id(),
        COUNT.fetch_add(1, Ordering::Relaxed)
    )
}
