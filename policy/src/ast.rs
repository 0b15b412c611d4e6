//! A policy that has been checked: stacks, quality-of-service classes and rules.
//!
//! Only [`crate::parse`] makes one (and [`Policy::builtin`]), so everything that holds a [`Policy`]
//! may rely on it: names refer to something, sets are not empty, limits are kept.

use std::ops::Range;

use serde::Serialize;

use crate::{
    Family, KernelProtocol, Role, SockType, SocketOptions, StackId, StackKind, glob::Glob,
    ranges::Ranges,
};

/// A checked policy.
#[derive(Clone, Debug, Serialize)]
pub struct Policy {
    pub(crate) file: String,
    pub(crate) text_hash: u64,
    pub(crate) stacks: Vec<Stack>,
    #[serde(rename = "qos")]
    pub(crate) classes: Vec<QosClass>,
    pub(crate) rules: Vec<Rule>,
    pub(crate) default: DefaultRule,
}

impl Policy {
    /// The policy of a host without a policy file: the kernel carries everything.
    pub fn builtin() -> Self {
        Self {
            file: "(built in)".to_owned(),
            text_hash: crate::text_hash(""),
            stacks: vec![Stack::kernel()],
            classes: Vec::new(),
            rules: Vec::new(),
            default: DefaultRule::kernel(),
        }
    }

    /// The file that the policy was read from, as its reader called it.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Identity of this version: [`crate::text_hash`] of its text.
    pub fn text_hash(&self) -> u64 {
        self.text_hash
    }

    /// The stack instances, in the order of their [`StackId`]s; the first is always `kernel`.
    pub fn stacks(&self) -> &[Stack] {
        &self.stacks
    }

    /// The quality-of-service classes that `[qos.NAME]` sections and rules name.
    pub fn classes(&self) -> &[QosClass] {
        &self.classes
    }

    /// The rules, in the order of the file and of their [`crate::RuleId`]s.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// What applies where no rule matches.
    pub fn default(&self) -> &DefaultRule {
        &self.default
    }
}

/// Where something stands in its file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Place {
    /// Line, from 1; 0 for what is not in the file.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// Byte range in the text.
    #[serde(skip)]
    pub span: Range<usize>,
}

/// A stack instance.
#[derive(Clone, Debug, Serialize)]
pub struct Stack {
    /// Its name: `[stack.NAME]`.
    pub name: String,
    /// What it is an instance of.
    pub kind: StackKind,
    /// The network namespace it opens sockets in: a name below `/run/netns`, or an absolute path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub netns: Option<String>,
    /// Which protocol carries the program's TCP sockets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<KernelProtocol>,
    /// The congestion control algorithm (`TCP_CONGESTION`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub congestion: Option<String>,
    /// Options set on every socket of the instance.
    pub(crate) options: OwnedOptions,
    /// Where the section starts; line 0 for an instance that is there without being written.
    #[serde(flatten)]
    pub place: Place,
}

impl Stack {
    pub(crate) fn kernel() -> Self {
        Self::implicit("kernel", StackKind::Kernel)
    }

    /// An instance that needs no section.
    pub(crate) fn implicit(name: &str, kind: StackKind) -> Self {
        Self {
            name: name.to_owned(),
            kind,
            netns: None,
            protocol: None,
            congestion: None,
            options: OwnedOptions::default(),
            place: Place::default(),
        }
    }

    /// The options set on every socket of the instance.
    pub fn options(&self) -> SocketOptions<'_> {
        SocketOptions {
            device: self.options.device.as_deref(),
            ..self.options.plain
        }
    }
}

/// [`SocketOptions`] that own their strings.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct OwnedOptions {
    #[serde(flatten)]
    pub(crate) plain: SocketOptions<'static>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) device: Option<String>,
}

/// A quality-of-service class: a name that sockets get by `SO_PRIORITY`, DSCP, or rule.
#[derive(Clone, Debug, Serialize)]
pub struct QosClass {
    /// Its name.
    pub name: String,
    /// Sockets with this `SO_PRIORITY` are of the class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<u32>,
    /// Sockets with this DSCP are of the class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dscp: Option<u8>,
    /// Where it is defined (or first named).
    #[serde(flatten)]
    pub place: Place,
}

