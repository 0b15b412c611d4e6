//! How one socket came to its stack.

use std::path::Path;

use dmm_nsocket::stats::SocketInfo;
use dmm_policy::{Policy, StackId};
use serde::Serialize;

use super::{SocketEntry, process, processes, sockets};
use crate::Error;
use crate::policy_store::{Store, Version};

/// The story of a socket.
#[derive(Clone, Debug, Serialize)]
pub struct Why {
    /// The socket, with the stacks that were passed over.
    pub socket: SocketEntry,
    /// The policy's file; empty for the built-in policy.
    pub policy_file: String,
    /// The version that decided, where the history knows it.
    pub version: Option<Version>,
    /// The file holds another text by now: a new socket may go elsewhere.
    pub policy_changed: bool,
    /// The rule's preference list, where the text of that version is still there.
    pub candidates: Option<Vec<String>>,
}

/// Tells why descriptor `fd` of process `pid` is where it is.
///
/// # Errors
///
/// [`Error::NoProcess`], [`Error::NotYours`] or [`Error::NoSocket`].
pub fn why(pid: u32, fd: u32) -> Result<Why, Error> {
    let process = process(pid)?;
    let policy_file = process
        .snapshot
        .as_ref()
        .map(|snapshot| snapshot.policy.path.to_string())
        .unwrap_or_default();
    let socket = sockets(&[process])
        .into_iter()
        .find(|entry| entry.socket.fd == fd)
        .ok_or(Error::NoSocket { pid, fd })?;
    let socket = with_peers(socket)?;
    let mut why = Why {
        socket,
        policy_file,
        version: None,
        policy_changed: false,
        candidates: None,
    };
    if !why.policy_file.is_empty() && why.socket.socket.role.is_some() {
        let store = Store::open(Path::new(&why.policy_file))?;
        let hash = why.socket.socket.policy_hash;
        why.version = store.with_hash(hash)?;
        let in_force = store
            .current_text()?
            .map(|text| dmm_policy::text_hash(&text));
        why.policy_changed = in_force.is_some_and(|in_force| in_force != hash);
        why.candidates = store
            .text_with_hash(hash)?
            .and_then(|text| store.check(&text).ok())
            .and_then(|(policy, _)| candidates(&policy, &why.socket.socket));
    }
    Ok(why)
}

/// A session's other end is in another process, as a rule.
fn with_peers(socket: SocketEntry) -> Result<SocketEntry, Error> {
    if socket.session.is_none() {
        return Ok(socket);
    }
    let same = |entry: &SocketEntry| {
        (entry.pid, entry.socket.fd, entry.socket.inode)
            == (socket.pid, socket.socket.fd, socket.socket.inode)
    };
    let found = sockets(&processes()?.processes).into_iter().find(same);
    // It may have been closed just now: then the story is told as it was.
    Ok(found.unwrap_or(socket))
}

fn candidates(policy: &Policy, socket: &SocketInfo) -> Option<Vec<String>> {
    let rule = policy
        .rules()
        .iter()
        .find(|rule| rule.name == *socket.rule && rule.place.line == socket.rule_line);
    let default = policy.default();
    let stacks: &[StackId] = match rule {
        Some(rule) => &rule.stacks,
        None if default.place.line == socket.rule_line => &default.stacks,
        None => return None,
    };
    stacks
        .iter()
        .map(|id| {
            policy
                .stacks()
                .get(usize::from(id.0))
                .map(|stack| stack.name.clone())
        })
        .collect()
}
