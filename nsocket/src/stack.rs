//! What a stack is to the session layer.
//!
//! A stack instance is asked twice. [`Stack::admit`] says, without any side effect, whether the
//! instance could carry a socket: it is what `dmm policy explain` calls. [`Stack::place`] makes it
//! so: after it the socket *is* on the instance, or nothing has changed and a [`Refusal`] says why.
//!
//! A stack never sees a descriptor table or a runtime's handle; it sees a [`Socket`], which the
//! preload implements on descriptor numbers and a runtime on its own sockets. What comes back is a
//! [`Placed`]: either the kernel object under the program's handle carries the data (the kernel
//! stack), so that the program's own call goes on, or the stack takes the call over.

use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd};

use dmm_policy::{Key, StackKind};
use libc::c_int;
use rustix::io::Errno;

use crate::Reason;
use crate::options::Recorded;
use crate::session::board::Board;
use crate::session::endpoint::Endpoint;

/// A socket that has to be bound to a stack instance, as the stacks see it.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// What the policy was asked with.
    pub key: &'a Key,
    /// Address family, as in socket(2).
    pub domain: c_int,
    /// Type without flags, as in socket(2).
    pub kind: c_int,
    /// Protocol, as in socket(2); 0 is the type's default.
    pub protocol: c_int,
}

/// Why an instance does not take a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The reason, for people and tools.
    pub reason: Reason,
    /// The error behind it, where a system call gave one.
    pub errno: Option<Errno>,
}

impl Refusal {
    /// A refusal without a system call behind it.
    pub const fn new(reason: Reason) -> Self {
        Self {
            reason,
            errno: None,
        }
    }

    /// A refusal that a system call's error caused.
    pub const fn because(reason: Reason, errno: Errno) -> Self {
        Self {
            reason,
            errno: Some(errno),
        }
    }
}

/// How a placement can end badly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlaceError {
    /// The instance does not take the socket, which is as it was: the next one may be asked.
    Refused(Refusal),
    /// The socket was on its way and is lost for others; the program's call fails with this.
    Failed(Errno),
}

impl From<Refusal> for PlaceError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// The program's side of a socket that is being placed.
pub trait Socket {
    /// The kernel object that stands for the socket now.
    fn fd(&self) -> BorrowedFd<'_>;

    /// Calls `each` with the options that the program has set so far, oldest first, until it fails.
    fn recorded(
        &self,
        each: &mut dyn FnMut(Recorded<'_>) -> Result<(), Refusal>,
    ) -> Result<(), Refusal>;

    /// The local address, if the program has bound one.
    fn local(&self) -> Option<SocketAddr>;

    /// Which placement the kernel object has had ([`crate::placement`]); 0 is the one that
    /// socket(2) gave it.
    fn placement(&self) -> u64;

    /// Why the kernel object must stay, if it must.
    fn pinned(&self) -> Option<Reason>;

    /// Puts another kernel object under the program's handle, and under every duplicate of it:
    /// status flags, owner and readiness registrations go along. On an error nothing has changed.
    fn replace(&mut self, new: OwnedFd, placement: u64) -> Result<(), Refusal>;

    /// Where this process wants to be told of sessions, if it has such a place.
    fn board(&self) -> Option<&Board>;

    /// Whether a session can be what the program has made of the socket so far, with its options. To be
    /// asked before a session is opened: the other side sees it come and go.
    fn fits_session(&self) -> Result<(), Refusal>;

    /// Puts a session under the program's handle, and under every duplicate of it, in place of the
    /// kernel object: what [`replace`](Self::replace) takes along goes along. On an error nothing has
    /// changed, and the session is closed.
    fn carry(&mut self, session: Session) -> Result<(), Refusal>;

    /// That many options of the instance were set on the socket.
    fn applied(&mut self, options: u16);

    /// An option of the instance that is not what the policy says, though that does not stop the
    /// placement: the operator should see it.
    fn note(&mut self, note: Note);
}

/// A session that has been opened for a socket.
#[derive(Debug)]
pub struct Session {
    /// The kernel object that stands for it.
    pub socket: OwnedFd,
    /// The end of it that is ours.
    pub endpoint: Endpoint,
    /// What getsockname(2) is to say.
    pub local: SocketAddr,
    /// What getpeername(2) is to say.
    pub remote: SocketAddr,
}

/// An option of an instance that was not applied as the policy says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Note {
    /// As in setsockopt(2).
    pub level: c_int,
    /// As in setsockopt(2).
    pub option: c_int,
    /// What stands in the way.
    pub errno: Errno,
}

