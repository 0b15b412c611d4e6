//! Arguments: addresses, options, flags, sizes.

use libc::c_int;

use super::Builder;
use super::model::Kind;
use crate::op::{Addr, Data, Op, Port, Room, Slot, Value};

impl Builder {
    /// An address to bind to.
    pub(super) fn local(&mut self, kind: Kind) -> Addr {
        let own = self.rng.below(4) as u8;
        let port = if self.rng.chance(70) {
            Port::Zero
        } else {
            Port::Own(own)
        };
        match kind {
            Kind::Tcp4 | Kind::Udp4 => self.rng.weighted(&[
                (60, Addr::V4(port)),
                (30, Addr::AnyV4(port)),
                (5, Addr::OtherV4(port)),
                (2, Addr::Foreign),
                (3, Addr::V6(port)),
            ]),
            Kind::Tcp6 | Kind::Udp6 => self.rng.weighted(&[
                (55, Addr::V6(port)),
                (30, Addr::AnyV6(port)),
                (12, Addr::Mapped(port)),
                (3, Addr::V4(port)),
            ]),
            _ => self.rng.weighted(&[
                (45, Addr::Path(own % 3)),
                (40, Addr::Abstract(own % 3)),
                (15, Addr::Unnamed),
            ]),
        }
    }

    /// An address that reaches the socket in a slot.
    pub(super) fn remote(&mut self, kind: Kind, to: Slot) -> Addr {
        let bound = self.ops.iter().rev().find_map(|op| match *op {
            Op::Bind { s, to: addr } if s == to => Some(addr),
            _ => None,
        });
        let port = match bound {
            Some(
                Addr::V4(own @ Port::Own(_))
                | Addr::AnyV4(own @ Port::Own(_))
                | Addr::V6(own @ Port::Own(_))
                | Addr::AnyV6(own @ Port::Own(_)),
            ) if self.rng.chance(70) => own,
            _ => Port::Of(to),
        };
        match (kind, bound) {
            (Kind::Tcp4 | Kind::Udp4, Some(Addr::OtherV4(_))) => Addr::OtherV4(port),
            (Kind::Tcp4 | Kind::Udp4, Some(Addr::AnyV4(_))) if self.rng.chance(20) => {
                Addr::AnyV4(port)
            }
            (Kind::Tcp4 | Kind::Udp4, _) => Addr::V4(port),
            (Kind::Tcp6 | Kind::Udp6, Some(Addr::Mapped(_))) => Addr::Mapped(port),
            (Kind::Tcp6 | Kind::Udp6, _) => Addr::V6(port),
            (_, Some(unix @ (Addr::Path(_) | Addr::Abstract(_)))) => unix,
            _ => Addr::Path(0),
        }
    }

    /// Any address, most of them wrong.
    pub(super) fn any_address(&mut self) -> Addr {
        let slot = self.rng.below(self.model.slots.len().max(1));
        self.rng.pick(&[
            Addr::V4(Port::Of(slot)),
            Addr::V6(Port::Of(slot)),
            Addr::AnyV4(Port::Zero),
            Addr::AnyV6(Port::Zero),
            Addr::Mapped(Port::Of(slot)),
            Addr::V4(Port::Dead),
            Addr::V4(Port::Zero),
            Addr::Multicast(Port::Dead),
            Addr::Broadcast(Port::Dead),
            Addr::Path(0),
            Addr::NoPath,
            Addr::Abstract(1),
            Addr::Unnamed,
            Addr::Unspec,
            Addr::Unspec,
            Addr::BadFamily,
            Addr::Short,
            Addr::Empty,
            Addr::Long,
            Addr::Negative,
            Addr::Null,
            Addr::Wild,
        ])
    }

    pub(super) fn room(&mut self) -> Room {
        self.rng.weighted(&[
            (55, Room::Full),
            (22, Room::None),
            (4, Room::Bytes(16)),
            (4, Room::Bytes(2)),
            (3, Room::Bytes(0)),
            (3, Room::Bytes(u32::MAX)),
            (3, Room::NullLength),
            (3, Room::NullAddress),
            (3, Room::Wild),
        ])
    }

    pub(super) fn data(&mut self) -> Data {
        let tag = self.rng.below(256) as u8;
        let len = self.rng.weighted(&[
            (20, 1),
            (40, 20),
            (20, 333),
            (10, 1_500),
            (4, 9_000),
            (6, 0),
        ]);
        Data { tag, len }
    }

    pub(super) fn events(&mut self) -> u32 {
        let base = self.rng.pick(&[
            libc::EPOLLIN,
            libc::EPOLLIN | libc::EPOLLOUT,
            libc::EPOLLOUT,
            0,
        ]);
        let mode = self.rng.weighted(&[
            (50, 0),
            (20, libc::EPOLLET),
            (12, libc::EPOLLONESHOT),
            (8, libc::EPOLLRDHUP),
            (6, libc::EPOLLPRI),
            (4, libc::EPOLLEXCLUSIVE),
        ]);
        (base | mode) as u32
    }

