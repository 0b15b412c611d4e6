//! How the two sides of a session find each other: a Unix socket with a name that both can work out.
//!
//! | module | what it holds |
//! |---|---|
//! | [`name`] | the abstract names |
//! | [`owner`] | which listener TCP would have reached, and who owns it |
//! | [`offer`] | the message that opens a session, as bytes |
//! | [`answer`] | the message that may come back |
//! | [`message`] | a message and the descriptors that come with it, on the wire |
//! | [`route`] | which addresses are this host's |
//! | [`peer`] | who is at the other end |
//! | [`connect`] | the connecting side |
//! | [`listen`] | the accepting side |
//!
//! # Who is found
//!
//! The connecting side asks the kernel which listening socket a TCP connection to the address would
//! reach (sock_diag(7), an exact lookup, which runs the very function that a SYN is looked up with).
//! So wildcards, dual-stack listeners, `IPV6_V6ONLY`, sockets bound to a device and the choice within
//! a `SO_REUSEPORT` group are TCP's own. The answer has the socket's *cookie*, a number that the
//! kernel gives to one socket in its life, and the rendezvous is named for it. A listener that is not
//! under DMM has a cookie too, but no rendezvous of that name: the connection is refused, and the
//! kernel carries it.
//!
//! Abstract names have the scope of a network namespace, as ports have. Anybody may bind one, so the
//! connecting side looks at the credentials of the rendezvous before it sends a byte: its owner must
//! be the owner of the TCP listener, or root. Who takes a name that is not his gets no connections; all
//! he does is to keep a listener from having a rendezvous ([`ListenError::NameTaken`]), which then
//! stays with the kernel.
//!
//! Not asked, as there is no way to: packet filters (netfilter, BPF) that would have dropped the SYN.
//! Whoever filters loopback traffic among local programs says so in the policy.
//!
//! # What is sent
//!
//! One [`Offer`] of fixed size with the segment and up to three more descriptors, in one message,
//! which a Unix stream socket delivers whole or not at all. Then the connection belongs to the
//! program: what follows on it is the session's.
//!
//! The connection counts as established as soon as the offer is sent, before the program at the other
//! end calls accept(2), as TCP's does once it is in the accept queue. The accepting side then says
//! [`answer`](super::segment::Status::answer), or resets.
//!
//! # A full backlog
//!
//! TCP drops a SYN that finds the accept queue full, and the client tries again after a second. Here
//! the connecting side is told at once ([`DialError::BacklogFull`]) and leaves the connection to
//! the kernel, whose queue is another one: a program with a backlog of n may so find up to 2n
//! connections waiting.

#![cfg(not(loom))]

pub mod answer;
mod aside;
pub mod connect;
pub mod listen;
pub mod message;
pub mod name;
mod netlink;
pub mod offer;
pub mod owner;
pub mod peer;
pub mod route;

pub use answer::{Answer, AnswerError};
pub use connect::{DialError, Dialed};
pub use listen::{AcceptError, Accepted, ListenError, Rendezvous, SentAway};
pub use name::Name;
pub use offer::{Attached, Attachments, Offer, OfferError};
pub use owner::{Cookie, Listener, LookupError};
pub use peer::Credentials;