/// How a placed socket is carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Placed {
    /// System calls on the descriptor carry it: the program's own call goes on.
    Kernel,
    /// A session carries it: the program's call has been done.
    Session,
    /// The stack serves a listener beside others: the next in the list is asked, too. What has to be
    /// done for that is done when the socket listens.
    Beside,
}

/// A stack instance.
pub trait Stack {
    /// The instance's name in the policy.
    fn name(&self) -> &str;

    /// What kind of stack it is.
    fn kind(&self) -> StackKind;

    /// Whether the instance could carry such a socket now. No side effects; may look at the
    /// machine (does the namespace exist?) but does not wait.
    fn admit(&self, request: &Request<'_>) -> Result<(), Refusal>;

    /// Binds the socket to the instance.
    fn place(&self, request: &Request<'_>, socket: &mut dyn Socket) -> Result<Placed, PlaceError>;
}

/// How a walk down a preference list ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selected {
    /// The candidate of this number (from 0) carries the socket.
    On(usize, Placed),
    /// Every candidate was passed over.
    None,
    /// The program's call fails with this.
    Failed(Errno),
}

/// Walks down a preference list: the first instance that takes the socket has it. Each one that is
/// passed over is reported to `passed`, with its number in the list, and each one that serves the socket
/// beside that one to `beside`.
pub fn select<S: Stack>(
    candidates: impl Iterator<Item = S>,
    request: &Request<'_>,
    socket: &mut dyn Socket,
    mut passed: impl FnMut(usize, &S, Refusal),
    mut beside: impl FnMut(usize, &S),
) -> Selected {
    for (i, stack) in candidates.enumerate() {
        let placed = match stack.admit(request) {
            Ok(()) => stack.place(request, socket),
            Err(refusal) => Err(refusal.into()),
        };
        match placed {
            Ok(Placed::Beside) => beside(i, &stack),
            Ok(placed) => return Selected::On(i, placed),
            Err(PlaceError::Refused(refusal)) => passed(i, &stack, refusal),
            Err(PlaceError::Failed(errno)) => return Selected::Failed(errno),
        }
    }
    Selected::None
}

/// Identity of a placement: the namespace and the protocol of a kernel object that has taken the
/// place of the one that socket(2) made. Never 0, which stands for that one.
pub fn placement(netns: Option<&str>, protocol: c_int) -> u64 {
    // FNV-1a: short strings, no state, and only ever compared within one process.
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = netns
        .unwrap_or_default()
        .bytes()
        .chain(protocol.to_ne_bytes())
        .fold(0xcbf2_9ce4_8422_2325, step);
    hash.max(1)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddrV4};
    use std::os::fd::AsFd;

    use dmm_policy::{Family, Role, SockType};

    use super::*;

    struct Held(OwnedFd);

    impl Socket for Held {
        fn fd(&self) -> BorrowedFd<'_> {
            self.0.as_fd()
        }
        fn recorded(
            &self,
            _: &mut dyn FnMut(Recorded<'_>) -> Result<(), Refusal>,
        ) -> Result<(), Refusal> {
            Ok(())
        }
        fn local(&self) -> Option<SocketAddr> {
            None
        }
        fn placement(&self) -> u64 {
            0
        }
        fn pinned(&self) -> Option<Reason> {
            None
        }
        fn replace(&mut self, new: OwnedFd, _: u64) -> Result<(), Refusal> {
            self.0 = new;
            Ok(())
        }
        fn board(&self) -> Option<&Board> {
            None
        }
        fn fits_session(&self) -> Result<(), Refusal> {
            Ok(())
        }
        fn carry(&mut self, session: Session) -> Result<(), Refusal> {
            self.0 = session.socket;
            Ok(())
        }
        fn applied(&mut self, _: u16) {}
        fn note(&mut self, _: Note) {}
    }

