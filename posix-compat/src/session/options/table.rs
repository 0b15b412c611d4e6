//! The options that are one number, and what is known of each: where its value is kept, who says
//! which values are right, and what it reads as before it is set.

use libc::{IPPROTO_IP, IPPROTO_IPV6, IPPROTO_TCP, SOL_SOCKET, c_int};

use Check::{Any, BeforeConnection, Flag, Kernel, Own, Range};
use Initial::Is;

/// One option that a session holds.
pub(super) struct Row {
    pub(super) level: c_int,
    pub(super) name: c_int,
    pub(super) check: Check,
    pub(super) initial: Initial,
    /// Whether an accepted socket has its listener's value.
    pub(super) inherited: bool,
}

/// Who says whether a value is right, and what becomes of it.
#[derive(Clone, Copy)]
pub(super) enum Check {
    /// Any number; what is kept is whether it is 0.
    Flag,
    /// Any number.
    Any,
    /// A number of a range, or EINVAL.
    Range(c_int, c_int),
    /// The kernel, of a scratch socket: privileges and sysctls count.
    Kernel,
    /// The kernel as well, but only before there is a connection; EINVAL from then on.
    BeforeConnection,
    /// A function of its own (`set.rs`).
    Own,
}

/// What an option reads as that was never set.
#[derive(Clone, Copy)]
pub(super) enum Initial {
    Is(c_int),
    /// What a scratch socket says.
    Kernel,
}

/// The place of an option in the table.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot(u8);

impl Slot {
    /// The slot of an option, if the table has it.
    pub(super) fn find(level: c_int, name: c_int) -> Option<Self> {
        ROWS.iter()
            .position(|row| row.name == name && row.level == level)
            .map(|index| Self(index as u8))
    }

    /// The slot of an option that the table has: to be evaluated when this is compiled.
    pub(super) const fn of(level: c_int, name: c_int) -> Self {
        let mut index = 0;
        while ROWS[index].level != level || ROWS[index].name != name {
            index += 1;
        }
        Self(index as u8)
    }

    pub(super) fn all() -> impl Iterator<Item = Self> {
        (0..COUNT).map(|index| Self(index as u8))
    }

    pub(super) fn row(self) -> &'static Row {
        &ROWS[self.index()]
    }

    pub(super) const fn index(self) -> usize {
        self.0 as usize
    }

    /// The place among the values that take a word; the others take a bit.
    pub(super) const fn word(self) -> Option<usize> {
        if self.index() < WORDS {
            Some(self.index())
        } else {
            None
        }
    }
}

/// How many options take a word: the first rows of the table.
pub(super) const WORDS: usize = 37;

/// How many options there are.
pub(super) const COUNT: usize = ROWS.len();

/// How many `u64`s have a bit for each option.
pub(super) const BITMAP: usize = COUNT.div_ceil(u64::BITS as usize);

const fn row(level: c_int, name: c_int, check: Check, initial: Initial) -> Row {
    Row {
        level,
        name,
        check,
        initial,
        inherited: true,
    }
}

const fn flag(level: c_int, name: c_int) -> Row {
    row(level, name, Flag, Is(0))
}

/// An option that is the kernel's in all but where it is kept.
const fn kernel(level: c_int, name: c_int) -> Row {
    row(level, name, Kernel, Initial::Kernel)
}

const fn before_connection(name: c_int) -> Row {
    row(IPPROTO_TCP, name, BeforeConnection, Initial::Kernel)
}

impl Row {
    const fn not_inherited(mut self) -> Self {
        self.inherited = false;
        self
    }
}

