//! Every finding: its code, its place, its remedy.

use std::time::{Duration, Instant};

use dmm_policy::{Diagnostic, PasswdText, Severity, parse, parse_with};

/// The reference that names all codes and has the examples.
const REFERENCE: &str = include_str!("../../docs/policy.md");

/// What `text` is told, as `code line:column`.
fn findings(text: &str) -> Vec<Diagnostic> {
    parse(text, "policy.toml").diagnostics
}

/// Asserts that a text gets exactly one finding, and what it is. A `^` line below a line of the text
/// marks the place; it is taken out before the text is parsed.
#[track_caller]
fn one(marked: &str, severity: Severity, code: &str, help: &str) {
    let mut text = String::new();
    let mut place = None;
    for line in marked.trim_start_matches('\n').lines() {
        match line.trim_start().strip_prefix('^') {
            Some("") => {
                place = Some((
                    text.lines().count() as u32,
                    line.find('^').unwrap() as u32 + 1,
                ));
            }
            _ => text = text + line + "\n",
        }
    }
    let found = findings(&text);
    let rendered: Vec<String> = found
        .iter()
        .map(|found| found.render(&text, false))
        .collect();
    assert_eq!(found.len(), 1, "{}", rendered.join("\n\n"));
    let found = &found[0];
    assert!(
        REFERENCE.contains(&format!("`{code}`")),
        "docs/policy.md lists {code}"
    );
    assert_eq!(
        (found.severity, found.code),
        (severity, code),
        "{}",
        rendered[0]
    );
    assert_eq!(Some((found.line, found.column)), place, "{}", rendered[0]);
    let given = found.help.as_deref().expect("a remedy");
    assert!(given.contains(help), "{}", rendered[0]);
    assert!(rendered[0].contains(&format!("policy.toml:{}:{}", found.line, found.column)));
}

#[track_caller]
fn error(marked: &str, code: &str, help: &str) {
    one(marked, Severity::Error, code, help);
}

#[track_caller]
fn warning(marked: &str, code: &str, help: &str) {
    one(marked, Severity::Warning, code, help);
}

#[test]
fn syntax() {
    error(
        r#"
[default]
stack = kernel
        ^
"#,
        "toml-syntax",
        "text in quotes",
    );
    error(
        r#"
[default]
stack = ["kernel"]
stack = ["kernel"]
^
"#,
        "duplicate-key",
        "remove one",
    );
}

#[test]
fn unknown_names() {
    error(
        r#"
[defualt]
 ^
stack = "kernel"
"#,
        "unknown-key",
        "did you mean `default`?",
    );
    error(
        r#"
[[rule]]
match = { prot = 80, role = "connect" }
          ^
stack = "kernel"
"#,
        "unknown-key",
        "did you mean `port`?",
    );
    error(
        r#"
[stack.blue]
type = "kernal"
       ^
[default]
stack = ["blue"]
"#,
        "unknown-type",
        "did you mean `kernel`?",
    );
    error(
        r#"
[stack.blue]
type = "kernel"
[[rule]]
match = { port = 80 }
stack = ["bleu", "blue"]
         ^
"#,
        "undefined-stack",
        "did you mean `blue`?",
    );
    error(
        r#"
[[rule]]
match = { qos = "gold" }
                ^
stack = "kernel"
"#,
        "undefined-class",
        "[qos.gold]",
    );
    error(
        r#"
[[rule]]
match = { user = "redis" }
                 ^
stack = "kernel"
"#,
        "unknown-user",
        "uid = 1000",
    );
}

