//! A socket in JSON: what the kernel and the segment say, made one.

use std::net::SocketAddr;

use dmm_nsocket::stats::{Name, PassedInfo, RefusedInfo, SocketRole};
use serde::{Serialize, Serializer};

use super::{KernelSocket, Session, SocketEntry};

/// The keys of `dmm ss --json`.
#[derive(Serialize)]
struct Shown<'a> {
    pid: u32,
    program: &'a str,
    label: &'a str,
    fd: u32,
    protocol: String,
    family: u16,
    state: &'static str,
    local: Option<SocketAddr>,
    remote: Option<SocketAddr>,
    role: Option<SocketRole>,
    stack: &'a Name,
    rule: &'a Name,
    rule_line: u32,
    class: &'a Name,
    policy_hash: String,
    sent: u64,
    received: u64,
    created_ns: u64,
    age_s: u64,
    connect_ns: u64,
    inode: u64,
    passed_over: Vec<Passed<'a>>,
    passed_over_unrecorded: u16,
    options_applied: u16,
    options_refused: &'a [RefusedInfo],
    options_refused_unrecorded: u16,
    kernel: Option<&'a KernelSocket>,
    session: Option<&'a Session>,
}

#[derive(Serialize)]
struct Passed<'a> {
    stack: &'a Name,
    reason: String,
    errno: i32,
    sentence: String,
    remedy: &'static str,
}

impl Serialize for SocketEntry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let socket = &self.socket;
        Shown {
            pid: self.pid,
            program: &self.program,
            label: &self.label,
            fd: socket.fd,
            protocol: self.protocol(),
            family: socket.family,
            state: self.state(),
            local: self.local(),
            remote: self.remote(),
            role: socket.role,
            stack: &socket.stack,
            rule: &socket.rule,
            rule_line: socket.rule_line,
            class: &socket.class,
            policy_hash: format!("{:016x}", socket.policy_hash),
            sent: socket.sent,
            received: socket.received,
            created_ns: socket.created_ns,
            age_s: self.age_s,
            connect_ns: socket.connect_ns,
            inode: socket.inode,
            passed_over: socket.passed_over.iter().map(passed).collect(),
            passed_over_unrecorded: socket.passed_over_unrecorded,
            options_applied: socket.options_applied,
            options_refused: &socket.options_refused,
            options_refused_unrecorded: socket.options_refused_unrecorded,
            kernel: self.kernel.as_ref(),
            session: self.session.as_ref(),
        }
        .serialize(serializer)
    }
}

fn passed(passed: &PassedInfo) -> Passed<'_> {
    Passed {
        stack: &passed.stack,
        reason: passed.reason.name(),
        errno: passed.errno,
        sentence: passed.reason.to_string(),
        remedy: passed.reason.remedy(),
    }
}
