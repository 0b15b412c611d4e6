//! What is done with descriptors that are there.

use libc::c_int;

use super::Builder;
use super::model::{Kind, State};
use crate::op::{DupBy, EpollBy, Op, ReceiveBy, Room, SeekBy, SendBy, Slot};

impl Builder {
    /// Something that is likely to work.
    pub(super) fn act(&mut self) {
        let Some(s) = self.choose(|_| true) else {
            return self.set_up();
        };
        let waiting = self.model.open(|known| {
            known.waiting > 0 && known.state != State::Listening && known.kind.is_socket()
        });
        if !waiting.is_empty() && self.rng.chance(35) {
            let s = self.rng.pick(&waiting);
            return self.receive(s);
        }
        let known = self.model.slots[s];
        match (known.kind, known.state) {
            (Kind::Epoll, _) => self.epoll_act(s),
            (_, State::Listening) => self.listener_act(s),
            _ if self.rng.chance(30) => self.descriptor_act(s),
            _ if self.rng.chance(12) => self.readiness(),
            (Kind::File, _) => self.file_act(s),
            (kind, State::Fresh | State::Bound) if kind.listens() => self.fresh_act(s),
            _ => self.transfer(s),
        }
    }

    fn choose(&mut self, wanted: impl Fn(Kind) -> bool) -> Option<Slot> {
        let all = self.model.open(|known| wanted(known.kind));
        (!all.is_empty()).then(|| self.rng.pick(&all))
    }

    fn listener_act(&mut self, s: Slot) {
        let known = self.model.slots[s];
        match self.rng.below(10) {
            0..4 if known.waiting > 0 || known.nonblocking => self.accept(s, None),
            0..4 => {
                let client = self.fresh(known.kind);
                self.connect_to(client, s);
            }
            4 | 5 => self.ops.push(Op::Name {
                s,
                peer: false,
                room: Room::Full,
            }),
            6 => self.listen(s),
            7 => self.ops.push(Op::Poll {
                set: vec![(s, libc::POLLIN | libc::POLLOUT)],
                timeout: 0,
                masked: false,
            }),
            8 => self.get_option(s),
            _ => self.descriptor_act(s),
        }
    }

    fn fresh_act(&mut self, s: Slot) {
        let kind = self.model.slots[s].kind;
        match self.rng.below(8) {
            0 | 1 => {
                let to = self.local(kind);
                self.ops.push(Op::Bind { s, to });
                self.model.slots[s].state = State::Bound;
            }
            2 => self.listen(s),
            3 | 4 => match self.listeners(kind) {
                Some(listener) => self.connect_to(s, listener),
                None => self.listen(s),
            },
            5 => self.set_option(s),
            6 => self.ops.push(Op::Name {
                s,
                peer: false,
                room: Room::Full,
            }),
            _ => self.readiness(),
        }
    }

    fn listeners(&mut self, kind: Kind) -> Option<Slot> {
        let all = self
            .model
            .open(|known| known.kind == kind && known.state == State::Listening);
        (!all.is_empty()).then(|| self.rng.pick(&all))
    }

    pub(super) fn transfer(&mut self, s: Slot) {
        let known = self.model.slots[s];
        match self.rng.below(100) {
            0..38 => self.send(s),
            38..72 => self.receive(s),
            72..76 => {
                let how = self
                    .rng
                    .pick(&[libc::SHUT_RD, libc::SHUT_WR, libc::SHUT_RDWR]);
                self.ops.push(Op::Shutdown { s, how });
            }
            76..79 if known.kind.is_unix() => {
                let what = self.rng.below(self.model.slots.len());
                self.ops.push(Op::SendDescriptor { via: s, what });
                if let Some(via) = known.peer {
                    let dst = self.model.add(
                        self.model.slots[what].kind,
                        self.model.slots[what].state,
                        true,
                    );
                    let cloexec = self.rng.chance(50);
                    self.ops.push(Op::ReceiveDescriptor { via, dst, cloexec });
                }
            }
            76..79 => self.get_option(s),
            79 => {
                if let Some(to) = known.peer.filter(|_| known.kind.listens()) {
                    self.ops.push(Op::FillAndDrain { from: s, to });
                }
            }
            80..83 => {
                let file = self
                    .choose(|kind| kind == Kind::File)
                    .unwrap_or_else(|| self.file());
                let len = self.rng.pick(&[100, 1000, 0]);
                self.ops.push(Op::SendFile { s, file, len });
                self.sent(s);
            }
            83..86 => {
                let end = self
                    .choose(|kind| kind == Kind::Pipe)
                    .unwrap_or_else(|| self.pipe());
                let other = self.model.slots[end].peer.unwrap_or(end);
                let (read, write) = (end.min(other), end.max(other));
                self.ops.push(match self.rng.below(10) {
                    0..5 => Op::Splice {
                        from: s,
                        to: write,
                        len: 200,
                    },
                    5..9 => Op::Splice {
                        from: read,
                        to: s,
                        len: 200,
                    },
                    _ => Op::Tee {
                        from: read,
                        to: write,
                        len: 50,
                    },
                });
                self.sent(s);
            }
            86..89 if known.kind.listens() && known.state == State::Connected => {
                let text = self.rng.below(100) as u8;
                self.ops.push(if self.rng.chance(60) {
                    Op::Stdio { s, text }
                } else {
                    Op::Dprintf { s, text }
                });
                self.sent(s);
            }
            89..94 => {
                let peer = self.rng.chance(50);
                self.ops.push(Op::Name {
                    s,
                    peer,
                    room: Room::Full,
                });
            }
            94..97 if known.kind.is_udp() => {
                let to = match known.peer {
                    Some(peer) if self.rng.chance(60) => self.remote(known.kind, peer),
                    _ => self.any_address(),
                };
                self.ops.push(Op::Connect { s, to });
            }
            _ => self.set_option(s),
        }
    }

