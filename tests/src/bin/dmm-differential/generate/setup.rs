//! Descriptors made in the ways that programs make them: the ground on which actions are chosen.

use libc::c_int;

use super::model::{Kind, State};
use super::{Builder, Theme};
use crate::op::{Addr, EpollBy, Op, Port, Room, Slot};

impl Builder {
    pub(super) fn set_up(&mut self) {
        let kind = self.kind();
        if self.theme == Theme::Readiness || self.rng.chance(15) {
            self.epoll();
        }
        match self.rng.below(20) {
            0..10 if kind.listens() => self.accepted(kind),
            0..10 => self.datagrams(kind),
            10..13 => {
                self.fresh(kind);
            }
            13..15 if kind.is_unix() => self.socket_pair(kind),
            13..15 => self.dual_stack(),
            15 => {
                self.pipe();
            }
            16 => {
                self.file();
            }
            17 => self.epoll(),
            18 => self.refused(kind),
            _ => self.late(kind),
        }
    }

    fn kind(&mut self) -> Kind {
        match self.theme {
            Theme::Tcp => self.rng.weighted(&[(70, Kind::Tcp4), (30, Kind::Tcp6)]),
            Theme::Udp => self.rng.weighted(&[(65, Kind::Udp4), (35, Kind::Udp6)]),
            Theme::Unix => self.rng.weighted(&[
                (50, Kind::UnixStream),
                (35, Kind::UnixDatagram),
                (15, Kind::UnixPacket),
            ]),
            Theme::Readiness | Theme::Mixed => self.rng.weighted(&[
                (35, Kind::Tcp4),
                (15, Kind::Tcp6),
                (15, Kind::Udp4),
                (10, Kind::Udp6),
                (15, Kind::UnixStream),
                (7, Kind::UnixDatagram),
                (3, Kind::UnixPacket),
            ]),
        }
    }

    /// A socket, perhaps with options, perhaps watched.
    pub(super) fn fresh(&mut self, kind: Kind) -> Slot {
        let flags = self.rng.weighted(&[
            (40, 0),
            (35, libc::SOCK_NONBLOCK),
            (15, libc::SOCK_CLOEXEC),
            (10, libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC),
        ]);
        let nonblocking = flags & libc::SOCK_NONBLOCK != 0;
        let dst = self.model.add(kind, State::Fresh, nonblocking);
        let protocol = match kind {
            Kind::Tcp4 | Kind::Tcp6 if self.rng.chance(30) => libc::IPPROTO_TCP,
            Kind::Udp4 | Kind::Udp6 if self.rng.chance(30) => libc::IPPROTO_UDP,
            _ => 0,
        };
        self.ops.push(Op::Socket {
            dst,
            domain: kind.domain(),
            kind: kind.socket_type() | flags,
            protocol,
        });
        while self.rng.chance(25) {
            self.set_option(dst);
        }
        if !nonblocking && self.rng.chance(25) {
            self.make_nonblocking(dst);
        }
        self.watch(dst);
        dst
    }

    /// Adds the descriptor to an epoll instance, if there is one and chance wants it.
    fn watch(&mut self, s: Slot) {
        let instances = self.model.open(|known| known.kind == Kind::Epoll);
        let share = if self.theme == Theme::Readiness {
            70
        } else {
            25
        };
        if !instances.is_empty() && self.rng.chance(share) {
            let ep = self.rng.pick(&instances);
            let events = self.events();
            self.ops.push(Op::EpollCtl {
                ep,
                op: libc::EPOLL_CTL_ADD,
                s,
                events,
            });
        }
    }

    fn look(&mut self) {
        let instances = self.model.open(|known| known.kind == Kind::Epoll);
        if !instances.is_empty() && self.rng.chance(50) {
            let ep = self.rng.pick(&instances);
            self.ops.push(Op::EpollWait {
                ep,
                max: 8,
                timeout: 0,
                how: EpollBy::Wait,
            });
        }
    }

    pub(super) fn make_nonblocking(&mut self, s: Slot) {
        self.model.slots[s].nonblocking = true;
        self.ops.push(if self.rng.chance(50) {
            Op::Fcntl {
                s,
                cmd: libc::F_SETFL,
                arg: libc::O_NONBLOCK,
            }
        } else {
            Op::Ioctl {
                s,
                request: libc::FIONBIO,
                arg: 1,
            }
        });
    }

    /// A listener, a connection to it, and what it accepts.
    fn accepted(&mut self, kind: Kind) {
        let listener = self.listener(kind);
        for _ in 0..=self.rng.below(2) {
            let client = self.fresh(kind);
            self.connect_to(client, listener);
            self.look();
            if self.rng.chance(85) {
                self.accept(listener, Some(client));
            }
        }
    }

    pub(super) fn listener(&mut self, kind: Kind) -> Slot {
        let s = self.fresh(kind);
        let to = self.local(kind);
        if !(kind.is_tcp() && self.rng.chance(8)) {
            self.ops.push(Op::Bind { s, to });
        }
        if self.rng.chance(40) {
            self.ops.push(Op::Name {
                s,
                peer: false,
                room: Room::Full,
            });
        }
        self.listen(s);
        if self.rng.chance(40) {
            self.ops.push(Op::Name {
                s,
                peer: false,
                room: Room::Full,
            });
        }
        s
    }

    pub(super) fn listen(&mut self, s: Slot) {
        let backlog = self
            .rng
            .weighted(&[(60, 16), (10, 1), (10, 128), (10, -1), (10, 0)]);
        self.ops.push(Op::Listen { s, backlog });
        self.model.slots[s].state = State::Listening;
    }

    pub(super) fn connect_to(&mut self, client: Slot, listener: Slot) {
        let to = self.remote(self.model.slots[client].kind, listener);
        self.ops.push(Op::Connect { s: client, to });
        self.model.slots[client].state = State::Connected;
        self.model.slots[listener].waiting += 1;
    }