    struct Fixed(
        &'static str,
        Result<(), Refusal>,
        Result<Placed, PlaceError>,
    );

    impl Stack for Fixed {
        fn name(&self) -> &str {
            self.0
        }
        fn kind(&self) -> StackKind {
            StackKind::Kernel
        }
        fn admit(&self, _: &Request<'_>) -> Result<(), Refusal> {
            self.1
        }
        fn place(&self, _: &Request<'_>, _: &mut dyn Socket) -> Result<Placed, PlaceError> {
            self.2
        }
    }

    fn walk(candidates: Vec<Fixed>) -> (Selected, Vec<(usize, &'static str, Reason)>) {
        let key = Key {
            role: Role::Connect,
            family: Family::Inet,
            sock_type: SockType::Stream,
            protocol: 6,
            local: None,
            remote: Some(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 80).into()),
            uid: 0,
            priority: None,
            dscp: None,
        };
        let request = Request {
            key: &key,
            domain: libc::AF_INET,
            kind: libc::SOCK_STREAM,
            protocol: 0,
        };
        let mut socket = Held(std::fs::File::open("/dev/null").unwrap().into());
        let mut trail = Vec::new();
        let mut beside = 0;
        let passed = |i, s: &Fixed, r: Refusal| trail.push((i, s.0, r.reason));
        let candidates = candidates.into_iter();
        let selected = select(candidates, &request, &mut socket, passed, |_, _| {
            beside += 1;
        });
        assert_eq!(beside, 0);
        (selected, trail)
    }

    #[test]
    fn the_first_that_takes_it_has_it_and_the_others_leave_a_reason() {
        let away = Err(Refusal::new(Reason::NotRunning));
        let refused = Err(PlaceError::Refused(Refusal::because(
            Reason::NamespaceDenied,
            Errno::PERM,
        )));
        let (selected, trail) = walk(vec![
            Fixed("a", away, Ok(Placed::Kernel)),
            Fixed("b", Ok(()), refused),
            Fixed("c", Ok(()), Ok(Placed::Kernel)),
            Fixed("d", Ok(()), Ok(Placed::Kernel)),
        ]);
        assert_eq!(selected, Selected::On(2, Placed::Kernel));
        assert_eq!(
            trail,
            [
                (0, "a", Reason::NotRunning),
                (1, "b", Reason::NamespaceDenied)
            ]
        );
    }

    #[test]
    fn a_failure_ends_the_walk() {
        let failed = Err(PlaceError::Failed(Errno::ADDRINUSE));
        let (selected, trail) = walk(vec![
            Fixed("a", Ok(()), failed),
            Fixed("b", Ok(()), Ok(Placed::Kernel)),
        ]);
        assert_eq!(selected, Selected::Failed(Errno::ADDRINUSE));
        assert!(trail.is_empty());
    }

    #[test]
    fn an_exhausted_list_is_none() {
        let away = Err(Refusal::new(Reason::Unhealthy));
        let (selected, trail) = walk(vec![Fixed("a", away, Ok(Placed::Kernel))]);
        assert_eq!(selected, Selected::None);
        assert_eq!(trail.len(), 1);
    }

    #[test]
    fn placements_differ() {
        let all = [
            placement(None, 6),
            placement(None, 262),
            placement(Some("blue"), 6),
            placement(Some("blue"), 262),
        ];
        for (i, a) in all.iter().enumerate() {
            assert!(*a != 0 && all[i + 1..].iter().all(|b| a != b));
        }
    }
}
