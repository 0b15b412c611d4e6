//! `dmm ps`, `ss`, `why`, `hist` and `top` on a process whose segment the test writes: itself.

use std::ffi::CString;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::process::Command;

use dmm_nsocket::Reason;
use dmm_nsocket::stats::{
    CreateInfo, HistogramKind, Opened, OptionRefusal, PassedOver, Segment, Selected, SocketRole,
};
use serde_json::Value;

const POLICY: &str = "\
[stack.bulk]
type = \"kernel\"
protocol = \"mptcp\"

[[rule]]
name = \"web servers\"
match = { role = \"listen\" }
stack = [\"bulk\", \"kernel\"]
";

/// A listener and a connection of this process, in a segment of its own.
struct Observed {
    dir: tempfile::TempDir,
    listener: TcpListener,
    stream: TcpStream,
    segment: Segment,
}

struct Ran {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Observed {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let policy = dir.path().join("policy.toml");
        fs::write(&policy, POLICY).unwrap();
        let hash = dmm_policy::text_hash(POLICY);
        let shm = CString::new(dir.path().as_os_str().as_bytes()).unwrap();
        let segment = Segment::create(&CreateInfo {
            dir: &shm,
            run_id: b"",
            program: b"/opt/bin/web-server",
            label: b"front",
            argv0: b"web-server",
            policy_hash: hash,
            policy_path: policy.as_os_str().as_bytes(),
            keep: false,
        })
        .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (bulk, kernel) = (segment.stack("bulk"), segment.stack("kernel"));
        let rule = segment.rule("web servers", 5);
        let opened = Opened {
            family: 2,
            sock_type: 1,
            protocol: 6,
            inode: 0,
        };
        let selected = Selected {
            role: SocketRole::Listen,
            rule,
            stack: kernel,
            class: None,
            policy_hash: hash,
            trail: &[PassedOver {
                stack: bulk,
                reason: Reason::ProtocolRefused,
                errno: 92,
            }],
            options_applied: 2,
            options_refused: &[OptionRefusal {
                level: 1,
                option: 36,
                errno: 1,
            }],
        };
        let record = segment.socket(listener.as_raw_fd()).unwrap();
        record.open(&opened);
        record.select(&selected);
        record.listening();
        let record = segment.socket(stream.as_raw_fd()).unwrap();
        record.open(&opened);
        record.select(&Selected {
            role: SocketRole::Connect,
            rule: segment.rule("default", 0),
            trail: &[],
            options_applied: 0,
            options_refused: &[],
            ..selected
        });
        record.connected(Some(250_000));
        record.add_sent(2048);
        let series = record.series().unwrap();
        segment.record_time(series, HistogramKind::Blocking, 1_000_000);
        Self {
            dir,
            listener,
            stream,
            segment,
        }
    }

    fn dmm(&self, words: &str) -> Ran {
        let pid = std::process::id().to_string();
        let words = words
            .replace("PID", &pid)
            .replace("LISTENER", &self.listener.as_raw_fd().to_string());
        let output = Command::new(env!("CARGO_BIN_EXE_dmm"))
            .args(words.split(' '))
            .env("DMM_SHM_DIR", self.dir.path())
            .env("DMM_STATE_DIR", self.dir.path().join("state"))
            .env_remove("LD_PRELOAD")
            .env_remove("DMM_POLICY")
            .current_dir(self.dir.path())
            .output()
            .unwrap();
        Ran {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    fn json(&self, words: &str) -> Value {
        serde_json::from_str(&self.dmm(&format!("{words} --json")).stdout).unwrap()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The one line with a word in it.
    fn line(text: &str, word: &str) -> String {
        let lines: Vec<&str> = text.lines().filter(|line| line.contains(word)).collect();
        let [line] = lines[..] else {
            panic!("not one line with `{word}` in:\n{text}")
        };
        line.to_owned()
    }
}

#[test]
fn ps_lists_processes_with_stacks_and_policy() {
    let observed = Observed::new();
    let ps = observed.dmm("ps");
    let line = Observed::line(&ps.stdout, "web-server");
    for part in [
        "front",
        "kernel 2",
        &format!("{:08x}", dmm_policy::text_hash(POLICY) >> 32),
    ] {
        assert!(line.contains(part), "{part} in {line}");
    }
    assert!(observed.dmm("ps web").stdout.contains("web-server"));
    assert!(observed.dmm("ps redis").stdout.is_empty());
    let json = observed.json("ps web");
    assert_eq!(json["processes"][0]["sockets"]["kernel"], 2);
    assert_eq!(json["processes"][0]["policy"]["stale"], false);
    fs::write(observed.file("policy.toml"), format!("{POLICY}\n")).unwrap();
    assert!(Observed::line(&observed.dmm("ps").stdout, "web-server").contains("stale"));
}

#[test]
fn ss_shows_what_is_asked_for() {
    let observed = Observed::new();
    let local = observed.listener.local_addr().unwrap();
    let all = observed.dmm("ss -a").stdout;
    let listener = Observed::line(&all, "listen");
    for part in [&*local.to_string(), "kernel*", "web servers", "web-server/"] {
        assert!(listener.contains(part), "{part} in {listener}");
    }
    let stream = Observed::line(&all, "established");
    let near = observed.stream.local_addr().unwrap();
    for part in [&*near.to_string(), &local.to_string(), "2.0 KiB", "default"] {
        assert!(stream.contains(part), "{part} in {stream}");
    }
    let count = |words: &str| observed.json(words).as_array().unwrap().len();
    assert_eq!(count("ss"), 1, "without -a no listeners");
    assert_eq!(count("ss -l"), 1);
    assert_eq!(count("ss -au"), 0);
    assert_eq!(count("ss state listen"), 1);
    assert_eq!(count("ss -a stack kernel and not rule web*"), 1);
    assert_eq!(count(&format!("ss dport = :{}", local.port())), 1);
    assert_eq!(
        count(&format!("ss -a src 127.0.0.0/8 sport :{}", local.port())),
        1
    );
    assert_eq!(count("ss -a pid 1"), 0);
    let json = observed.json("ss state established");
    assert_eq!(json[0]["remote"], local.to_string());
    assert_eq!(json[0]["sent"], 2048);
    assert!(json[0]["kernel"]["tcp"]["mss"].as_u64().unwrap() > 0);
    assert!(observed.dmm("ss -ai").stdout.contains("cwnd"));
}

#[test]
fn ss_explains_mistakes() {
    let observed = Observed::new();
    let ran = observed.dmm("ss colour red");
    assert_eq!(ran.code, Some(2), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("`colour` is not a condition"),
        "{}",
        ran.stderr
    );
}

#[test]
fn why_tells_rule_reasons_and_remedies() {
    let observed = Observed::new();
    let why = observed.dmm("why PID LISTENER").stdout;
    for part in [
        "policy.toml:5",
        "web servers",
        "asked for bulk, then kernel",
        "passed over bulk: the kernel refused the protocol (Protocol not available)",
        "sysctl net.mptcp.enabled=1",
        "carried by kernel",
        "2 options of the stack applied",
        "option refused SO_MARK: Operation not permitted",
    ] {
        assert!(why.contains(part), "{part} in:\n{why}");
    }
    let json = observed.json("why PID LISTENER");
    assert_eq!(json["candidates"][0], "bulk");
    assert_eq!(json["passed_over"][0]["reason"], "protocol-refused");
    fs::write(observed.file("policy.toml"), format!("{POLICY}\n")).unwrap();
    let changed = observed.dmm("why PID LISTENER").stdout;
    assert!(changed.contains("has changed since"), "{changed}");

    let none = observed.dmm("why PID 1000");
    assert_eq!(none.code, Some(1));
    assert!(
        none.stderr.contains("descriptor 1000 of process"),
        "{}",
        none.stderr
    );
    let nobody = observed.dmm("why 4194305 1");
    assert_eq!(nobody.code, Some(1));
    assert!(
        nobody.stderr.contains("no process 4194305 under DMM"),
        "{}",
        nobody.stderr
    );
}

#[test]
fn hist_prints_and_writes() {
    let observed = Observed::new();
    let text = observed.dmm("hist PID").stdout;
    assert!(
        text.contains("connect, rule \"default\", stack kernel"),
        "{text}"
    );
    assert!(text.contains("p50 250us"), "{text}");
    let json = observed.json("hist PID --kind blocking");
    assert_eq!(json.as_array().unwrap().len(), 1);
    assert_eq!(json[0]["max_ns"], 1_000_000);
    assert_eq!(observed.json("hist PID --total")[0]["rule"], "(all)");
    let written = observed.dmm("hist PID --csv a.csv --svg a.svg --html a.html --hlog a.hlog");
    assert_eq!(
        (written.code, &*written.stdout),
        (Some(0), ""),
        "{}",
        written.stderr
    );
    for (name, part) in [
        ("a.csv", "connect,default,kernel,"),
        ("a.svg", "<svg"),
        ("a.html", "</html>"),
        ("a.hlog", "Tag=connect|default|kernel"),
    ] {
        let text = fs::read_to_string(observed.file(name)).unwrap();
        assert!(text.contains(part), "{part} in {name}:\n{text}");
    }
    let none = observed.dmm("hist PID --rule nothing");
    assert!(
        none.stderr.contains("there are rules default, web servers"),
        "{}",
        none.stderr
    );
    assert_eq!(observed.dmm("hist").code, Some(2));
}

#[test]
fn hist_reads_copies_and_refuses_other_files() {
    let observed = Observed::new();
    let copy = CString::new(observed.file("copy").as_os_str().as_bytes()).unwrap();
    observed.segment.dump(&copy).unwrap();
    let text = observed.dmm("hist --from copy").stdout;
    assert!(text.contains("p50 250us"), "{text}");
    let wrong = observed.dmm("hist --from policy.toml");
    assert_eq!(wrong.code, Some(1));
    assert!(wrong.stderr.contains("policy.toml: "), "{}", wrong.stderr);
}

#[test]
fn top_shows_totals_and_rates() {
    let observed = Observed::new();
    let json = observed.json("top --once");
    let lines = json.as_array().unwrap();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["bytes_sent"], 2048);
    assert_eq!(lines[0]["connect_mean_ns"], 250_000);
    let rates = observed.dmm("top -n 2 -d 0.1").stdout;
    assert_eq!(rates.matches("SENT/s").count(), 2, "{rates}");
    assert_eq!(observed.dmm("top -d 0").code, Some(2));
}
