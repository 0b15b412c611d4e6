//! Sockets that shared memory carries: the calls on a session, answered as TCP would.
//!
//! | module | what it is for |
//! |---|---|
//! | `pool` | the sessions of the process |
//! | `data`, `file`, `wait` | moving bytes, and waiting for one session |
//! | `lend` | memory of the rings, for programs that read and write in place |
//! | `epoll`, `nested`, `poll`, `kick` | waiting for many |
//! | `listener` | accepting |
//! | `names`, `options`, `control` | addresses; socket options; shutdown, ioctl, connect once more |
//! | `board` | where peers tell what has happened |
//! | `fork` | sessions that several processes have |
//! | `stream` | stdio |
//! | `relay` | sessions in programs and libraries that know nothing of them |

mod board;
pub(crate) mod control;
pub(crate) mod data;
pub(crate) mod epoll;
pub(crate) mod file;
pub(crate) mod fork;
mod kick;
pub(crate) mod lend;
pub(crate) mod listener;
pub(crate) mod names;
pub(crate) mod nested;
pub(crate) mod options;
pub(crate) mod poll;
pub(crate) mod pool;
pub(crate) mod relay;
pub(crate) mod stream;
mod wait;

use std::ffi::c_int;

use dmm_nsocket::session::board::Board;
use dmm_nsocket::sys;

/// This process's board, made if need be.
pub(crate) fn own_board() -> Option<&'static Board> {
    board::own()
}

/// SO_RCVTIMEO is the socket's, too: a thread that waits there is woken when time is up.
pub(crate) fn timeouts_follow(using: &pool::Using, fd: c_int) {
    let Some(ns) = using.session().options.receive_timeout_ns() else {
        return;
    };
    let mut value = [0; 16];
    value[..8].copy_from_slice(&((ns / 1_000_000_000) as i64).to_ne_bytes());
    value[8..].copy_from_slice(&((ns % 1_000_000_000 / 1000) as i64).to_ne_bytes());
    // Where the kernel refuses it, the wait is a little longer.
    let _ = sys::setsockopt(
        wait::borrow(fd),
        libc::SOL_SOCKET,
        libc::SO_RCVTIMEO,
        &value,
    );
}
