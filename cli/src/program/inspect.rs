//! Whether the dynamic loader would take the preload into a program, found out before it runs.
//!
//! Follows the kernel and ld.so(8): scripts are run by their interpreter, static programs have no
//! loader, a loader takes only libraries of its own kind, and in secure-execution mode none at all.
//! The answer is advice. The program runs either way; what the preload cannot enter, the kernel carries.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::elf::{Elf, Target};
use super::privilege::Privilege;
use super::script::{EnvCall, Shebang};
use super::{RunError, resolve};

/// The kernel follows this many `#!` lines (execve(2), ELOOP beyond).
const MAX_SCRIPTS: usize = 5;

/// A program that can be executed.
#[derive(Debug)]
pub struct Program {
    /// What is executed: the file found for what the user typed.
    pub path: PathBuf,
    /// What ends up in memory: the interpreter, if `path` is a script.
    pub image: PathBuf,
    /// The shared AddressSanitizer runtime it needs, which has to be loaded before us.
    pub sanitizer: Option<String>,
    /// Why the preload does not reach its sockets.
    pub obstacle: Option<Obstacle>,
}

/// Why the preload does not reach a program's sockets.
#[derive(Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// No loader takes part.
    Static,
    /// Go's `net` makes system calls without the C library.
    Go,
    /// The loader is in secure-execution mode.
    Privileged(Privilege),
    /// Its loader belongs to another C library, or to another glibc than ours.
    OtherLoader(PathBuf),
    /// It is for another class or machine than the library.
    OtherTarget {
        /// The program's.
        program: Target,
        /// The library's.
        library: Target,
    },
    /// The kernel runs it by some other means (binfmt_misc).
    NotElf,
    /// `env LD_PRELOAD=... PROGRAM` replaces our `LD_PRELOAD` before the program starts.
    PreloadReplaced,
}

impl Program {
    /// Finds and inspects what `execvp(name, [name, arguments...])` would run, for a preload library
    /// of the given target.
    ///
    /// # Errors
    ///
    /// What would make the execution fail anyway, with a better word for it.
    pub fn inspect(
        name: &OsStr,
        arguments: &[OsString],
        library: Option<Target>,
    ) -> Result<Self, RunError> {
        let path = resolve(name)?;
        let mut image = path.clone();
        let mut arguments = arguments.to_vec();
        let mut replaced = false;
        for _ in 0..=MAX_SCRIPTS {
            let Ok(shebang) = Shebang::open(&image) else {
                // Executable and not readable: nothing to be learnt, and nothing against it.
                return Ok(Self::plain(path, image));
            };
            let next = if let Some(shebang) = shebang {
                if let Err(error) = shebang.interpreter.metadata() {
                    return Err(missing(&image, "interpreter", shebang.interpreter, error));
                }
                arguments.splice(..0, script_arguments(&shebang, &image));
                Some(shebang.interpreter)
            } else if is_env(&image) {
                let call = EnvCall::parse(&arguments);
                replaced |= call.drops_preload;
                arguments = call.arguments;
                // env itself reports a program that it cannot find.
                call.program.and_then(|program| resolve(&program).ok())
            } else {
                None
            };
            match next {
                Some(next) => image = next,
                None => return Self::from_image(path, image, library, replaced),
            }
        }
        // The kernel will say ELOOP; env calling env calling env is odd enough to be left alone.
        Ok(Self::plain(path, image))
    }

    fn plain(path: PathBuf, image: PathBuf) -> Self {
        Self {
            path,
            image,
            sanitizer: None,
            obstacle: None,
        }
    }