    fn sent(&mut self, s: Slot) {
        if let Some(peer) = self.model.slots[s].peer {
            self.model.slots[peer].waiting += 1;
        }
    }

    fn send(&mut self, s: Slot) {
        let known = self.model.slots[s];
        let mut data = self.data();
        let mut flags =
            self.rng
                .weighted(&[(60, 0), (25, libc::MSG_NOSIGNAL), (15, libc::MSG_DONTWAIT)]);
        if known.kind.is_tcp() && self.rng.chance(5) {
            flags |= libc::MSG_OOB;
            data.len = data.len.min(20);
        }
        let parts = 1 + self.rng.below(4) as u8;
        let to = match known.peer {
            Some(peer) if !known.kind.listens() && known.state != State::Connected => {
                Some(self.remote(known.kind, peer))
            }
            _ => None,
        };
        let how = match self.rng.below(8) {
            0 => SendBy::Write,
            1 => SendBy::Writev(parts),
            2 | 3 => SendBy::Send,
            4 => SendBy::SendMsg(parts, to),
            5 => SendBy::SendMmsg(parts, to),
            _ => to.map_or(SendBy::Send, SendBy::SendTo),
        };
        self.ops.push(Op::Send {
            s,
            data,
            flags,
            how,
        });
        self.sent(s);
    }

    fn receive(&mut self, s: Slot) {
        let known = self.model.slots[s];
        let len = self.rng.pick(&[1, 20, 20, 333, 4_000, 70_000, 0]);
        let mut flags = self.rng.weighted(&[
            (60, 0),
            (12, libc::MSG_PEEK),
            (6, libc::MSG_TRUNC),
            (6, libc::MSG_WAITALL),
            (4, libc::MSG_OOB),
            (3, libc::MSG_PEEK | libc::MSG_TRUNC),
            (3, libc::MSG_ERRQUEUE),
            (6, libc::MSG_CMSG_CLOEXEC),
        ]);
        // A call that blocks costs time; a few may.
        let may_block = known.waiting > 0 || self.rng.chance(2);
        if !known.nonblocking && (!may_block || flags & libc::MSG_WAITALL != 0) {
            flags |= libc::MSG_DONTWAIT;
        }
        let parts = 1 + self.rng.below(3) as u8;
        let how = match self.rng.below(9) {
            0 | 1 if known.nonblocking || may_block => ReceiveBy::Read,
            2 if known.nonblocking || may_block => ReceiveBy::Readv(parts),
            0..4 => ReceiveBy::Receive,
            4 | 5 => ReceiveBy::ReceiveFrom(self.room()),
            6 | 7 => ReceiveBy::ReceiveMsg(self.rng.pick(&[0, 256, 8, 20])),
            _ => ReceiveBy::ReceiveMmsg(parts),
        };
        let waiting = &mut self.model.slots[s].waiting;
        *waiting = waiting.saturating_sub(1);
        self.ops.push(Op::Receive { s, len, flags, how });
    }

    fn file_act(&mut self, s: Slot) {
        let how = self.rng.pick(&[
            SeekBy::Lseek,
            SeekBy::Pread,
            SeekBy::Pwrite,
            SeekBy::Fsync,
            SeekBy::Ftruncate,
        ]);
        self.ops.push(Op::Seek { s, how });
    }

    pub(super) fn descriptor_act(&mut self, s: Slot) {
        match self.rng.below(20) {
            0..3 => {
                self.ops.push(Op::Close { s });
                self.model.slots[s].state = State::Closed;
            }
            3..7 => self.copy(s),
            7 | 8 => {
                let (cmd, arg) = self.rng.pick(FCNTLS);
                self.ops.push(Op::Fcntl { s, cmd, arg });
            }
            9 | 10 => {
                let (request, arg) = self.rng.pick(IOCTLS);
                self.ops.push(Op::Ioctl { s, request, arg });
            }
            11 => self.ops.push(Op::Stat { s }),
            12 => {
                let how =
                    self.rng
                        .pick(&[SeekBy::Lseek, SeekBy::Pread, SeekBy::Pwrite, SeekBy::Fsync]);
                self.ops.push(Op::Seek { s, how });
            }
            13 if self.rng.chance(20) => {
                // Not CLOSE_RANGE_UNSHARE: a thread that has just ended may share the table for a moment.
                let flags = self.rng.pick(&[0, 4, 64]);
                self.ops.push(Op::CloseRange {
                    first: s,
                    last: s,
                    flags,
                });
                if flags == 0 {
                    self.model.slots[s].state = State::Closed;
                }
            }
            13 | 14 if !self.model.slots[s].nonblocking => self.make_nonblocking(s),
            15 | 16 => self.get_option(s),
            17 => self.set_option(s),
            _ => self.readiness(),
        }
    }

