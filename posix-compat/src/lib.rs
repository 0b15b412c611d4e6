//! `libdmm_posix.so`: DMM for unmodified programs.
//!
//! Preloaded (`LD_PRELOAD`), the library stands in front of libc's socket calls. A socket that the
//! program makes is the kernel's at first and stays so until the program says what it is for, with
//! `connect`, `listen`, a datagram or a `bind`; then the policy is asked, and the socket is bound to the
//! first stack instance of the rule's list that can carry it. Whatever we cannot do, the kernel does.
//!
//! | module | what it is for |
//! |---|---|
//! | `calls` | the functions that the program calls instead of libc's |
//! | `real` | the functions that they stand in front of |
//! | `track`, `process` | the descriptors of the process, and what belongs to it alone |
//! | `place` | binding a socket to a stack |
//! | `policy`, `mailbox` | the policy in force, and how it changes |
//! | `init`, `env` | start and end; the environment |
//! | `sandbox` | programs that give up their system calls |
//! | `alloc`, `stack_switch`, `user_memory` | living inside somebody else's program |
//!
//! The rules of the house: no panic leaves the library; nothing allocates from the program's heap, or
//! at all on a data path; internal work is done by raw system calls, never by libc's symbols, which
//! may be ours; `errno` is what the program's call has set. `docs/posix.md`, made by
//! the example `surface`, lists every function and what it does.

#![cfg_attr(
    test,
    allow(dead_code, reason = "a test binary does not stand in front of libc")
)]

mod alloc;
mod calls;
mod clock;
mod dump;
mod env;
mod errno;
mod export;
mod files;
mod init;
mod mailbox;
mod place;
mod policy;
mod process;
mod real;
mod sandbox;
mod session;
mod stack_switch;
mod track;
mod user_memory;
