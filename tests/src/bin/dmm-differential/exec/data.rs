//! Bytes sent and received, by every call that can.

use std::mem;

use libc::{c_int, c_void, iovec, mmsghdr, msghdr};

use super::connection::Place;
use super::elsewhere::guarded;
use super::{Executor, address::Argument};
use crate::op::{Addr, Data, ReceiveBy, Room, SendBy, Slot};
use crate::sys::call;

/// More bytes than this are not received by one op.
const LIMIT: usize = 1 << 17;

impl Executor<'_> {
    pub(super) fn send(&mut self, s: Slot, data: Data, flags: c_int, how: SendBy) {
        let bytes = content(data);
        let fd = self.fd(s);
        let place: *const c_void = bytes.as_ptr().cast();
        let sent = self.may_choose_port(fd, |this| match how {
            SendBy::Write => guarded(|| call!(libc::write, fd, place, bytes.len())),
            SendBy::Writev(parts) => {
                let pieces = pieces(&bytes, parts);
                guarded(|| call!(libc::writev, fd, pieces.as_ptr(), pieces.len() as c_int))
            }
            SendBy::Send => guarded(|| call!(libc::send, fd, place, bytes.len(), flags)),
            SendBy::SendTo(to) => {
                let to = this.address(to);
                guarded(|| {
                    call!(
                        libc::sendto,
                        fd,
                        place,
                        bytes.len(),
                        flags,
                        to.pointer(),
                        to.len
                    )
                })
            }
            SendBy::SendMsg(parts, to) => {
                let to = to.map(|to| this.address(to));
                let pieces = pieces(&bytes, parts);
                let message = message(&pieces, to.as_ref());
                guarded(|| call!(libc::sendmsg, fd, &raw const message, flags))
            }
            SendBy::SendMmsg(count, to) => this.send_many(fd, &bytes, flags, count, to),
        });
        self.result(sent);
        self.settle(fd);
    }

    fn send_many(
        &mut self,
        fd: c_int,
        bytes: &[u8],
        flags: c_int,
        count: u8,
        to: Option<Addr>,
    ) -> i64 {
        let to = to.map(|to| self.address(to));
        let pieces = pieces(bytes, count);
        let mut messages: Vec<mmsghdr> = pieces
            .chunks(1)
            .map(|piece| mmsghdr {
                msg_hdr: message(piece, to.as_ref()),
                msg_len: 77_777,
            })
            .collect();
        let sent = guarded(|| {
            call!(
                libc::sendmmsg,
                fd,
                messages.as_mut_ptr(),
                messages.len() as u32,
                flags
            )
        });
        let lengths: Vec<u32> = messages.iter().map(|message| message.msg_len).collect();
        self.note(format_args!(" lengths {lengths:?}"));
        sent
    }

    pub(super) fn receive(&mut self, s: Slot, len: usize, flags: c_int, how: ReceiveBy) {
        let mut buffer = vec![FILLER; len.min(LIMIT) + 16];
        let len = len.min(LIMIT);
        let fd = self.fd(s);
        let place: *mut c_void = buffer.as_mut_ptr().cast();
        let got = match how {
            ReceiveBy::Read => guarded(|| call!(libc::read, fd, place, len)),
            ReceiveBy::Readv(parts) => {
                let pieces = pieces(&buffer[..len], parts);
                guarded(|| call!(libc::readv, fd, pieces.as_ptr(), pieces.len() as c_int))
            }
            ReceiveBy::Receive => guarded(|| call!(libc::recv, fd, place, len, flags)),
            ReceiveBy::ReceiveFrom(room) => {
                let mut from = Place::new(room);
                let (address, length) = from.pointers();
                let got = guarded(|| call!(libc::recvfrom, fd, place, len, flags, address, length));
                self.result(got);
                // A connected stream leaves the address alone, whatever the length says.
                if from.len > 0 && matches!(room, Room::Full | Room::Bytes(_)) {
                    self.place(&from, got >= 0);
                }
                return self.received(got, &buffer, len);
            }
            ReceiveBy::ReceiveMsg(room) => {
                return self.receive_message(fd, &mut buffer, len, flags, room);
            }
            ReceiveBy::ReceiveMmsg(count) => {
                return self.receive_many(fd, &mut buffer, len, flags, count);
            }
        };
        self.result(got);
        self.received(got, &buffer, len);
    }

    fn receive_message(
        &mut self,
        fd: c_int,
        buffer: &mut [u8],
        len: usize,
        flags: c_int,
        room: usize,
    ) {
        let pieces = pieces(&buffer[..len], 2);
        let mut from = Place::new(Room::Full);
        let mut control = vec![0_u64; room.div_ceil(8) + 1];
        let mut message = message(&pieces, None);
        message.msg_name = from.pointers().0.cast();
        message.msg_namelen = from.len;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = room;
        let got = guarded(|| call!(libc::recvmsg, fd, &raw mut message, flags));
        self.result(got);
        if got >= 0 {
            from.len = message.msg_namelen;
            if from.len > 0 {
                self.place(&from, true);
            }
            self.note(format_args!(" flags {:#x}", message.msg_flags));
            self.control(&message);
        }
        self.received(got, buffer, len);
    }

    fn receive_many(&mut self, fd: c_int, buffer: &mut [u8], len: usize, flags: c_int, count: u8) {
        let pieces = pieces(&buffer[..len], count);
        let mut messages: Vec<mmsghdr> = pieces
            .chunks(1)
            .map(|piece| mmsghdr {
                msg_hdr: message(piece, None),
                msg_len: 77_777,
            })
            .collect();
        // Only the first may wait: the rest is what has arrived already.
        let flags = flags | libc::MSG_WAITFORONE;
        let count = messages.len() as u32;
        let none = std::ptr::null_mut();
        let got = guarded(|| {
            call!(
                libc::recvmmsg,
                fd,
                messages.as_mut_ptr(),
                count,
                flags,
                none
            )
        });
        self.result(got);
        let lengths: Vec<u32> = messages.iter().map(|message| message.msg_len).collect();
        self.note(format_args!(" lengths {lengths:?} {:08x}", digest(buffer)));
    }

    /// Notes the control messages; descriptors that arrive are kept in no slot, so they are closed.
    fn control(&mut self, message: &msghdr) {
        for (level, kind, bytes) in control_messages(message) {
            self.note(format_args!(" control {level}/{kind}"));
            if (level, kind) == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
                for fd in bytes.chunks_exact(4) {
                    let fd = c_int::from_ne_bytes(fd.try_into().unwrap_or_default());
                    self.note(format_args!(" fd {fd}"));
                    call!(libc::close, fd);
                }
            } else if kind == libc::SCM_TIMESTAMP || kind == libc::SCM_CREDENTIALS {
                self.note(format_args!(" {} bytes", bytes.len()));
            } else if (level, kind) == (libc::IPPROTO_IP, libc::IP_RECVERR)
                || (level, kind) == (libc::IPPROTO_IPV6, libc::IPV6_RECVERR)
            {
                self.note(format_args!(" {:?}", &bytes[..bytes.len().min(8)]));
            } else {
                self.note(format_args!(" {bytes:?}"));
            }
        }
    }

    fn received(&mut self, got: i64, buffer: &[u8], len: usize) {
        if got < 0 {
            let touched = buffer.iter().any(|&byte| byte != FILLER);
            self.note(format_args!(
                "{}",
                if touched { " buffer touched" } else { "" }
            ));
            return;
        }
        // With MSG_TRUNC the length may be that of the datagram, not of what was copied.
        let valid = (got as usize).min(len);
        let beyond = if buffer[valid..].iter().any(|&byte| byte != FILLER) {
            " OVERRUN"
        } else {
            ""
        };
        self.note(format_args!(" {:08x}{beyond}", digest(&buffer[..valid])));
    }

    pub(super) fn settle(&self, fd: c_int) {
        self.setting.settle.unsent(&[fd]);
    }
}

