//! Whether a program can run under DMM at all: the library, a real program under it, shared memory.

use std::ffi::{OsStr, OsString};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::{Check, probe};
use crate::places::shm_dir;
use crate::plain;
use crate::program::{Launch, Library, Program, RunId};

pub(super) fn checks(library: Option<&Path>) -> Vec<Check> {
    let mut checks = match Library::find(library) {
        Ok(library) => vec![found(&library), loads(&library)],
        Err(error) => vec![not_found(&error)],
    };
    checks.push(shared_memory());
    checks.push(loopback());
    checks
}

const LIBRARY: &str = "preload-library";
const LIBRARY_FOR: &str = "dmm run, and every unmodified program";

fn found(library: &Library) -> Check {
    let path = library.path.display();
    match closed_to_others(&library.path) {
        None => Check::ok(LIBRARY, LIBRARY_FOR, format!("{path} ({})", library.target)),
        Some(at) => Check::limited(
            LIBRARY,
            LIBRARY_FOR,
            format!(
                "{path}: programs that change their user and then exec lose it, as others may not \
                 pass {}",
                at.display()
            ),
        )
        .fix(format!(
            "sudo install -D -m 755 {path} /usr/local/lib/dmm/libdmm_posix.so, and dmm in /usr/local/bin"
        )),
    }
    .required()
}

/// The file or directory on the way that other users may not read or pass.
fn closed_to_others(library: &Path) -> Option<&Path> {
    const READ: u32 = 0o004;
    const PASS: u32 = 0o001;
    let mode = |path: &Path| path.metadata().map_or(0, |metadata| metadata.mode());
    if mode(library) & READ == 0 {
        return Some(library);
    }
    let mut above = library.ancestors().skip(1);
    above.find(|dir| mode(dir) & PASS == 0)
}

fn not_found(error: &crate::program::RunError) -> Check {
    let check = Check::missing(LIBRARY, LIBRARY_FOR, error.to_string()).required();
    match error.remedy() {
        Some(remedy) => check.fix(remedy),
        None => check,
    }
}

fn loads(library: &Library) -> Check {
    const ID: &str = "preload-works";
    const FOR: &str = "the loader takes the library into a program, and a socket works under it";
    match load(library) {
        Ok(text) => Check::ok(ID, FOR, text),
        Err(why) => Check::missing(ID, FOR, why)
            .fix("LD_DEBUG=libs LD_PRELOAD=... /bin/true shows what the loader does"),
    }
    .required()
}

fn load(library: &Library) -> Result<String, String> {
    let arguments: Vec<OsString> = vec!["probe".into(), "preload".into()];
    let exe = std::env::current_exe().map_err(|error| error.to_string())?;
    let program = Program::inspect(exe.as_os_str(), &arguments, Some(library.target))
        .map_err(|error| error.to_string())?;
    let launch = Launch {
        library: Some(library),
        policy: None,
        label: Some("dmm-doctor"),
        run_id: RunId::random(),
        keep_stats: false,
    };
    let command = launch
        .command(OsStr::new("dmm"), &arguments, &program)
        .map_err(|error| error.to_string())?;
    probe::output(command)
}

fn shared_memory() -> Check {
    const ID: &str = "shared-memory";
    const FOR: &str = "statistics segments: dmm ps, ss, why, hist, top";
    let dir = shm_dir();
    let path = dir.join(format!("dmm-doctor.{}", std::process::id()));
    let made = std::fs::File::options()
        .write(true)
        .create_new(true)
        .open(&path)
        .and_then(|file| file.set_len(4096));
    // Whether or not it was made, it must not be there afterwards.
    let _ = std::fs::remove_file(&path);
    match made {
        Ok(()) => match rustix::fs::statvfs(&dir) {
            Ok(fs) => {
                let free = crate::output::bytes(fs.f_bavail * fs.f_frsize);
                Check::ok(ID, FOR, format!("{}, {free} free", dir.display()))
            }
            Err(error) => Check::limited(
                ID,
                FOR,
                format!("{}: {}", dir.display(), plain(&error.into())),
            ),
        },
        Err(error) => Check::missing(ID, FOR, format!("{}: {}", dir.display(), plain(&error)))
            .fix("sudo mount -t tmpfs -o mode=1777 tmpfs /dev/shm, or set DMM_SHM_DIR"),
    }
    .required()
}

fn loopback() -> Check {
    const ID: &str = "loopback";
    const FOR: &str = "dmm demo, and programs that talk to each other on this host";
    match std::net::TcpListener::bind(("127.0.0.1", 0)) {
        Ok(_) => Check::ok(ID, FOR, "127.0.0.1 can be listened on"),
        Err(error) => Check::missing(ID, FOR, format!("127.0.0.1: {}", plain(&error)))
            .fix("sudo ip link set lo up"),
    }
    .required()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_others_may_not_pass_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let library = dir.path().join("l.so");
        fs::write(&library, "").unwrap();
        let set = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        set(dir.path(), 0o755);
        set(&library, 0o755);
        assert_eq!(closed_to_others(&library), None);
        set(dir.path(), 0o700);
        assert_eq!(closed_to_others(&library), Some(dir.path()));
        set(&library, 0o700);
        assert_eq!(closed_to_others(&library), Some(&*library));
    }
}
