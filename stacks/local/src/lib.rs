//! The `local` stack: shared memory between two programs on one host.
//!
//! A TCP connection to one of the host's own addresses, in the same network namespace, to a listener
//! that runs under DMM too, becomes a [session](dmm_nsocket::session). The listener that is found is
//! the one that TCP would have reached, and its owner is checked (see
//! [`rendezvous`](dmm_nsocket::session::rendezvous)); anything else leaves a reason, and the next
//! stack of the list has the socket.
//!
//! A listener is served beside the kernel, from the same descriptor: see [`Placed::Beside`].
//!
//! | module | what it does |
//! |---|---|
//! | [`Instance`] (here) | implements [`Stack`] |
//! | [`ports`] | source ports, which no kernel gives out here |
//! | [`source`] | source addresses |

pub mod ports;
pub mod source;

use std::net::{IpAddr, SocketAddr};

use dmm_nsocket::Reason;
use dmm_nsocket::options::Recorded;
use dmm_nsocket::session::endpoint::{OpenError, Opening};
use dmm_nsocket::session::rendezvous::{DialError, Listener, LookupError, route};
use dmm_nsocket::session::segment::SegmentError;
use dmm_nsocket::stack::{PlaceError, Placed, Refusal, Request, Session, Socket, Stack};
use dmm_policy::{Role, SockType, SocketOptions, StackDef, StackKind};
use libc::c_int;
use rustix::io::Errno;

/// Bytes that a ring holds at most, if neither the program nor the policy says: as much as TCP's
/// buffers on both sides take together before anybody reads. Only what is used costs memory.
pub const CAPACITY: usize = 4 << 20;

/// Bytes that a ring holds at least: a program that makes its buffers small has TCP's doubling and
/// the other side's buffer, too.
const SMALLEST: usize = 64 << 10;

/// An instance of the stack, as a view of its definition in the policy.
#[derive(Clone, Copy, Debug)]
pub struct Instance<'p> {
    name: &'p str,
    kind: StackKind,
    options: SocketOptions<'p>,
}

impl<'p> Instance<'p> {
    /// The instance that `def` describes. A definition of another kind gives an instance that admits
    /// nothing.
    pub const fn new(def: &StackDef<'p>) -> Self {
        Self {
            name: def.name,
            kind: def.kind,
            options: def.options,
        }
    }

    /// Bytes for the rings: to the listener, from it.
    fn capacities(&self, program: Buffers) -> (usize, usize) {
        let of = |program: Option<c_int>, policy: Option<u64>| {
            let asked = program
                .map(|bytes| bytes.max(0) as usize)
                .or_else(|| policy.map(|bytes| bytes as usize));
            asked.map_or(CAPACITY, |bytes| bytes.max(SMALLEST))
        };
        (
            of(program.send, self.options.send_buffer.map(u64::from)),
            of(program.receive, self.options.receive_buffer.map(u64::from)),
        )
    }

    fn connect(&self, remote: SocketAddr, socket: &mut dyn Socket) -> Result<(), Refusal> {
        if let Some(reason) = socket.pinned() {
            return Err(Refusal::new(reason));
        }
        if socket.placement() != 0 {
            // It has been moved to another namespace, where other addresses are the host's.
            return Err(Refusal::new(Reason::AddressUnavailable));
        }
        if socket.local().is_some() {
            return Err(Refusal::new(Reason::BoundPort));
        }
        socket.fits_session()?;
        let program = Buffers::of(socket)?;
        if program.v6_only && matches!(remote.ip(), IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some())
        {
            // The kernel's connect says so.
            return Err(Refusal::new(Reason::PeerNotHere));
        }
        let to = source::destination(remote);
        let from = source::for_destination(to);
        let listener = Listener::find(from, to).map_err(refusal_of_lookup)?;
        let (socket_fd, endpoint) = Opening {
            listener: &listener,
            from,
            to,
            capacities: self.capacities(program),
            board: socket.board(),
        }
        .open()
        .map_err(refusal_of_open)?;
        socket.carry(Session {
            socket: socket_fd,
            endpoint,
            local: from,
            remote: to,
        })
    }
}