    pub(super) fn set_option(&mut self, s: Slot) {
        let (level, name) = self.option_name(self.model.slots[s].kind);
        let value = self.value(level, name);
        self.ops.push(Op::SetOption {
            s,
            level,
            name,
            value,
        });
        if self.rng.chance(35) {
            self.ops.push(Op::GetOption {
                s,
                level,
                name,
                room: 128,
            });
        }
    }

    pub(super) fn get_option(&mut self, s: Slot) {
        let (level, name) = self.option_name(self.model.slots[s].kind);
        let room =
            self.rng
                .weighted(&[(80, 128), (6, 4), (4, 1), (3, 0), (3, -1), (2, -2), (2, -3)]);
        self.ops.push(Op::GetOption {
            s,
            level,
            name,
            room,
        });
    }

    fn value(&mut self, level: c_int, name: c_int) -> Value {
        if self.rng.chance(8) {
            return self.rng.pick(&[
                Value::Null(4),
                Value::Null(0),
                Value::Wild,
                Value::Length(1, 0),
                Value::Length(1, 3),
                Value::Length(1, 200),
                Value::Length(1, u32::MAX),
                Value::Byte(1),
                Value::Int(-1),
            ]);
        }
        match (level, name) {
            (libc::SOL_SOCKET, libc::SO_LINGER) => {
                // Only 0 seconds, which resets: any other lets close wait.
                self.rng.pick(&[Value::Linger(1, 0), Value::Linger(0, 0)])
            }
            (libc::SOL_SOCKET, libc::SO_RCVTIMEO | libc::SO_SNDTIMEO) => {
                self.rng
                    .pick(&[Value::Millis(2), Value::Millis(3), Value::Millis(0)])
            }
            (libc::SOL_SOCKET, libc::SO_SNDBUF | libc::SO_RCVBUF) => {
                self.rng
                    .pick(&[Value::Int(65_536), Value::Int(200_000), Value::Int(32_768)])
            }
            (libc::SOL_SOCKET, libc::SO_BINDTODEVICE) => {
                self.rng
                    .pick(&[Value::Text("lo"), Value::Text("nodevice0"), Value::Text("")])
            }
            (libc::IPPROTO_TCP, libc::TCP_CONGESTION) => self.rng.pick(&[
                Value::Text("reno"),
                Value::Text("cubic"),
                Value::Text("nosuch"),
            ]),
            (libc::IPPROTO_IP, libc::IP_ADD_MEMBERSHIP) => Value::Membership,
            (libc::IPPROTO_TCP, libc::TCP_MAXSEG) => {
                self.rng.pick(&[Value::Int(1_000), Value::Int(1)])
            }
            (libc::IPPROTO_TCP, _) => self
                .rng
                .pick(&[Value::Int(1), Value::Int(0), Value::Int(5)]),
            _ => self.rng.pick(&[
                Value::Int(1),
                Value::Int(0),
                Value::Int(1),
                Value::Int(7),
                Value::Int(40),
            ]),
        }
    }

    fn option_name(&mut self, kind: Kind) -> (c_int, c_int) {
        let group = match self.rng.below(100) {
            0..45 => SOCKET,
            45..52 => WRONG,
            52..58 => self.rng.pick(&[SOCKET, TCP, IP, IPV6, UDP]),
            _ => match kind {
                Kind::Tcp4 if self.rng.chance(30) => IP,
                Kind::Tcp6 if self.rng.chance(30) => IPV6,
                Kind::Tcp4 | Kind::Tcp6 => TCP,
                Kind::Udp4 if self.rng.chance(15) => UDP,
                Kind::Udp4 => IP,
                Kind::Udp6 => IPV6,
                _ => SOCKET,
            },
        };
        self.rng.pick(group)
    }
}

