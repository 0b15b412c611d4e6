//! `dmm policy`.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use crate::fixture::{Ran, dmm, ran};

const POLICY: &str = r#"
[stack.blue]
type = "kernel"
netns = "no-such-namespace"

[stack.reno]
type = "kernel"
congestion = "reno"
options = { nodelay = true }

[qos.fast]
priority = 5

[[rule]]
name = "web"
match = { program = "nginx", role = "listen", port = "80,443" }
stack = "reno"

[[rule]]
name = "cache traffic"
match = { program = "redis-*", role = "connect", protocol = "tcp", remote = "10.0.0.0/8", port = "6379-6389" }
stack = ["blue", "reno"]
note = "asked for by the cache team"

[[rule]]
name = "urgent"
match = { qos = "fast" }
stack = "blue"
fallback = false
"#;

/// A directory with everything that policies leave behind, and a policy file.
struct Place {
    dir: TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        place.write("my.toml", POLICY);
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn policy(&self, arguments: &[&str]) -> Ran {
        ran(&mut self.command(arguments))
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = dmm(["policy"]);
        command
            .args(arguments)
            .current_dir(self.dir.path())
            .env("DMM_STATE_DIR", self.path("state"))
            .env("DMM_SHM_DIR", self.dir.path())
            .env("DMM_POLICY", self.path("live.toml"));
        command
    }

    fn json(&self, arguments: &[&str]) -> serde_json::Value {
        let ran = self.policy(arguments);
        serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error} in {ran:?}"))
    }

    fn live(&self) -> String {
        fs::read_to_string(self.path("live.toml")).unwrap()
    }
}

fn named(name: &str) -> String {
    format!("[[rule]]\nname = \"{name}\"\nmatch = {{ role = \"listen\" }}\nstack = \"kernel\"\n")
}

#[test]
fn check_shows_place_excerpt_and_remedy() {
    let place = Place::new();
    assert_eq!(place.policy(&["check", "my.toml"]).code, Some(0));
    place.write("bad.toml", "[[rule]]\nname = \"x\"\nstack = \"kernal\"\n");
    let text = place.policy(&["check", "bad.toml"]);
    assert_eq!(text.code, Some(1));
    for part in [
        "bad.toml:3:9",
        "\"kernal\"",
        "^^^",
        "help:",
        "refused: 1 error in bad.toml",
    ] {
        assert!(text.stdout.contains(part), "no {part} in {}", text.stdout);
    }
    let json = place.json(&["check", "--json", "bad.toml"]);
    assert_eq!(json["errors"], 1);
    assert_eq!(json["diagnostics"][0]["line"], 3);
}

#[test]
fn warnings_are_denied_on_demand() {
    let place = Place::new();
    let shadowed = format!(
        "[[rule]]\nname = \"all\"\nstack = \"kernel\"\n{}",
        named("never")
    );
    place.write("warn.toml", &shadowed);
    assert_eq!(place.policy(&["check", "warn.toml"]).code, Some(0));
    let denied = place.policy(&["check", "--deny", "warnings", "warn.toml"]);
    assert_eq!(denied.code, Some(1), "{denied:?}");
}

#[test]
fn a_policy_that_is_not_there_is_said_by_name() {
    let place = Place::new();
    let ran = place.policy(&["check", "none.toml"]);
    assert_eq!(ran.code, Some(1));
    assert!(
        ran.stderr.contains("cannot read the policy none.toml"),
        "{ran:?}"
    );
}

