//! Small C programs, each about one thing that a preload can break, run plain and preloaded: what
//! they print must be the same.
//!
//! Each program checks itself as well (`probes/probe.h`), and prints nothing that differs from run to
//! run. What generated sequences of calls can show is left to the differential test (`tests/`): here
//! is what needs threads, signals, cancellation, other programs, or the compiler.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// A policy, and the probes that behave otherwise under it, with why that is so.
struct Policy {
    name: &'static str,
    text: &'static str,
    needs: Needs,
    except: &'static [(&'static str, &'static str)],
}

#[derive(Clone, Copy, PartialEq)]
enum Needs {
    Nothing,
    Mptcp,
    Root,
}

impl Needs {
    /// What of it is not there.
    fn missing(self) -> Option<&'static str> {
        let mptcp = || fs::read_to_string("/proc/sys/net/mptcp/enabled");
        match self {
            Self::Mptcp if !mptcp().is_ok_and(|text| text.trim() == "1") => {
                Some("MPTCP (sysctl net.mptcp.enabled=1)")
            }
            Self::Root if !may_make_namespaces() => Some("the rights of root"),
            _ => None,
        }
    }
}

const POLICIES: [Policy; 5] = [
    Policy {
        name: "default",
        text: "[default]\nstack = [\"kernel\"]\n",
        needs: Needs::Nothing,
        except: &[],
    },
    Policy {
        name: "second",
        text: "[stack.second]\ntype = \"kernel\"\n\n\
               [[rule]]\nname = \"connections\"\nmatch = { role = \"connect\" }\n\
               stack = [\"second\", \"kernel\"]\n",
        needs: Needs::Nothing,
        except: &[],
    },
    Policy {
        name: "tuned",
        text: "[stack.tuned]\ntype = \"kernel\"\ncongestion = \"reno\"\n\
               options = { nodelay = true, send_buffer = \"256KiB\" }\n\n\
               [[rule]]\nname = \"all\"\nstack = [\"tuned\", \"kernel\"]\n",
        needs: Needs::Nothing,
        except: &[],
    },
    Policy {
        name: "mptcp",
        text: "[stack.multipath]\ntype = \"kernel\"\nprotocol = \"mptcp\"\n\n\
               [[rule]]\nname = \"all\"\nmatch = { protocol = \"tcp\" }\n\
               stack = [\"multipath\", \"kernel\"]\n",
        needs: Needs::Mptcp,
        except: &[
            ("urgent", "MPTCP has no out-of-band data"),
            ("times", "accept on an MPTCP listener knows no SO_RCVTIMEO"),
            ("sets", "an MPTCP connection that was reset is not readable"),
        ],
    },
    Policy {
        name: "netns",
        text: "[stack.other]\ntype = \"kernel\"\nnetns = \"@NETNS@\"\n\n\
               [[rule]]\nname = \"all\"\nstack = [\"other\", \"kernel\"]\n",
        needs: Needs::Root,
        except: &[
            (
                "forks",
                "a socket that a fork may have shared stays where it is, and its peer moves",
            ),
            (
                "rights",
                "a socket made before a fork stays where it is, and its peer moves",
            ),
            (
                "limits",
                "without a descriptor to spare a socket stays where it is, and its peer moves",
            ),
        ],
    },
];

/// Both ends of a probe's connections are its own: so shared memory carries them.
const LOCAL: Policy = Policy {
    name: "local",
    text: "[stack.local]\n\n[default]\nstack = [\"local\", \"kernel\"]\n",
    needs: Needs::Nothing,
    except: &[],
};

/// The probes that are run with sessions in the place of connections as well.
const WITH_SESSIONS: [&str; 2] = ["sets", "epoll"];

/// No probe takes half as long on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

macro_rules! probes {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                compare(stringify!($name));
            }
        )*

        #[test]
        fn every_probe_is_run() {
            let mut listed = vec![$(concat!(stringify!($name), ".c")),*];
            listed.sort_unstable();
            let mut there: Vec<String> = fs::read_dir(folder())
                .expect("the probes' folder")
                .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
                .filter(|name| name.ends_with(".c") && name != "placed.c")
                .collect();
            there.sort_unstable();
            assert_eq!(there, listed);
        }
    };
}

probes! {
    cancel early epoll exec forks fortify handlers identity limits names passing quiet ranges raw
    rights sets signals stacks stdio streams times urgent
}

/// The comparisons mean something only if the policies are in force.
#[test]
fn policies_are_in_force() {
    let Some(program) = compile("placed") else {
        return;
    };
    let seen = |policy: &Policy, namespace: &str| run(&program, Some((policy, namespace))).text;
    in_namespace(|_| {
        let plain = run(&program, None).text;
        assert_eq!(seen(&POLICIES[0], ""), plain);
        assert!(seen(&POLICIES[2], "").contains("congestion reno"));
        // To the program an MPTCP socket says that it is a TCP socket, as it asked for one.
        if POLICIES[3].needs.missing().is_none() {
            assert!(seen(&POLICIES[3], "").contains("protocol 6 multipath 1"));
        }
    });
    if may_make_namespaces() {
        in_namespace(|_| {
            in_namespace(|namespace| {
                let (own, placed) = (run(&program, None).text, seen(&POLICIES[4], namespace));
                assert_ne!(own, placed, "the socket is in the namespace of the program");
            });
        });
    }
}

