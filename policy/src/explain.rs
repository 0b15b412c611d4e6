//! Tells for one socket which rule it gets, and why not another.
//!
//! The rules are evaluated here one by one, as a person would read them, and not by the search
//! structure: what `explain` says and what [`crate::Matcher::lookup`] does are two answers to the
//! same question, and tests hold them against each other.

use std::net::SocketAddr;

use serde::Serialize;

use crate::{
    Family, Key, Policy, Process, Role, RuleId, SockType, StackId, StackKind,
    ast::{Addresses, Condition, Match},
    glob::Glob,
    normalize::{Endpoint, service_port},
    parse::{format_dscp, protocol_name},
};

/// Near misses, and later matches, that an explanation keeps of each.
const KEPT: usize = 8;

/// Explains which rule a socket of a process gets.
pub fn explain(policy: &Policy, process: &Process, key: &Key) -> Explanation {
    let (mut class, class_from) = initial_class(policy, key);
    let mut explanation = Explanation {
        file: policy.file().to_owned(),
        socket: Socket::new(process, key),
        class_from,
        class_rules: Vec::new(),
        rule: RuleRef::default_of(policy),
        qos: None,
        fallback: policy.default().fallback,
        candidates: candidates(policy, &policy.default().stacks),
        considered: 0,
        near_misses: Vec::new(),
        too_late: Vec::new(),
    };
    let mut decided = false;
    for (index, rule) in policy.rules().iter().enumerate() {
        let reference = RuleRef::new(policy, index);
        let failed = Question {
            policy,
            process,
            key,
            class,
        }
        .failures(&rule.matching);
        explanation.considered += usize::from(!decided);
        match (decided, failed.is_empty()) {
            (false, true) if rule.only_sets_class() => {
                class = rule.qos;
                explanation.class_rules.push(reference);
            }
            (false, true) => {
                decided = true;
                class = rule.qos.or(class);
                explanation.rule = reference;
                explanation.fallback = rule.fallback;
                explanation.candidates = candidates(policy, &rule.stacks);
                explanation.qos = class.map(|class| policy.classes()[class].name.clone());
            }
            (false, false) => explanation.near_misses.push(NearMiss {
                rule: reference,
                failed,
            }),
            (true, true) if explanation.too_late.len() < KEPT => {
                explanation.too_late.push(reference);
            }
            (true, _) => {}
        }
    }
    if !decided {
        explanation.qos = class.map(|class| policy.classes()[class].name.clone());
    }
    explanation
        .near_misses
        .sort_by_key(|miss| miss.failed.len());
    explanation.near_misses.truncate(KEPT);
    explanation
}

/// The answer for one socket. What the instances can do on this host is not in it: whoever knows adds
/// that to the candidates.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    /// The policy's file.
    pub file: String,
    /// The socket as rules see it.
    pub socket: Socket,
    /// What gave the socket a class before the first rule: `SO_PRIORITY 6`, `DSCP af41`.
    pub class_from: Option<String>,
    /// Rules on the way that matched and set a class.
    pub class_rules: Vec<RuleRef>,
    /// The rule that decided, or `[default]`.
    pub rule: RuleRef,
    /// The class that the socket ends up with.
    pub qos: Option<String>,
    /// Whether the kernel may carry the socket where nothing in the list as written can.
    pub fallback: bool,
    /// The stack instances in order of preference.
    pub candidates: Vec<Candidate>,
    /// Rules that were looked at, the one that decided included.
    pub considered: usize,
    /// Rules in front of the deciding one that did not match, those with the fewest failed
    /// conditions first; the first few of them.
    pub near_misses: Vec<NearMiss>,
    /// Rules behind the deciding one that match as well, but come too late; the first few of them.
    pub too_late: Vec<RuleRef>,
}

/// A socket as rules see it.
#[derive(Clone, Debug, Serialize)]
pub struct Socket {
    /// What the program is about to do.
    pub role: Role,
    /// The address family.
    pub family: Family,
    /// The socket type.
    #[serde(rename = "type")]
    pub sock_type: SockType,
    /// The protocol by name, or by number where it has no name.
    pub protocol: String,
    /// The local address.
    pub local: Option<SocketAddr>,
    /// The remote address.
    pub remote: Option<SocketAddr>,
    /// The port that `port` is compared with.
    pub service_port: Option<u16>,
    /// The effective user id.
    pub uid: u32,
    /// `SO_PRIORITY`.
    pub priority: Option<u32>,
    /// DSCP.
    pub dscp: Option<u8>,
    /// The process.
    pub process: Process,
}

impl Socket {
    fn new(process: &Process, key: &Key) -> Self {
        Self {
            role: key.role,
            family: key.family,
            sock_type: key.sock_type,
            protocol: protocol_name(key.protocol),
            local: key.local,
            remote: key.remote,
            service_port: service_port(key),
            uid: key.uid,
            priority: key.priority,
            dscp: key.dscp,
            process: process.clone(),
        }
    }
}

