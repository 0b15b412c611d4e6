//! One attempt at a request, by the system call that it stands for.

use std::mem::MaybeUninit;
use std::os::fd::RawFd;

use syscalls::{Errno, Sysno, syscall};

use crate::reactor::pool::Pool;
use crate::reactor::request::{Event, Provided, Request};
use crate::reactor::table::Key;

/// Messages or connections that one request takes in one turn, before others have theirs.
const FAIR: usize = 16;

/// What a descriptor must be ready for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    In,
    Out,
}

/// What an attempt has led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tried {
    /// The last event is there.
    Over,
    /// It would have to wait.
    Wait(RawFd, Direction),
    /// There is more, but others wait too.
    Again,
}

/// The head of a datagram in a provided buffer, as io_uring lays it out (`struct io_uring_recvmsg_out`).
#[repr(C)]
struct MessageHead {
    name_len: u32,
    control_len: u32,
    payload_len: u32,
    flags: u32,
}

/// Tries `request`. `progress` is its own memory between attempts, 0 at first.
pub(super) fn attempt(
    key: Key,
    request: Request,
    progress: &mut u32,
    pool: &Pool,
    events: &mut Vec<Event>,
) -> Tried {
    match request {
        Request::Accept { listener } => accept(key, listener, events),
        Request::Receive { socket, .. } => receive(key, socket, pool, events),
        Request::ReceiveMessages { socket, header } => {
            receive_messages(key, socket, header, pool, events)
        }
        Request::ReceiveInto { socket, data, len } => {
            once(key, socket, Direction::In, events, || {
                // SAFETY: the memory is the request's, by the contract of `Driver::submit`.
                unsafe { syscall!(Sysno::recvfrom, socket, data, len, libc::MSG_DONTWAIT, 0, 0) }
            })
        }
        Request::Send {
            socket, data, len, ..
        } => send(key, socket, data, len, progress, events),
        Request::SendMessage { socket, header, .. } => {
            once(key, socket, Direction::Out, events, || {
                let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
                // SAFETY: as above.
                unsafe { syscall!(Sysno::sendmsg, socket, header, flags) }
            })
        }
        Request::Connect {
            socket,
            address,
            len,
            ..
        } => connect(key, socket, address, len, progress, events),
        Request::Poll { fd, events: wanted } => poll(key, fd, wanted, events),
        // Files do not wait: what can block is given to the pool of threads before it comes here.
        Request::Read {
            file,
            data,
            len,
            offset,
        } => over(key, events, || {
            // SAFETY: as above.
            unsafe { syscall!(Sysno::pread64, file, data, len, offset) }
        }),
        Request::Write {
            file,
            data,
            len,
            offset,
        } => over(key, events, || {
            // SAFETY: as above.
            unsafe { syscall!(Sysno::pwrite64, file, data, len, offset) }
        }),
        Request::Sync { file, data_only } => over(key, events, || {
            let call = if data_only {
                Sysno::fdatasync
            } else {
                Sysno::fsync
            };
            // SAFETY: no memory is involved.
            unsafe { syscall!(call, file) }
        }),
        Request::Futex { .. } => over(key, events, || Err(Errno::ENOSYS)),
    }
}

fn accept(key: Key, listener: RawFd, events: &mut Vec<Event>) -> Tried {
    for _ in 0..FAIR {
        let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        // SAFETY: no memory is involved.
        match unsafe { syscall!(Sysno::accept4, listener, 0, 0, flags) } {
            Ok(fd) => events.push(more(key, fd as i32, None)),
            Err(Errno::EAGAIN) => return Tried::Wait(listener, Direction::In),
            Err(Errno::EINTR | Errno::ECONNABORTED) => {}
            Err(errno) => return end(key, -errno.into_raw(), events),
        }
    }
    Tried::Again
}

fn receive(key: Key, socket: RawFd, pool: &Pool, events: &mut Vec<Event>) -> Tried {
    for _ in 0..FAIR {
        let Some((buffer, start, len)) = pool.take() else {
            return end(key, -libc::ENOBUFS, events);
        };
        let data = start.as_ptr();
        // SAFETY: the buffer was taken from the pool, so these `len` bytes are ours to fill.
        let result =
            unsafe { syscall!(Sysno::recvfrom, socket, data, len, libc::MSG_DONTWAIT, 0, 0) };
        match result {
            Ok(0) => {
                pool.untake(buffer);
                return end(key, 0, events);
            }
            Ok(received) => {
                events.push(more(key, received as i32, Some(provided(buffer, received))));
            }
            Err(errno) => {
                pool.untake(buffer);
                match errno {
                    Errno::EAGAIN => return Tried::Wait(socket, Direction::In),
                    Errno::EINTR => {}
                    errno => return end(key, -errno.into_raw(), events),
                }
            }
        }
    }
    Tried::Again
}

