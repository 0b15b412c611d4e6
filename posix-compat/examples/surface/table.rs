//! Every function that the library puts in front of libc's, and what it does: the table behind
//! `docs/posix.md`. A test compares it with what the built library exports.

/// Functions of one kind, that behave alike.
pub struct Row {
    /// Their symbols; the first names the manual page.
    pub symbols: &'static [&'static str],
    /// What they do for a managed socket.
    pub managed: &'static str,
    /// What they do for a socket that shared memory carries.
    pub session: &'static str,
    /// What they do for any other descriptor, or without one.
    pub unmanaged: &'static str,
}

/// Functions of one subject.
pub struct Group {
    /// The subject.
    pub title: &'static str,
    /// Its functions.
    pub rows: &'static [Row],
}

const ORIGINAL: &str = "original call";
/// No session is concerned.
const NONE: &str = "-";

const fn row(
    symbols: &'static [&'static str],
    managed: &'static str,
    session: &'static str,
    unmanaged: &'static str,
) -> Row {
    Row {
        symbols,
        managed,
        session,
        unmanaged,
    }
}

/// All functions.
pub const SURFACE: &[Group] = &[
    Group {
        title: "Sockets",
        rows: &[
            row(
                &["socket", "__socket"],
                "the kernel makes it; an Internet socket is *fresh* until its use binds it to a stack",
                NONE,
                "other families are the kernel's for good, and counted",
            ),
            row(
                &["socketpair"],
                "as `socket`: the Internet families have none",
                NONE,
                "original call, counted",
            ),
            row(
                &["bind"],
                "fresh socket: moved to the instance that the address and port are ruled to, so that they are that instance's \
                 (`listen`, `connect` or the first datagram decide in the end); then the original call",
                "fails as on a connected TCP socket (EINVAL)",
                ORIGINAL,
            ),
            row(
                &["listen"],
                "fresh stream socket: bound to a stack (role `listen`), then the original call",
                "EINVAL: it is connected",
                "original call; a listener that was inherited is managed from then on",
            ),
            row(
                &["accept", "accept4"],
                "original call, timed if it blocks; the new socket has the listener's rule and stack",
                "a listener on `local` takes sessions and the kernel's connections by turns, and waits for both; a session itself says EINVAL",
                "original call; an inherited Internet listener is managed from then on",
            ),
            row(
                &["connect", "__connect"],
                "fresh socket: bound to a stack (role `connect` or `datagram`), then the original call, timed; \
                 ENETUNREACH if the rule forbids the kernel and no other stack carries it",
                "opening it does not wait; a non-blocking connect says EINPROGRESS and is complete at once; once more: EISCONN",
                ORIGINAL,
            ),
            row(
                &["shutdown"],
                "original call; what it leaves on a fresh socket goes along to a stack",
                "both directions, as TCP: what was written before is read before the end; ENOTCONN when both sides have finished",
                ORIGINAL,
            ),
            row(
                &["getsockname"],
                ORIGINAL,
                "the address and port that TCP would have",
                ORIGINAL,
            ),
            row(
                &["getpeername"],
                ORIGINAL,
                "the address and port that TCP would have",
                ORIGINAL,
            ),
            row(
                &["getsockopt"],
                "original call; SO_ERROR tells when a connect that was under way has ended; SO_PROTOCOL is what the program asked for",
                "TCP's answers: buffers, timeouts, TCP_INFO, SO_ERROR, SO_PEERCRED and the rest; what a session cannot tell fails with its errno and is counted",
                ORIGINAL,
            ),
            row(
                &["setsockopt"],
                "original call; on a fresh socket what was accepted is recorded and replayed on the stack that is chosen; \
                 an option that cannot be replayed keeps the socket where it is",
                "TCP's behaviour; what cannot be honoured fails with its errno and is counted",
                ORIGINAL,
            ),
            row(
                &["sockatmark"],
                ORIGINAL,
                "0: no urgent byte comes",
                ORIGINAL,
            ),
            row(
                &["isfdtype"],
                ORIGINAL,
                "the descriptor is a socket",
                ORIGINAL,
            ),
        ],
    },
    Group {
        title: "Data",
        rows: &[
            row(
                &["send", "__send"],
                "original call, counted, timed if it blocks",
                "copied into the ring; MSG_DONTWAIT, MSG_NOSIGNAL, MSG_MORE; MSG_OOB is EOPNOTSUPP",
                ORIGINAL,
            ),
            row(
                &["sendto"],
                "fresh datagram socket, or MSG_FASTOPEN: bound to a stack first; original call, counted, timed if it blocks",
                "as `send`; an address is treated as TCP treats it",
                ORIGINAL,
            ),
            row(
                &["sendmsg"],
                "as `sendto`",
                "as `send`, from all parts",
                "original call; a fresh socket that is passed on (SCM_RIGHTS) stays where it is",
            ),
            row(
                &["sendmmsg", "__sendmmsg"],
                "as `sendto`, by the first message",
                "as `sendmsg`, one after the other",
                ORIGINAL,
            ),
            row(
                &["recv", "__recv", "__recv_chk"],
                "original call, counted, timed if it blocks",
                "copied out of the ring; MSG_PEEK, MSG_WAITALL, MSG_DONTWAIT, MSG_TRUNC; MSG_OOB is EINVAL, MSG_ERRQUEUE is EAGAIN",
                ORIGINAL,
            ),
            row(
                &["recvfrom", "__recvfrom_chk"],
                "original call, counted, timed if it blocks",
                "as `recv`; no address comes with a stream's bytes",
                ORIGINAL,
            ),
            row(
                &["recvmsg", "recvmmsg"],
                "original call, counted, timed if it blocks",
                "as `recv`, to all parts; no control data",
                "original call; Internet sockets that are received (SCM_RIGHTS) are managed from then on",
            ),
            row(
                &["read", "__read", "__read_chk", "readv"],
                "original call, counted, timed if it blocks",
                "copied out of the ring",
                ORIGINAL,
            ),
            row(
                &["write", "__write", "writev"],
                "original call, counted, timed if it blocks",
                "copied into the ring; SIGPIPE and EPIPE as TCP",
                ORIGINAL,
            ),
            row(
                &[
                    "pread",
                    "pread64",
                    "__pread64",
                    "__pread_chk",
                    "__pread64_chk",
                    "preadv",
                    "preadv64",
                    "preadv2",
                    "preadv64v2",
                ],
                "original call (ESPIPE, but for `preadv2` at offset -1), counted",
                "ESPIPE; `preadv2` at offset -1 as `readv`",
                ORIGINAL,
            ),
            row(
                &[
                    "pwrite",
                    "pwrite64",
                    "__pwrite64",
                    "pwritev",
                    "pwritev64",
                    "pwritev2",
                    "pwritev64v2",
                ],
                "original call (ESPIPE, but for `pwritev2` at offset -1), counted",
                "ESPIPE; `pwritev2` at offset -1 as `writev`",
                ORIGINAL,
            ),
            row(
                &["sendfile", "sendfile64"],
                "original call, counted for the socket that is written to",
                "read from the file straight into the ring",
                ORIGINAL,
            ),
            row(
                &["splice"],
                "original call, counted for the socket at either end",
                "between the pipe and the ring, without a buffer in between",
                ORIGINAL,
            ),
            row(
                &["tee", "vmsplice"],
                "original call (pipes only)",
                "EINVAL: it is no pipe",
                ORIGINAL,
            ),
        ],
    },
    Group {
        title: "Descriptors",
        rows: &[
            row(
                &["close", "__close"],
                "forgotten, then the original call",
                "with the last descriptor the session ends: the peer reads what was written, then the end; unread bytes, or SO_LINGER of 0, reset it",
                ORIGINAL,
            ),
            row(
                &["closefrom", "close_range"],
                "those in the range are forgotten (not with CLOSE_RANGE_CLOEXEC), then the original call",
                "as `close`",
                ORIGINAL,
            ),
            row(
                &["dup", "dup2", "__dup2", "dup3"],
                "original call; the new number names the same socket, and follows it to a stack",
                "one more name of the session",
                ORIGINAL,
            ),
            row(
                &["fcntl", "__fcntl", "fcntl64"],
                "original call; F_DUPFD as `dup`, F_SETFL keeps track of O_NONBLOCK",
                "one more name of the session; O_NONBLOCK holds for all names of this process",
                ORIGINAL,
            ),
            row(
                &["ioctl"],
                "original call; FIONBIO keeps track of O_NONBLOCK",
                "FIONREAD, SIOCOUTQ and their kin count the ring; the rest is the descriptor's",
                ORIGINAL,
            ),
            row(
                &[
                    "fstat",
                    "fstat64",
                    "__fxstat",
                    "__fxstat64",
                    "fstatat",
                    "fstatat64",
                    "statx",
                ],
                "original call: the descriptor is a kernel socket",
                "a socket, as TCP's is",
                ORIGINAL,
            ),
        ],
    },
    Group {
        title: "Readiness",
        rows: &[
            row(
                &["poll", "__poll", "__poll_chk"],
                "original call; a wait for one socket alone is timed as a blocking call on it",
                "TCP's answers; looks for a while, then sleeps in the kernel",
                ORIGINAL,
            ),
            row(&["ppoll", "__ppoll_chk"], ORIGINAL, "as `poll`", ORIGINAL),
            row(
                &["select", "__select", "pselect"],
                ORIGINAL,
                "as `poll`",
                ORIGINAL,
            ),
            row(
                &["epoll_create", "epoll_create1"],
                "the instance is the kernel's own, and known",
                NONE,
                "the same",
            ),
            row(
                &["epoll_ctl"],
                "original call; the registration of a fresh socket is remembered, and renewed when another kernel socket takes its place",
                "registered in the kernel's instance by its socket, and on this process's board, where its peer sets a bit",
                ORIGINAL,
            ),
            row(
                &["epoll_wait", "epoll_pwait", "epoll_pwait2"],
                ORIGINAL,
                "what peers have said, then the kernel; all triggers, nested instances, instances shared by threads and forks",
                ORIGINAL,
            ),
        ],
    },
    Group {
        title: "Processes",
        rows: &[
            row(
                &[
                    "fork", "__fork", "_Fork", "clone", "__clone", "forkpty", "daemon",
                ],
                "sockets that are still fresh may be shared from then on and stay where they are; all others go on in both processes",
                "both processes have the session; the words of its end move to memory that both share",
                "original call",
            ),
            row(
                &["_exit", "_Exit", "quick_exit"],
                "the process's statistics file is removed, then the original call",
                "peers are told of the end by the kernel",
                "the same",
            ),
            row(
                &["vfork", "__vfork"],
                "the system call; the child leaves the parent's tables alone",
                "as `fork` and `exec` together",
                "the same",
            ),
            row(
                &["posix_spawn", "posix_spawnp"],
                "sockets without close-on-exec are inherited, on the kernel",
                "one that the new program inherits is relayed to it (see local.md)",
                "the preload is put back into an environment that lacks LD_PRELOAD, unless it says DMM_PRELOAD=off",
            ),
            row(
                &[
                    "execve", "execv", "execvp", "execvpe", "execl", "execlp", "execle", "fexecve",
                    "execveat",
                ],
                "as `posix_spawn`",
                "as `posix_spawn`; an exec that fails leaves everything as it was",
                "as `posix_spawn`",
            ),
            row(
                &[
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
                ],
                "sockets stay; rules with `user` see the new effective user at the next selection",
                "goes on; the peer's SO_PEERCRED is that of the time of the connection",
                ORIGINAL,
            ),
            row(
                &["mlockall"],
                "what the program has mapped is locked, DMM's own shared memory is not",
                "its memory is not locked",
                "the same",
            ),
            row(
                &["prctl"],
                "original call; from PR_SET_SECCOMP on DMM makes no system calls of its own: the policy does not change any \
                 more, and sockets that are made or accepted are the kernel's",
                "goes on as far as no system call is needed",
                "the same",
            ),
            row(
                &["setns", "unshare"],
                "sockets stay in their namespace; new ones are of the new one",
                "goes on",
                ORIGINAL,
            ),
        ],
    },
    Group {
        title: "Streams",
        rows: &[
            row(
                &["fdopen", "_IO_fdopen"],
                "original call; what goes through the stream is not counted",
                "bytes that libc writes to the descriptor itself reach the peer behind the ring's",
                ORIGINAL,
            ),
            row(
                &["fclose", "_IO_fclose", "freopen", "freopen64"],
                "the descriptor is forgotten, then the original call",
                "as `close`",
                ORIGINAL,
            ),
            row(
                &["dprintf", "__dprintf_chk", "vdprintf", "__vdprintf_chk"],
                "original call, counted",
                "as `fdopen`",
                ORIGINAL,
            ),
        ],
    },
    Group {
        title: "Names",
        rows: &[row(
            &[
                "getaddrinfo",
                "getnameinfo",
                "gethostbyname",
                "gethostbyname2",
                "gethostbyaddr",
                "gethostbyname_r",
                "gethostbyname2_r",
                "gethostbyaddr_r",
            ],
            "no descriptor",
            NONE,
            "looked up in the network namespace that the policy has datagrams to the name server (port 53) go to; \
             by a thread of its own; else the original call",
        )],
    },
    Group {
        title: "By number",
        rows: &[row(
            &["syscall"],
            "socket, socketpair, bind, listen, accept, accept4, connect, setsockopt, sendto, sendmsg, sendmmsg, \
             recvmsg, close, close_range, dup, dup2, dup3, fcntl, epoll_create, epoll_create1, epoll_ctl, execve, fork, clone, clone3, exit_group, seccomp: as the function of that name",
            "as the function of that name",
            ORIGINAL,
        )],
    },
    Group {
        title: "In place",
        rows: &[
            row(
                &[
                    "dmm_peek_in_place",
                    "dmm_consume",
                    "dmm_reserve",
                    "dmm_commit",
                ],
                "ENOTSUP",
                "lend the ring's memory, and take it back: `dmm.h`",
                "ENOTSOCK; of other sockets ENOTSUP",
            ),
            row(
                &["dmm_is_session", "dmm_stack"],
                "0; the name of the stack instance",
                "1; the name of the stack instance",
                "ENOTSOCK; of other sockets 0 and ENOTSUP",
            ),
        ],
    },
];