/// A rule by name and place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RuleRef {
    /// Its number; [`RuleId::DEFAULT`] for `[default]`.
    pub id: RuleId,
    /// Its name.
    pub name: String,
    /// Its line, from 1; 0 for a `[default]` that is not written.
    pub line: u32,
    /// The conditions that it has.
    pub conditions: Vec<Condition>,
    /// The note that its author left.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl RuleRef {
    fn new(policy: &Policy, index: usize) -> Self {
        let rule = &policy.rules()[index];
        Self {
            id: RuleId(index as u32),
            name: rule.name.clone(),
            line: rule.place.line,
            conditions: rule.conditions().to_vec(),
            note: rule.note.clone(),
        }
    }

    fn default_of(policy: &Policy) -> Self {
        Self {
            id: RuleId::DEFAULT,
            name: "default".to_owned(),
            line: policy.default().place.line,
            conditions: Vec::new(),
            note: None,
        }
    }
}

/// A stack instance that may carry the socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Candidate {
    /// Its number.
    pub stack: StackId,
    /// Its name.
    pub name: String,
    /// What it is an instance of.
    pub kind: StackKind,
    /// Whether this build has stacks of the kind.
    pub in_this_build: bool,
}

/// A rule that did not match.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NearMiss {
    /// The rule.
    pub rule: RuleRef,
    /// The conditions that do not hold.
    pub failed: Vec<Failure>,
}

/// A condition that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// The match key.
    pub key: &'static str,
    /// The values, one of which was wanted.
    pub wanted: Vec<String>,
    /// What the socket has instead; `None` where it has nothing of the kind.
    pub found: Option<String>,
}

fn candidates(policy: &Policy, stacks: &[StackId]) -> Vec<Candidate> {
    stacks
        .iter()
        .map(|id| {
            let stack = &policy.stacks()[usize::from(id.0)];
            Candidate {
                stack: *id,
                name: stack.name.clone(),
                kind: stack.kind,
                in_this_build: stack.kind.in_this_build(),
            }
        })
        .collect()
}

/// The class that `SO_PRIORITY` or DSCP give, and which of them did.
fn initial_class(policy: &Policy, key: &Key) -> (Option<usize>, Option<String>) {
    for (index, class) in policy.classes().iter().enumerate() {
        if let (Some(wanted), Some(found)) = (class.priority, key.priority)
            && wanted == found
        {
            return (Some(index), Some(format!("SO_PRIORITY {found}")));
        }
        if let (Some(wanted), Some(found)) = (class.dscp, key.dscp)
            && wanted == found
        {
            return (Some(index), Some(format!("DSCP {}", format_dscp(found))));
        }
    }
    (None, None)
}

/// A socket in front of a rule.
#[derive(Clone, Copy)]
struct Question<'a> {
    policy: &'a Policy,
    process: &'a Process,
    key: &'a Key,
    class: Option<usize>,
}

impl Question<'_> {
    fn failures(self, rule: &Match) -> Vec<Failure> {
        rule.conditions
            .iter()
            .filter(|condition| !self.holds(rule, condition.key))
            .map(|condition| Failure {
                key: condition.key,
                wanted: condition.values.clone(),
                found: self.found(condition.key),
            })
            .collect()
    }

    fn holds(self, rule: &Match, key: &str) -> bool {
        let (local, remote) = self.endpoints();
        match key {
            "role" => member(&rule.role, self.key.role),
            "family" => member(&rule.family, self.key.family),
            "type" => member(&rule.sock_type, self.key.sock_type),
            "protocol" => rule
                .protocol
                .as_ref()
                .is_none_or(|set| set.contains(self.key.protocol)),
            "remote" => within(&rule.remote, remote),
            "local" => within(&rule.local, local),
            "port" => port_within(&rule.port, service_port(self.key)),
            "local_port" => port_within(&rule.local_port, local.port),
            "remote_port" => port_within(&rule.remote_port, remote.port),
            "uid" | "user" => rule
                .uid
                .as_ref()
                .is_none_or(|set| set.contains(self.key.uid)),
            "program" => any_glob(&rule.program, |glob| {
                let by_path = glob.as_str().contains('/');
                if by_path {
                    &self.process.path
                } else {
                    &self.process.name
                }
            }),
            "label" => any_glob(&rule.label, |_| &self.process.label),
            "cgroup" => any_glob(&rule.cgroup, |_| &self.process.cgroup),
            _ => rule
                .qos
                .as_ref()
                .is_none_or(|set| self.class.is_some_and(|class| set.contains(&class))),
        }
    }

    fn found(self, key: &str) -> Option<String> {
        let (local, remote) = self.endpoints();
        let address = |address: Option<SocketAddr>| Some(address?.ip().to_canonical().to_string());
        let port = |port: Option<u16>| Some(port?.to_string());
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        match key {
            "role" => Some(self.key.role.name().to_owned()),
            "family" => Some(self.key.family.name().to_owned()),
            "type" => Some(self.key.sock_type.name().to_owned()),
            "protocol" => Some(protocol_name(self.key.protocol)),
            "remote" => address(self.key.remote),
            "local" => address(self.key.local),
            "port" => port(service_port(self.key)),
            "local_port" => port(local.port),
            "remote_port" => port(remote.port),
            "uid" | "user" => Some(self.key.uid.to_string()),
            "program" => text(&self.process.path).or_else(|| text(&self.process.name)),
            "label" => text(&self.process.label),
            "cgroup" => text(&self.process.cgroup),
            _ => Some(self.policy.classes()[self.class?].name.clone()),
        }
    }

    fn endpoints(self) -> (Endpoint, Endpoint) {
        let endpoint = |address: Option<SocketAddr>| address.map(Endpoint::new).unwrap_or_default();
        (endpoint(self.key.local), endpoint(self.key.remote))
    }
}

