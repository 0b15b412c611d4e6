//! What goes where, and why: the policy of DMM.
//!
//! A policy is an ordered list of rules in a TOML file that maps each socket of a program to a
//! preference list of stack instances. This crate takes the text and answers the lookups:
//!
//! ```text
//! text --parse--> Policy + Diagnostics --compile--> Image --Matcher::new--> Matcher --lookup--> Decision
//! ```
//!
//! - [`parse`] reports everything that is wrong at once, each finding with its place, an excerpt and
//!   the remedy ([`Diagnostic::render`]).
//! - [`Policy::compile`] makes an [`Image`]: flat bytes without pointers that other processes can
//!   take over, and refuse if they are damaged ([`Image::from_bytes`]).
//! - [`Matcher::lookup`] finds the first rule that matches in well under a microsecond, however many
//!   rules there are, without allocating.
//! - [`explain`] tells for one socket which rule matched and why the others did not.
//! - [`import`] translates the configuration of the C DMM.
//!
//! The crate does no I/O, starts no threads and holds no global state: it runs inside other people's
//! programs. What stacks can do on this host is for others to find out.
//!
//! ```
//! use dmm_policy::{Family, Key, Matcher, Process, Role, SockType};
//!
//! let parsed = dmm_policy::parse(
//!     r#"
//!     [stack.blue]
//!     type = "kernel"
//!     netns = "blue"
//!
//!     [[rule]]
//!     name = "cache traffic"
//!     match = { program = "redis-*", role = "connect", remote = "10.0.0.0/8" }
//!     stack = "blue"
//!     "#,
//!     "policy.toml",
//! );
//! let policy = parsed.policy.expect("no errors");
//! let process = Process { name: "redis-cli".to_owned(), ..Process::default() };
//! let matcher = Matcher::new(policy.compile(), process);
//! let decision = matcher.lookup(&Key {
//!     role: Role::Connect,
//!     family: Family::Inet,
//!     sock_type: SockType::Stream,
//!     protocol: 6,
//!     local: None,
//!     remote: Some("10.1.2.3:6379".parse()?),
//!     uid: 1000,
//!     priority: None,
//!     dscp: None,
//! });
//! assert_eq!(matcher.image().rule(decision.rule).name, "cache traffic");
//! let names: Vec<&str> = decision.stacks().map(|id| matcher.image().stack(id).name).collect();
//! assert_eq!(names, ["blue", "kernel"]);
//! # Ok::<(), std::net::AddrParseError>(())
//! ```

mod ast;
mod check;
mod compile;
mod diagnostic;
mod explain;
mod glob;
mod hash;
mod image;
pub mod import;
mod key;
mod matcher;
mod normalize;
mod options;
mod parse;
mod ranges;
mod stack;

pub use ast::{Condition, DefaultRule, Place, Policy, QosClass, Rule, Stack};
pub use diagnostic::{Diagnostic, Related, Severity};
pub use explain::{Candidate, Explanation, Failure, NearMiss, RuleRef, Socket, explain};
pub use hash::text_hash;
pub use image::{Image, ImageError, MAX_IMAGE, RuleDef, StackDef};
pub use key::{Family, Key, Process, Role, RuleId, SockType, StackId};
pub use matcher::{Decision, Matcher};
pub use options::SocketOptions;
pub use parse::{
    MAX_CLASS_RULES, MAX_CLASSES, MAX_RANGES, MAX_RULES, MAX_STACKS, MAX_TEXT, MAX_VALUES,
    NoResolver, Parsed, PasswdText, ResolveError, Resolver, format_bytes, format_dscp, parse,
    parse_quick, parse_with,
};
pub use stack::{KernelProtocol, StackKind};

use compile::shape_index;