#[test]
fn explain_names_rule_place_candidates_and_reasons() {
    let place = Place::new();
    let arguments = [
        "explain",
        "my.toml",
        "--program",
        "redis-server",
        "--uid",
        "7",
    ];
    let socket = ["connect", "tcp", "10.1.2.3:6379"];
    let text = place.policy(&[&arguments[..], &socket].concat()).stdout;
    for part in [
        "redis-server, uid 7, connects to 10.1.2.3:6379 (tcp)",
        "cache traffic  my.toml:19",
        "asked for by the cache team",
        "blue  is passed over",
        "no-such-namespace",
        "ip netns add",
        "reno  carries it",
        "kernel  would carry it",
        "role wants listen, found connect",
    ] {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
    let json = place.json(&[&arguments[..], &socket, &["--json"]].concat());
    assert_eq!(json["rule"]["name"], "cache traffic");
    assert_eq!(json["carried_by"], "reno");
    assert_eq!(
        json["trials"][0]["reasons"][0]["reason"],
        "no-such-namespace"
    );
}

#[test]
fn explain_knows_roles_addresses_and_classes() {
    let place = Place::new();
    let rule = |arguments: &[&str]| {
        let json = place.json(&[&["explain", "--json", "my.toml"], arguments].concat());
        json["rule"]["name"].as_str().unwrap().to_owned()
    };
    assert_eq!(
        rule(&["--program", "/opt/nginx", "listen", "tcp", "*:443"]),
        "web"
    );
    assert_eq!(
        rule(&["--program", "nginx", "listen", "tcp", "[::1]:80"]),
        "web"
    );
    assert_eq!(
        rule(&["--program", "nginx", "listen", "tcp", "[::1]:81"]),
        "default"
    );
    assert_eq!(rule(&["datagram", "udp", "10.0.0.53:53"]), "default");
    assert_eq!(
        rule(&["--priority", "5", "datagram", "udp", "10.0.0.53:53"]),
        "urgent"
    );
    let none = place.json(&[
        "explain",
        "--json",
        "my.toml",
        "--priority",
        "5",
        "connect",
        "tcp",
        "[::1]:9",
    ]);
    assert_eq!(none["carried_by"], serde_json::Value::Null);
}

#[test]
fn explain_refuses_nonsense_with_a_hint() {
    let place = Place::new();
    let name = place.policy(&["explain", "my.toml", "connect", "tcp", "example.org:80"]);
    assert_eq!(name.code, Some(2));
    assert!(name.stderr.contains("names are not looked up"), "{name:?}");
    let twice = place.policy(&[
        "explain",
        "my.toml",
        "--local",
        "1.2.3.4:5",
        "listen",
        "tcp",
        ":80",
    ]);
    assert_eq!(twice.code, Some(2), "{twice:?}");
    let mixed = place.policy(&[
        "explain",
        "my.toml",
        "--local",
        "[::1]:5",
        "connect",
        "tcp",
        "1.2.3.4:5",
    ]);
    assert!(mixed.stderr.contains("different families"), "{mixed:?}");
}

#[test]
fn versions_are_applied_listed_compared_and_rolled_back() {
    let place = Place::new();
    place.write("one.toml", &named("one"));
    place.write("two.toml", &named("two"));
    let first = place.policy(&["apply", "one.toml", "-m", "to begin with"]);
    assert_eq!(first.code, Some(0), "{first:?}");
    assert!(
        first.stdout.starts_with("version 1 is in force in "),
        "{first:?}"
    );

    let dry = place.policy(&["apply", "--dry-run", "two.toml"]);
    assert!(
        dry.stdout.contains("-name = \"one\"\n+name = \"two\"\n"),
        "{dry:?}"
    );
    assert_eq!(place.live(), named("one"), "a dry run changes nothing");

    assert_eq!(place.policy(&["apply", "two.toml"]).code, Some(0));
    let again = place.policy(&["apply", "two.toml"]);
    assert!(
        again.stdout.contains("nothing to do: version 2"),
        "{again:?}"
    );

    let diff = place.policy(&["diff"]);
    assert_eq!(diff.code, Some(1));
    assert!(diff.stdout.starts_with("--- version 1\n+++ "), "{diff:?}");
    assert!(diff.stdout.contains("@@ -1,4 +1,4 @@"), "{diff:?}");
    assert_eq!(place.policy(&["diff", "2", "two.toml"]).code, Some(0));

    assert_eq!(place.policy(&["show"]).stdout, named("two"));
    assert_eq!(place.policy(&["show", "1"]).stdout, named("one"));
    assert_eq!(
        place.json(&["show", "--json"])["policy"]["rules"][0]["name"],
        "two"
    );

    assert_eq!(place.policy(&["rollback", "-m", "no good"]).code, Some(0));
    assert_eq!(place.live(), named("one"));
    let history = place.policy(&["history"]).stdout;
    assert!(history.contains("to begin with"), "{history}");
    assert!(history.contains("rollback to 1"), "{history}");
    let json = place.json(&["history", "--json"]);
    assert_eq!(json["current"], 3);
    assert_eq!(json["versions"].as_array().unwrap().len(), 3);

    let none = place.policy(&["rollback", "77"]);
    assert_eq!(none.code, Some(1));
    assert!(none.stderr.contains("there is no version 77"), "{none:?}");
}

#[test]
fn a_broken_policy_is_not_applied() {
    let place = Place::new();
    place.write("one.toml", &named("one"));
    place.policy(&["apply", "one.toml"]);
    place.write("bad.toml", "[[rule]]\nstack = \"nowhere\"\n");
    let refused = place.policy(&["apply", "bad.toml"]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("bad.toml:2:9"), "{refused:?}");
    assert_eq!(place.live(), named("one"));
}

#[test]
fn without_a_live_policy_the_built_in_one_is_named() {
    let place = Place::new();
    let show = place.policy(&["show"]);
    assert_eq!((show.code, show.stdout.as_str()), (Some(0), ""));
    assert!(show.stderr.contains("the built-in policy"), "{show:?}");
    assert_eq!(place.json(&["show", "--json"])["built_in"], true);
    assert_eq!(place.policy(&["history"]).code, Some(1));
}

#[test]
fn the_c_dmm_configuration_is_taken_over() {
    let place = Place::new();
    place.write(
        "rd_config.json",
        r#"{
            "ip_route": [
                { "subnet": "192.168.21.1/24", "type": "nstack-dpdk", }, /* the lab */
            ],
            "prot_route": [ { "proto_type": "2", "type": "nstack-kernel" } ],
        }"#,
    );
    let imported = place.policy(&["import", "rd_config.json", "-o", "new.toml"]);
    assert_eq!(imported.code, Some(0), "{imported:?}");
    let toml = fs::read_to_string(place.path("new.toml")).unwrap();
    assert!(toml.contains("192.168.21.0/24"), "{toml}");
    assert_eq!(place.policy(&["check", "new.toml"]).code, Some(0));
    let again = place.policy(&["import", "rd_config.json", "-o", "new.toml"]);
    assert_eq!(again.code, Some(1), "a file is not written over: {again:?}");
    place.write("broken.json", "{ \"ip_route\": [ }");
    let broken = place.policy(&["import", "broken.json"]);
    assert_eq!(broken.code, Some(1));
    assert!(broken.stderr.contains("broken.json:1:"), "{broken:?}");
}

#[test]
fn the_standard_input_is_a_file_too() {
    let place = Place::new();
    let mut command = place.command(&["check", "-"]);
    let ran = ran(command.stdin(fs::File::open(place.path("my.toml")).unwrap()));
    assert_eq!(ran.code, Some(0), "{ran:?}");
}
