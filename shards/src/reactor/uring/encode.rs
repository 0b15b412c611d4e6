//! Requests as submission entries.

use std::time::Duration;

use io_uring::opcode;
use io_uring::squeue::{Entry, Flags};
use io_uring::types::{CancelBuilder, Fd, FsyncFlags, Timespec};

use crate::reactor::request::{Manner, Request};
use crate::reactor::table::Key;

/// The group of the pool's buffers.
pub(super) const GROUP: u16 = 0;

/// Set in the `user_data` of sends whose success is not told: see [`Uring`](super::Uring).
pub(super) const AT_ONCE: u64 = 1 << 63;

/// Completions of the driver's own.
pub(super) const DOORBELL: Key = Key::reserved(0);
pub(super) const NOTHING: Key = Key::reserved(1);

const SOCKET_FLAGS: i32 = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
/// A send goes on until all is sent, and never raises a signal.
const SEND_FLAGS: i32 = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;
/// `FUTEX2_SIZE_U32 | FUTEX2_PRIVATE` (futex2(2)).
const FUTEX_FLAGS: u32 = 2 | 128;

/// How receives are to be made.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Style {
    pub(super) bundles: bool,
}

/// The entry for a request, without its key.
pub(super) fn encode(request: &Request, style: Style) -> Entry {
    match *request {
        Request::Accept { listener } => opcode::AcceptMulti::new(Fd(listener))
            .flags(SOCKET_FLAGS)
            .build(),
        Request::Receive { socket, bulk: true } if style.bundles => {
            opcode::RecvMultiBundle::new(Fd(socket), GROUP).build()
        }
        Request::Receive { socket, .. } => opcode::RecvMulti::new(Fd(socket), GROUP).build(),
        Request::ReceiveMessages { socket, header } => {
            opcode::RecvMsgMulti::new(Fd(socket), header, GROUP).build()
        }
        Request::ReceiveInto { socket, data, len } => {
            opcode::Recv::new(Fd(socket), data, len).build()
        }
        Request::Send {
            socket,
            data,
            len,
            manner: Manner::ZeroCopy,
        } => opcode::SendZc::new(Fd(socket), data, len)
            .flags(SEND_FLAGS)
            .zc_flags(io_uring_report_usage())
            .build(),
        Request::Send {
            socket,
            data,
            len,
            manner,
        } => with_manner(
            opcode::Send::new(Fd(socket), data, len)
                .flags(send_flags(manner))
                .build(),
            manner,
        ),
        Request::SendMessage {
            socket,
            header,
            manner,
            ..
        } => with_manner(
            opcode::SendMsg::new(Fd(socket), header)
                .flags(send_flags(manner) as u32)
                .build(),
            manner,
        ),
        Request::Connect {
            socket,
            address,
            len,
            ..
        } => opcode::Connect::new(Fd(socket), address, len).build(),
        Request::Poll { fd, events } => opcode::PollAdd::new(Fd(fd), events).build(),
        Request::Read {
            file,
            data,
            len,
            offset,
        } => opcode::Read::new(Fd(file), data, len)
            .offset(offset)
            .build(),
        Request::Write {
            file,
            data,
            len,
            offset,
        } => opcode::Write::new(Fd(file), data, len)
            .offset(offset)
            .build(),
        Request::Sync { file, data_only } => opcode::Fsync::new(Fd(file))
            .flags(if data_only {
                FsyncFlags::DATASYNC
            } else {
                FsyncFlags::empty()
            })
            .build(),
        Request::Futex { word, expected } => opcode::FutexWait::new(
            word,
            u64::from(expected),
            // FUTEX_BITSET_MATCH_ANY
            u64::from(u32::MAX),
            FUTEX_FLAGS,
        )
        .build(),
    }
}

/// The end of a request, asked for. Whether there was one to end is told by its own completion.
pub(super) fn cancel(key: Key) -> Entry {
    opcode::AsyncCancel2::new(CancelBuilder::user_data(key.to_bits()))
        .build()
        .flags(Flags::SKIP_SUCCESS)
        .user_data(NOTHING.to_bits())
}

/// The doorbell: a completion each time that the eventfd is written to.
pub(super) fn watch(eventfd: i32) -> Entry {
    opcode::PollAdd::new(Fd(eventfd), libc::POLLIN as u32)
        .multi(true)
        .build()
        .user_data(DOORBELL.to_bits())
}

/// Wakes another ring.
pub(super) fn message(ring: i32) -> Entry {
    opcode::MsgRingData::new(Fd(ring), 0, NOTHING.to_bits(), None)
        .build()
        .flags(Flags::SKIP_SUCCESS)
        .user_data(NOTHING.to_bits())
}

/// The time limit of the entry before, which must carry `IO_LINK`.
pub(super) fn deadline(time: &Timespec) -> Entry {
    opcode::LinkTimeout::new(time)
        .build()
        .flags(Flags::SKIP_SUCCESS)
        .user_data(NOTHING.to_bits())
}

pub(super) fn timespec(time: Duration) -> Timespec {
    Timespec::new()
        .sec(time.as_secs())
        .nsec(time.subsec_nanos())
}

fn send_flags(manner: Manner) -> i32 {
    match manner {
        Manner::AtOnce => SEND_FLAGS | libc::MSG_DONTWAIT,
        Manner::Awaited | Manner::ZeroCopy => SEND_FLAGS,
    }
}

fn with_manner(entry: Entry, manner: Manner) -> Entry {
    match manner {
        Manner::AtOnce => entry.flags(Flags::SKIP_SUCCESS),
        Manner::Awaited | Manner::ZeroCopy => entry,
    }
}

/// `IORING_SEND_ZC_REPORT_USAGE`: the notification says whether the kernel copied after all.
fn io_uring_report_usage() -> u16 {
    1 << 3
}