/// What stands in memory that a call should not write.
const FILLER: u8 = 0xaa;

pub(super) fn content(data: Data) -> Vec<u8> {
    (0..data.len)
        .map(|n| (n as u8).wrapping_mul(31).wrapping_add(data.tag))
        .collect()
}

/// FNV-1a, 32 bits: different bytes show.
fn digest(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, &byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}

/// The bytes in so many pieces, an empty one among them if there are several.
pub(super) fn pieces(bytes: &[u8], count: u8) -> Vec<iovec> {
    let count = usize::from(count.max(1));
    let each = bytes.len() / count;
    (0..count)
        .map(|n| {
            let end = if n + 1 == count {
                bytes.len()
            } else {
                (n + 1) * each
            };
            let piece = &bytes[n * each..end];
            iovec {
                iov_base: piece.as_ptr().cast_mut().cast(),
                iov_len: piece.len(),
            }
        })
        .collect()
}

pub(super) fn message(pieces: &[iovec], to: Option<&Argument>) -> msghdr {
    // SAFETY: all-zero is a valid msghdr: nothing in it.
    let mut message: msghdr = unsafe { mem::zeroed() };
    message.msg_iov = pieces.as_ptr().cast_mut();
    message.msg_iovlen = pieces.len();
    if let Some(to) = to {
        message.msg_name = to.pointer().cast_mut().cast();
        message.msg_namelen = to.len;
    }
    message
}

pub(super) fn control_messages(message: &msghdr) -> Vec<(c_int, c_int, Vec<u8>)> {
    let mut all = Vec::new();
    // SAFETY: the kernel has filled the control buffer and its length; CMSG_* stay inside it, and
    // each header's length covers its data.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(message);
        while !header.is_null() {
            let length = (*header).cmsg_len - libc::CMSG_LEN(0) as usize;
            let bytes = std::slice::from_raw_parts(libc::CMSG_DATA(header), length).to_vec();
            all.push(((*header).cmsg_level, (*header).cmsg_type, bytes));
            header = libc::CMSG_NXTHDR(message, header);
        }
    }
    all
}
