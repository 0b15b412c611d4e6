//! Whether a stack instance would take a socket on this machine, for this user: found by letting it
//! have one that nobody uses.
//!
//! It is the very code that runs in the preload: the socket is made, moved to the instance's namespace
//! and protocol, given its options, and closed. Nothing is bound, connected or sent. What shared memory
//! would carry is found by looking who listens: see [`local`].

mod local;

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use dmm_nsocket::Reason;
use dmm_nsocket::options::Recorded;
use dmm_nsocket::session::board::Board;
use dmm_nsocket::stack::{Note, PlaceError, Refusal, Request, Session, Socket, Stack};
use dmm_nsocket::stats::RefusedInfo;
use dmm_policy::{Family, Key, Role, SockType, StackDef, StackKind};
use dmm_stack_kernel::Instance;
use rustix::net::{AddressFamily, Protocol, SocketFlags, SocketType};
use serde::Serialize;

use crate::cmd::why::option_name;
use crate::plain;

/// How a stack instance took to a socket.
#[derive(Clone, Debug, Serialize)]
pub struct Trial {
    /// Whether it would carry it.
    pub carries: bool,
    /// It would serve a listener beside the next one of the list, from the same descriptor.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub beside: bool,
    /// Why it would not, or what it would do only in part.
    pub reasons: Vec<Why>,
}

impl From<Note> for Why {
    fn from(note: Note) -> Self {
        let name = option_name(&RefusedInfo {
            level: note.level as u16,
            option: note.option as u16,
            errno: note.errno.raw_os_error(),
        });
        Self {
            reason: Reason::OptionRefused,
            text: format!("{name} is not set as the policy says"),
            errno: Some(plain(&note.errno.into())),
            remedy: "the socket goes there all the same; raise the limit that stands in the way",
        }
    }
}

/// A reason as people and scripts read it.
#[derive(Clone, Debug, Serialize)]
pub struct Why {
    /// Its short name.
    pub reason: Reason,
    /// The sentence.
    pub text: String,
    /// The error behind it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errno: Option<String>,
    /// What to do.
    pub remedy: &'static str,
}

impl Trial {
    /// Offers the instance a socket like the one of `key`.
    pub fn run(def: StackDef<'_>, key: &Key) -> Self {
        let request = Request {
            key,
            domain: match key.family {
                Family::Inet => libc::AF_INET,
                Family::Inet6 => libc::AF_INET6,
            },
            kind: match key.sock_type {
                SockType::Stream => libc::SOCK_STREAM,
                SockType::Datagram => libc::SOCK_DGRAM,
                SockType::Raw => libc::SOCK_RAW,
                SockType::SeqPacket => libc::SOCK_SEQPACKET,
            },
            protocol: i32::from(key.protocol),
        };
        if def.kind == StackKind::Local {
            return Self::of_local(&def, &request);
        }
        let instance = Instance::new(def);
        let tried = instance
            .admit(&request)
            .map_err(PlaceError::from)
            .and_then(|()| {
                let mut socket = Offered::new(&request)?;
                instance.place(&request, &mut socket)?;
                Ok(socket.notes)
            });
        match tried {
            Ok(notes) => Self {
                reasons: notes.into_iter().map(Why::from).collect(),
                ..Self::carried()
            },
            Err(PlaceError::Refused(refusal)) => Self::refused(refusal),
            Err(PlaceError::Failed(errno)) => {
                Self::refused(Refusal::because(Reason::SystemError, errno))
            }
        }
    }

    fn of_local(def: &StackDef<'_>, request: &Request<'_>) -> Self {
        match local::would_carry(def, request) {
            Ok(()) => Self {
                beside: request.key.role == Role::Listen,
                ..Self::carried()
            },
            Err(refusal) => Self::refused(refusal),
        }
    }

    const fn carried() -> Self {
        Self {
            carries: true,
            beside: false,
            reasons: Vec::new(),
        }
    }

    fn refused(refusal: Refusal) -> Self {
        Self {
            carries: false,
            beside: false,
            reasons: vec![refusal.into()],
        }
    }
}

