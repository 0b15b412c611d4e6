//! The kernel stack: many instances of it in one program.
//!
//! An instance is a network namespace, a protocol (TCP or MPTCP), a congestion control and a set of
//! socket options, all from the policy. A plain instance costs nothing: the socket that the program
//! has made is used as it is. One in another namespace or of another protocol has the program's
//! socket replaced by one of its own, with the program's options replayed on it.
//!
//! | module | what it does |
//! |---|---|
//! | [`Instance`] (here) | implements [`Stack`]: whether and how a socket is placed |
//! | [`apply`] | an instance's options on a socket, all or none |
//! | [`netns`] | making a socket in another network namespace |

pub mod apply;
pub mod netns;

use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};

use dmm_nsocket::Reason;
use dmm_nsocket::stack::{PlaceError, Placed, Refusal, Request, Socket, Stack, placement};
use dmm_nsocket::sys;
use dmm_policy::{KernelProtocol, SockType, SocketOptions, StackDef, StackKind};
use libc::c_int;
use rustix::io::Errno;
use rustix::net::{AddressFamily, Protocol, SocketFlags, SocketType};

/// A kernel instance, as a view of its definition in the policy.
#[derive(Clone, Copy, Debug)]
pub struct Instance<'p> {
    def: StackDef<'p>,
    options: SocketOptions<'p>,
}

impl<'p> Instance<'p> {
    /// The instance that `def` describes. A definition of another kind gives an instance that
    /// admits nothing.
    pub fn new(def: StackDef<'p>) -> Self {
        Self {
            options: def.options,
            def,
        }
    }

    /// The kernel as it is, without the options that the policy gives it: what carries a socket
    /// when nothing else can.
    pub fn bare(def: StackDef<'p>) -> Self {
        Self {
            options: SocketOptions::default(),
            def,
        }
    }

    /// Which placement ([`placement`]) this instance gives a socket: 0 where it uses the one that
    /// the program has made.
    pub fn placement(&self, request: &Request<'_>) -> u64 {
        let protocol = self.protocol(request);
        if self.def.netns.is_none() && same_protocol(protocol, request) {
            0
        } else {
            placement(self.def.netns, protocol)
        }
    }

    /// The protocol that a socket of this instance is made with.
    fn protocol(&self, request: &Request<'_>) -> c_int {
        match self.def.protocol {
            Some(KernelProtocol::Mptcp) if is_tcp(request) => libc::IPPROTO_MPTCP,
            Some(KernelProtocol::Tcp) if is_tcp(request) => libc::IPPROTO_TCP,
            _ => request.protocol,
        }
    }

    /// Makes this instance's own socket, with all that the program and the policy have set on it.
    fn make(&self, request: &Request<'_>, socket: &dyn Socket) -> Result<OwnedFd, Refusal> {
        let protocol = self.protocol(request);
        let make = || new_socket(request.domain, request.kind, protocol);
        let made = match self.def.netns {
            Some(name) => netns::within(name, make)?,
            None => make(),
        };
        let new = made.map_err(|errno| Refusal::because(reason_of(errno), errno))?;
        socket.recorded(&mut |option| {
            sys::setsockopt(&new, option.level, option.name, option.value)
                .map_err(|errno| Refusal::because(Reason::UnsupportedOption, errno))
        })?;
        Ok(new)
    }

