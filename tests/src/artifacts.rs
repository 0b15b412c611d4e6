//! The built `dmm` and `libdmm_posix.so`, from the target directory that the tests run in.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::SystemTime;

/// Where the two are.
#[derive(Debug)]
pub struct Artifacts {
    /// The tool.
    pub dmm: PathBuf,
    /// The preload library.
    pub library: PathBuf,
}

/// The artifacts, built first if a source is newer than they are.
///
/// They are taken from the target directory and profile of the running program;
/// `DMM_TEST_ARTIFACTS=DIR` names another place (nothing is built then).
///
/// # Panics
/// When they cannot be built.
pub fn artifacts() -> &'static Artifacts {
    static ARTIFACTS: OnceLock<Artifacts> = OnceLock::new();
    ARTIFACTS.get_or_init(|| match std::env::var_os("DMM_TEST_ARTIFACTS") {
        Some(dir) => Artifacts::within(Path::new(&dir)),
        None => build(),
    })
}

impl Artifacts {
    fn within(dir: &Path) -> Self {
        let dir = std::path::absolute(dir).expect("a current directory");
        Self {
            dmm: dir.join("dmm"),
            library: dir.join("libdmm_posix.so"),
        }
    }

    fn are_newer_than(&self, sources: SystemTime) -> bool {
        [&self.dmm, &self.library].into_iter().all(|file| {
            file.metadata()
                .and_then(|meta| meta.modified())
                .is_ok_and(|built| built > sources)
        })
    }
}

fn build() -> Artifacts {
    let exe = std::env::current_exe().expect("the path of the running test");
    let exe_dir = exe.parent().expect("a program lies in a directory");
    // A test is in target/PROFILE/deps, a program beside that.
    let profile_dir = if exe_dir.ends_with("deps") {
        exe_dir.parent().expect("target/PROFILE")
    } else {
        exe_dir
    };
    let artifacts = Artifacts::within(profile_dir);
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ lies in the workspace");
    if !artifacts.are_newer_than(newest_source(workspace)) {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo
            .args(["build", "--quiet", "-p", "dmm-cli", "-p", "dmm-posix"])
            .current_dir(workspace);
        if profile_dir.ends_with("release") {
            cargo.arg("--release");
        }
        cargo
            .arg("--target-dir")
            .arg(profile_dir.parent().expect("target/PROFILE"));
        let status = cargo.status().expect("to run cargo");
        assert!(
            status.success(),
            "cargo could not build dmm and libdmm_posix.so"
        );
    }
    artifacts
}

/// When a file that dmm or the library are built from was last written.
fn newest_source(workspace: &Path) -> SystemTime {
    let crates = [
        "policy",
        "nsocket",
        "stacks",
        "runtime",
        "posix-compat",
        "cli",
    ];
    let mut newest = SystemTime::UNIX_EPOCH;
    let mut dirs: Vec<PathBuf> = crates.iter().map(|name| workspace.join(name)).collect();
    while let Some(dir) = dirs.pop() {
        // A crate's own tests are not part of what it builds.
        if dir.ends_with("tests") {
            continue;
        }
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                dirs.push(path);
            } else if path
                .extension()
                .is_some_and(|ext| ext == "rs" || ext == "toml")
                && let Ok(written) = entry.metadata().and_then(|meta| meta.modified())
            {
                newest = newest.max(written);
            }
        }
    }
    newest
}
