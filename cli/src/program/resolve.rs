//! From the name a user typed to the file that execvp(3) would run.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD};

use super::RunError;

/// Where execvp(3) looks without `PATH` (confstr(3), `_CS_PATH`).
const WITHOUT_PATH: &str = "/bin:/usr/bin";

/// Finds a program as execvp(3) does: a name with a slash is a path, others are looked up in `PATH`.
///
/// # Errors
///
/// [`RunError::NotFound`], or [`RunError::NotExecutable`] if files were found but none may be run.
pub fn resolve(name: &OsStr) -> Result<PathBuf, RunError> {
    let path = std::env::var_os("PATH").unwrap_or_else(|| OsString::from(WITHOUT_PATH));
    resolve_in(name, &path)
}

fn resolve_in(name: &OsStr, path: &OsStr) -> Result<PathBuf, RunError> {
    let not_found = |in_path| RunError::NotFound {
        program: name.to_owned(),
        in_path,
    };
    if name.is_empty() {
        return Err(not_found(false));
    }
    if name.as_bytes().contains(&b'/') {
        let path = PathBuf::from(name);
        return match check(&path) {
            Ok(()) => Ok(path),
            Err(error) if is_absent(&error) => Err(not_found(false)),
            Err(error) => Err(RunError::not_executable(path, error)),
        };
    }
    let mut refused = None;
    for directory in std::env::split_paths(path) {
        // An empty element means the working directory (environ(7)).
        let candidate = if directory.as_os_str().is_empty() {
            Path::new(".").join(name)
        } else {
            directory.join(name)
        };
        match check(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(error) if is_absent(&error) => {}
            Err(error) => {
                refused.get_or_insert((candidate, error));
            }
        }
    }
    Err(match refused {
        Some((path, error)) => RunError::not_executable(path, error),
        None => not_found(true),
    })
}

fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// Whether it is a file that the effective user may execute.
fn check(path: &Path) -> io::Result<()> {
    let metadata = path.metadata()?;
    if metadata.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    // As execve(2) would say. Opening a pipe to look into it could wait for ever.
    if !metadata.is_file() {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    rustix::fs::accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_first_executable_in_path_wins() {
        let dir = tempfile::tempdir().unwrap();
        for (sub, mode) in [("a", 0o644), ("b", 0o755), ("c", 0o755)] {
            fs::create_dir(dir.path().join(sub)).unwrap();
            let file = dir.path().join(sub).join("prog");
            fs::write(&file, "#!/bin/sh\n").unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        }
        let path = |subs: &[&str]| {
            std::env::join_paths(subs.iter().map(|sub| dir.path().join(sub))).unwrap()
        };
        let find = |subs: &[&str]| resolve_in(OsStr::new("prog"), &path(subs));
        assert_eq!(
            find(&["none", "a", "b", "c"]).unwrap(),
            dir.path().join("b/prog")
        );
        assert!(matches!(
            find(&["a", "none"]),
            Err(RunError::NotExecutable { .. })
        ));
        assert!(matches!(
            find(&["none"]),
            Err(RunError::NotFound { in_path: true, .. })
        ));
    }

    #[test]
    fn a_directory_is_not_a_program() {
        assert!(matches!(
            resolve_in(OsStr::new("/tmp"), OsStr::new("")),
            Err(RunError::NotExecutable { .. })
        ));
    }
}
