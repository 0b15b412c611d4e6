//! How long a policy lookup takes: median and 99th percentile of single lookups, for rule sets of
//! several sizes and shapes, the nasty ones included.
//!
//! ```sh
//! cargo bench -p dmm-benches --bench policy
//! cargo bench -p dmm-benches --bench policy -- --json policy.json
//! ```
//!
//! Each lookup is timed by itself, since a mean over a batch would hide the slow ones; what reading
//! the clock costs is measured first and taken off. The sockets are drawn anew for every lookup from
//! a pool of thousands, so that the branch predictor and the first-level cache cannot learn them.

use std::{
    fmt::Write as _,
    hint::black_box,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Instant,
};

use clap::Parser;
use dmm_policy::{Family, Image, Key, Matcher, Process, Role, RuleId, SockType};

const SIZES: [usize; 3] = [10, 1_000, 10_000];
const SOCKETS: usize = 8_192;

/// Measures policy lookups.
#[derive(Parser)]
struct Arguments {
    /// Write the results as JSON, too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Lookups to time for each rule set.
    #[arg(long, default_value_t = 200_000)]
    lookups: usize,
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> std::io::Result<()> {
    let arguments = Arguments::parse();
    let clock = clock_overhead();
    let mut results = Vec::new();
    let mut table = format!(
        "{:<12} {:>7} {:>10} {:>8} {:>8} {:>9} {:>11} {:>9} {:>9} {:>11}\n",
        "shape",
        "rules",
        "median ns",
        "p99 ns",
        "mean ns",
        "matched",
        "image KiB",
        "check ms",
        "parse ms",
        "compile ms"
    );
    for shape in Shape::ALL {
        for rules in SIZES {
            let result = measure(*shape, rules, arguments.lookups, clock);
            let _ = writeln!(
                table,
                "{:<12} {:>7} {:>10} {:>8} {:>8} {:>8}% {:>11} {:>9.1} {:>9.1} {:>11.1}",
                result.shape,
                result.rules,
                result.median_ns,
                result.p99_ns,
                result.mean_ns,
                result.matched_percent,
                result.image_bytes / 1024,
                result.check_ms,
                result.parse_ms,
                result.compile_ms
            );
            results.push(result);
        }
    }
    print(&table, clock);
    if let Some(path) = arguments.json {
        let rows: Vec<serde_json::Value> = results.iter().map(Measured::to_json).collect();
        std::fs::write(path, serde_json::to_string_pretty(&rows)?)?;
    }
    Ok(())
}

#[allow(clippy::print_stdout, reason = "a benchmark prints its table")]
fn print(table: &str, clock: u64) {
    println!("policy lookups, one by one; {clock} ns for the clock taken off\n\n{table}");
}

/// What the rules of a set look like.
#[derive(Clone, Copy)]
enum Shape {
    /// Each rule a remote prefix of its own.
    Prefixes,
    /// Prefixes inside prefixes, eight deep, the longest first.
    Nested,
    /// One prefix for all rules, told apart by port.
    SamePrefix,
    /// Port ranges around each other: most rules are possible for most ports.
    Onion,
    /// Port ranges at random, each together with one user id.
    Ports,
    /// Patterns of program names, all of which match, and one port each.
    Globs,
    /// Two dense conditions that exclude each other: the search has to look at every rule.
    Disjoint,
    /// Some of everything, as people write it.
    Mixed,
}

impl Shape {
    const ALL: &[Self] = &[
        Self::Prefixes,
        Self::Nested,
        Self::SamePrefix,
        Self::Onion,
        Self::Ports,
        Self::Globs,
        Self::Disjoint,
        Self::Mixed,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Prefixes => "prefixes",
            Self::Nested => "nested",
            Self::SamePrefix => "same-prefix",
            Self::Onion => "onion",
            Self::Ports => "ports",
            Self::Globs => "globs",
            Self::Disjoint => "disjoint",
            Self::Mixed => "mixed",
        }
    }

    /// The conditions of a rule.
    fn conditions(self, rule: usize, random: &mut Random) -> String {
        let net = |bits: u32, length: u32| {
            let bits = bits & u32::MAX.checked_shl(32 - length).unwrap_or(0);
            format!("remote = \"{}/{length}\"", Ipv4Addr::from_bits(bits))
        };
        let number = rule as u32;
        match self {
            Self::Prefixes => net((10 << 24) + (number << 8), 24),
            Self::Nested => net((10 << 24) + ((number / 8) << 8), 32 - number % 8),
            Self::SamePrefix => {
                format!(
                    "remote = \"10.0.0.0/8\", port = {}, uid = {}",
                    1 + rule % 65_535,
                    rule % 7
                )
            }
            Self::Onion => {
                let edge = 1 + number % 32_000;
                format!(
                    "port = \"{edge}-{}\", uid = {}",
                    65_536 - edge,
                    100_000 + rule
                )
            }
            Self::Ports => {
                let (a, b) = (1 + random.below(65_535), 1 + random.below(65_535));
                format!(
                    "port = \"{}-{}\", uid = {}",
                    a.min(b),
                    a.max(b),
                    random.below(5_000)
                )
            }
            Self::Globs => format!(
                "program = \"redis*[a-z]{}*\", port = {}",
                "?".repeat(rule % 4),
                1 + rule
            ),
            Self::Disjoint if rule.is_multiple_of(2) => "protocol = \"udp\"".to_owned(),
            Self::Disjoint => format!("uid = \"{}-{}\"", 100_000 + rule, 200_000 + rule),
            Self::Mixed => match rule % 5 {
                0 => format!(
                    "program = \"redis-*\", role = \"connect\", {}, port = \"6379-6389\"",
                    net(random.below(u32::MAX), 16 + number % 9)
                ),
                1 => format!("role = \"listen\", protocol = \"tcp\", port = {}", 1 + rule),
                2 => format!("{}, protocol = \"tcp\"", net(random.below(u32::MAX), 24)),
                3 => format!(
                    "uid = {}, remote_port = [80, 443, {}]",
                    rule % 3_000,
                    1 + rule
                ),
                _ => format!(
                    "program = \"worker-{rule}\", {}",
                    net((10 << 24) + (number << 8), 24)
                ),
            },
        }
    }
}