const SOCKET: &[(c_int, c_int)] = &[
    (libc::SOL_SOCKET, libc::SO_TYPE),
    (libc::SOL_SOCKET, libc::SO_PROTOCOL),
    (libc::SOL_SOCKET, libc::SO_DOMAIN),
    (libc::SOL_SOCKET, libc::SO_ACCEPTCONN),
    (libc::SOL_SOCKET, libc::SO_ERROR),
    (libc::SOL_SOCKET, libc::SO_ERROR),
    (libc::SOL_SOCKET, libc::SO_REUSEADDR),
    (libc::SOL_SOCKET, libc::SO_REUSEADDR),
    (libc::SOL_SOCKET, libc::SO_REUSEPORT),
    (libc::SOL_SOCKET, libc::SO_KEEPALIVE),
    (libc::SOL_SOCKET, libc::SO_BROADCAST),
    (libc::SOL_SOCKET, libc::SO_LINGER),
    (libc::SOL_SOCKET, libc::SO_RCVTIMEO),
    (libc::SOL_SOCKET, libc::SO_SNDTIMEO),
    (libc::SOL_SOCKET, libc::SO_SNDBUF),
    (libc::SOL_SOCKET, libc::SO_RCVBUF),
    (libc::SOL_SOCKET, libc::SO_PRIORITY),
    (libc::SOL_SOCKET, libc::SO_OOBINLINE),
    (libc::SOL_SOCKET, libc::SO_PASSCRED),
    (libc::SOL_SOCKET, libc::SO_PEERCRED),
    (libc::SOL_SOCKET, libc::SO_RCVLOWAT),
    (libc::SOL_SOCKET, libc::SO_DONTROUTE),
    (libc::SOL_SOCKET, libc::SO_MARK),
    (libc::SOL_SOCKET, libc::SO_BINDTODEVICE),
    (libc::SOL_SOCKET, libc::SO_BUSY_POLL),
    (libc::SOL_SOCKET, libc::SO_INCOMING_CPU),
    (libc::SOL_SOCKET, libc::SO_PEEK_OFF),
    (libc::SOL_SOCKET, libc::SO_ZEROCOPY),
];

const TCP: &[(c_int, c_int)] = &[
    (libc::IPPROTO_TCP, libc::TCP_NODELAY),
    (libc::IPPROTO_TCP, libc::TCP_NODELAY),
    (libc::IPPROTO_TCP, libc::TCP_MAXSEG),
    (libc::IPPROTO_TCP, libc::TCP_KEEPIDLE),
    (libc::IPPROTO_TCP, libc::TCP_KEEPINTVL),
    (libc::IPPROTO_TCP, libc::TCP_KEEPCNT),
    (libc::IPPROTO_TCP, libc::TCP_SYNCNT),
    (libc::IPPROTO_TCP, libc::TCP_LINGER2),
    (libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT),
    (libc::IPPROTO_TCP, libc::TCP_CONGESTION),
    (libc::IPPROTO_TCP, libc::TCP_INFO),
    (libc::IPPROTO_TCP, libc::TCP_QUICKACK),
    (libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT),
];

const IP: &[(c_int, c_int)] = &[
    (libc::IPPROTO_IP, libc::IP_TOS),
    (libc::IPPROTO_IP, libc::IP_TOS),
    (libc::IPPROTO_IP, libc::IP_TTL),
    (libc::IPPROTO_IP, libc::IP_RECVTOS),
    (libc::IPPROTO_IP, libc::IP_RECVTTL),
    (libc::IPPROTO_IP, libc::IP_PKTINFO),
    (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER),
    (libc::IPPROTO_IP, libc::IP_RECVERR),
    (libc::IPPROTO_IP, libc::IP_FREEBIND),
    (libc::IPPROTO_IP, libc::IP_TRANSPARENT),
    (libc::IPPROTO_IP, libc::IP_MULTICAST_TTL),
    (libc::IPPROTO_IP, libc::IP_MULTICAST_LOOP),
    (libc::IPPROTO_IP, libc::IP_ADD_MEMBERSHIP),
    (libc::IPPROTO_IP, libc::IP_MTU),
    (libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT),
];

const IPV6: &[(c_int, c_int)] = &[
    (libc::IPPROTO_IPV6, libc::IPV6_V6ONLY),
    (libc::IPPROTO_IPV6, libc::IPV6_V6ONLY),
    (libc::IPPROTO_IPV6, libc::IPV6_TCLASS),
    (libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS),
    (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
    (libc::IPPROTO_IPV6, libc::IPV6_RECVTCLASS),
    (libc::IPPROTO_IPV6, libc::IPV6_RECVERR),
    (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER),
    (libc::IPPROTO_IPV6, libc::IPV6_MULTICAST_LOOP),
    (libc::IPPROTO_IPV6, libc::IPV6_ADDRFORM),
];

const UDP: &[(c_int, c_int)] = &[
    (libc::IPPROTO_UDP, libc::UDP_SEGMENT),
    (libc::IPPROTO_UDP, libc::UDP_GRO),
];

const WRONG: &[(c_int, c_int)] = &[
    (9_999, 1),
    (-1, 1),
    (libc::SOL_SOCKET, 9_999),
    (libc::IPPROTO_TCP, 9_999),
    (libc::IPPROTO_IP, 9_999),
    (libc::IPPROTO_IPV6, 9_999),
    (libc::SOL_SOCKET, -1),
];
