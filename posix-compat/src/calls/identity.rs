//! Who the process is. A rule may name a user: the effective user is asked for at every selection,
//! so nothing has to be remembered here; the calls are in front of libc's so that they are known
//! to be, and that a later stack may act on them.

use std::ffi::{c_int, c_ulong};

use libc::{gid_t, size_t, uid_t};

use crate::export::export;
use crate::{real, sandbox};

export! {
    /// setuid(2).
    fn setuid(uid: uid_t) -> c_int {
        unsafe { real::setuid(uid) }
    }

    /// seteuid(2).
    fn seteuid(uid: uid_t) -> c_int {
        unsafe { real::seteuid(uid) }
    }

    /// setreuid(2).
    fn setreuid(user: uid_t, effective: uid_t) -> c_int {
        unsafe { real::setreuid(user, effective) }
    }

    /// setresuid(2).
    fn setresuid(user: uid_t, effective: uid_t, saved: uid_t) -> c_int {
        unsafe { real::setresuid(user, effective, saved) }
    }

    /// setfsuid(2).
    fn setfsuid(uid: uid_t) -> c_int {
        unsafe { real::setfsuid(uid) }
    }

    /// setgid(2).
    fn setgid(gid: gid_t) -> c_int {
        unsafe { real::setgid(gid) }
    }

    /// setegid(2).
    fn setegid(gid: gid_t) -> c_int {
        unsafe { real::setegid(gid) }
    }

    /// setregid(2).
    fn setregid(group: gid_t, effective: gid_t) -> c_int {
        unsafe { real::setregid(group, effective) }
    }

    /// setresgid(2).
    fn setresgid(group: gid_t, effective: gid_t, saved: gid_t) -> c_int {
        unsafe { real::setresgid(group, effective, saved) }
    }

    /// setfsgid(2).
    fn setfsgid(gid: gid_t) -> c_int {
        unsafe { real::setfsgid(gid) }
    }

    /// setgroups(2).
    fn setgroups(count: size_t, groups: *const gid_t) -> c_int {
        unsafe { real::setgroups(count, groups) }
    }

    /// prctl(2): a program that sets a seccomp filter is left alone from then on.
    fn prctl(option: c_int, a: c_ulong, b: c_ulong, c: c_ulong, d: c_ulong) -> c_int {
        if option == libc::PR_SET_SECCOMP {
            sandbox::prepare();
            return sandbox::entered(unsafe { real::prctl(option, a, b, c, d) });
        }
        unsafe { real::prctl(option, a, b, c, d) }
    }

    /// setns(2): sockets that are made from then on are of that namespace, as without DMM.
    fn setns(fd: c_int, kind: c_int) -> c_int {
        unsafe { real::setns(fd, kind) }
    }

    /// unshare(2): sockets that are made from then on are of that namespace, as without DMM.
    fn unshare(flags: c_int) -> c_int {
        unsafe { real::unshare(flags) }
    }
}