/// The table in Markdown: `docs/posix.md`.
pub fn markdown() -> String {
    use std::fmt::Write;

    let mut text = String::from(INTRODUCTION);
    for group in SURFACE {
        // Writing to a `String` does not fail.
        let _ = write!(
            text,
            "\n## {}\n\n| function | on a managed socket | on a session | on anything else |\n|---|---|---|---|\n",
            group.title
        );
        for row in group.rows {
            let symbols: Vec<String> = row.symbols.iter().map(|s| format!("`{s}`")).collect();
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} |",
                symbols.join(" "),
                row.managed,
                row.session,
                row.unmanaged
            );
        }
    }
    text
}

const INTRODUCTION: &str = "\
# The POSIX surface

Made by `cargo run -p dmm-posix --example surface > docs/posix.md` from `posix-compat/examples/surface/table.rs`; the
tests check that this file is current and that the library exports these symbols and no others.

*Managed* is a socket of the Internet families that the program has made, accepted, inherited or received; it
is *fresh* until `connect`, `listen`, a datagram or a `bind` that decides binds it to a stack instance; from then on
the kernel carries it, or it is a *session*: [shared memory](local.md) carries it. *Anything else* are files, pipes,
Unix and netlink sockets, and descriptors that DMM does not know. *Original call* is libc's function, with its
cancellation points and its `errno`.

What does not go through these symbols (system calls made by `syscall` instructions in the program, io_uring,
glibc's own use of sockets for names) reaches the kernel's socket directly and works as without DMM; it is
only not looked up, or not counted. On a session it reaches the Unix socket that stands for it: bytes that are written
there come out at the other end behind the ring's.

*Timed* calls go into the histograms of `dmm hist`: every `connect` and blocking `accept`; of the other blocking
calls a process's first 256 and then one in 257. Of sessions the way from write to read is measured instead, of one
write in 257.
";
