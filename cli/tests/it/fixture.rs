//! Running `dmm`, and making the programs that it is run on.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// A library that says where it was loaded, in the file that `DMM_TEST_MARK` names.
const MARKER: &str = r#"
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
extern char *program_invocation_short_name;
__attribute__((constructor)) static void mark(void) {
    const char *file = getenv("DMM_TEST_MARK");
    int fd = file ? open(file, O_WRONLY | O_CREAT | O_APPEND, 0666) : -1;
    if (fd < 0) return;
    write(fd, program_invocation_short_name, strlen(program_invocation_short_name));
    write(fd, "\n", 1);
    close(fd);
}
"#;

/// What came out of a program.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).expect("text on the standard output"),
            stderr: String::from_utf8(output.stderr).expect("text on the standard error"),
        }
    }
}

/// `dmm ARGUMENTS`, in an environment without anything of DMM and far from the user's own policy.
pub fn dmm<I: AsRef<OsStr>>(arguments: impl IntoIterator<Item = I>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dmm"));
    command.args(arguments).stdin(Stdio::null());
    for name in [
        "DMM_POLICY",
        "DMM_LABEL",
        "DMM_RUN_ID",
        "DMM_LIBRARY",
        "LD_PRELOAD",
        "NO_COLOR",
        "CLICOLOR_FORCE",
    ] {
        command.env_remove(name);
    }
    command
}

/// Runs a command to its end.
pub fn ran(command: &mut Command) -> Ran {
    command.output().expect("the command starts").into()
}

/// A directory with a preload library that leaves marks, and a way to run programs under it.
pub struct Preload {
    pub dir: TempDir,
    pub library: PathBuf,
}

impl Preload {
    /// `None` (and a word on it) where there is no C compiler.
    pub fn new() -> Option<Self> {
        Self::in_subdirectory("lib")
    }

    pub fn in_subdirectory(name: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let sub = dir.path().join(name);
        fs::create_dir(&sub).unwrap();
        let library = sub.join("libdmm_posix.so");
        compile(dir.path(), MARKER, &library, &["-shared", "-fPIC"])?;
        Some(Self { dir, library })
    }

    /// `dmm run --library MARKER OPTIONS -- PROGRAM`.
    pub fn run<I: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = I>) -> Command {
        let mut command = dmm(["run", "--library"]);
        command
            .arg(&self.library)
            .args(arguments)
            .env("DMM_TEST_MARK", self.mark_file());
        command
    }

    /// The programs that the library was loaded into.
    pub fn marks(&self) -> Vec<String> {
        let text = fs::read_to_string(self.mark_file()).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Makes an executable script.
    pub fn script(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::write(&path, text).unwrap();
        make_executable(&path, 0o755);
        path
    }

    /// Compiles a C program.
    pub fn program(&self, name: &str, source: &str, flags: &[&str]) -> Option<PathBuf> {
        let path = self.dir.path().join(name);
        compile(self.dir.path(), source, &path, flags)?;
        Some(path)
    }

    /// What `DMM_TEST_MARK` is to be for [`Self::marks`].
    pub fn mark_file(&self) -> PathBuf {
        self.dir.path().join("marks")
    }
}

pub fn make_executable(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Says why a test has nothing to test here.
pub fn skip<T>(why: &str) -> Option<T> {
    assert!(
        std::env::var_os("DMM_TEST_NO_SKIP").is_none(),
        "nothing may be skipped here: {why}"
    );
    #[expect(
        clippy::print_stderr,
        reason = "the way to tell it to who runs the tests"
    )]
    {
        eprintln!("SKIPPED: {why}");
    }
    None
}

/// Whether a program is to be found.
pub fn have(program: &str) -> bool {
    Command::new("sh")
        .args(["-c", "command -v \"$0\"", program])
        .stdout(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

fn compile(dir: &Path, source: &str, to: &Path, flags: &[&str]) -> Option<()> {
    if !have("cc") {
        return skip("no C compiler (apt-get install gcc libc6-dev)");
    }
    let file = dir.join("source.c");
    fs::write(&file, source).unwrap();
    let output = Command::new("cc")
        .args(["-w", "-o"])
        .arg(to)
        .arg(&file)
        .args(flags)
        .output()
        .unwrap();
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        return skip(&format!("cc {flags:?}: {why}"));
    }
    Some(())
}
