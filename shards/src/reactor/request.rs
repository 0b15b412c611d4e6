//! What is asked of a driver, and what it answers: plain values, without ownership.
//!
//! Whoever submits a request keeps what its pointers point at until the last event for its key; in this
//! crate that is the in-flight table ([`Reactor::start`](super::Reactor::start)).

use std::os::fd::RawFd;
use std::time::Duration;

use super::table::Key;

/// An operation that a driver can carry.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Request {
    /// Accepts connections until cancelled: one event each, whose result is a descriptor.
    Accept { listener: RawFd },
    /// Receives into provided buffers, until the end, an error, or until buffers are short (ENOBUFS).
    /// `bulk`: several buffers at a time where that can be had, which costs a little for what fits into one.
    Receive { socket: RawFd, bulk: bool },
    /// Receives datagrams into provided buffers, each behind a header (`io_uring_recvmsg_out`) that
    /// leaves room for a name of the length that the message header says.
    ReceiveMessages {
        socket: RawFd,
        header: *const libc::msghdr,
    },
    /// Receives once into memory of the caller's.
    ReceiveInto {
        socket: RawFd,
        data: *mut u8,
        len: u32,
    },
    /// Sends all of it, unless there is an error; then the event tells how much.
    Send {
        socket: RawFd,
        data: *const u8,
        len: u32,
        manner: Manner,
    },
    /// As [`Send`](Self::Send), gathered. `len` is the sum of the vectors.
    SendMessage {
        socket: RawFd,
        header: *const libc::msghdr,
        len: u32,
        manner: Manner,
    },
    /// Connects, within the time given.
    Connect {
        socket: RawFd,
        address: *const libc::sockaddr,
        len: u32,
        within: Option<Duration>,
    },
    /// Waits for readiness (poll(2)), once.
    Poll { fd: RawFd, events: u32 },
    Read {
        file: RawFd,
        data: *mut u8,
        len: u32,
        offset: u64,
    },
    Write {
        file: RawFd,
        data: *const u8,
        len: u32,
        offset: u64,
    },
    /// fsync(2), or fdatasync(2).
    Sync { file: RawFd, data_only: bool },
    /// Waits while the word has this value (futex(2), private).
    Futex { word: *const u32, expected: u32 },
}

/// How to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Nobody waits for the end: the driver may try once, and tell of success when it is next
    /// convenient. If it cannot be done at once the event says so (EAGAIN, or less than all).
    AtOnce,
    /// Somebody waits: the event is a reason to return from the kernel.
    Awaited,
    /// Without copying (`SEND_ZC`). There are two events: the result, with
    /// [`more`](Event::more), and the end of the use of the memory.
    ZeroCopy,
}

/// What came of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) key: Key,
    /// A count or a descriptor, or a negative error number.
    pub(crate) result: i32,
    /// This was not the last event for the key.
    pub(crate) more: bool,
    /// The end of a zero-copy send, with [`COPIED`](Self::COPIED) in the result if it was none.
    pub(crate) notification: bool,
    /// Where received bytes are.
    pub(crate) data: Option<Provided>,
}

impl Event {
    /// The kernel had to copy after all (`IORING_NOTIF_USAGE_ZC_COPIED`).
    pub(crate) const COPIED: i32 = i32::MIN;

    /// The last event of an operation, with nothing but a result.
    pub(crate) fn last(key: Key, result: i32) -> Self {
        Self {
            key,
            result,
            more: false,
            notification: false,
            data: None,
        }
    }
}

/// Bytes in provided buffers: `len` of them from `buffer` on, in as many of its successors as it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Provided {
    pub(crate) buffer: u16,
    pub(crate) len: u32,
    /// The kernel goes on filling the (last) buffer.
    pub(crate) unfinished: bool,
}
