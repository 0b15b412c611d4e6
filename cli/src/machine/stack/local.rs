//! Whether shared memory would carry a connection: who listens at the address, whether a rendezvous is
//! there, and whose both are. Nobody is connected to, so the listening program notices nothing.

use dmm::control;
use dmm_nsocket::Reason;
use dmm_nsocket::session::rendezvous::{Listener, LookupError, Name};
use dmm_nsocket::stack::{Refusal, Request, Stack};
use dmm_policy::StackDef;
use dmm_stack_local::{Instance, source};
use rustix::io::Errno;

/// The same steps that the stack takes up to the offer.
pub(super) fn would_carry(def: &StackDef<'_>, request: &Request<'_>) -> Result<(), Refusal> {
    Instance::new(def).admit(request)?;
    let Some(remote) = request.key.remote else {
        return Ok(());
    };
    if request.key.local.is_some_and(|local| local.port() != 0) {
        return Err(Refusal::new(Reason::BoundPort));
    }
    let to = source::destination(remote);
    let listener =
        Listener::find(source::for_destination(to), to).map_err(|error| match error {
            LookupError::System(errno) => Refusal::because(Reason::SystemError, errno),
            _ => Refusal::new(Reason::PeerNotHere),
        })?;
    let name = Name::listener(listener.cookie);
    let owner = control::listens_at(name.as_bytes()).map_err(|error| {
        let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
        Refusal::because(Reason::SystemError, errno)
    })?;
    match owner.map(|owner| owner.uid) {
        None => Err(Refusal::new(Reason::PeerNotHere)),
        Some(Some(uid)) if !listener.is_spoken_for_by(uid) => Err(Refusal::new(Reason::WrongOwner)),
        Some(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpListener};

    use dmm_nsocket::session::rendezvous::{Cookie, Rendezvous};
    use dmm_policy::{Family, Key, Role, SockType};

    use super::*;

    fn try_to(remote: SocketAddr, role: Role) -> Result<(), Reason> {
        let image = dmm_policy::parse("[stack.x]\ntype = \"local\"\n", "test.toml")
            .policy
            .expect("no errors")
            .compile();
        let def = image.stacks().find(|def| def.name == "x").unwrap();
        let key = Key {
            role,
            family: Family::Inet,
            sock_type: SockType::Stream,
            protocol: 6,
            local: None,
            remote: (role == Role::Connect).then_some(remote),
            uid: 0,
            priority: None,
            dscp: None,
        };
        let request = Request {
            key: &key,
            domain: libc::AF_INET,
            kind: libc::SOCK_STREAM,
            protocol: 6,
        };
        would_carry(&def, &request).map_err(|refusal| refusal.reason)
    }

    #[test]
    fn a_connection_is_carried_if_its_listener_has_a_rendezvous() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = tcp.local_addr().unwrap();
        assert_eq!(try_to(address, Role::Connect), Err(Reason::PeerNotHere));
        let name = Name::listener(Cookie::of(&tcp).unwrap());
        let rendezvous = Rendezvous::listen(&name, 4).unwrap();
        assert_eq!(try_to(address, Role::Connect), Ok(()));
        drop(rendezvous);
        assert_eq!(try_to(address, Role::Connect), Err(Reason::PeerNotHere));
        assert_eq!(try_to(address, Role::Listen), Ok(()));
        let elsewhere = "192.0.2.1:80".parse().unwrap();
        assert_eq!(try_to(elsewhere, Role::Connect), Err(Reason::PeerNotHere));
    }
}
