//! Of the functions that libc exports for sockets and what is around them, each is in the library
//! or in the table here, with why it is left out.
//!
//! A family is a name of the list with everything that glibc derives from it: `__read`, `__read_chk`,
//! `pread64`, `__libc_fork`, `recvmsg` for a 64-bit time, and so on. A newer glibc that exports one
//! more makes this test fail, which is its purpose.

use std::collections::BTreeSet;
use std::path::PathBuf;

use object::{Object, ObjectSymbol};

const FAMILIES: &[&str] = &[
    "socket",
    "socketpair",
    "bind",
    "listen",
    "accept",
    "accept4",
    "connect",
    "shutdown",
    "getsockname",
    "getpeername",
    "getsockopt",
    "setsockopt",
    "isfdtype",
    "sockatmark",
    "send",
    "sendto",
    "sendmsg",
    "sendmmsg",
    "recv",
    "recvfrom",
    "recvmsg",
    "recvmmsg",
    "read",
    "readv",
    "pread",
    "preadv",
    "write",
    "writev",
    "pwrite",
    "pwritev",
    "sendfile",
    "splice",
    "tee",
    "vmsplice",
    "copy_file_range",
    "close",
    "closefrom",
    "close_range",
    "dup",
    "dup2",
    "dup3",
    "fcntl",
    "ioctl",
    "lseek",
    "stat",
    "lstat",
    "fstat",
    "fstatat",
    "xstat",
    "lxstat",
    "fxstat",
    "fxstatat",
    "statx",
    "poll",
    "ppoll",
    "select",
    "pselect",
    "epoll_create",
    "epoll_create1",
    "epoll_ctl",
    "epoll_wait",
    "epoll_pwait",
    "epoll_pwait2",
    "fork",
    "_Fork",
    "vfork",
    "clone",
    "clone3",
    "posix_spawn",
    "posix_spawnp",
    "forkpty",
    "daemon",
    "execl",
    "execle",
    "execlp",
    "execv",
    "execve",
    "execvp",
    "execvpe",
    "fexecve",
    "execveat",
    "system",
    "popen",
    "wordexp",
    "fdopen",
    "fclose",
    "freopen",
    "dprintf",
    "vdprintf",
    "setuid",
    "seteuid",
    "setreuid",
    "setresuid",
    "setfsuid",
    "setgid",
    "setegid",
    "setregid",
    "setresgid",
    "setfsgid",
    "setgroups",
    "initgroups",
    "setns",
    "unshare",
    "getaddrinfo",
    "getnameinfo",
    "gethostbyname",
    "gethostbyname2",
    "gethostbyaddr",
    "syscall",
    "bindresvport",
];

/// Exported by glibc, not by the library, and why.
const LEFT_OUT: &[(&[&str], &str)] = &[
    (
        &[
            "__close_nocancel",
            "__read_nocancel",
            "__write_nocancel",
            "__pread64_nocancel",
            "__fstat64",
            "__libc_fcntl64",
            "__libc_fork",
            "__libc_pread",
            "__libc_pwrite",
            "__libc_system",
        ],
        "GLIBC_PRIVATE: only glibc's own libraries link to it",
    ),
    (
        &[
            "stat",
            "stat64",
            "lstat",
            "lstat64",
            "__xstat",
            "__xstat64",
            "__lxstat",
            "__lxstat64",
        ],
        "takes a path, no descriptor",
    ),
    (
        &["__fxstatat", "__fxstatat64"],
        "a path and a directory; binaries that use it with AT_EMPTY_PATH on a socket get what the \
         kernel says of the same kernel object",
    ),
    (
        &["lseek", "lseek64", "__lseek", "copy_file_range"],
        "ESPIPE or EINVAL on every socket: the kernel's answer is the right one",
    ),
    (
        &["system", "popen", "_IO_popen", "wordexp"],
        "start a shell by an exec inside libc, which gets the environment, and so the preload",
    ),
    (
        &["initgroups"],
        "the supplementary groups are no key of the policy",
    ),
    (
        &["bindresvport"],
        "binds to a privileged port by libc's own bind; the kernel then refuses nothing that the \
         library would have allowed",
    ),
];

#[test]
fn every_function_of_a_family_is_exported_or_left_out_for_a_reason() {
    let library = exports(&library());
    let libc = exports(&libc());
    assert!(
        libc.contains("socket") && libc.contains("__read_chk"),
        "that is not glibc"
    );
    let left_out: BTreeSet<&str> = LEFT_OUT
        .iter()
        .flat_map(|(names, _)| names.iter().copied())
        .collect();
    let missing: Vec<&String> = libc
        .iter()
        .filter(|name| in_a_family(name))
        .filter(|name| !library.contains(*name) && !left_out.contains(name.as_str()))
        .collect();
    assert!(
        missing.is_empty(),
        "neither exported nor left out for a reason: {missing:?}"
    );
    let both: Vec<&&str> = left_out
        .iter()
        .filter(|name| library.contains(**name))
        .collect();
    assert!(
        both.is_empty(),
        "exported, and in the table of what is left out: {both:?}"
    );
}

/// Whether it is one of the names, with or without what glibc puts around them.
fn in_a_family(name: &str) -> bool {
    let is_name = |name: &str| FAMILIES.contains(&name);
    let prefixes = ["", "__", "__libc_", "_IO_", "__isoc99_"];
    let suffixes = ["", "_chk", "_nocancel", "_time64", "_r", "64_time64"];
    let middles = ["", "64", "v2", "64v2", "2"];
    prefixes
        .iter()
        .filter_map(|prefix| name.strip_prefix(prefix))
        .any(|rest| {
            suffixes
                .iter()
                .filter_map(|suffix| rest.strip_suffix(suffix))
                .any(|rest| {
                    middles
                        .iter()
                        .filter_map(|middle| rest.strip_suffix(middle))
                        .any(is_name)
                })
        })
}

fn exports(path: &PathBuf) -> BTreeSet<String> {
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let file = object::File::parse(&*bytes).expect("an ELF file");
    file.dynamic_symbols()
        .filter(|symbol| symbol.is_definition() && symbol.is_global() || symbol.is_weak())
        .filter(ObjectSymbol::is_definition)
        .map(|symbol| symbol.name().expect("a name in UTF-8").to_owned())
        .collect()
}

/// The C library that this very process uses.
fn libc() -> PathBuf {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("/proc");
    let path = maps
        .lines()
        .filter_map(|line| line.split_whitespace().nth(5));
    let mut libc = path.filter(|path| path.contains("/libc.so") || path.contains("/libc-2."));
    PathBuf::from(libc.next().expect("a process with a C library"))
}

/// The library that this test's build has made, beside the test's own folder.
fn library() -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    test.ancestors()
        .nth(2)
        .expect("target/PROFILE/deps/TEST")
        .join("libdmm_posix.so")
}