    pub(super) fn accept(&mut self, listener: Slot, client: Option<Slot>) {
        let flags = self.rng.weighted(&[
            (35, None),
            (30, Some(libc::SOCK_NONBLOCK)),
            (15, Some(0)),
            (15, Some(libc::SOCK_CLOEXEC)),
            (5, Some(0x40)),
        ]);
        let nonblocking = flags == Some(libc::SOCK_NONBLOCK);
        let room = self.room();
        let kind = self.model.slots[listener].kind;
        let dst = self.model.add(kind, State::Connected, nonblocking);
        let waiting = &mut self.model.slots[listener].waiting;
        *waiting = waiting.saturating_sub(1);
        if let Some(client) = client {
            self.model.join(client, dst);
        }
        self.ops.push(Op::Accept {
            s: listener,
            dst,
            flags,
            room,
        });
        self.watch(dst);
    }

    fn datagrams(&mut self, kind: Kind) {
        let (a, b) = (self.fresh(kind), self.fresh(kind));
        for s in [a, b] {
            if self.rng.chance(80) {
                let to = self.local(kind);
                self.ops.push(Op::Bind { s, to });
                self.model.slots[s].state = State::Bound;
            }
        }
        for (s, other) in [(a, b), (b, a)] {
            if self.rng.chance(60) {
                let to = self.remote(kind, other);
                self.ops.push(Op::Connect { s, to });
                self.model.slots[s].state = State::Connected;
            }
            self.model.slots[s].peer = Some(other);
        }
    }

    fn socket_pair(&mut self, kind: Kind) {
        let flags = self.rng.pick(&[0, libc::SOCK_NONBLOCK, libc::SOCK_CLOEXEC]);
        let nonblocking = flags == libc::SOCK_NONBLOCK;
        let dst = [(); 2].map(|()| self.model.add(kind, State::Connected, nonblocking));
        self.model.join(dst[0], dst[1]);
        self.ops.push(Op::SocketPair {
            dst,
            domain: libc::AF_UNIX,
            kind: kind.socket_type() | flags,
        });
        self.watch(dst[0]);
    }

    /// A pipe: the end to read from, whose slot is the lower one.
    pub(super) fn pipe(&mut self) -> Slot {
        let dst = [(); 2].map(|()| self.model.add(Kind::Pipe, State::Connected, true));
        self.model.join(dst[0], dst[1]);
        self.ops.push(Op::Pipe {
            dst,
            flags: libc::O_NONBLOCK,
        });
        self.watch(dst[0]);
        dst[0]
    }

    pub(super) fn file(&mut self) -> Slot {
        let dst = self.model.add(Kind::File, State::Fresh, false);
        self.ops.push(Op::File { dst });
        dst
    }

    pub(super) fn epoll(&mut self) {
        let dst = self.model.add(Kind::Epoll, State::Fresh, true);
        let flags = self.rng.pick(&[0, libc::EPOLL_CLOEXEC]);
        self.ops.push(Op::EpollCreate { dst, flags });
        if self.rng.chance(10) {
            self.watch(dst);
        }
    }

    /// A v6 listener that v4 clients reach.
    fn dual_stack(&mut self) {
        let listener = self.fresh(Kind::Tcp6);
        if self.rng.chance(40) {
            let value = crate::op::Value::Int(c_int::from(self.rng.chance(50)));
            let (level, name) = (libc::IPPROTO_IPV6, libc::IPV6_V6ONLY);
            self.ops.push(Op::SetOption {
                s: listener,
                level,
                name,
                value,
            });
        }
        self.ops.push(Op::Bind {
            s: listener,
            to: Addr::AnyV6(Port::Zero),
        });
        self.listen(listener);
        let kind = self.rng.pick(&[Kind::Tcp4, Kind::Tcp6]);
        let client = self.fresh(kind);
        let port = Port::Of(listener);
        let to = if kind == Kind::Tcp4 {
            Addr::V4(port)
        } else {
            Addr::Mapped(port)
        };
        self.ops.push(Op::Connect { s: client, to });
        self.make_nonblocking(listener);
        self.accept(listener, Some(client));
    }

    /// A connection to where nobody listens, and what it leaves behind.
    fn refused(&mut self, kind: Kind) {
        let s = self.fresh(kind);
        let to = match kind {
            Kind::Tcp6 | Kind::Udp6 => Addr::V6(Port::Dead),
            Kind::Tcp4 | Kind::Udp4 => Addr::V4(Port::Dead),
            _ => self
                .rng
                .pick(&[Addr::Path(3), Addr::Abstract(3), Addr::NoPath]),
        };
        self.ops.push(Op::Connect { s, to });
        self.look();
        if self.rng.chance(60) {
            let (level, name) = (libc::SOL_SOCKET, libc::SO_ERROR);
            self.ops.push(Op::GetOption {
                s,
                level,
                name,
                room: 4,
            });
        }
    }

    /// A connection by way of a copy made before it exists.
    fn late(&mut self, kind: Kind) {
        let s = self.fresh(kind);
        let dst = self
            .model
            .add(kind, State::Fresh, self.model.slots[s].nonblocking);
        self.ops.push(Op::Dup {
            s,
            dst,
            how: crate::op::DupBy::Dup,
        });
        if kind.listens() {
            let listener = self.listener(kind);
            self.connect_to(dst, listener);
            self.accept(listener, Some(s));
        } else {
            let to = self.local(kind);
            self.ops.push(Op::Bind { s: dst, to });
        }
        self.model.slots[dst].state = self.model.slots[s].state;
        self.model.slots[dst].peer = self.model.slots[s].peer;
    }
}