impl Stack for Instance<'_> {
    fn name(&self) -> &str {
        self.name
    }

    fn kind(&self) -> StackKind {
        self.kind
    }

    fn admit(&self, request: &Request<'_>) -> Result<(), Refusal> {
        if self.kind != StackKind::Local {
            return Err(Refusal::new(Reason::NotInThisBuild));
        }
        if request.key.sock_type != SockType::Stream
            || !matches!(request.protocol, 0 | libc::IPPROTO_TCP)
        {
            return Err(Refusal::new(Reason::UnsupportedType));
        }
        match (request.key.role, request.key.remote) {
            (Role::Listen, _) => Ok(()),
            // What the socket's family does not have the kernel refuses.
            (Role::Connect, Some(SocketAddr::V4(_))) if request.domain != libc::AF_INET => {
                Err(Refusal::new(Reason::UnsupportedType))
            }
            (Role::Connect, Some(SocketAddr::V6(_))) if request.domain != libc::AF_INET6 => {
                Err(Refusal::new(Reason::UnsupportedType))
            }
            (Role::Connect, Some(remote)) => {
                match route::is_own(source::destination(remote).ip()) {
                    Ok(true) => Ok(()),
                    Ok(false) => Err(Refusal::new(Reason::PeerNotHere)),
                    Err(errno) => Err(Refusal::because(Reason::SystemError, errno)),
                }
            }
            (Role::Connect | Role::Datagram, _) => Err(Refusal::new(Reason::UnsupportedType)),
        }
    }

    fn place(&self, request: &Request<'_>, socket: &mut dyn Socket) -> Result<Placed, PlaceError> {
        match request.key.remote {
            None => Ok(Placed::Beside),
            Some(remote) => {
                self.connect(remote, socket)?;
                Ok(Placed::Session)
            }
        }
    }
}

/// What the program has asked for its buffers.
#[derive(Clone, Copy, Debug, Default)]
struct Buffers {
    send: Option<c_int>,
    receive: Option<c_int>,
    /// IPV6_V6ONLY: no connection to an IPv4 address.
    v6_only: bool,
}

impl Buffers {
    /// Looks through the options that the program has set; one that would be without effect on a
    /// session is a refusal.
    fn of(socket: &dyn Socket) -> Result<Self, Refusal> {
        let mut buffers = Self::default();
        socket.recorded(&mut |option| {
            let Recorded { level, name, value } = option;
            let int = || {
                let bytes = value.first_chunk().copied().unwrap_or_default();
                c_int::from_ne_bytes(bytes)
            };
            match (level, name) {
                (libc::SOL_SOCKET, libc::SO_SNDBUF | libc::SO_SNDBUFFORCE) => {
                    buffers.send = Some(int());
                }
                (libc::SOL_SOCKET, libc::SO_RCVBUF | libc::SO_RCVBUFFORCE) => {
                    buffers.receive = Some(int());
                }
                (libc::IPPROTO_IPV6, libc::IPV6_V6ONLY) => buffers.v6_only = int() != 0,
                (libc::SOL_SOCKET, libc::SO_BINDTODEVICE) if value.iter().all(|b| *b == 0) => {}
                (libc::IPPROTO_IP, libc::IP_TRANSPARENT)
                | (libc::IPPROTO_IPV6, libc::IPV6_TRANSPARENT)
                | (libc::IPPROTO_TCP, libc::TCP_FASTOPEN_CONNECT)
                    if int() == 0 => {}
                (libc::SOL_SOCKET, libc::SO_BINDTODEVICE | libc::SO_BINDTOIFINDEX)
                | (libc::IPPROTO_TCP, libc::TCP_MD5SIG | libc::TCP_FASTOPEN_CONNECT)
                | (libc::IPPROTO_IP, libc::IP_TRANSPARENT | libc::IP_OPTIONS)
                | (libc::IPPROTO_IPV6, libc::IPV6_TRANSPARENT) => {
                    return Err(Refusal::new(Reason::UnsupportedOption));
                }
                _ => {}
            }
            Ok(())
        })?;
        Ok(buffers)
    }
}

fn refusal_of_lookup(error: LookupError) -> Refusal {
    match error {
        // The kernel's connect says so, too: with ECONNREFUSED, or by going elsewhere.
        LookupError::NobodyListens | LookupError::NotThisHost => Refusal::new(Reason::PeerNotHere),
        LookupError::System(errno) => Refusal::because(Reason::SystemError, errno),
        _ => Refusal::new(Reason::SystemError),
    }
}

fn refusal_of_open(error: OpenError) -> Refusal {
    let limit = |errno| {
        let reason = match errno {
            Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::NOBUFS | Errno::FBIG => {
                Reason::LimitReached
            }
            _ => Reason::SystemError,
        };
        Refusal::because(reason, errno)
    };
    match error {
        OpenError::Dial(DialError::PeerNotHere) => Refusal::new(Reason::PeerNotHere),
        OpenError::Dial(DialError::BacklogFull) => Refusal::new(Reason::BacklogFull),
        OpenError::Dial(DialError::WrongOwner { .. }) => Refusal::new(Reason::WrongOwner),
        OpenError::Dial(DialError::Lookup(error)) => refusal_of_lookup(error),
        OpenError::Dial(DialError::System { errno, .. })
        | OpenError::Segment(SegmentError::Memory { errno } | SegmentError::System { errno, .. }) => {
            limit(errno)
        }
        OpenError::Dial(_) | OpenError::Segment(_) => Refusal::new(Reason::SystemError),
    }
}