/// Lays datagrams out as io_uring does: head, name, payload.
fn receive_messages(
    key: Key,
    socket: RawFd,
    header: *const libc::msghdr,
    pool: &Pool,
    events: &mut Vec<Event>,
) -> Tried {
    // SAFETY: the header is the request's, by the contract of `Driver::submit`.
    let name_room = unsafe { (*header).msg_namelen };
    let before = size_of::<MessageHead>() + name_room as usize;
    for _ in 0..FAIR {
        let Some((buffer, start, len)) = pool.take() else {
            return end(key, -libc::ENOBUFS, events);
        };
        debug_assert!(before < len as usize, "buffers hold a head and a name");
        // SAFETY: all zero is a valid header.
        let mut message: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
        // SAFETY: both are inside of the buffer, as the head and the name are.
        let (name, payload) = unsafe { (start.add(size_of::<MessageHead>()), start.add(before)) };
        let mut vector = libc::iovec {
            iov_base: payload.as_ptr().cast(),
            iov_len: len as usize - before,
        };
        message.msg_name = name.as_ptr().cast();
        message.msg_namelen = name_room;
        message.msg_iov = &raw mut vector;
        message.msg_iovlen = 1;
        let flags = libc::MSG_DONTWAIT | libc::MSG_TRUNC;
        // SAFETY: the message describes memory of the taken buffer and of this function.
        let result = unsafe { syscall!(Sysno::recvmsg, socket, &raw mut message, flags) };
        match result {
            Ok(received) => {
                let head = MessageHead {
                    name_len: message.msg_namelen,
                    control_len: 0,
                    payload_len: received as u32,
                    flags: message.msg_flags as u32,
                };
                // SAFETY: the head is the first thing in the buffer, which may be aligned in any way.
                unsafe { start.cast::<MessageHead>().write_unaligned(head) };
                let filled = before + received.min(len as usize - before);
                events.push(more(key, filled as i32, Some(provided(buffer, filled))));
            }
            Err(errno) => {
                pool.untake(buffer);
                match errno {
                    Errno::EAGAIN => return Tried::Wait(socket, Direction::In),
                    Errno::EINTR => {}
                    errno => return end(key, -errno.into_raw(), events),
                }
            }
        }
    }
    Tried::Again
}

/// Sends on until all is sent; an error after a part tells of the part.
fn send(
    key: Key,
    socket: RawFd,
    data: *const u8,
    len: u32,
    sent: &mut u32,
    events: &mut Vec<Event>,
) -> Tried {
    while *sent < len || len == 0 {
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        // SAFETY: the memory is the request's, and what was sent of it is at most all.
        let result = unsafe {
            let rest = data.add(*sent as usize);
            syscall!(Sysno::sendto, socket, rest, len - *sent, flags, 0, 0)
        };
        match result {
            Ok(count) => *sent += count as u32,
            Err(Errno::EAGAIN) => return Tried::Wait(socket, Direction::Out),
            Err(Errno::EINTR) => continue,
            Err(errno) if *sent == 0 => return end(key, -errno.into_raw(), events),
            Err(_) => break,
        }
        if len == 0 {
            break;
        }
    }
    end(key, *sent as i32, events)
}

fn connect(
    key: Key,
    socket: RawFd,
    address: *const libc::sockaddr,
    len: u32,
    under_way: &mut u32,
    events: &mut Vec<Event>,
) -> Tried {
    // SAFETY: the address is the request's, by the contract of `Driver::submit`.
    let result = unsafe { syscall!(Sysno::connect, socket, address, len) };
    match result {
        Ok(_) => end(key, 0, events),
        Err(Errno::EINPROGRESS | Errno::EALREADY | Errno::EINTR) => {
            *under_way = 1;
            Tried::Wait(socket, Direction::Out)
        }
        // A Unix socket whose listener has no room: told by no readiness, so this one is tried on.
        Err(Errno::EAGAIN) => Tried::Again,
        Err(Errno::EISCONN) if *under_way == 1 => end(key, 0, events),
        Err(errno) => end(key, -errno.into_raw(), events),
    }
}

fn poll(key: Key, fd: RawFd, wanted: u32, events: &mut Vec<Event>) -> Tried {
    let mut polled = libc::pollfd {
        fd,
        events: wanted as i16,
        revents: 0,
    };
    let now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: one pollfd and one timespec of this function's.
    match unsafe { syscall!(Sysno::ppoll, &raw mut polled, 1, &raw const now, 0, 0) } {
        Ok(0) if wanted & libc::POLLOUT as u32 != 0 => Tried::Wait(fd, Direction::Out),
        Ok(0) => Tried::Wait(fd, Direction::In),
        Ok(_) => end(key, i32::from(polled.revents), events),
        Err(errno) => end(key, -errno.into_raw(), events),
    }
}

/// A call that is made again when the descriptor is ready, until it was made once.
fn once(
    key: Key,
    fd: RawFd,
    direction: Direction,
    events: &mut Vec<Event>,
    mut call: impl FnMut() -> Result<usize, Errno>,
) -> Tried {
    loop {
        match call() {
            Ok(result) => return end(key, result as i32, events),
            Err(Errno::EAGAIN) => return Tried::Wait(fd, direction),
            Err(Errno::EINTR) => {}
            Err(errno) => return end(key, -errno.into_raw(), events),
        }
    }
}

fn over(key: Key, events: &mut Vec<Event>, call: impl FnOnce() -> Result<usize, Errno>) -> Tried {
    let result = call().map_or_else(|errno| -errno.into_raw(), |result| result as i32);
    end(key, result, events)
}

fn end(key: Key, result: i32, events: &mut Vec<Event>) -> Tried {
    events.push(Event::last(key, result));
    Tried::Over
}

fn more(key: Key, result: i32, data: Option<Provided>) -> Event {
    Event {
        more: true,
        data,
        ..Event::last(key, result)
    }
}

fn provided(buffer: u16, len: usize) -> Provided {
    Provided {
        buffer,
        len: len as u32,
        unfinished: false,
    }
}
