//! The compiled search against a plain reading of the rules, on generated policies and sockets.
//!
//! The reference below shares nothing with the crate: it keeps the generated rules as plain data,
//! writes them as TOML for the crate, and evaluates them one by one for itself.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::atomic::{AtomicUsize, Ordering},
};

use bolero::check;
use dmm_policy::{Family, Image, Key, Matcher, Process, Role, RuleId, SockType, explain};

/// Draws small numbers from the fuzzer's bytes; zeros behind their end.
struct Source<'a>(&'a [u8]);

impl Source<'_> {
    fn below(&mut self, limit: u32) -> u32 {
        let Some((byte, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        u32::from(*byte) % limit
    }

    fn chance(&mut self, of: u32) -> bool {
        self.below(of) == 1
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u32) as usize]
    }
}

const V4: &[&str] = &[
    "10.0.0.0",
    "10.1.0.0",
    "10.1.2.0",
    "10.1.2.3",
    "10.255.255.255",
    "0.0.0.0",
    "255.255.255.255",
];
const V6: &[&str] = &[
    "::",
    "2001:db8::",
    "2001:db8:1::",
    "2001:db8:1::5",
    "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
];
const LENGTHS4: &[u32] = &[0, 1, 8, 15, 16, 24, 31, 32];
const LENGTHS6: &[u32] = &[0, 1, 32, 48, 64, 127, 128];
const PORTS: &[u16] = &[1, 79, 80, 81, 443, 6379, 6389, 65534, 65535];
const UIDS: &[u32] = &[0, 999, 1000, 1001, u32::MAX];
const CLASSES: &[&str] = &["gold", "silver", "bulk"];
const GLOBS: &[(&str, &[&str])] = &[
    ("redis-*", &["redis-server", "redis-cli"]),
    ("redis-server", &["redis-server"]),
    ("*", &["redis-server", "redis-cli", "nginx"]),
    ("ng?nx", &["nginx"]),
    ("[a-m]*", &[]),
    ("**/nginx", &["nginx"]),
    ("/usr/bin/*", &["redis-server", "redis-cli", "nginx"]),
];
const NAMES: &[&str] = &["redis-server", "redis-cli", "nginx"];

#[derive(Clone, Copy, Debug)]
enum Net {
    V4(u32, u32),
    V6(u128, u32),
}

impl Net {
    fn draw(source: &mut Source<'_>) -> (Self, String) {
        if source.chance(3) {
            let length = source.pick(LENGTHS6);
            let bits = source.pick(V6).parse::<Ipv6Addr>().unwrap().to_bits();
            let bits = if length == 0 {
                0
            } else {
                bits >> (128 - length) << (128 - length)
            };
            return (
                Self::V6(bits, length),
                format!("{}/{length}", Ipv6Addr::from_bits(bits)),
            );
        }
        let length = source.pick(LENGTHS4);
        let bits = source.pick(V4).parse::<Ipv4Addr>().unwrap().to_bits();
        let bits = if length == 0 {
            0
        } else {
            bits >> (32 - length) << (32 - length)
        };
        let address = Ipv4Addr::from_bits(bits);
        let text = match source.chance(4) {
            true => format!("::ffff:{address}/{}", length + 96),
            false => format!("{address}/{length}"),
        };
        (Self::V4(bits, length), text)
    }

    fn contains(self, address: IpAddr) -> bool {
        let address = match address {
            IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(address, IpAddr::V4),
            IpAddr::V4(_) => address,
        };
        match (self, address) {
            (Self::V4(_, 0), IpAddr::V4(_)) | (Self::V6(_, 0), IpAddr::V6(_)) => true,
            (Self::V4(bits, length), IpAddr::V4(v4)) => (v4.to_bits() ^ bits) >> (32 - length) == 0,
            (Self::V6(bits, length), IpAddr::V6(v6)) => {
                (v6.to_bits() ^ bits) >> (128 - length) == 0
            }
            _ => false,
        }
    }
}

