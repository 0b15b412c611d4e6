//! Descriptors: closed, copied, controlled, looked at.

use std::mem;

use libc::{c_int, c_uint};

use super::Executor;
use crate::op::{DupBy, Op, SeekBy, Slot};
use crate::sys::call;

impl Executor<'_> {
    pub(super) fn descriptor(&mut self, op: &Op) {
        match *op {
            Op::Close { s } => {
                let fd = self.fd(s);
                self.sized.retain(|&sized| sized != fd);
                let result = call!(libc::close, fd);
                self.result(result);
            }
            Op::CloseRange { first, last, flags } => {
                // A range that begins below 3 would take the executor's own descriptors.
                let (first, last) = (
                    self.fd(first).max(3) as c_uint,
                    self.fd(last).max(2) as c_uint,
                );
                let result = call!(libc::close_range, first, last, flags);
                self.result(result);
            }
            Op::Dup { s, dst, how } => self.dup(s, dst, how),
            Op::Fcntl { s, cmd, arg } => {
                let result = call!(libc::fcntl, self.fd(s), cmd, arg);
                self.result(result);
            }
            Op::Ioctl { s, request, arg } => {
                let mut value = arg;
                let result = call!(libc::ioctl, self.fd(s), request, &raw mut value);
                self.result(result);
                self.note(format_args!(" value {value}"));
            }
            Op::Stat { s } => {
                // SAFETY: all-zero is a valid stat.
                let mut stat: libc::stat = unsafe { mem::zeroed() };
                let result = call!(libc::fstat, self.fd(s), &raw mut stat);
                self.result(result);
                self.note(format_args!(
                    " mode {:o} size {}",
                    stat.st_mode, stat.st_size
                ));
            }
            Op::Seek { s, how } => self.seek(self.fd(s), how),
            _ => {}
        }
    }

    fn dup(&mut self, s: Slot, dst: Slot, how: DupBy) {
        let fd = self.fd(s);
        let copy = match how {
            DupBy::Dup => call!(libc::dup, fd),
            DupBy::Dup2(onto) => match self.target(onto) {
                Some(onto) => call!(libc::dup2, fd, onto),
                None => return,
            },
            DupBy::Dup3(onto, flags) => match self.target(onto) {
                Some(onto) => call!(libc::dup3, fd, onto, flags),
                None => return,
            },
            DupBy::Fcntl(cmd, least) => call!(libc::fcntl, fd, cmd, least),
        };
        self.store(dst, copy);
    }

    /// The number to copy onto; the executor's own descriptors are out of bounds.
    fn target(&mut self, onto: Slot) -> Option<c_int> {
        let onto = self.fd(onto);
        self.sized.retain(|&sized| sized != onto);
        if (0..3).contains(&onto) {
            self.note(format_args!(" (not onto {onto})"));
            return None;
        }
        Some(onto)
    }

    fn seek(&mut self, fd: c_int, how: SeekBy) {
        let mut buffer = *b"seek";
        let place = buffer.as_mut_ptr().cast();
        let result = match how {
            SeekBy::Lseek => call!(libc::lseek, fd, 1, libc::SEEK_CUR),
            SeekBy::Pread => call!(libc::pread, fd, place, buffer.len(), 0),
            SeekBy::Pwrite => call!(libc::pwrite, fd, place.cast_const(), buffer.len(), 0),
            SeekBy::Fsync => call!(libc::fsync, fd),
            SeekBy::Ftruncate => call!(libc::ftruncate, fd, 100),
        };
        self.result(result);
    }
}
