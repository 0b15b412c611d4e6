//! A network namespace for each run: ports by number are free, nothing comes from outside, and two
//! runs side by side do not meet.
//!
//! Root makes the namespace directly; anybody else inside a user namespace, where the machine allows
//! that. Inside, the loopback interface is up, and the kernel's ephemeral ports lie above those that
//! sequences use by number.

use std::ffi::CStr;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

const SYSCTLS: [(&CStr, &[u8]); 1] = [(c"/proc/sys/net/ipv4/ip_local_port_range", b"33000 60999")];

/// Makes the command run in a network namespace of its own.
pub(crate) fn isolate(command: &mut Command) -> &mut Command {
    // SAFETY: between fork and exec only system calls are made, on constants.
    unsafe { command.pre_exec(enter) }
}

/// Whether this process may make network namespaces that it can also enter by their path.
pub(crate) fn is_root() -> bool {
    // SAFETY: no arguments, cannot fail.
    unsafe { libc::geteuid() == 0 }
}

fn enter() -> io::Result<()> {
    // What this process has inherited is not for executors, whose numbers begin at 3.
    // SAFETY: sets a flag on descriptors.
    unsafe {
        libc::close_range(
            3,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC as libc::c_int,
        )
    };
    // SAFETY: only flags.
    let mut result = unsafe { libc::unshare(libc::CLONE_NEWNET) };
    if result != 0 {
        // SAFETY: only flags.
        result = unsafe { libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNET) };
    }
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    raise_loopback()?;
    for (path, value) in SYSCTLS {
        write(path, value)?;
    }
    Ok(())
}

fn raise_loopback() -> io::Result<()> {
    // SAFETY: all-zero is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l'.cast_signed();
    request.ifr_name[1] = b'o'.cast_signed();
    request.ifr_ifru.ifru_flags = libc::IFF_UP as i16;
    // SAFETY: an ifreq with a name and flags is what the request takes.
    unsafe {
        let fd = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        let result = libc::ioctl(fd, libc::SIOCSIFFLAGS, &raw const request);
        let error = io::Error::last_os_error();
        libc::close(fd);
        if result == 0 { Ok(()) } else { Err(error) }
    }
}

/// A sysctl that an older kernel does not have per namespace is left as it is.
fn write(path: &CStr, value: &[u8]) -> io::Result<()> {
    // SAFETY: a nul-terminated path, and bytes of the length given.
    unsafe {
        let fd = libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        if fd < 0 {
            return Ok(());
        }
        let written = libc::write(fd, value.as_ptr().cast(), value.len());
        let error = io::Error::last_os_error();
        libc::close(fd);
        if written < 0 { Err(error) } else { Ok(()) }
    }
}