    fn from_image(
        path: PathBuf,
        image: PathBuf,
        library: Option<Target>,
        replaced: bool,
    ) -> Result<Self, RunError> {
        let mut program = Self::plain(path, image);
        let elf = match Elf::open(&program.image) {
            Ok(Some(elf)) => elf,
            // Without `#!`, execvp(3) lets the shell have it; other formats are binfmt_misc's.
            Ok(None) if is_text(&program.image) => return Self::run_by_shell(program, library),
            Ok(None) => {
                program.obstacle = Some(Obstacle::NotElf);
                return Ok(program);
            }
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return Err(RunError::not_executable(program.path, error));
            }
            Err(_) => return Ok(program),
        };
        // execvp(3) would hand it to the shell, which takes it for a script.
        if let Some(own) = Target::own()
            && !elf.target.runs_beside(own)
            && !has_emulators()
        {
            return Err(RunError::OtherMachine {
                path: program.image,
                program: elf.target,
                own,
            });
        }
        if let Some(loader) = &elf.interpreter
            && let Err(error) = loader.metadata()
        {
            return Err(missing(&program.image, "loader", loader.clone(), error));
        }
        program.obstacle = obstacle(&program.image, &elf, library)
            .or_else(|| replaced.then_some(Obstacle::PreloadReplaced));
        program.sanitizer = elf.sanitizer().map(str::to_owned);
        Ok(program)
    }

    fn run_by_shell(program: Self, library: Option<Target>) -> Result<Self, RunError> {
        let shell = Self::from_image(
            program.path.clone(),
            PathBuf::from("/bin/sh"),
            library,
            false,
        )?;
        Ok(Self {
            path: program.path,
            ..shell
        })
    }

    /// Whether `LD_PRELOAD` may be in its environment. Where the loader cannot use the library it
    /// complains or fails; a static program leaves the variable alone and its children profit.
    pub fn may_have_preload(&self) -> bool {
        !matches!(
            self.obstacle,
            Some(Obstacle::OtherLoader(_) | Obstacle::OtherTarget { .. })
        )
    }
}

impl fmt::Display for Obstacle {
    /// Completes "PROGRAM ...".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Static => f.write_str(
                "is statically linked: the preload cannot enter it; the kernel carries all its sockets",
            ),
            Self::Go => f.write_str(
                "is a Go program: Go's net package makes raw system calls, which the preload cannot see; \
                 the kernel carries its sockets",
            ),
            Self::Privileged(privilege) => write!(
                f,
                "{privilege}: the loader drops the preload (ld.so(8), secure-execution mode); \
                 the kernel carries all its sockets"
            ),
            Self::OtherLoader(loader) if is_musl(loader) => write!(
                f,
                "uses the musl C library ({}), the preload is for glibc; it runs without the preload and \
                 the kernel carries all its sockets",
                loader.display()
            ),
            Self::OtherLoader(loader) => write!(
                f,
                "uses another loader ({}) than the one the preload is built for; it runs without the \
                 preload and the kernel carries all its sockets",
                loader.display()
            ),
            Self::OtherTarget { program, library } => write!(
                f,
                "is {program}, the preload is {library}; it runs without the preload and the kernel \
                 carries all its sockets"
            ),
            Self::NotElf => f.write_str(
                "is not an ELF program: if the preload cannot enter what the kernel runs it with, \
                 the kernel carries its sockets",
            ),
            Self::PreloadReplaced => f.write_str(
                "is started by env, which replaces LD_PRELOAD or switches DMM off: the preload does not \
                 reach it; put dmm run behind env (env LD_PRELOAD=... dmm run -- PROGRAM)",
            ),
        }
    }
}

/// In the order in which they matter: what cannot be loaded at all comes before what the loader does.
fn obstacle(image: &Path, elf: &Elf, library: Option<Target>) -> Option<Obstacle> {
    if elf.go {
        return Some(Obstacle::Go);
    }
    if elf.is_static() {
        return Some(Obstacle::Static);
    }
    if let Some(library) = library
        && library != elf.target
    {
        return Some(Obstacle::OtherTarget {
            program: elf.target,
            library,
        });
    }
    if let Some(loader) = &elf.interpreter
        && !is_our_loader(loader)
    {
        return Some(Obstacle::OtherLoader(loader.clone()));
    }
    Privilege::of(image).map(Obstacle::Privileged)
}

/// The library is linked for the C library that this program itself runs with.
fn is_our_loader(loader: &Path) -> bool {
    let own = Elf::open(Path::new("/proc/self/exe"))
        .ok()
        .flatten()
        .and_then(|elf| elf.interpreter);
    let Some(own) = own else { return true };
    own == loader
        || matches!((own.canonicalize(), loader.canonicalize()), (Ok(own), Ok(loader)) if own == loader)
}

/// Whether the kernel has handlers for foreign formats (binfmt_misc), such as qemu's.
fn has_emulators() -> bool {
    std::fs::read_dir("/proc/sys/fs/binfmt_misc").is_ok_and(|entries| {
        entries
            .flatten()
            .any(|entry| entry.file_name() != "register" && entry.file_name() != "status")
    })
}

fn is_musl(loader: &Path) -> bool {
    loader
        .file_name()
        .is_some_and(|name| name.as_bytes().starts_with(b"ld-musl"))
}