#[derive(Debug)]
enum Condition {
    Role(Vec<Role>),
    Family(Family),
    Type(SockType),
    Protocol(u16),
    Remote(Vec<Net>),
    Local(Vec<Net>),
    Port(Vec<(u16, u16)>),
    LocalPort(u16, u16),
    RemotePort(u16, u16),
    Uid(u32, u32),
    Program(&'static [&'static str]),
    Label(&'static str),
    Qos(&'static str),
}

impl Condition {
    /// A condition and its TOML.
    fn draw(source: &mut Source<'_>, kind: u32) -> (Self, String) {
        let quoted = |texts: &[String]| format!("[{}]", texts.join(", "));
        match kind {
            0 => {
                let roles: Vec<Role> = (0..=source.below(2))
                    .map(|_| source.pick(Role::ALL))
                    .collect();
                let names: Vec<String> = roles
                    .iter()
                    .map(|role| format!("{:?}", role.name()))
                    .collect();
                let text = format!("role = {}", quoted(&names));
                (Self::Role(roles), text)
            }
            1 => {
                let family = source.pick(Family::ALL);
                (
                    Self::Family(family),
                    format!("family = {:?}", family.name()),
                )
            }
            2 => {
                let kind = source.pick(SockType::ALL);
                (Self::Type(kind), format!("type = {:?}", kind.name()))
            }
            3 => {
                let (number, text) = source.pick(&[(6, "\"tcp\""), (17, "\"udp\""), (262, "262")]);
                (Self::Protocol(number), format!("protocol = {text}"))
            }
            4 | 5 => {
                let (nets, texts): (Vec<Net>, Vec<String>) =
                    (0..=source.below(3)).map(|_| Net::draw(source)).unzip();
                let texts: Vec<String> = texts.iter().map(|text| format!("{text:?}")).collect();
                match kind {
                    4 => (Self::Remote(nets), format!("remote = {}", quoted(&texts))),
                    _ => (Self::Local(nets), format!("local = {}", quoted(&texts))),
                }
            }
            6 => {
                let ranges: Vec<(u16, u16)> =
                    (0..=source.below(2)).map(|_| ports(source)).collect();
                let texts: Vec<String> = ranges.iter().map(|(a, b)| format!("{a}-{b}")).collect();
                (
                    Self::Port(ranges),
                    format!("port = \"{}\"", texts.join(",")),
                )
            }
            7 => {
                let (low, high) = ports(source);
                (
                    Self::LocalPort(low, high),
                    format!("local_port = \"{low}-{high}\""),
                )
            }
            8 => {
                let (low, high) = ports(source);
                (
                    Self::RemotePort(low, high),
                    format!("remote_port = \"{low}-{high}\""),
                )
            }
            9 => {
                let (a, b) = (source.pick(UIDS), source.pick(UIDS));
                let (low, high) = (a.min(b), a.max(b));
                (Self::Uid(low, high), format!("uid = \"{low}-{high}\""))
            }
            10 => {
                let (glob, names) = source.pick(GLOBS);
                (Self::Program(names), format!("program = {glob:?}"))
            }
            11 => {
                let label = source.pick(&["web", "db"]);
                (Self::Label(label), format!("label = {label:?}"))
            }
            _ => {
                let class = source.pick(CLASSES);
                (Self::Qos(class), format!("qos = {class:?}"))
            }
        }
    }

    fn holds(&self, process: &Process, key: &Key, class: Option<&str>) -> bool {
        let port = |address: Option<SocketAddr>| address.map_or(0, |address| address.port());
        let within = |port: u16, low: u16, high: u16| port != 0 && (low..=high).contains(&port);
        let inside = |nets: &[Net], address: Option<SocketAddr>| {
            address.is_some_and(|address| nets.iter().any(|net| net.contains(address.ip())))
        };
        match self {
            Self::Role(roles) => roles.contains(&key.role),
            Self::Family(family) => key.family == *family,
            Self::Type(kind) => key.sock_type == *kind,
            Self::Protocol(number) => key.protocol == *number,
            Self::Remote(nets) => inside(nets, key.remote),
            Self::Local(nets) => inside(nets, key.local),
            Self::Port(ranges) => {
                let (local, remote) = (port(key.local), port(key.remote));
                let service = match key.role {
                    Role::Connect => remote,
                    Role::Listen => local,
                    Role::Datagram if remote != 0 => remote,
                    Role::Datagram => local,
                };
                ranges
                    .iter()
                    .any(|(low, high)| within(service, *low, *high))
            }
            Self::LocalPort(low, high) => within(port(key.local), *low, *high),
            Self::RemotePort(low, high) => within(port(key.remote), *low, *high),
            Self::Uid(low, high) => (*low..=*high).contains(&key.uid),
            Self::Program(names) => names.contains(&process.name.as_str()),
            Self::Label(label) => process.label == *label,
            Self::Qos(wanted) => class == Some(*wanted),
        }
    }
}

fn ports(source: &mut Source<'_>) -> (u16, u16) {
    let (a, b) = (source.pick(PORTS), source.pick(PORTS));
    (a.min(b), a.max(b))
}

#[derive(Debug)]
struct Rule {
    conditions: Vec<Condition>,
    qos: Option<&'static str>,
    has_stack: bool,
}

/// Rules, and the TOML that says the same.
fn draw_policy(source: &mut Source<'_>) -> (Vec<Rule>, String) {
    let mut toml = String::from(
        "[stack.blue]\ntype = \"kernel\"\n\
         [qos.gold]\npriority = 6\n[qos.silver]\ndscp = \"af41\"\npriority = 5\n[qos.bulk]\n",
    );
    // Many rules now and then, so that sets have several leaves.
    let repeat = if source.chance(100) { 600 } else { 1 };
    let count = source.below(8) as usize;
    let mut rules = Vec::new();
    let mut setters = 0;
    for _ in 0..count {
        let mut kinds: Vec<u32> = (0..source.below(4)).map(|_| source.below(13)).collect();
        kinds.sort_unstable();
        kinds.dedup();
        let qos = source.chance(3).then(|| source.pick(CLASSES));
        let has_stack = qos.is_none() || source.chance(2);
        let copies = if has_stack { repeat } else { 1 };
        setters += usize::from(!has_stack);
        let start = source.0;
        for _ in 0..copies {
            source.0 = start;
            let (conditions, texts): (Vec<Condition>, Vec<String>) = kinds
                .iter()
                .map(|kind| Condition::draw(source, *kind))
                .unzip();
            toml.push_str(&format!("[[rule]]\nmatch = {{ {} }}\n", texts.join(", ")));
            if let Some(class) = qos {
                toml.push_str(&format!("qos = {class:?}\n"));
            }
            if has_stack {
                toml.push_str("stack = [\"blue\"]\n");
            }
            rules.push(Rule {
                conditions,
                qos,
                has_stack,
            });
        }
    }
    assert!(setters <= dmm_policy::MAX_CLASS_RULES);
    (rules, toml)
}

fn draw_key(source: &mut Source<'_>) -> Key {
    let family = source.pick(Family::ALL);
    let mut address = || {
        let port = if source.chance(6) {
            0
        } else {
            source.pick(PORTS)
        };
        let v4: Ipv4Addr = source.pick(V4).parse().unwrap();
        match source.below(4) {
            0 => None,
            1 => Some(SocketAddr::new(v4.to_ipv6_mapped().into(), port)),
            2 => Some(SocketAddr::new(source.pick(V6).parse().unwrap(), port)),
            _ => Some(SocketAddr::new(v4.into(), port)),
        }
    };
    Key {
        local: address(),
        remote: address(),
        role: source.pick(Role::ALL),
        family,
        sock_type: source.pick(SockType::ALL),
        protocol: source.pick(&[6, 17, 262, 1]),
        uid: source.pick(UIDS),
        priority: source.pick(&[None, Some(5), Some(6), Some(0)]),
        dscp: source.pick(&[None, Some(34), Some(0)]),
    }
}

/// First match, read from the rules as they were drawn.
fn reference(rules: &[Rule], process: &Process, key: &Key) -> (RuleId, Option<&'static str>) {
    let mut class = match (key.priority, key.dscp) {
        (Some(6), _) => Some("gold"),
        (Some(5), _) | (_, Some(34)) => Some("silver"),
        _ => None,
    };
    for (index, rule) in rules.iter().enumerate() {
        if rule
            .conditions
            .iter()
            .all(|condition| condition.holds(process, key, class))
        {
            class = rule.qos.or(class);
            if rule.has_stack {
                return (RuleId(index as u32), class);
            }
        }
    }
    (RuleId::DEFAULT, class)
}

#[test]
fn search_reference_and_explanation_agree() {
    // Sockets that some rule matched: a test of defaults alone would prove little.
    let matched = AtomicUsize::new(0);
    check!()
        .with_iterations(500)
        .with_max_len(512)
        .for_each(|bytes: &[u8]| {
            let mut source = Source(bytes);
            let name = source.pick(NAMES).to_owned();
            let process = Process {
                path: format!("/usr/bin/{name}"),
                name,
                label: source.pick(&["", "web", "db"]).to_owned(),
                cgroup: String::new(),
            };
            let (rules, toml) = draw_policy(&mut source);
            let keys: Vec<Key> = (0..6).map(|_| draw_key(&mut source)).collect();
            let parsed = dmm_policy::parse(&toml, "generated.toml");
            let Some(policy) = &parsed.policy else {
                panic!("{toml}\n{}", parsed.diagnostics[0].render(&toml, false));
            };
            let lines = |code: &str| {
                let found = parsed.diagnostics.iter().filter(|found| found.code == code);
                found.map(|found| found.line).collect::<Vec<u32>>()
            };
            let unreachable = lines("shadowed-rule");
            let catch_all = lines("match-all").first().copied();
            let image = policy.compile();
            let image = Image::from_bytes(image.as_bytes()).expect("an image of our own");
            let matcher = Matcher::new(image, process.clone());
            for key in &keys {
                let found = matcher.lookup(key);
                let expected = reference(&rules, &process, key);
                matched.fetch_add(
                    usize::from(expected.0 != RuleId::DEFAULT),
                    Ordering::Relaxed,
                );
                if let Some(found) = policy.rules().get(found.rule.0 as usize) {
                    let dead = unreachable.contains(&found.place.line)
                        || catch_all.is_some_and(|line| found.place.line > line);
                    assert!(
                        !dead,
                        "line {} is said to be unreachable\n{toml}",
                        found.place.line
                    );
                }
                assert_eq!(
                    (found.rule, found.qos),
                    expected,
                    "{key:?}\n{process:?}\n{toml}"
                );
                let explained = explain(policy, &process, key);
                assert_eq!(
                    (explained.rule.id, explained.qos.as_deref()),
                    expected,
                    "{key:?}\n{toml}"
                );
                let names: Vec<&str> = found
                    .stacks()
                    .map(|id| matcher.image().stack(id).name)
                    .collect();
                let wanted: &[&str] = match expected.0 {
                    RuleId::DEFAULT => &["kernel"],
                    _ => &["blue", "kernel"],
                };
                assert_eq!(names, wanted);
            }
        });
    // A fuzzer that runs a single input may match nothing.
    if std::env::var_os("BOLERO_FUZZER").is_none() {
        assert!(
            matched.into_inner() > 500,
            "the sockets have to do with the rules"
        );
    }
}