    /// Places the socket by putting one of this instance's own in its place.
    fn replace(
        &self,
        request: &Request<'_>,
        socket: &mut dyn Socket,
        placement: u64,
    ) -> Result<(), PlaceError> {
        if let Some(reason) = socket.pinned() {
            return Err(Refusal::new(reason).into());
        }
        let new = self.make(request, socket)?;
        let applied = apply::apply(new.as_fd(), request, &self.options, self.def.congestion)?;
        let late = match (socket.local(), request.key.local) {
            (Some(held), _) => match rustix::net::bind(&new, &held) {
                Ok(()) => None,
                // The socket that is about to be replaced holds the address in this namespace.
                Err(Errno::ADDRINUSE) if self.def.netns.is_none() => Some(held),
                Err(errno) => {
                    return Err(Refusal::because(Reason::AddressUnavailable, errno).into());
                }
            },
            // The program is about to bind this address: an instance that has it not is passed over.
            (None, Some(wanted)) => match rustix::net::bind(&new, &wanted) {
                Err(errno @ Errno::ADDRNOTAVAIL) => {
                    return Err(Refusal::because(Reason::AddressUnavailable, errno).into());
                }
                Err(errno @ Errno::ADDRINUSE) => return Err(PlaceError::Failed(errno)),
                // Bound, or not at all: then the program's own call fails as this one did.
                Ok(()) | Err(_) => None,
            },
            (None, None) => None,
        };
        socket.replace(new, placement)?;
        applied.report(socket);
        match late {
            Some(local) => rebind(socket, &local),
            None => Ok(()),
        }
    }
}

impl Stack for Instance<'_> {
    fn name(&self) -> &str {
        self.def.name
    }

    fn kind(&self) -> StackKind {
        self.def.kind
    }

    fn admit(&self, request: &Request<'_>) -> Result<(), Refusal> {
        if self.def.kind != StackKind::Kernel {
            return Err(Refusal::new(Reason::NotInThisBuild));
        }
        let mptcp = self.def.protocol == Some(KernelProtocol::Mptcp);
        if mptcp && !is_tcp(request) {
            return Err(Refusal::new(Reason::UnsupportedType));
        }
        match self.def.netns {
            Some(name) => netns::exists(name),
            None => Ok(()),
        }
    }

    fn place(&self, request: &Request<'_>, socket: &mut dyn Socket) -> Result<Placed, PlaceError> {
        let wanted = self.placement(request);
        if socket.placement() != wanted {
            self.replace(request, socket, wanted)?;
        } else {
            apply::apply(socket.fd(), request, &self.options, self.def.congestion)?.report(socket);
        }
        Ok(Placed::Kernel)
    }
}

/// The old socket is gone and with it its hold on the address: take the address over. Another
/// program may have been quicker; then the program's call fails as its own bind would have.
fn rebind(socket: &dyn Socket, local: &SocketAddr) -> Result<(), PlaceError> {
    rustix::net::bind(socket.fd(), local).map_err(PlaceError::Failed)
}

fn is_tcp(request: &Request<'_>) -> bool {
    request.key.sock_type == SockType::Stream
        && matches!(
            request.protocol,
            0 | libc::IPPROTO_TCP | libc::IPPROTO_MPTCP
        )
}

/// Whether a socket that the program has made is already one of `protocol`.
fn same_protocol(protocol: c_int, request: &Request<'_>) -> bool {
    let plain = |p| {
        if p == 0 && is_tcp(request) {
            libc::IPPROTO_TCP
        } else {
            p
        }
    };
    plain(protocol) == plain(request.protocol)
}

fn new_socket(domain: c_int, kind: c_int, protocol: c_int) -> Result<OwnedFd, Errno> {
    let protocol = u32::try_from(protocol)
        .ok()
        .and_then(|p| std::num::NonZeroU32::new(p).map(Protocol::from_raw));
    rustix::net::socket_with(
        AddressFamily::from_raw(domain as u16),
        SocketType::from_raw(kind as u32),
        SocketFlags::CLOEXEC,
        protocol,
    )
}

fn reason_of(errno: Errno) -> Reason {
    match errno {
        Errno::PROTONOSUPPORT | Errno::PROTOTYPE | Errno::NOPROTOOPT => Reason::ProtocolRefused,
        Errno::AFNOSUPPORT => Reason::UnsupportedFamily,
        Errno::SOCKTNOSUPPORT => Reason::UnsupportedType,
        Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM => Reason::LimitReached,
        _ => Reason::SystemError,
    }
}