#[test]
fn values() {
    for (condition, column, code, help) in [
        (
            "remote = \"10.1.2.3/8\"",
            20,
            "bad-prefix",
            "\"10.0.0.0/8\" for the network",
        ),
        ("remote = \"10.0.0.0/40\"", 20, "bad-prefix", "0 to 32"),
        ("remote = \"ten\"", 20, "bad-prefix", "2001:db8::/32"),
        ("remote = []", 20, "empty-list", "leave the key out"),
        ("remote = 10", 20, "wrong-type", "text in quotes"),
        ("port = 0", 18, "bad-port", "1 to 65535"),
        ("port = \"6389-6379\"", 18, "bad-port", "\"6379-6389\""),
        ("port = [80, \"x\"]", 23, "bad-port", "a list"),
        ("port = 80.5", 18, "wrong-type", "a port"),
        (
            "role = \"conect\"",
            18,
            "bad-value",
            "did you mean `connect`?",
        ),
        ("protocol = \"tpc\"", 22, "bad-value", "did you mean `tcp`?"),
        ("protocol = 0", 22, "bad-value", "1 to 255"),
        ("uid = \"2000-1000\"", 17, "bad-value", "1000-2000"),
        ("program = \"red[is\"", 21, "bad-pattern", "[a-z]"),
        ("program = \"{a,b}\"", 21, "bad-pattern", "across slashes"),
        ("program = \"bin/redis\"", 21, "bad-pattern", "**/bin/redis"),
        (
            "cgroup = \"system.slice\"",
            20,
            "bad-pattern",
            "/system.slice",
        ),
    ] {
        let caret = " ".repeat(column - 1) + "^";
        error(
            &format!("[[rule]]\nmatch = {{ {condition} }}\n{caret}\nstack = \"kernel\"\n"),
            code,
            help,
        );
    }
    for (option, column, help) in [
        ("send_buffer = \"4MB2\"", 27, "4MiB"),
        ("send_buffer = \"8GiB\"", 27, "smaller"),
        ("busy_poll = 50", 25, "\"50us\""),
        ("busy_poll = \"1ns\"", 25, "whole number of us"),
        ("dscp = \"af99\"", 20, "af43"),
        ("dscp = 64", 20, "0 to 63"),
        ("priority = 16", 24, "0 to 15"),
        ("mark = \"0xfffffffff\"", 20, "0x2a"),
        ("device = \"a-very-long-device-name\"", 22, "eth0"),
    ] {
        let caret = " ".repeat(column - 1) + "^";
        error(
            &format!("[stack.kernel]\noptions = {{ {option} }}\n{caret}\n"),
            "bad-value",
            help,
        );
    }
}

#[test]
fn structure() {
    error(
        r#"
[[rule]]
^
match = { port = 80 }
"#,
        "missing-key",
        "stack = [\"kernel\"]",
    );
    error(
        r#"
[[rule]]
name = "a"
match = { port = 80 }
stack = "kernel"
[[rule]]
^
name = "a"
match = { port = 81 }
stack = "kernel"
"#,
        "duplicate-name",
        "another name",
    );
    error(
        r#"
[[rule]]
match = { port = 80 }
stack = []
        ^
fallback = false
"#,
        "empty-list",
        "fallback = false",
    );
    error(
        r#"
[rule]
 ^
stack = "kernel"
"#,
        "wrong-type",
        "[[rule]]",
    );
    error(
        r#"
[stack.blue]
       ^
netns = "blue"
[default]
stack = "blue"
"#,
        "missing-key",
        "type = \"kernel\"",
    );
    error(
        r#"
[[rule]]
match = { port = 80 }
stack = "kernel"
dump = "SIGHUP"
       ^
"#,
        "bad-value",
        "SIGUSR2",
    );
}

#[test]
fn what_is_surely_not_meant() {
    warning(
        r#"
[[rule]]
name = "wide"
match = { remote = "10.0.0.0/8" }
stack = "kernel"
[[rule]]
^
name = "narrow"
match = { remote = "10.1.0.0/16", port = 80 }
stack = "kernel"
"#,
        "shadowed-rule",
        "more specific rule first",
    );
    warning(
        r#"
[[rule]]
^
stack = "kernel"
[[rule]]
match = { port = 80 }
stack = "kernel"
"#,
        "match-all",
        "to the end",
    );
    warning(
        r#"
[stack.blue]
       ^
type = "kernel"
"#,
        "unused-stack",
        "remove the section",
    );
    warning(
        r#"
[stack.blue]
type = "kernel"
[default]
stack = ["kernel", "blue"]
                   ^
"#,
        "unreachable-stack",
        "put `kernel` last",
    );
    warning(
        r#"
[stack.fast]
type = "smoltcp"
       ^
[default]
stack = "fast"
"#,
        "not-in-this-build",
        "stack not in this build",
    );
    warning(
        r#"
[[rule]]
match = { role = "listen", remote = "10.0.0.0/8" }
                           ^
stack = "kernel"
"#,
        "never-matches",
        "exclude each other",
    );
    one(
        r#"
[stack.blue]
type = "kernel"
[[rule]]
match = { remote = "10.1.0.0/16" }
stack = "blue"
[[rule]]
match = { remote = "10.0.0.0/8" }
          ^
stack = "kernel"
"#,
        Severity::Note,
        "overlapping-prefixes",
        "change the order",
    );
}

