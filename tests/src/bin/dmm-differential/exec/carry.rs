//! Bytes carried between descriptors: by the kernel, by stdio, until buffers are full; and
//! descriptors carried over Unix sockets.

use std::ffi::CString;

use libc::c_int;

use super::Executor;
use super::data::{content, control_messages, message, pieces};
use super::elsewhere::guarded;
use crate::op::{Data, Op, Slot};
use crate::sys::{call, dprintf};

impl Executor<'_> {
    pub(super) fn carry(&mut self, op: &Op) {
        match *op {
            Op::FillAndDrain { from, to } => self.fill_and_drain(self.fd(from), self.fd(to)),
            Op::SendDescriptor { via, what } => self.send_descriptor(self.fd(via), self.fd(what)),
            Op::ReceiveDescriptor { via, dst, cloexec } => {
                self.receive_descriptor(self.fd(via), dst, cloexec);
            }
            Op::SendFile { s, file, len } => {
                let (out, from) = (self.fd(s), self.fd(file));
                let mut offset = 10;
                let sent = guarded(|| call!(libc::sendfile, out, from, &raw mut offset, len));
                self.result(sent);
                self.note(format_args!(" offset {offset}"));
                self.settle(out);
            }
            Op::Splice { from, to, len } => {
                let (from, to) = (self.fd(from), self.fd(to));
                let none = std::ptr::null_mut();
                let flags = libc::SPLICE_F_NONBLOCK;
                let moved = guarded(|| call!(libc::splice, from, none, to, none, len, flags));
                self.result(moved);
                self.settle(to);
            }
            Op::Tee { from, to, len } => {
                let (from, to) = (self.fd(from), self.fd(to));
                let copied = guarded(|| call!(libc::tee, from, to, len, libc::SPLICE_F_NONBLOCK));
                self.result(copied);
            }
            Op::Stdio { s, text } => self.stdio(self.fd(s), text),
            Op::Dprintf { s, text } => {
                let fd = self.fd(s);
                let format = c"%s %d\n";
                let number = c_int::from(text);
                let sent =
                    guarded(|| call!(dprintf, fd, format.as_ptr(), c"dprintf".as_ptr(), number));
                self.result(sent);
                self.settle(fd);
            }
            _ => {}
        }
    }

    /// How much fits is the business of buffer sizes; that nothing is lost is everybody's.
    fn fill_and_drain(&mut self, from: c_int, to: c_int) {
        let bytes = content(Data {
            tag: 0x5f,
            len: 16_384,
        });
        let mut buffer = vec![0_u8; bytes.len()];
        if self.deaf.contains(&to) {
            // What comes for it can be read as long as TCP has not found its queue empty once: how much
            // that is depends on how fast it comes.
            return self.note(format_args!(" shut"));
        }
        if !is_peer(from, to) {
            // It would stay full, and how many calls from then on do not wait is nobody's promise.
            return self.note(format_args!(" not its peer"));
        }
        let (mut sent, mut got, mut quiet) = (0, 0, 0);
        let mut sum = 0_u64;
        let mut send_end = 0;
        for _ in 0..2_000 {
            let n = call!(
                libc::send,
                from,
                bytes.as_ptr().cast(),
                bytes.len(),
                libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL
            );
            if n < 0 {
                send_end = crate::sys::errno();
                break;
            }
            sent += n;
        }
        while quiet < 8 {
            self.setting.settle.barrier();
            let n = call!(
                libc::recv,
                to,
                buffer.as_mut_ptr().cast(),
                buffer.len(),
                libc::MSG_DONTWAIT
            );
            if n <= 0 {
                let waits = n < 0 && crate::sys::errno() == libc::EAGAIN;
                if got >= sent || !waits {
                    break;
                }
                // A full window opens again only when the receiver has read: look more than once.
                quiet += 1;
                self.settle(from);
                continue;
            }
            quiet = 0;
            got += n;
            sum += buffer[..n as usize]
                .iter()
                .map(|&byte| u64::from(byte))
                .sum::<u64>();
        }
        let whole = sent == got;
        let send_end = crate::sys::errno_name(send_end);
        self.note(format_args!(
            " until {send_end} whole {whole} any {} {}",
            sent > 0,
            sum > 0
        ));
    }

    fn send_descriptor(&mut self, via: c_int, what: c_int) {
        let byte = [b'd'];
        let pieces = pieces(&byte, 1);
        let mut control = [0_u64; 8];
        let mut message = message(&pieces, None);
        message.msg_control = control.as_mut_ptr().cast();
        // SAFETY: the control buffer has room for one header and one int, and CMSG_* compute
        // places inside it.
        unsafe {
            message.msg_controllen = libc::CMSG_SPACE(4) as _;
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(4) as _;
            libc::CMSG_DATA(header)
                .cast::<c_int>()
                .write_unaligned(what);
        }
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        let sent = call!(libc::sendmsg, via, &raw const message, flags);
        self.result(sent);
    }

    fn receive_descriptor(&mut self, via: c_int, dst: Slot, cloexec: bool) {
        let byte = [0_u8; 1];
        let pieces = pieces(&byte, 1);
        let mut control = [0_u64; 8];
        let mut message = message(&pieces, None);
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = size_of_val(&control);
        let flags = libc::MSG_DONTWAIT | if cloexec { libc::MSG_CMSG_CLOEXEC } else { 0 };
        let got = call!(libc::recvmsg, via, &raw mut message, flags);
        self.result(got);
        if got < 0 {
            return;
        }
        self.note(format_args!(" flags {:#x}", message.msg_flags));
        let mut first = true;
        for (level, kind, bytes) in control_messages(&message) {
            if (level, kind) != (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
                // Credentials: another process number in each run.
                self.note(format_args!(" {level}/{kind}"));
                continue;
            }
            for fd in bytes.chunks_exact(4) {
                let fd = c_int::from_ne_bytes(fd.try_into().unwrap_or_default());
                self.note(format_args!(" {level}/{kind} fd {fd}"));
                if first {
                    self.keep(dst, fd);
                    first = false;
                }
            }
        }
    }

    /// A stream over a copy of the descriptor, closed by `fclose`.
    fn stdio(&mut self, fd: c_int, text: u8) {
        let copy = call!(libc::dup, fd) as c_int;
        self.note(format_args!(" dup {copy}"));
        // SAFETY: a valid mode; a bad descriptor gives null.
        let stream = unsafe { libc::fdopen(copy, c"r+".as_ptr()) };
        if stream.is_null() {
            self.result(-1);
            if copy >= 0 {
                call!(libc::close, copy);
            }
            return;
        }
        let line = CString::new(format!("stdio {text}\n")).unwrap_or_default();
        let put = guarded(|| call!(libc::fputs, line.as_ptr(), stream));
        self.note(format_args!(" fputs {}", put >= 0));
        let flushed = guarded(|| call!(libc::fflush, stream));
        self.result(flushed);
        let number = call!(libc::fileno, stream);
        self.note(format_args!(" fileno {number}"));
        let closed = call!(libc::fclose, stream);
        self.result(closed);
        // The number must be free again for what is opened next.
        let reused = call!(libc::open, c"/dev/null".as_ptr(), libc::O_RDONLY);
        self.note(format_args!(" reused {reused}"));
        call!(libc::close, reused as c_int);
        self.settle(fd);
    }
}

/// Whether two sockets are the ends of one connection.
fn is_peer(from: c_int, to: c_int) -> bool {
    let name = |peer, fd| {
        let mut bytes = [0_u8; 128];
        let mut len = 128;
        let (place, len_place) = (bytes.as_mut_ptr().cast(), &raw mut len);
        let result = match peer {
            false => call!(libc::getsockname, fd, place, len_place),
            true => call!(libc::getpeername, fd, place, len_place),
        };
        (result == 0).then_some(bytes)
    };
    // Ports tell them apart; Unix sockets have none, and the same (no) name.
    let same = |one: Option<[u8; 128]>, other: Option<[u8; 128]>| {
        one.zip(other)
            .is_some_and(|(one, other)| one[2..4] == other[2..4])
    };
    same(name(false, from), name(true, to)) && same(name(true, from), name(false, to))
}