fn is_env(image: &Path) -> bool {
    image.file_name() == Some(OsStr::new("env"))
}

fn script_arguments(shebang: &Shebang, script: &Path) -> Vec<OsString> {
    let mut arguments = shebang.arguments();
    arguments.push(script.as_os_str().to_owned());
    arguments
}

/// Whether the start of the file looks like text: bash's own test is a NUL in the first line.
fn is_text(path: &Path) -> bool {
    use std::io::Read;
    let mut start = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(256).read_to_end(&mut start))
        .is_ok()
        && !start.contains(&0)
}

fn missing(image: &Path, what: &'static str, path: PathBuf, error: io::Error) -> RunError {
    match error.kind() {
        io::ErrorKind::NotFound => RunError::NothingToRunItWith {
            path: image.to_owned(),
            what,
            missing: path,
        },
        _ => RunError::not_executable(path, error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    fn script(dir: &Path, name: &str, text: &str) -> PathBuf {
        let path = dir.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    fn inspect(path: &Path) -> Result<Program, RunError> {
        Program::inspect(path.as_os_str(), &[], None)
    }

    /// `/bin/true`, as far as it matters, with something changed.
    fn judged(change: impl FnOnce(&mut Elf)) -> Option<Obstacle> {
        let path = Path::new("/bin/true");
        let mut elf = Elf::open(path).unwrap().unwrap();
        let target = elf.target;
        change(&mut elf);
        obstacle(path, &elf, Some(target))
    }

    #[test]
    fn each_kind_of_elf_file_has_its_obstacle() {
        assert_eq!(judged(|_| ()), None);
        assert_eq!(judged(|elf| elf.go = true), Some(Obstacle::Go));
        assert_eq!(judged(|elf| elf.interpreter = None), Some(Obstacle::Static));
        let musl = Path::new("/lib/ld-musl-x86_64.so.1");
        let said = judged(|elf| elf.interpreter = Some(musl.to_owned())).unwrap();
        assert_eq!(said, Obstacle::OtherLoader(musl.to_owned()));
        assert!(said.to_string().contains("musl"), "{said}");
        let loader = |elf: &mut Elf| {
            elf.interpreter = None;
            elf.soname = Some("ld-linux-x86-64.so.2".to_owned());
        };
        assert_eq!(judged(loader), None, "ld.so PROGRAM preloads");
        let said = judged(|elf| elf.target = elf.target.in_32_bits()).unwrap();
        assert!(matches!(said, Obstacle::OtherTarget { .. }), "{said}");
    }

    #[test]
    fn an_ordinary_program_has_no_obstacle() {
        let program = inspect(Path::new("/bin/true")).unwrap();
        assert_eq!(program.obstacle, None);
        assert!(program.may_have_preload());
    }

    #[test]
    fn scripts_are_followed_to_their_interpreter() {
        let dir = tempfile::tempdir().unwrap();
        let inner = script(dir.path(), "inner", "#!/bin/sh\n");
        let outer = script(dir.path(), "outer", &format!("#!{}\n", inner.display()));
        let by_env = script(dir.path(), "by-env", "#!/usr/bin/env -S sh -e\n");
        let bare = script(dir.path(), "bare", "echo no shebang\n");
        for path in [inner, outer, by_env, bare] {
            let program = inspect(&path).unwrap();
            assert_eq!(program.path, path);
            assert!(program.image.ends_with("sh"), "{:?}", program.image);
            assert_eq!(program.obstacle, None);
        }
    }

    #[test]
    fn a_replaced_environment_is_noticed_in_a_script_too() {
        let dir = tempfile::tempdir().unwrap();
        let path = script(dir.path(), "s", "#!/usr/bin/env -S LD_PRELOAD=x sh\n");
        assert_eq!(
            inspect(&path).unwrap().obstacle,
            Some(Obstacle::PreloadReplaced)
        );
    }

    #[test]
    fn a_missing_interpreter_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = script(dir.path(), "s", "#!/no/such/interpreter\n");
        let error = inspect(&path).unwrap_err();
        assert_eq!(error.exit_code(), 126);
        assert!(
            error
                .to_string()
                .contains("/no/such/interpreter does not exist"),
            "{error}"
        );
    }

    #[test]
    fn a_script_that_interprets_itself_ends() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        script(dir.path(), "s", &format!("#!{}\n", path.display()));
        assert!(inspect(&path).is_ok());
    }
}