    fn copy(&mut self, s: Slot) {
        let onto = self.rng.below(self.model.slots.len());
        let how = match self.rng.below(9) {
            0..4 => DupBy::Dup,
            4 | 5 => DupBy::Dup2(onto),
            6 => DupBy::Dup3(onto, self.rng.pick(&[0, libc::O_CLOEXEC, libc::O_NONBLOCK])),
            7 => DupBy::Fcntl(libc::F_DUPFD, self.rng.pick(&[0, 50, -1])),
            _ => DupBy::Fcntl(libc::F_DUPFD_CLOEXEC, self.rng.pick(&[0, 70])),
        };
        let known = self.model.slots[s];
        if let DupBy::Dup2(onto) | DupBy::Dup3(onto, _) = how
            && onto != s
        {
            self.model.slots[onto] = known;
        }
        self.model.slots.push(known);
        let dst = self.model.slots.len() - 1;
        self.ops.push(Op::Dup { s, dst, how });
    }

    fn epoll_act(&mut self, ep: Slot) {
        let any = self.rng.below(self.model.slots.len());
        match self.rng.below(10) {
            0..3 => {
                let s = self.choose(Kind::is_socket).unwrap_or(any);
                let events = self.events();
                self.ops.push(Op::EpollCtl {
                    ep,
                    op: libc::EPOLL_CTL_ADD,
                    s,
                    events,
                });
            }
            3 => {
                let op = self.rng.pick(&[libc::EPOLL_CTL_MOD, libc::EPOLL_CTL_DEL]);
                let events = self.events();
                self.ops.push(Op::EpollCtl {
                    ep,
                    op,
                    s: any,
                    events,
                });
            }
            4 if self.rng.chance(40) => self.descriptor_act(ep),
            _ => {
                let how = self.rng.pick(&[
                    EpollBy::Wait,
                    EpollBy::Wait,
                    EpollBy::Pwait,
                    EpollBy::Pwait2,
                ]);
                let timeout = self.rng.weighted(&[(70, 0), (28, 1), (2, -1)]);
                // Many at once: which of several would be cut off is not determined.
                let max = self.rng.weighted(&[(92, 32), (3, 0), (3, -1), (2, 16)]);
                self.ops.push(Op::EpollWait {
                    ep,
                    max,
                    timeout,
                    how,
                });
            }
        }
    }

    fn readiness(&mut self) {
        let count = 1 + self.rng.below(4);
        let slots: Vec<Slot> = (0..count)
            .map(|_| self.rng.below(self.model.slots.len()))
            .collect();
        let timeout = self.rng.weighted(&[(75, 0), (24, 1), (1, -1)]);
        let masked = self.rng.chance(40);
        if self.rng.chance(65) {
            let events = self.rng.pick(&[
                libc::POLLIN,
                libc::POLLIN | libc::POLLOUT,
                libc::POLLIN | libc::POLLPRI | libc::POLLRDHUP,
                libc::POLLOUT,
                0,
            ]);
            let set = slots.into_iter().map(|slot| (slot, events)).collect();
            return self.ops.push(Op::Poll {
                set,
                timeout,
                masked,
            });
        }
        let open = self.model.open(|_| true);
        let mut some = || -> Vec<Slot> {
            slots
                .iter()
                .copied()
                .filter(|slot| open.contains(slot) && self.rng.chance(60))
                .collect()
        };
        let (read, write, except) = (some(), some(), some());
        self.ops.push(Op::Select {
            read,
            write,
            except,
            millis: timeout.into(),
            masked,
        });
    }
}

const FCNTLS: &[(c_int, c_int)] = &[
    (libc::F_GETFL, 0),
    (libc::F_GETFL, 0),
    (libc::F_GETFD, 0),
    (libc::F_GETFD, 0),
    (libc::F_SETFD, libc::FD_CLOEXEC),
    (libc::F_SETFD, 0),
    (libc::F_GETOWN, 0),
    (F_SETSIG, 0),
    (F_GETSIG, 0),
];

// linux/fcntl.h
const F_SETSIG: c_int = 10;
const F_GETSIG: c_int = 11;

const IOCTLS: &[(u64, c_int)] = &[
    (libc::FIONREAD, 99),
    (libc::FIONREAD, 99),
    (libc::FIOASYNC, 0),
    (libc::FIOCLEX, 0),
    (libc::FIONCLEX, 0),
    // SIOCATMARK
    (0x8905, 99),
    // SIOCGPGRP
    (0x8904, 99),
];
