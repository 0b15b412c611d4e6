//! Calls that are wrong: null and unmapped pointers, negative counts, unknown requests.

use std::ptr::{null, null_mut};

use libc::c_int;

use super::{Executor, elsewhere::guarded};
use crate::op::{Slot, Wrong};
use crate::sys::{call, wild};

impl Executor<'_> {
    pub(super) fn wrong(&mut self, wrong: Wrong, s: Slot) {
        let fd = self.fd(s);
        let mut number: c_int = 0;
        let mut time = libc::timeval {
            tv_sec: -1,
            tv_usec: 5_000_000,
        };
        let result = guarded(|| match wrong {
            Wrong::ReadNull => call!(libc::recv, fd, null_mut(), 64, libc::MSG_DONTWAIT),
            Wrong::WriteWild => {
                call!(
                    libc::send,
                    fd,
                    wild(),
                    64,
                    libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL
                )
            }
            Wrong::SendNegativeFlags => call!(libc::send, fd, c"x".as_ptr().cast(), 1, -1),
            Wrong::SendMsgNull => call!(libc::sendmsg, fd, null(), libc::MSG_DONTWAIT),
            Wrong::ReceiveMsgWild => call!(libc::recvmsg, fd, wild(), libc::MSG_DONTWAIT),
            Wrong::SendMsgManyPieces => {
                let piece = libc::iovec {
                    iov_base: null_mut(),
                    iov_len: 0,
                };
                let pieces = vec![piece; 1025];
                call!(libc::writev, fd, pieces.as_ptr(), 1025)
            }
            Wrong::WritevNegative => call!(libc::writev, fd, null(), -1),
            Wrong::ReadvWildPieces => call!(libc::readv, fd, wild(), 2),
            Wrong::MmsgNull => call!(libc::sendmmsg, fd, null_mut(), 2, libc::MSG_DONTWAIT),
            Wrong::PollNull => call!(libc::poll, null_mut(), 1, 0),
            Wrong::PollNegativeTimeout => {
                let time = libc::timespec {
                    tv_sec: -1,
                    tv_nsec: 0,
                };
                call!(libc::ppoll, null_mut(), 0, &raw const time, null())
            }
            Wrong::SelectWild => call!(libc::select, 8, wild(), null_mut(), null_mut(), null_mut()),
            Wrong::SelectNegative => {
                call!(
                    libc::select,
                    -1,
                    null_mut(),
                    null_mut(),
                    null_mut(),
                    null_mut()
                )
            }
            Wrong::SelectBadTime => {
                call!(
                    libc::select,
                    0,
                    null_mut(),
                    null_mut(),
                    null_mut(),
                    &raw mut time
                )
            }
            Wrong::EpollCtlNull => call!(libc::epoll_ctl, fd, libc::EPOLL_CTL_ADD, fd, null_mut()),
            Wrong::EpollWaitNull => call!(libc::epoll_wait, fd, null_mut(), 4, 0),
            Wrong::EpollWaitZero => call!(libc::epoll_wait, fd, wild(), 0, 0),
            Wrong::EpollCreateNegative => call!(libc::epoll_create, -1),
            Wrong::EpollSelf => {
                let mut event = libc::epoll_event { events: 1, u64: 0 };
                call!(libc::epoll_ctl, fd, libc::EPOLL_CTL_ADD, fd, &raw mut event)
            }
            Wrong::IoctlNull => call!(libc::ioctl, fd, libc::FIONREAD, null_mut::<c_int>()),
            Wrong::IoctlUnknown => call!(libc::ioctl, fd, 0x1234_5678, &raw mut number),
            Wrong::FcntlUnknown => call!(libc::fcntl, fd, 9_999, 0),
            Wrong::DupNegative => call!(libc::dup, -1),
            Wrong::Dup2Huge => call!(libc::dup2, fd, 1 << 28),
            Wrong::CloseNegative => call!(libc::close, -5),
            Wrong::CloseTwice => {
                call!(libc::close, fd);
                call!(libc::close, fd)
            }
            Wrong::SocketPairNull => {
                call!(
                    libc::socketpair,
                    libc::AF_UNIX,
                    libc::SOCK_STREAM,
                    0,
                    wild()
                )
            }
            Wrong::SocketPairInet => {
                let mut fds = [0; 2];
                call!(
                    libc::socketpair,
                    libc::AF_INET,
                    libc::SOCK_STREAM,
                    0,
                    fds.as_mut_ptr()
                )
            }
            Wrong::SpliceSame => call!(libc::splice, fd, null_mut(), fd, null_mut(), 16, 0),
            Wrong::SendFileSocketAsFile => call!(libc::sendfile, fd, fd, null_mut(), 16),
            Wrong::MinusOne => {
                let mut byte = 0_u8;
                call!(libc::recv, -1, (&raw mut byte).cast(), 1, 0)
            }
        });
        self.result(result);
    }
}