impl From<Refusal> for Why {
    fn from(refusal: Refusal) -> Self {
        Self {
            reason: refusal.reason,
            text: refusal.reason.sentence().to_owned(),
            errno: refusal.errno.map(|errno| plain(&errno.into())),
            remedy: refusal.reason.remedy(),
        }
    }
}

/// A socket that no program has.
struct Offered {
    fd: OwnedFd,
    notes: Vec<Note>,
}

impl Offered {
    fn new(request: &Request<'_>) -> Result<Self, Refusal> {
        let protocol = u32::try_from(request.protocol)
            .ok()
            .and_then(|number| number.try_into().ok())
            .map(Protocol::from_raw);
        let family = match request.key.family {
            Family::Inet => AddressFamily::INET,
            Family::Inet6 => AddressFamily::INET6,
        };
        let kind = match request.key.sock_type {
            SockType::Stream => SocketType::STREAM,
            SockType::Datagram => SocketType::DGRAM,
            SockType::Raw => SocketType::RAW,
            SockType::SeqPacket => SocketType::SEQPACKET,
        };
        let fd = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, protocol)
            .map_err(|errno| Refusal::because(Reason::SystemError, errno))?;
        Ok(Self {
            fd,
            notes: Vec::new(),
        })
    }
}

impl Socket for Offered {
    fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    fn recorded(
        &self,
        _each: &mut dyn FnMut(Recorded<'_>) -> Result<(), Refusal>,
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

    fn replace(&mut self, new: OwnedFd, _placement: u64) -> Result<(), Refusal> {
        self.fd = new;
        Ok(())
    }

    fn board(&self) -> Option<&Board> {
        None
    }

    fn fits_session(&self) -> Result<(), Refusal> {
        Ok(())
    }

    fn carry(&mut self, _session: Session) -> Result<(), Refusal> {
        Ok(())
    }

    fn applied(&mut self, _options: u16) {}

    fn note(&mut self, note: Note) {
        self.notes.push(note);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dmm_policy::Policy;

    fn trial(policy: &str, stack: &str) -> Trial {
        let parsed = dmm_policy::parse(policy, "test.toml");
        let image = parsed.policy.expect("no errors").compile();
        let def = image.stacks().find(|def| def.name == stack).unwrap();
        Trial::run(def, &key())
    }

    fn key() -> Key {
        Key {
            role: Role::Connect,
            family: Family::Inet,
            sock_type: SockType::Stream,
            protocol: 6,
            local: None,
            remote: Some("10.1.2.3:80".parse().unwrap()),
            uid: 0,
            priority: None,
            dscp: None,
        }
    }

    #[test]
    fn the_kernel_takes_everything() {
        let image = Policy::builtin().compile();
        let def = image.stacks().next().unwrap();
        let trial = Trial::run(def, &key());
        assert!(trial.carries, "{trial:?}");
        assert!(trial.reasons.is_empty(), "{trial:?}");
    }

    #[test]
    fn what_is_missing_is_named() {
        let netns = "[stack.x]\ntype = \"kernel\"\nnetns = \"no-such-namespace\"\n";
        let trial_netns = trial(netns, "x");
        assert!(!trial_netns.carries);
        assert_eq!(trial_netns.reasons[0].reason, Reason::NoSuchNamespace);
        let congestion = "[stack.x]\ntype = \"kernel\"\ncongestion = \"nosuch\"\n";
        let trial_congestion = trial(congestion, "x");
        assert!(!trial_congestion.carries);
        assert_eq!(
            trial_congestion.reasons[0].reason,
            Reason::CongestionUnavailable
        );
        let plugin = "[stack.x]\ntype = \"plugin\"\n";
        assert_eq!(trial(plugin, "x").reasons[0].reason, Reason::NotInThisBuild);
        let local = "[stack.x]\ntype = \"local\"\n";
        assert_eq!(trial(local, "x").reasons[0].reason, Reason::PeerNotHere);
    }
}