/// A rule.
#[derive(Clone, Debug, Serialize)]
pub struct Rule {
    /// Its name, or `rule at line N`.
    pub name: String,
    /// What it matches.
    #[serde(rename = "match")]
    pub(crate) matching: Match,
    /// Preference list with the kernel that is implied at its end; empty for a rule that only sets
    /// a class.
    pub stacks: Vec<StackId>,
    /// Whether the kernel may carry the socket where nothing in the list as written can.
    pub fallback: bool,
    /// Index in [`Policy::classes`] of the class that the rule sets.
    pub qos: Option<usize>,
    /// Whether `SIGUSR2` makes a program that used this rule dump its histograms.
    pub dump_on_signal: bool,
    /// Free text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Where the rule starts.
    #[serde(flatten)]
    pub place: Place,
}

impl Rule {
    /// The conditions, all of which must hold; none: the rule matches everything.
    pub fn conditions(&self) -> &[Condition] {
        &self.matching.conditions
    }

    /// Whether the search goes on behind the rule: it only sets a class.
    pub fn only_sets_class(&self) -> bool {
        self.stacks.is_empty()
    }
}

/// What applies where no rule matches: `[default]`.
#[derive(Clone, Debug, Serialize)]
pub struct DefaultRule {
    /// Preference list with the kernel that is implied at its end.
    pub stacks: Vec<StackId>,
    /// Whether the kernel may carry the socket where nothing in the list as written can.
    pub fallback: bool,
    /// Where the section starts; line 0 where it is not written.
    #[serde(flatten)]
    pub place: Place,
}

impl DefaultRule {
    pub(crate) fn kernel() -> Self {
        Self {
            stacks: vec![StackId(0)],
            fallback: true,
            place: Place::default(),
        }
    }
}

/// One condition as people read it: `remote` is one of `10.0.0.0/8`, `192.168.0.0/16`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Condition {
    /// The match key.
    pub key: &'static str,
    /// The values, one of which must fit, in canonical writing.
    pub values: Vec<String>,
    /// Where the key stands.
    #[serde(skip)]
    pub place: Place,
}

/// The conditions of a rule as sets; `None` where there is no condition.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(transparent)]
pub(crate) struct Match {
    pub(crate) conditions: Vec<Condition>,
    #[serde(skip)]
    pub(crate) role: Option<Vec<Role>>,
    #[serde(skip)]
    pub(crate) family: Option<Vec<Family>>,
    #[serde(skip)]
    pub(crate) sock_type: Option<Vec<SockType>>,
    #[serde(skip)]
    pub(crate) protocol: Option<Ranges<u16>>,
    #[serde(skip)]
    pub(crate) remote: Option<Addresses>,
    #[serde(skip)]
    pub(crate) local: Option<Addresses>,
    #[serde(skip)]
    pub(crate) port: Option<Ranges<u16>>,
    #[serde(skip)]
    pub(crate) local_port: Option<Ranges<u16>>,
    #[serde(skip)]
    pub(crate) remote_port: Option<Ranges<u16>>,
    #[serde(skip)]
    pub(crate) uid: Option<Ranges<u32>>,
    #[serde(skip)]
    pub(crate) program: Option<Vec<Glob>>,
    #[serde(skip)]
    pub(crate) label: Option<Vec<Glob>>,
    #[serde(skip)]
    pub(crate) cgroup: Option<Vec<Glob>>,
    /// Indexes in [`Policy::classes`].
    #[serde(skip)]
    pub(crate) qos: Option<Vec<usize>>,
}

impl Match {
    /// Number of ranges in all conditions, which is what the compiled form grows with.
    pub(crate) fn range_count(&self) -> usize {
        let ports = [
            &self.protocol,
            &self.port,
            &self.local_port,
            &self.remote_port,
        ];
        let addresses = [&self.remote, &self.local];
        ports.into_iter().flatten().map(Ranges::len).sum::<usize>()
            + self.uid.as_ref().map_or(0, Ranges::len)
            + addresses
                .into_iter()
                .flatten()
                .map(|set| set.v4.len() + set.v6.len())
                .sum::<usize>()
    }
}

/// A set of addresses; v4-mapped IPv6 addresses are among the IPv4 ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Addresses {
    pub(crate) v4: Ranges<u32>,
    pub(crate) v6: Ranges<u128>,
}

impl Addresses {
    pub(crate) fn covers(&self, other: &Self) -> bool {
        self.v4.covers(&other.v4) && self.v6.covers(&other.v6)
    }

    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        self.v4.overlaps(&other.v4) || self.v6.overlaps(&other.v6)
    }
}