#[test]
fn a_clean_policy_gets_no_finding() {
    let text = r#"
[stack.kernel]
[stack.blue]
type = "kernel"
netns = "blue"
[stack.bulk]
type = "kernel"
protocol = "mptcp"
congestion = "bbr"
options = { nodelay = true, busy_poll = "50us", dscp = "af41", mark = 7, priority = 6,
            send_buffer = "4MiB", receive_buffer = "4MiB", device = "veth0" }

[[rule]]
name  = "cache traffic"
match = { program = "redis-*", role = "connect", protocol = "tcp", remote = "10.0.0.0/8", port = "6379-6389" }
stack = ["bulk", "kernel"]

[[rule]]
match = { user = "redis" }
stack = "blue"

[default]
stack = ["kernel"]
"#;
    let passwd = PasswdText(
        "root:x:0:0::/root:/bin/sh\nredis:x:112:119::/var/lib/redis:/usr/sbin/nologin\n",
    );
    let parsed = parse_with(text, "policy.toml", &passwd);
    assert_eq!(parsed.diagnostics, []);
    let policy = parsed.policy.expect("no errors");
    let image = policy.compile();
    let bulk = image
        .stacks()
        .find(|stack| stack.name == "bulk")
        .expect("defined");
    assert_eq!(bulk.congestion, Some("bbr"));
    assert_eq!(bulk.options.send_buffer, Some(4 << 20));
    assert_eq!(bulk.options.busy_poll_us, Some(50));
    assert_eq!(bulk.options.dscp, Some(34));
    assert_eq!(bulk.options.device, Some("veth0"));
    assert_eq!(image.text_hash(), dmm_policy::text_hash(text));
    assert_eq!(policy.rules()[1].conditions()[0].values, ["redis (112)"]);
}

#[test]
fn all_errors_are_told_at_once_and_in_order() {
    let text = r#"
[stack.blue]
type = "kernel"
colour = "red"
[[rule]]
match = { port = 0, remote = "x" }
stack = "bleu"
fallback = "no"
[default]
stack = 5
"#;
    let codes: Vec<&str> = findings(text).iter().map(|found| found.code).collect();
    assert_eq!(
        codes,
        [
            "unknown-key",
            "bad-port",
            "bad-prefix",
            "undefined-stack",
            "wrong-type",
            "wrong-type"
        ]
    );
}

#[test]
fn an_excerpt_shows_the_place_and_the_shadowing_rule() {
    let text = "[[rule]]\nname = \"a\"\nmatch = { port = 80 }\nstack = \"kernel\"\n\
                [[rule]]\nname = \"b\"\nmatch = { port = 80, uid = 5 }\nstack = \"kernel\"\n";
    let found = &findings(text)[0];
    assert_eq!(
        found.render(text, false),
        "warning[shadowed-rule]: `b` is never reached: `a` at line 1 matches all that it matches\n \
         --> policy.toml:5:1\n  \
         |\n\
         1 | [[rule]]\n  \
         | -------- this rule comes first\n\
         ...\n\
         5 | [[rule]]\n  \
         | ^^^^^^^^\n  \
         |\n\
         help: put the more specific rule first"
    );
    assert_ne!(
        found.render(text, true),
        found.render(text, false),
        "colours"
    );
}

#[test]
fn a_flood_of_errors_is_cut_off() {
    let text = "[[rule]]\n".repeat(1_000);
    let found = findings(&text);
    assert_eq!(found.len(), 201);
    assert!(
        found[200].message.starts_with("800 more"),
        "{}",
        found[200].message
    );
}

#[test]
fn ten_thousand_rules_are_checked_in_a_second() {
    // Debug builds are some ten times slower.
    let (rules, limit) = match cfg!(debug_assertions) {
        true => (1_500, Duration::from_secs(10)),
        false => (10_000, Duration::from_secs(1)),
    };
    type Conditions = fn(usize) -> String;
    let shapes: [(&str, Conditions); 5] = [
        ("prefixes", |rule| {
            format!("remote = \"10.{}.{}.0/24\"", rule / 256, rule % 256)
        }),
        ("one prefix", |rule| {
            format!("remote = \"10.0.0.0/8\", port = {}", rule + 1)
        }),
        ("programs", |rule| format!("program = \"program-{rule}-*\"")),
        ("wild programs", |rule| format!("program = \"*-{rule}-*\"")),
        ("ranges", |rule| {
            format!("port = \"{}-{}\", uid = {rule}", rule + 1, 60_000 - rule)
        }),
    ];
    for (name, shape) in shapes {
        let mut text = String::from("[stack.blue]\ntype = \"kernel\"\n");
        for rule in 0..rules {
            let stack = ["blue", "kernel"][rule % 2];
            text += &format!(
                "[[rule]]\nmatch = {{ {} }}\nstack = \"{stack}\"\n",
                shape(rule)
            );
        }
        let start = Instant::now();
        let parsed = parse(&text, "large.toml");
        let elapsed = start.elapsed();
        assert!(parsed.policy.is_some());
        assert!(elapsed < limit, "{name}: {elapsed:?}");
    }
}

