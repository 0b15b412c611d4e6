//! Whatever bytes arrive, nothing panics and everything ends.

use std::time::{Duration, Instant};

use bolero::check;
use dmm_policy::{Family, Image, Key, Matcher, Process, Role, SockType};

const EXAMPLE: &str = r#"
[stack.blue]
type = "kernel"
netns = "blue"
[stack.bulk]
type = "kernel"
protocol = "mptcp"
congestion = "bbr"
options = { nodelay = true, busy_poll = "50us", dscp = "af41", mark = 7, priority = 6, send_buffer = "4MiB", device = "veth0" }
[qos.gold]
priority = 6
[[rule]]
name = "cache traffic"
match = { program = ["redis-*", "/opt/**"], role = "connect", protocol = "tcp", remote = "10.0.0.0/8", port = "6379-6389" }
stack = ["bulk", "kernel"]
[[rule]]
match = { qos = "gold", local = "2001:db8::/32", uid = "1000-2000", cgroup = "/system.slice/*" }
qos = "gold"
[[rule]]
match = { label = "web", remote_port = [80, 443] }
stack = "blue"
fallback = false
dump = "SIGUSR2"
[default]
stack = ["kernel"]
"#;

fn keys() -> impl Iterator<Item = Key> {
    let addresses = [
        None,
        Some("10.1.2.3:6379"),
        Some("[2001:db8::1]:80"),
        Some("[::ffff:10.0.0.1]:443"),
    ];
    let parse = |text: &str| text.parse().expect("an address");
    Role::ALL.iter().flat_map(move |role| {
        addresses.into_iter().map(move |address| Key {
            role: *role,
            family: Family::Inet,
            sock_type: SockType::Stream,
            protocol: 6,
            local: address.map(parse),
            remote: address.map(parse),
            uid: 1000,
            priority: Some(6),
            dscp: None,
        })
    })
}

/// Uses an image in every way there is.
fn exercise(image: Image) {
    image.stacks().for_each(drop);
    image.rules().for_each(drop);
    image.classes().for_each(drop);
    let process = Process {
        path: "/usr/bin/redis-server".to_owned(),
        name: "redis-server".to_owned(),
        label: "web".to_owned(),
        cgroup: "/system.slice/redis.service".to_owned(),
    };
    let matcher = Matcher::new(image, process);
    for key in keys() {
        let decision = matcher.lookup(&key);
        assert!(decision.stacks().len() > 0, "every decision has a stack");
        for id in decision.stacks() {
            assert_eq!(matcher.image().stack(id).id, id);
        }
        matcher.image().rule(decision.rule);
    }
}

#[test]
fn damaged_images_are_refused_or_harmless() {
    let parsed = dmm_policy::parse(EXAMPLE, "example.toml");
    let original = parsed.policy.expect("no errors").compile();
    check!().with_iterations(20_000).for_each(|bytes: &[u8]| {
        let mut image = original.as_bytes().to_vec();
        // Each four bytes: where (two), how (one), what (one).
        for change in bytes.chunks_exact(4) {
            let at = usize::from(u16::from_le_bytes([change[0], change[1]])) % image.len();
            match change[2] % 4 {
                0 => image[at] = change[3],
                1 => image[at] ^= 1 << (change[3] % 8),
                2 => image[at & !3..]
                    .iter_mut()
                    .take(4)
                    .for_each(|byte| *byte = change[3]),
                _ => image.truncate(at.max(8)),
            }
        }
        if let Ok(image) = Image::from_bytes(&image) {
            exercise(image);
        }
    });
}

#[test]
fn every_single_changed_byte_is_refused_or_harmless() {
    let parsed = dmm_policy::parse(EXAMPLE, "example.toml");
    let original = parsed.policy.expect("no errors").compile();
    let mut accepted = 0;
    for at in 0..original.as_bytes().len() {
        for value in [0, 1, 0x7f, 0xff] {
            let mut bytes = original.as_bytes().to_vec();
            bytes[at] = value;
            if let Ok(image) = Image::from_bytes(&bytes) {
                accepted += 1;
                exercise(image);
            }
        }
    }
    assert!(accepted > 0, "a changed letter in a name is not damage");
}

#[test]
fn cut_images_are_refused() {
    let image = dmm_policy::Policy::builtin().compile();
    let bytes = image.as_bytes();
    for length in 0..bytes.len() {
        assert!(Image::from_bytes(&bytes[..length]).is_err(), "{length}");
    }
    let mut longer = bytes.to_vec();
    longer.extend_from_slice(b"more");
    assert_eq!(
        Image::from_bytes(&longer).expect("as long as it says"),
        image
    );
}

