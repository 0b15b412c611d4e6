//! Where `libdmm_posix.so` is, and a name for it that fits into `LD_PRELOAD`.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};

use super::RunError;
use super::elf::{Elf, Target};
use crate::places::shm_dir;

/// The preload's file name.
pub const NAME: &str = "libdmm_posix.so";

/// A preload library that has been looked at.
#[derive(Debug)]
pub struct Library {
    /// Where it is.
    pub path: PathBuf,
    /// What programs it fits.
    pub target: Target,
}

impl Library {
    /// Finds the library: the one named (`--library` or `DMM_LIBRARY`), or the first one that exists
    /// beside this executable, in the directory above (cargo's `deps`), or in `../lib/dmm`, `../lib`.
    pub fn find(named: Option<&Path>) -> Result<Self, RunError> {
        if let Some(path) = named {
            return Self::at(path);
        }
        let exe = std::env::current_exe().map_err(|source| RunError::Io {
            doing: "find out where dmm itself is".to_owned(),
            source,
        })?;
        let here = exe.parent().unwrap_or_else(|| Path::new("/"));
        let candidates = [".", "..", "../lib/dmm", "../lib"].map(|at| tidy(&here.join(at)));
        match candidates
            .iter()
            .map(|dir| dir.join(NAME))
            .find(|path| path.is_file())
        {
            Some(path) => Self::at(&path),
            None => Err(RunError::NoLibrary {
                tried: candidates.iter().map(|dir| dir.join(NAME)).collect(),
            }),
        }
    }

    fn at(path: &Path) -> Result<Self, RunError> {
        let bad = |why: String| RunError::BadLibrary {
            path: path.to_owned(),
            why,
        };
        let absolute = std::path::absolute(path).map_err(|error| bad(error.to_string()))?;
        match Elf::open(&absolute) {
            Ok(Some(elf)) if elf.interpreter.is_none() && !elf.needed.is_empty() => Ok(Self {
                path: absolute,
                target: elf.target,
            }),
            Ok(_) => Err(bad("it is not a shared library".to_owned())),
            Err(error) => Err(bad(error.to_string())),
        }
    }

    /// A path that `LD_PRELOAD` can hold. The loader separates names at blanks and colons and knows no
    /// quoting (ld.so(8)), so a path with one of these is reached through a link without.
    ///
    /// # Errors
    ///
    /// The link could not be made, or what is in its place is somebody else's.
    pub fn preload_path(&self) -> Result<PathBuf, RunError> {
        if !has_separator(&self.path) {
            return Ok(self.path.clone());
        }
        let base = shm_dir();
        link_in(&base, &self.path).map_err(|source| RunError::BadLibrary {
            path: self.path.clone(),
            why: format!(
                "LD_PRELOAD cannot hold a path with a blank or a colon, and a link to it in {} failed: {source}",
                base.display()
            ),
        })
    }
}

fn has_separator(path: &Path) -> bool {
    path.as_os_str()
        .as_bytes()
        .iter()
        .any(|byte| byte.is_ascii_whitespace() || *byte == b':')
}

/// The link stands in a directory of our own, as everybody may write to the one above it: what is
/// preloaded must not be for others to choose. One directory serves all runs of a user and library.
fn link_in(base: &Path, library: &Path) -> io::Result<PathBuf> {
    let uid = rustix::process::geteuid().as_raw();
    let hash = dmm_policy::text_hash(&library.to_string_lossy());
    let dir = base.join(format!("dmm-lib.{uid}.{hash:016x}"));
    // Programs that give up root still have to reach it.
    match fs::DirBuilder::new().mode(0o755).create(&dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let metadata = fs::symlink_metadata(&dir)?;
    if !metadata.is_dir() || metadata.uid() != uid || metadata.mode() & 0o022 != 0 {
        return Err(io::Error::other(format!(
            "{} is not a directory of this user alone",
            dir.display()
        )));
    }
    let link = dir.join(NAME);
    if has_separator(&link) {
        return Err(io::Error::other("the link's own path has one too"));
    }
    match symlink(library, &link) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            if fs::read_link(&link)? != library {
                return Err(io::Error::other(format!(
                    "{} leads elsewhere; remove it",
                    link.display()
                )));
            }
        }
        made => made?,
    }
    Ok(link)
}

/// Takes `.` and `..` out of a path for the eye, if the directory exists.
fn tidy(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_with_a_blank_gets_a_link() {
        let base = tempfile::tempdir().unwrap();
        let library = Path::new("/opt/my libs/libdmm_posix.so");
        let link = link_in(base.path(), library).unwrap();
        assert!(!has_separator(&link));
        assert_eq!(fs::read_link(&link).unwrap(), library);
        assert_eq!(link_in(base.path(), library).unwrap(), link, "made once");
    }

    #[test]
    fn a_directory_that_others_may_write_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let base = tempfile::tempdir().unwrap();
        let library = Path::new("/opt/a:b/libdmm_posix.so");
        let link = link_in(base.path(), library).unwrap();
        let dir = link.parent().unwrap();
        fs::set_permissions(dir, fs::Permissions::from_mode(0o777)).unwrap();
        let error = link_in(base.path(), library).unwrap_err();
        assert!(
            error.to_string().contains("not a directory of this user"),
            "{error}"
        );
    }

    #[test]
    fn a_program_is_not_a_library() {
        let error = Library::find(Some(Path::new("/bin/true"))).unwrap_err();
        assert!(
            error.to_string().contains("not a shared library"),
            "{error}"
        );
        assert_eq!(error.exit_code(), 125);
    }
}
