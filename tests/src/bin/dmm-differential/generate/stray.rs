//! Calls that miss: any call on any descriptor, and calls that are wrong by themselves.

use libc::c_int;

use super::Builder;
use super::model::{Kind, State};
use crate::op::{Op, SeekBy, SendBy, Wrong};

impl Builder {
    /// Something on any descriptor, whatever it is, closed ones included.
    pub(super) fn anywhere(&mut self) {
        let s = self
            .rng
            .below(self.model.slots.len() + 1)
            .min(self.model.slots.len());
        let other = self.rng.below(self.model.slots.len().max(1));
        if s == self.model.slots.len() {
            self.model.add(Kind::Pipe, State::Closed, true);
        }
        match self.rng.below(16) {
            0 => {
                let to = self.any_address();
                self.ops.push(Op::Bind { s, to });
            }
            1 | 2 => {
                let to = self.any_address();
                self.ops.push(Op::Connect { s, to });
            }
            3 => self.ops.push(Op::Listen { s, backlog: 3 }),
            4 => {
                let how = self
                    .rng
                    .pick(&[libc::SHUT_RD, libc::SHUT_WR, libc::SHUT_RDWR, 3, -1]);
                self.ops.push(Op::Shutdown { s, how });
            }
            5 => {
                let room = self.room();
                let peer = self.rng.chance(50);
                self.ops.push(Op::Name { s, peer, room });
            }
            6 => self.set_option(s),
            7 => self.get_option(s),
            8 => self.descriptor_act(s),
            9 => {
                let data = self.data();
                let to = self.any_address();
                let flags = libc::MSG_DONTWAIT;
                self.ops.push(Op::Send {
                    s,
                    data,
                    flags,
                    how: SendBy::SendTo(to),
                });
            }
            10 => {
                let op = self.rng.pick(&[
                    libc::EPOLL_CTL_ADD,
                    libc::EPOLL_CTL_MOD,
                    libc::EPOLL_CTL_DEL,
                    9,
                ]);
                let events = self.events();
                self.ops.push(Op::EpollCtl {
                    ep: other,
                    op,
                    s,
                    events,
                });
            }
            11 => self.ops.push(Op::Splice {
                from: s,
                to: other,
                len: 64,
            }),
            12 => self.ops.push(Op::SendFile {
                s,
                file: other,
                len: 64,
            }),
            13 => self.ops.push(Op::Dprintf { s, text: 7 }),
            14 => self.transfer(s),
            _ => {
                let how = self.rng.pick(&[
                    SeekBy::Lseek,
                    SeekBy::Pread,
                    SeekBy::Pwrite,
                    SeekBy::Fsync,
                    SeekBy::Ftruncate,
                ]);
                self.ops.push(Op::Seek { s, how });
            }
        }
    }

    pub(super) fn nonsense(&mut self) {
        let s = self.rng.below(self.model.slots.len().max(1));
        if self.rng.chance(25) {
            let dst = self.model.add(Kind::Pipe, State::Closed, true);
            let (domain, kind, protocol) = self.rng.pick(BAD_SOCKETS);
            return self.ops.push(Op::Socket {
                dst,
                domain,
                kind,
                protocol,
            });
        }
        let wrong = self.rng.pick(WRONGS);
        self.ops.push(Op::Wrong(wrong, s));
    }
}

const BAD_SOCKETS: &[(c_int, c_int, c_int)] = &[
    (-1, libc::SOCK_STREAM, 0),
    (999, libc::SOCK_STREAM, 0),
    (libc::AF_INET, 99, 0),
    (libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_UDP),
    (libc::AF_INET, libc::SOCK_DGRAM, libc::IPPROTO_TCP),
    (libc::AF_INET, libc::SOCK_STREAM, 255),
    (libc::AF_INET, libc::SOCK_STREAM, -1),
    (libc::AF_INET, libc::SOCK_SEQPACKET, 0),
    (libc::AF_INET, libc::SOCK_STREAM | 0x40, 0),
    (libc::AF_INET, libc::SOCK_RAW, 0),
    (libc::AF_INET6, libc::SOCK_RDM, 0),
    (libc::AF_UNIX, libc::SOCK_STREAM, 7),
    (libc::AF_UNIX, libc::SOCK_RAW, 0),
    (libc::AF_NETLINK, libc::SOCK_RAW, 0),
    (libc::AF_PACKET, libc::SOCK_RAW, 0),
    (libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_MPTCP),
];

const WRONGS: &[Wrong] = &[
    Wrong::ReadNull,
    Wrong::WriteWild,
    Wrong::SendNegativeFlags,
    Wrong::SendMsgNull,
    Wrong::ReceiveMsgWild,
    Wrong::SendMsgManyPieces,
    Wrong::WritevNegative,
    Wrong::ReadvWildPieces,
    Wrong::MmsgNull,
    Wrong::PollNull,
    Wrong::PollNegativeTimeout,
    Wrong::SelectWild,
    Wrong::SelectNegative,
    Wrong::SelectBadTime,
    Wrong::EpollCtlNull,
    Wrong::EpollWaitNull,
    Wrong::EpollWaitZero,
    Wrong::EpollCreateNegative,
    Wrong::EpollSelf,
    Wrong::IoctlNull,
    Wrong::IoctlUnknown,
    Wrong::FcntlUnknown,
    Wrong::DupNegative,
    Wrong::Dup2Huge,
    Wrong::CloseNegative,
    Wrong::CloseTwice,
    Wrong::SocketPairNull,
    Wrong::SocketPairInet,
    Wrong::SpliceSame,
    Wrong::SendFileSocketAsFile,
    Wrong::MinusOne,
];