/// What programs use most comes first within each part.
const ROWS: &[Row] = &[
    // Those that take a word.
    // The locks are looked up before the buffers (`inherit.rs`).
    row(SOL_SOCKET, SO_BUF_LOCK, Own, Is(0)),
    row(SOL_SOCKET, libc::SO_SNDBUF, Own, Is(0)),
    row(SOL_SOCKET, libc::SO_RCVBUF, Own, Is(0)),
    row(SOL_SOCKET, libc::SO_RCVLOWAT, Own, Is(1)),
    row(SOL_SOCKET, libc::SO_PRIORITY, Own, Is(0)).not_inherited(),
    row(SOL_SOCKET, libc::SO_TIMESTAMP, Own, Is(0)),
    row(SOL_SOCKET, libc::SO_BINDTOIFINDEX, Own, Is(0)),
    row(SOL_SOCKET, libc::SO_INCOMING_CPU, Any, Is(-1)).not_inherited(),
    kernel(SOL_SOCKET, libc::SO_MARK),
    kernel(SOL_SOCKET, libc::SO_BUSY_POLL),
    row(
        IPPROTO_TCP,
        libc::TCP_KEEPIDLE,
        Range(1, 32_767),
        Initial::Kernel,
    ),
    row(
        IPPROTO_TCP,
        libc::TCP_KEEPINTVL,
        Range(1, 32_767),
        Initial::Kernel,
    ),
    row(
        IPPROTO_TCP,
        libc::TCP_KEEPCNT,
        Range(1, 127),
        Initial::Kernel,
    ),
    row(
        IPPROTO_TCP,
        libc::TCP_USER_TIMEOUT,
        Range(0, c_int::MAX),
        Is(0),
    ),
    row(IPPROTO_TCP, TCP_NOTSENT_LOWAT, Any, Is(0)),
    row(IPPROTO_TCP, libc::TCP_MAXSEG, Own, Is(0)),
    row(IPPROTO_TCP, libc::TCP_WINDOW_CLAMP, Own, Is(0)),
    row(
        IPPROTO_TCP,
        libc::TCP_SYNCNT,
        Range(1, 127),
        Initial::Kernel,
    ),
    kernel(IPPROTO_TCP, libc::TCP_LINGER2),
    kernel(IPPROTO_TCP, libc::TCP_DEFER_ACCEPT).not_inherited(),
    kernel(IPPROTO_TCP, libc::TCP_SAVE_SYN),
    before_connection(libc::TCP_FASTOPEN).not_inherited(),
    kernel(IPPROTO_TCP, TCP_RTO_MAX_MS),
    kernel(IPPROTO_TCP, TCP_RTO_MIN_US),
    kernel(IPPROTO_TCP, TCP_DELACK_MAX_US),
    row(IPPROTO_IP, libc::IP_TOS, Own, Is(0)),
    row(IPPROTO_IP, libc::IP_TTL, Own, Initial::Kernel),
    kernel(IPPROTO_IP, libc::IP_MTU_DISCOVER),
    kernel(IPPROTO_IP, libc::IP_MINTTL),
    kernel(IPPROTO_IP, IP_UNICAST_IF),
    kernel(IPPROTO_IP, IP_LOCAL_PORT_RANGE),
    row(IPPROTO_IPV6, libc::IPV6_TCLASS, Own, Is(0)),
    row(IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS, Own, Initial::Kernel),
    kernel(IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER),
    kernel(IPPROTO_IPV6, libc::IPV6_ADDR_PREFERENCES),
    kernel(IPPROTO_IPV6, libc::IPV6_MINHOPCOUNT),
    kernel(IPPROTO_IPV6, IPV6_UNICAST_IF),
    // Those that take a bit.
    flag(IPPROTO_TCP, libc::TCP_NODELAY),
    flag(IPPROTO_TCP, libc::TCP_CORK),
    row(IPPROTO_TCP, libc::TCP_QUICKACK, Flag, Is(1)),
    flag(SOL_SOCKET, libc::SO_KEEPALIVE),
    flag(SOL_SOCKET, libc::SO_REUSEADDR),
    flag(SOL_SOCKET, libc::SO_REUSEPORT),
    flag(SOL_SOCKET, libc::SO_OOBINLINE),
    flag(SOL_SOCKET, libc::SO_BROADCAST),
    flag(SOL_SOCKET, libc::SO_DONTROUTE),
    flag(SOL_SOCKET, libc::SO_NO_CHECK),
    flag(SOL_SOCKET, libc::SO_RXQ_OVFL),
    flag(SOL_SOCKET, libc::SO_WIFI_STATUS),
    flag(SOL_SOCKET, libc::SO_NOFCS),
    flag(SOL_SOCKET, libc::SO_SELECT_ERR_QUEUE),
    kernel(SOL_SOCKET, libc::SO_DEBUG),
    kernel(SOL_SOCKET, libc::SO_PREFER_BUSY_POLL),
    kernel(SOL_SOCKET, SO_TXREHASH),
    kernel(SOL_SOCKET, SO_RCVMARK),
    kernel(SOL_SOCKET, SO_RCVPRIORITY),
    kernel(IPPROTO_TCP, libc::TCP_THIN_LINEAR_TIMEOUTS),
    before_connection(libc::TCP_FASTOPEN_CONNECT),
    before_connection(TCP_FASTOPEN_NO_COOKIE),
    kernel(IPPROTO_IP, libc::IP_RECVOPTS),
    kernel(IPPROTO_IP, libc::IP_RETOPTS),
    kernel(IPPROTO_IP, libc::IP_PKTINFO),
    kernel(IPPROTO_IP, libc::IP_RECVERR),
    kernel(IPPROTO_IP, libc::IP_RECVTTL),
    kernel(IPPROTO_IP, libc::IP_RECVTOS),
    kernel(IPPROTO_IP, libc::IP_FREEBIND),
    kernel(IPPROTO_IP, libc::IP_PASSSEC),
    kernel(IPPROTO_IP, libc::IP_TRANSPARENT),
    kernel(IPPROTO_IP, libc::IP_RECVORIGDSTADDR),
    kernel(IPPROTO_IP, IP_CHECKSUM),
    kernel(IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT),
    kernel(IPPROTO_IP, IP_RECVERR_RFC4884),
    kernel(IPPROTO_IP, libc::IP_MULTICAST_LOOP),
    kernel(IPPROTO_IP, libc::IP_MULTICAST_ALL),
    kernel(IPPROTO_IPV6, libc::IPV6_2292PKTINFO),
    kernel(IPPROTO_IPV6, libc::IPV6_2292HOPOPTS),
    kernel(IPPROTO_IPV6, libc::IPV6_2292DSTOPTS),
    kernel(IPPROTO_IPV6, libc::IPV6_2292RTHDR),
    kernel(IPPROTO_IPV6, libc::IPV6_2292HOPLIMIT),
    kernel(IPPROTO_IPV6, libc::IPV6_FLOWINFO),
    kernel(IPPROTO_IPV6, libc::IPV6_MULTICAST_LOOP),
    kernel(IPPROTO_IPV6, libc::IPV6_RECVERR),
    row(
        IPPROTO_IPV6,
        libc::IPV6_V6ONLY,
        BeforeConnection,
        Initial::Kernel,
    ),
    kernel(IPPROTO_IPV6, libc::IPV6_MULTICAST_ALL),
    kernel(IPPROTO_IPV6, libc::IPV6_ROUTER_ALERT_ISOLATE),
    kernel(IPPROTO_IPV6, IPV6_RECVERR_RFC4884),
    kernel(IPPROTO_IPV6, IPV6_FLOWINFO_SEND),
    kernel(IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
    kernel(IPPROTO_IPV6, libc::IPV6_RECVHOPLIMIT),
    kernel(IPPROTO_IPV6, libc::IPV6_RECVHOPOPTS),
    kernel(IPPROTO_IPV6, libc::IPV6_RECVRTHDR),
    kernel(IPPROTO_IPV6, libc::IPV6_RECVDSTOPTS),
    kernel(IPPROTO_IPV6, libc::IPV6_RECVPATHMTU),
    kernel(IPPROTO_IPV6, libc::IPV6_DONTFRAG),
    kernel(IPPROTO_IPV6, libc::IPV6_RECVTCLASS),
    kernel(IPPROTO_IPV6, libc::IPV6_AUTOFLOWLABEL),
    kernel(IPPROTO_IPV6, libc::IPV6_ORIGDSTADDR),
    kernel(IPPROTO_IPV6, IPV6_RECVFRAGSIZE),
];

// The table's slots are bytes.
const _: () = assert!(COUNT < u8::MAX as usize && WORDS < COUNT);

// Of include/uapi, where the libc crate does not have them.
pub(super) const SO_BUF_LOCK: c_int = 72;
const SO_TXREHASH: c_int = 74;
const SO_RCVMARK: c_int = 75;
const SO_RCVPRIORITY: c_int = 82;
pub(super) const TCP_NOTSENT_LOWAT: c_int = 25;
const TCP_FASTOPEN_NO_COOKIE: c_int = 34;
const TCP_RTO_MAX_MS: c_int = 44;
const TCP_RTO_MIN_US: c_int = 45;
const TCP_DELACK_MAX_US: c_int = 46;
const IP_CHECKSUM: c_int = 23;
const IP_RECVERR_RFC4884: c_int = 26;
const IP_UNICAST_IF: c_int = 50;
const IP_LOCAL_PORT_RANGE: c_int = 51;
const IPV6_RECVERR_RFC4884: c_int = 31;
const IPV6_FLOWINFO_SEND: c_int = 33;
const IPV6_UNICAST_IF: c_int = 76;
const IPV6_RECVFRAGSIZE: c_int = 77;