#[test]
fn any_text_is_parsed_without_panic() {
    check!().with_iterations(4_000).for_each(|bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        parse_and_use(&text);
    });
}

#[test]
fn mutations_of_a_policy_are_parsed_without_panic() {
    check!().with_iterations(1_000).for_each(|bytes: &[u8]| {
        let mut text = EXAMPLE.as_bytes().to_vec();
        for change in bytes.chunks_exact(4) {
            let at = usize::from(u16::from_le_bytes([change[0], change[1]])) % text.len();
            match change[2] % 3 {
                0 => text[at] = change[3],
                1 => text.insert(at, b"\"[]{}=,.-#\n0"[usize::from(change[3]) % 12]),
                _ => drop(text.drain(at..(at + usize::from(change[3]) % 16).min(text.len()))),
            }
            if text.is_empty() {
                return;
            }
        }
        parse_and_use(&String::from_utf8_lossy(&text));
    });
}

fn parse_and_use(text: &str) {
    let parsed = dmm_policy::parse(text, "fuzzed.toml");
    let failed = parsed
        .diagnostics
        .iter()
        .any(|found| found.severity == dmm_policy::Severity::Error);
    assert_eq!(
        parsed.policy.is_none(),
        failed,
        "no policy if and only if there is an error"
    );
    for found in &parsed.diagnostics {
        assert!(found.line >= 1 && found.column >= 1 && found.span.end <= text.len());
        assert!(!found.render(text, true).is_empty());
    }
    if let Some(policy) = parsed.policy {
        let image = policy.compile();
        exercise(Image::from_bytes(image.as_bytes()).expect("an image of our own"));
    }
}

#[test]
fn any_configuration_of_the_c_dmm_is_translated_without_panic() {
    const RD: &str = r#"{ "ip_route": [ { "subnet": "10.1.2.3/8", "type": "nstack-dpdk", /* x */ }, ], "prot_route": [ { "proto_type": "11", "type": "a\"b" } ], # y
}"#;
    check!().with_iterations(2_000).for_each(|bytes: &[u8]| {
        let mut text = RD.as_bytes().to_vec();
        for change in bytes.chunks_exact(3) {
            let at = usize::from(change[0]) % text.len();
            match change[1] % 2 {
                0 => text[at] = change[2],
                _ => text.insert(at, b"\"[]{}:,/*#\n\\"[usize::from(change[2]) % 12]),
            }
        }
        let text = String::from_utf8_lossy(&text);
        if let Ok(imported) = dmm_policy::import::c_dmm(&text, Some(&text)) {
            let parsed = dmm_policy::parse(&imported.toml, "imported.toml");
            assert!(
                parsed.policy.is_some(),
                "{}\n{:?}",
                imported.toml,
                parsed.diagnostics
            );
        }
    });
}

#[test]
fn a_pattern_list_made_to_be_slow_is_matched_soon() {
    let pattern = "**a*".repeat(60) + "b";
    let list = vec![format!("{pattern:?}"); 100].join(", ");
    let text = format!("[[rule]]\nmatch = {{ program = [{list}] }}\nstack = \"kernel\"\n");
    let image = dmm_policy::parse(&text, "slow.toml")
        .policy
        .expect("no errors")
        .compile();
    let start = Instant::now();
    let process = Process {
        path: "a/".repeat(2048),
        ..Process::default()
    };
    Matcher::new(image, process);
    assert!(start.elapsed() < Duration::from_secs(10));
}

/// The crate runs on a small stack inside foreign programs.
#[test]
fn nothing_recurses_deeply() {
    let work = || {
        let deep = [
            "match = ".to_owned() + &"[".repeat(50_000),
            "a.".repeat(50_000) + "b = 1",
            "{a=".repeat(50_000),
        ];
        for text in &deep {
            assert!(dmm_policy::parse(text, "deep.toml").policy.is_none());
            assert!(dmm_policy::import::c_dmm(text, None).is_err());
        }
        let rules: String = (0..500)
            .map(|rule| {
                format!(
                    "[[rule]]\nmatch = {{ port = {}, program = \"a*\" }}\nstack = \"kernel\"\n",
                    rule + 1
                )
            })
            .collect();
        parse_and_use(&rules);
        parse_and_use(EXAMPLE);
    };
    let thread = std::thread::Builder::new()
        .stack_size(512 << 10)
        .spawn(work);
    thread
        .expect("a thread")
        .join()
        .expect("no overflow and no panic");
}