#[test]
fn rules_that_only_look_shadowed_are_left_alone() {
    let shadowed = |first: &str, between: &str, second: &str| {
        let text = format!(
            "[[rule]]\nmatch = {{ {first} }}\nstack = \"kernel\"\n{between}\n\
             [[rule]]\nmatch = {{ {second} }}\nstack = \"kernel\"\n"
        );
        let parsed = parse(&text, "policy.toml");
        assert!(parsed.policy.is_some(), "{:?}", parsed.diagnostics);
        parsed
            .diagnostics
            .iter()
            .any(|found| found.code == "shadowed-rule")
    };
    for (first, second, expected) in [
        (
            "role = \"connect\"",
            "role = [\"connect\", \"listen\"]",
            false,
        ),
        (
            "role = [\"connect\", \"listen\"]",
            "role = \"connect\"",
            true,
        ),
        ("family = \"v4\"", "port = 80", false),
        ("type = \"stream\"", "type = \"raw\"", false),
        ("protocol = \"tcp\"", "protocol = [\"tcp\", \"udp\"]", false),
        ("port = \"80-90\"", "port = \"80-91\"", false),
        ("port = \"80-90\"", "port = \"80-90\", uid = 1", true),
        ("port = 80", "local_port = 80", false),
        ("local_port = 80", "port = 80", false),
        ("local_port = 80", "local_port = 80, port = 80", true),
        ("remote_port = 80", "port = 80", false),
        ("uid = \"1-5\"", "uid = \"1-6\"", false),
        ("remote = \"10.0.0.0/8\"", "local = \"10.0.0.0/8\"", false),
        (
            "remote = \"0.0.0.0/0\"",
            "remote = [\"10.0.0.0/8\", \"::1\"]",
            false,
        ),
        (
            "remote = [\"0.0.0.0/0\", \"::/0\"]",
            "remote = [\"10.0.0.0/8\", \"::1\"]",
            true,
        ),
        ("remote = [\"0.0.0.0/0\", \"::/0\"]", "port = 80", false),
        (
            "remote = [\"10.0.0.0/9\", \"10.128.0.0/9\"]",
            "remote = \"10.0.0.0/8\"",
            true,
        ),
        (
            "program = \"redis-*\"",
            "program = [\"redis-cli\", \"nginx\"]",
            false,
        ),
        (
            "program = \"redis-*\"",
            "program = [\"redis-cli\", \"redis-s*\"]",
            true,
        ),
        ("program = \"*\"", "program = \"/usr/bin/*\"", false),
        ("program = \"**\"", "program = \"/usr/bin/*\"", true),
        ("label = \"a*\"", "program = \"a\"", false),
        ("cgroup = \"/a/*\"", "cgroup = \"/a/b/c\"", false),
        ("cgroup = \"/a/**\"", "cgroup = \"/a/b/c\"", true),
        ("qos = \"gold\"", "qos = \"gold\", port = 80", true),
        ("qos = \"gold\"", "port = 80", false),
    ] {
        let class = "[qos.gold]\npriority = 6";
        let found = shadowed(first, class, second);
        assert_eq!(found, expected, "`{first}` before `{second}`");
    }
    let setter = "[[rule]]\nmatch = { port = 80 }\nqos = \"gold\"";
    assert!(!shadowed(
        "qos = \"gold\"",
        setter,
        "qos = \"gold\", port = 80"
    ));
    assert!(shadowed("uid = 0", setter, "uid = 0, port = 80"));
}

#[test]
fn the_examples_of_the_reference_are_right() {
    let examples: Vec<&str> = REFERENCE
        .split("```toml\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .collect();
    assert_eq!(examples.len(), 4);
    for example in examples {
        let mut text = example.to_owned();
        if text.contains("\"blue\"") && !text.contains("[stack.blue]") {
            text += "[stack.blue]\ntype = \"kernel\"\n";
        }
        let parsed = parse(&text, "example.toml");
        let told: Vec<String> = parsed
            .diagnostics
            .iter()
            .filter(|found| found.severity > Severity::Note)
            .map(|found| found.render(&text, false))
            .collect();
        assert!(told.is_empty(), "{}", told.join("\n"));
    }
}

#[test]
fn control_characters_do_not_reach_the_terminal() {
    let found = findings("\"\\u001b[31mred\" = 1\n[stack.x]\ntype = \"\\u0007\"\n");
    assert_eq!(found.len(), 2);
    for found in found {
        assert!(
            !found.message.contains(char::is_control),
            "{:?}",
            found.message
        );
        assert!(!found.help.unwrap_or_default().contains(char::is_control));
    }
}