fn member<T: PartialEq + Copy>(set: &Option<Vec<T>>, value: T) -> bool {
    set.as_ref().is_none_or(|set| set.contains(&value))
}

fn within(set: &Option<Addresses>, endpoint: Endpoint) -> bool {
    let Some(set) = set else { return true };
    endpoint.v4.is_some_and(|address| set.v4.contains(address))
        || endpoint.v6.is_some_and(|address| set.v6.contains(address))
}

fn port_within(set: &Option<crate::ranges::Ranges<u16>>, port: Option<u16>) -> bool {
    let Some(set) = set else { return true };
    port.is_some_and(|port| set.contains(port))
}

fn any_glob<'a>(globs: &Option<Vec<Glob>>, subject: impl Fn(&Glob) -> &'a str) -> bool {
    globs
        .as_ref()
        .is_none_or(|globs| globs.iter().any(|glob| glob.matches(subject(glob))))
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = r#"
[stack.blue]
type = "kernel"
[stack.fast]
type = "smoltcp"
[qos.gold]
priority = 6
[[rule]]
name = "cache"
note = "ask the cache team"
match = { program = "redis-*", role = "connect", remote = "10.0.0.0/8", port = "6379-6389" }
stack = ["fast", "blue"]
[[rule]]
name = "bulk by port"
match = { port = 873 }
qos = "bulk"
[[rule]]
name = "gold"
match = { qos = "gold" }
stack = "blue"
fallback = false
[[rule]]
name = "office"
match = { remote = "10.0.0.0/8" }
stack = "blue"
"#;

    fn explained(program: &str, remote: &str, priority: Option<u32>) -> Explanation {
        let parsed = crate::parse(POLICY, "policy.toml");
        let policy = parsed.policy.expect("no errors");
        let process = Process {
            name: program.to_owned(),
            path: format!("/usr/bin/{program}"),
            ..Process::default()
        };
        let key = Key {
            role: Role::Connect,
            family: Family::Inet,
            sock_type: SockType::Stream,
            protocol: 6,
            local: None,
            remote: Some(remote.parse().expect("an address")),
            uid: 1000,
            priority,
            dscp: None,
        };
        explain(&policy, &process, &key)
    }

    #[test]
    fn a_match_with_its_candidates_and_what_comes_too_late() {
        let found = explained("redis-cli", "10.1.2.3:6379", None);
        assert_eq!((found.rule.name.as_str(), found.rule.line), ("cache", 8));
        assert_eq!(found.rule.note.as_deref(), Some("ask the cache team"));
        let names: Vec<_> = found
            .candidates
            .iter()
            .map(|one| (one.name.as_str(), one.in_this_build))
            .collect();
        assert_eq!(names, [("fast", false), ("blue", true), ("kernel", true)]);
        assert_eq!(found.considered, 1);
        assert_eq!(found.too_late.len(), 1);
        assert_eq!(found.too_late[0].name, "office");
    }

    #[test]
    fn a_near_miss_says_which_condition_failed() {
        let found = explained("curl", "10.1.2.3:6379", None);
        assert_eq!(found.rule.name, "office");
        let miss = &found
            .near_misses
            .iter()
            .find(|miss| miss.rule.name == "cache")
            .expect("kept");
        assert_eq!(
            miss.failed,
            [Failure {
                key: "program",
                wanted: vec!["redis-*".to_owned()],
                found: Some("/usr/bin/curl".to_owned())
            }]
        );
    }

    #[test]
    fn classes_and_where_they_come_from() {
        let found = explained("curl", "192.0.2.1:80", Some(6));
        assert_eq!((found.rule.name.as_str(), found.fallback), ("gold", false));
        assert_eq!(found.class_from.as_deref(), Some("SO_PRIORITY 6"));
        let found = explained("curl", "192.0.2.1:873", Some(6));
        assert_eq!(
            found.rule.id,
            RuleId::DEFAULT,
            "the rule's class has replaced gold"
        );
        assert_eq!(found.qos.as_deref(), Some("bulk"));
        assert_eq!(found.class_rules[0].name, "bulk by port");
    }

    #[test]
    fn it_can_be_written_as_json() {
        let json = serde_json::to_value(explained("curl", "10.1.2.3:6379", None)).expect("JSON");
        assert_eq!(json["rule"]["name"], "office");
        assert_eq!(json["socket"]["type"], "stream");
        assert_eq!(json["candidates"][0]["kind"], "kernel");
    }
}
