//! The environment that a program under DMM gets, and the command that starts it.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::elf::is_sanitizer;
use super::{Library, Program, RunError, inherited};

/// The policy file that the program follows.
pub const POLICY: &str = "DMM_POLICY";
/// The application label that rules can match.
pub const LABEL: &str = "DMM_LABEL";
/// What all processes of one `dmm run` have in common.
pub const RUN_ID: &str = "DMM_RUN_ID";
/// Whether statistics outlive their process; whoever sets it has to collect them.
pub const KEEP_STATS: &str = "DMM_KEEP_STATS";

/// Names one `dmm run` among all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunId(pub u64);

impl RunId {
    /// A new one. It is random, never 0, and not a secret.
    pub fn random() -> Self {
        // The standard library's hasher keys are the system's randomness.
        Self(RandomState::new().build_hasher().finish().max(1))
    }

    /// That of a `dmm run --hist` further up, which collects what is started here as well.
    pub fn collected() -> Option<Self> {
        if std::env::var_os(KEEP_STATS)? != "1" {
            return None;
        }
        let id = std::env::var(RUN_ID).ok()?;
        u64::from_str_radix(&id, 16).ok().map(Self)
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// How a program is started under DMM.
#[derive(Debug)]
pub struct Launch<'a> {
    /// The library; `None` leaves `LD_PRELOAD` as it is.
    pub library: Option<&'a Library>,
    /// The policy file; `None` leaves the choice to the environment, and at last to the live policy.
    pub policy: Option<&'a Path>,
    /// The label; `None` leaves it to the environment.
    pub label: Option<&'a str>,
    /// The run's name.
    pub run_id: RunId,
    /// Statistics stay after the end of the program's processes, for who collects them.
    pub keep_stats: bool,
}

impl Launch<'_> {
    /// The command for `name arguments...`, which [`Program::inspect`] has found.
    ///
    /// Whether it is spawned or takes this process's place, the program finds its signals and
    /// standard descriptors as this process found them.
    pub fn command(
        &self,
        name: &OsStr,
        arguments: &[OsString],
        program: &Program,
    ) -> Result<Command, RunError> {
        let mut command = Command::new(&program.path);
        command.arg0(name).args(arguments);
        command.env(RUN_ID, self.run_id.to_string());
        if self.keep_stats {
            command.env(KEEP_STATS, "1");
        } else {
            command.env_remove(KEEP_STATS);
        }
        if let Some(policy) = self.policy {
            command.env(POLICY, policy);
        }
        if let Some(label) = self.label {
            command.env(LABEL, label);
        }
        if let Some(library) = self.library
            && program.may_have_preload()
        {
            let existing = std::env::var_os("LD_PRELOAD").unwrap_or_default();
            let value = preload(
                &library.preload_path()?,
                &existing,
                program.sanitizer.as_deref(),
            );
            command.env("LD_PRELOAD", value);
        }
        inherited::restore_in(&mut command);
        Ok(command)
    }
}

/// The value of `LD_PRELOAD`: sanitizers first (they insist), then our library, then what was there.
fn preload(library: &Path, existing: &OsStr, sanitizer: Option<&str>) -> OsString {
    let existing = existing
        .as_bytes()
        .split(|byte| byte.is_ascii_whitespace() || *byte == b':')
        .filter(|entry| !entry.is_empty())
        .map(|entry| PathBuf::from(OsString::from_vec(entry.to_vec())));
    let (sanitizers, others): (Vec<_>, Vec<_>) = existing
        .filter(|entry| entry != library)
        .partition(|entry| base_name(entry).is_some_and(is_sanitizer));
    // The loader finds a name without a slash as it finds the program's own libraries.
    let needed = sanitizer
        .filter(|_| sanitizers.is_empty())
        .map(PathBuf::from);
    let entries: Vec<_> = needed
        .into_iter()
        .chain(sanitizers)
        .chain([library.to_owned()])
        .chain(others)
        .map(PathBuf::into_os_string)
        .collect();
    entries.join(OsStr::new(":"))
}

fn base_name(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(existing: &str, sanitizer: Option<&str>) -> String {
        preload(
            Path::new("/l/libdmm_posix.so"),
            OsStr::new(existing),
            sanitizer,
        )
        .into_string()
        .unwrap()
    }

    #[test]
    fn what_was_preloaded_stays() {
        assert_eq!(value("", None), "/l/libdmm_posix.so");
        assert_eq!(
            value("/a/libjemalloc.so.2 libx.so", None),
            "/l/libdmm_posix.so:/a/libjemalloc.so.2:libx.so"
        );
    }

    #[test]
    fn running_under_dmm_twice_loads_it_once() {
        assert_eq!(
            value("/l/libdmm_posix.so:/a/b.so", None),
            "/l/libdmm_posix.so:/a/b.so"
        );
    }

    #[test]
    fn a_sanitizer_comes_first() {
        assert_eq!(
            value("/a/b.so", Some("libasan.so.8")),
            "libasan.so.8:/l/libdmm_posix.so:/a/b.so"
        );
        assert_eq!(
            value("/a/b.so:/u/libasan.so.8", Some("libasan.so.8")),
            "/u/libasan.so.8:/l/libdmm_posix.so:/a/b.so"
        );
    }

    #[test]
    fn run_ids_differ_and_have_sixteen_digits() {
        let (a, b) = (RunId::random(), RunId::random());
        assert_ne!(a, b);
        assert_eq!(a.to_string().len(), 16);
    }
}
