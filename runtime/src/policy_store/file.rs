//! The live file: read whole, replaced in one step.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use dmm_policy::MAX_TEXT;

use crate::Error;

/// The path without links and dots; of a file that does not exist, its directory's.
pub(super) fn canonical(path: &Path) -> Result<PathBuf, Error> {
    let absolute = std::path::absolute(path).map_err(Error::file("find", path))?;
    if let Ok(path) = absolute.canonicalize() {
        return Ok(path);
    }
    let (Some(dir), Some(name)) = (absolute.parent(), absolute.file_name()) else {
        return Ok(absolute);
    };
    Ok(dir
        .canonicalize()
        .map_or_else(|_| absolute.clone(), |dir| dir.join(name)))
}

/// A policy's text; `None` if there is no such file. Devices, pipes and huge files are refused: the
/// path may have come from another process.
pub(crate) fn read_policy(path: &Path) -> Result<Option<String>, Error> {
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed())
        .open(path);
    let file = match opened {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(Error::file("read", path))?,
    };
    let metadata = file.metadata().map_err(Error::file("read", path))?;
    if !metadata.is_file() {
        let error = std::io::Error::new(ErrorKind::InvalidInput, "not a regular file");
        return Err(Error::file("read", path)(error));
    }
    let limit = MAX_TEXT as u64;
    let mut text = String::new();
    let read = file.take(limit + 1).read_to_string(&mut text);
    read.map_err(Error::file("read", path))?;
    if text.len() as u64 > limit {
        return Err(Error::TooLarge {
            path: path.to_owned(),
            limit,
        });
    }
    Ok(Some(text))
}

/// Replaces a file by one with this text: readers see the old or the new one, never a part, also if
/// the machine stops in between. Mode and owner stay.
pub(super) fn replace(path: &Path, text: &str) -> Result<(), Error> {
    let dir = path.parent().unwrap_or_else(|| Path::new("/"));
    fs::create_dir_all(dir).map_err(Error::file("create", dir))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = dir.join(format!(".{name}.{}.new", std::process::id()));
    let written = write_new(&temporary, path, text).and_then(|()| fs::rename(&temporary, path));
    if let Err(error) = written {
        let _ = fs::remove_file(&temporary);
        return Err(Error::file("write", path)(error));
    }
    // Makes the rename last; without it an old policy could come back after a power failure.
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(Error::file("write", dir))
}

fn write_new(temporary: &Path, like: &Path, text: &str) -> std::io::Result<()> {
    let _ = fs::remove_file(temporary);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(temporary)?;
    if let Ok(old) = fs::metadata(like) {
        let (uid, gid) = (old.uid(), old.gid());
        let new = file.metadata()?;
        if (new.uid(), new.gid()) != (uid, gid) {
            std::os::unix::fs::fchown(&file, Some(uid), Some(gid))?;
        }
        file.set_permissions(fs::Permissions::from_mode(old.mode() & 0o7777))?;
    }
    file.write_all(text.as_bytes())?;
    file.sync_all()
}