fn compare(name: &str) {
    let Some(program) = compile(name) else { return };
    let plain = run(&program, None);
    assert!(
        plain.status.success() && plain.text.ends_with("ok\n"),
        "plain: {plain:?}"
    );
    let local = WITH_SESSIONS.contains(&name).then_some(&LOCAL);
    for policy in POLICIES.iter().chain(local) {
        if let Some((_, reason)) = policy.except.iter().find(|(probe, _)| *probe == name) {
            note(&format!(
                "{name} is not run under {}: {reason}",
                policy.name
            ));
            continue;
        }
        if let Some(missing) = policy.needs.missing() {
            skip(&format!("the policy {} needs {missing}", policy.name));
            continue;
        }
        let check = |namespace: &str| {
            let preloaded = run(&program, Some((policy, namespace)));
            assert_eq!(
                preloaded.text, plain.text,
                "{name} under the policy {}",
                policy.name
            );
            assert!(
                preloaded.status.success(),
                "{name} under {}: {preloaded:?}",
                policy.name
            );
            assert_eq!(
                preloaded.errors, plain.errors,
                "{name} under {}",
                policy.name
            );
        };
        if policy.needs == Needs::Root {
            in_namespace(check);
        } else {
            check("");
        }
    }
}

/// The probe as a program; `None`, and a note, where there is no compiler.
fn compile(name: &str) -> Option<PathBuf> {
    let program = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("probe-{name}"));
    let mut compiler = Command::new("cc");
    compiler.args(["-O2", "-g", "-Wall", "-Wextra", "-Werror", "-pthread"]);
    if name == "fortify" {
        compiler.arg("-D_FORTIFY_SOURCE=2");
    }
    compiler
        .arg("-o")
        .arg(&program)
        .arg(format!("{name}.c"))
        .current_dir(folder());
    match compiler.output() {
        Ok(output) => {
            assert!(
                output.status.success(),
                "{}",
                String::from_utf8_lossy(&output.stderr)
            );
            Some(program)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            skip("there is no C compiler (Debian: apt-get install gcc libc6-dev)");
            None
        }
        Err(error) => panic!("cc: {error}"),
    }
}

/// How a probe ended and what it printed.
#[derive(Debug)]
struct Outcome {
    status: ExitStatus,
    text: String,
    errors: String,
}

fn run(program: &Path, under: Option<(&Policy, &str)>) -> Outcome {
    let side = under.map_or("plain", |(policy, _)| policy.name);
    // Files, not pipes: children of a probe that outlive it must not keep this waiting.
    let place = |what: &str| PathBuf::from(format!("{}-{side}.{what}", program.display()));
    let create = |what: &str| fs::File::create(place(what)).expect("a file beside the probe");
    let mut command = Command::new(program);
    command
        .env_remove("LD_PRELOAD")
        .stdin(Stdio::null())
        .stdout(create("out"))
        .stderr(create("err"));
    if let Some((policy, namespace)) = under {
        fs::write(place("toml"), policy.text.replace("@NETNS@", namespace)).expect("a policy file");
        command
            .env("LD_PRELOAD", library())
            .env("DMM_POLICY", place("toml"));
    }
    let mut child = command.spawn().expect("the probe starts");
    let started = Instant::now();
    let status = loop {
        match child.try_wait().expect("the probe is a child") {
            Some(status) => break status,
            None if started.elapsed() > PATIENCE => {
                child.kill().expect("the probe is a child");
                break child.wait().expect("the probe is a child");
            }
            None => thread::sleep(Duration::from_millis(5)),
        }
    };
    let read = |what: &str| fs::read_to_string(place(what)).expect("the probe's output");
    Outcome {
        status,
        text: read("out"),
        errors: read("err"),
    }
}

/// Calls with the path of a second network namespace, from a thread in one of its own; both have a
/// loopback interface. Without the right to make them, calls with an empty path from where it is.
fn in_namespace(call: impl FnOnce(&str) + Send) {
    if !may_make_namespaces() {
        return call("");
    }
    thread::scope(|scope| {
        let (path_sender, path) = mpsc::channel();
        let (done, wait) = mpsc::channel::<()>();
        scope.spawn(move || {
            enter_new_namespace();
            let path = format!("/proc/{}/task/{}/ns/net", std::process::id(), thread_id());
            path_sender.send(path).expect("the other thread waits");
            // Ends when the other thread has dropped its end, be it by a panic.
            let _ = wait.recv();
        });
        let path: String = path.recv().expect("the second namespace's thread");
        scope.spawn(move || {
            let _done = done;
            enter_new_namespace();
            call(&path);
        });
    });
}

fn enter_new_namespace() {
    // SAFETY: only flags; the namespace is the calling thread's alone.
    let result = unsafe { libc::unshare(libc::CLONE_NEWNET) };
    assert_eq!(result, 0, "unshare: {}", io::Error::last_os_error());
    let status = Command::new("ip")
        .args(["link", "set", "lo", "up"])
        .status();
    assert!(
        status.is_ok_and(|status| status.success()),
        "ip link set lo up"
    );
}

fn thread_id() -> libc::pid_t {
    // SAFETY: no arguments, cannot fail.
    unsafe { libc::gettid() }
}

fn may_make_namespaces() -> bool {
    // SAFETY: no arguments, cannot fail.
    unsafe { libc::geteuid() == 0 }
}

fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/probes"))
}

/// The library that this test's build has made, beside the test's own folder.
fn library() -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    test.ancestors()
        .nth(2)
        .expect("target/PROFILE/deps/TEST")
        .join("libdmm_posix.so")
}

/// Says what is missing; where nothing may be skipped, fails.
fn skip(what: &str) {
    note(&format!("SKIPPED: {what}"));
    assert!(
        std::env::var_os("DMM_TEST_NO_SKIP").is_none(),
        "DMM_TEST_NO_SKIP is set, and {what}"
    );
}

#[allow(clippy::print_stdout, reason = "what a test says is printed")]
fn note(text: &str) {
    println!("{text}");
}