/// The numbers of one rule set.
struct Measured {
    shape: &'static str,
    rules: usize,
    median_ns: u64,
    p99_ns: u64,
    mean_ns: u64,
    matched_percent: usize,
    image_bytes: usize,
    check_ms: f64,
    parse_ms: f64,
    compile_ms: f64,
}

impl Measured {
    fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "shape": self.shape,
            "rules": self.rules,
            "median_ns": self.median_ns,
            "p99_ns": self.p99_ns,
            "mean_ns": self.mean_ns,
            "matched_percent": self.matched_percent,
            "image_bytes": self.image_bytes,
            "check_ms": self.check_ms,
            "parse_ms": self.parse_ms,
            "compile_ms": self.compile_ms,
        })
    }
}

fn measure(shape: Shape, rules: usize, lookups: usize, clock: u64) -> Measured {
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let text = policy(shape, rules, &mut random);
    let start = Instant::now();
    let parsed = dmm_policy::parse(&text, "bench.toml");
    let check_ms = start.elapsed().as_secs_f64() * 1e3;
    let start = Instant::now();
    black_box(dmm_policy::parse_quick(
        &text,
        "bench.toml",
        &dmm_policy::NoResolver,
    ));
    let parse_ms = start.elapsed().as_secs_f64() * 1e3;
    let Some(policy) = parsed.policy else {
        panic!("{}", parsed.diagnostics[0].render(&text, false));
    };
    let start = Instant::now();
    let image = policy.compile();
    let compile_ms = start.elapsed().as_secs_f64() * 1e3;
    let image = Image::from_bytes(image.as_bytes()).expect("an image of our own");
    let image_bytes = image.as_bytes().len();
    let process = Process {
        path: "/usr/bin/redis-server".to_owned(),
        name: "redis-server".to_owned(),
        ..Process::default()
    };
    let matcher = Matcher::new(image, process);
    let keys: Vec<Key> = (0..SOCKETS).map(|_| socket(rules, &mut random)).collect();

    let mut times = Vec::with_capacity(lookups);
    let mut matched = 0;
    let warm_up = SOCKETS;
    for round in 0..lookups + warm_up {
        let key = &keys[random.below(SOCKETS as u32) as usize];
        let start = Instant::now();
        let decision = black_box(matcher.lookup(black_box(key)));
        let elapsed = start.elapsed().as_nanos() as u64;
        if round >= warm_up {
            times.push(elapsed.saturating_sub(clock));
            matched += usize::from(decision.rule != RuleId::DEFAULT);
        }
    }
    times.sort_unstable();
    Measured {
        shape: shape.name(),
        rules,
        median_ns: times[times.len() / 2],
        p99_ns: times[times.len() * 99 / 100],
        mean_ns: times.iter().sum::<u64>() / times.len() as u64,
        matched_percent: 100 * matched / times.len(),
        image_bytes,
        check_ms,
        parse_ms,
        compile_ms,
    }
}

fn policy(shape: Shape, rules: usize, random: &mut Random) -> String {
    let mut text = String::from("[stack.blue]\ntype = \"kernel\"\n");
    for rule in 0..rules {
        let conditions = shape.conditions(rule, random);
        let stack = ["blue", "kernel"][rule % 2];
        let _ = writeln!(
            text,
            "[[rule]]\nmatch = {{ {conditions} }}\nstack = \"{stack}\""
        );
    }
    text
}

/// A socket that has something to do with the rules.
fn socket(rules: usize, random: &mut Random) -> Key {
    let near = (10 << 24) + (random.below(rules as u32 + rules as u32 / 4 + 1) << 8);
    let bits = match random.below(4) {
        0 => random.below(u32::MAX),
        _ => near + random.below(256),
    };
    let port = match random.below(3) {
        0 => 1 + random.below(65_535),
        1 => 1 + random.below(rules as u32),
        _ => [80, 443, 6_379, 6_380][random.below(4) as usize],
    };
    let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::from_bits(bits)), port as u16);
    let role = if random.below(4) == 0 {
        Role::Listen
    } else {
        Role::Connect
    };
    Key {
        role,
        family: Family::Inet,
        sock_type: SockType::Stream,
        protocol: 6,
        local: (role == Role::Listen).then_some(address),
        remote: (role == Role::Connect).then_some(address),
        uid: random.below(5_000),
        priority: None,
        dscp: None,
    }
}

/// What timing nothing takes: the smallest of many medians, in nanoseconds.
fn clock_overhead() -> u64 {
    let median = || {
        let mut times: Vec<u64> = (0..1_001)
            .map(|_| {
                let start = Instant::now();
                start.elapsed().as_nanos() as u64
            })
            .collect();
        times.sort_unstable();
        times[times.len() / 2]
    };
    (0..50).map(|_| median()).min().unwrap_or_default()
}

/// xorshift64*: the same rule sets and sockets in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u32) -> u32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
        ((high * u64::from(limit)) >> 32) as u32
    }
}
