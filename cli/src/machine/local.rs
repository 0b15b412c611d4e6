//! What sessions in shared memory need of the kernel: each thing is tried, on objects of our own.

use std::io;
use std::net::TcpListener;

use dmm::control;
use dmm_nsocket::session::rendezvous::{Cookie, Listener, LookupError, Name, Rendezvous};
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags};

use super::Check;
use crate::plain;

/// What is lost without any of them: nothing but speed.
const OTHERWISE: &str = "without it the kernel carries everything";

pub(super) fn checks() -> Vec<Check> {
    vec![
        sealing(),
        future_write(),
        populate(),
        listeners(),
        rendezvous(),
        peers(),
    ]
}

fn sealing() -> Check {
    tried(
        "memfd-seals",
        "local: memory whose size no peer can change; without it the kernel carries everything",
        "memfd_create with SHRINK and GROW seals",
        seal(SealFlags::SHRINK | SealFlags::GROW),
        "a kernel with CONFIG_MEMFD_CREATE; in a container, a seccomp profile that allows memfd_create",
    )
}

fn future_write() -> Check {
    tried(
        "memfd-future-write",
        "local: sleep words that peers can only read; without it the kernel carries everything",
        "the FUTURE_WRITE seal",
        seal(SealFlags::FUTURE_WRITE),
        "Linux 5.1 or later",
    )
}

fn populate() -> Check {
    tried(
        "populate-write",
        "local and statistics: a full /dev/shm or memory limit is an error, not a SIGBUS",
        "MADV_POPULATE_WRITE",
        populate_page(),
        "Linux 5.14 or later",
    )
}

fn listeners() -> Check {
    const ID: &str = "sock-diag";
    const FOR: &str = "local: which listener TCP would reach, and whose it is";
    const FIX: &str = "sudo modprobe tcp_diag; in a sandbox, allow AF_NETLINK sockets";
    let found = || -> Result<bool, String> {
        let ours = TcpListener::bind("127.0.0.1:0").map_err(|error| plain(&error))?;
        let to = ours.local_addr().map_err(|error| plain(&error))?;
        let from = (to.ip(), 9).into();
        let cookie = Cookie::of(&ours).map_err(|errno| plain(&errno.into()))?;
        match Listener::find(from, to) {
            Ok(listener) => Ok(listener.cookie == cookie),
            Err(LookupError::System(errno)) => Err(plain(&errno.into())),
            Err(error) => Err(error.to_string()),
        }
    };
    match found() {
        Ok(true) => Check::ok(ID, FOR, "sock_diag finds a listener of ours"),
        Ok(false) => Check::missing(ID, FOR, "sock_diag names another listener than ours").fix(FIX),
        Err(why) => Check::missing(ID, FOR, format!("sock_diag: {why}; {OTHERWISE}")).fix(FIX),
    }
}

fn rendezvous() -> Check {
    const ID: &str = "rendezvous";
    const FOR: &str = "local: Unix sockets of records (SOCK_SEQPACKET) with abstract names";
    let name = Name::host(&format!("dmm-doctor-{}", std::process::id()));
    let met = name.ok_or(Errno::NAMETOOLONG).map_err(io::Error::from);
    let met = met.and_then(|name| {
        let _listening = Rendezvous::listen(&name, 1).map_err(io::Error::other)?;
        rustix::net::socketpair(
            rustix::net::AddressFamily::UNIX,
            rustix::net::SocketType::SEQPACKET,
            rustix::net::SocketFlags::CLOEXEC,
            None,
        )?;
        Ok(())
    });
    match met {
        Ok(()) => Check::ok(ID, FOR, "abstract SOCK_SEQPACKET sockets"),
        Err(error) => Check::missing(ID, FOR, format!("{}; {OTHERWISE}", plain(&error)))
            .fix("allow AF_UNIX sockets in the sandbox or LSM profile (AppArmor: `unix,`)"),
    }
}

fn peers() -> Check {
    const ID: &str = "unix-diag";
    const FOR: &str = "dmm ss and policy explain: who has the other end of a session";
    match control::listens_at(b"dmm-doctor-nobody") {
        Ok(_) => Check::ok(ID, FOR, "sock_diag tells of Unix sockets"),
        Err(error) => Check::limited(
            ID,
            FOR,
            format!("{}: peers are found by address", plain(&error)),
        )
        .fix("sudo modprobe unix_diag"),
    }
}

fn tried(
    id: &'static str,
    needed_for: &'static str,
    what: &str,
    result: Result<(), Errno>,
    fix: &str,
) -> Check {
    match result {
        Ok(()) => Check::ok(id, needed_for, what),
        Err(errno) => {
            Check::missing(id, needed_for, format!("{what}: {}", plain(&errno.into()))).fix(fix)
        }
    }
}

fn seal(seals: SealFlags) -> Result<(), Errno> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let memory = rustix::fs::memfd_create(c"dmm-doctor", flags)?;
    rustix::fs::ftruncate(&memory, 4096)?;
    rustix::fs::fcntl_add_seals(&memory, seals)
}

fn populate_page() -> Result<(), Errno> {
    let len = rustix::param::page_size();
    // SAFETY: a new mapping at an address of the kernel's choice, unmapped below.
    unsafe {
        let start = rustix::mm::mmap_anonymous(
            std::ptr::null_mut(),
            len,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::PRIVATE,
        )?;
        let populated = rustix::mm::madvise(start, len, Advice::LinuxPopulateWrite);
        rustix::mm::munmap(start, len)?;
        populated
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_of_the_test_can_do_all_of_it() {
        for check in checks() {
            assert_eq!(check.state, crate::machine::State::Ok, "{check:?}");
        }
    }

    #[test]
    fn what_is_refused_comes_with_a_remedy() {
        let check = tried("x", "y", "z", Err(Errno::NOSYS), "a newer kernel");
        assert_eq!(check.state, crate::machine::State::Missing);
        assert_eq!(check.fix.as_deref(), Some("a newer kernel"));
        assert!(check.found.starts_with("z: "), "{check:?}");
    }
}
