//! What the preloaded side runs under: each policy sends sockets another way, and none may change
//! what the program sees, except the values of the options that the policy itself sets.
//!
//! There is none with MPTCP. It is another protocol than TCP in the kernel as well: it answers other
//! options, and ends connections by a work queue, so that even two plain MPTCP runs differ. The
//! probes of the preload (posix-compat/tests) cover it.

use libc::c_int;

pub(crate) struct Policy {
    pub(crate) name: &'static str,
    text: &'static str,
    /// Options whose values the policy changes.
    pub(crate) mask: &'static [(c_int, c_int)],
    /// Ops, by parts of what `show` prints, that cannot be compared under it.
    pub(crate) except: &'static [&'static str],
    /// It may report an edge once more: a new socket under the number, or a new size of its buffer,
    /// is one. epoll(7) allows that, and programs have to expect it; but it cannot be compared.
    pub(crate) edges: bool,
    /// A listener has a queue for each stack that serves it, so that more connections fit than TCP has
    /// room for.
    pub(crate) two_queues: bool,
    /// See [`Accepted::is_more_ready`].
    pub(crate) more_ready: bool,
    /// Results that may differ.
    pub(crate) accepted: &'static [Accepted],
    pub(crate) needs: Needs,
}

/// A difference that is none: what follows it in a sequence is not compared.
pub(crate) struct Accepted {
    /// How the op begins, as `show` prints it.
    op: &'static str,
    plain: &'static str,
    preloaded: &'static str,
}

impl Accepted {
    /// Whether a wait may have found more than there is: of an epoll instance that sessions are registered
    /// in, where what wakes the waiters for a session is an edge, too. What is there is found.
    pub(crate) fn is_more_ready(op: &str, plain: &str, preloaded: &str) -> bool {
        let waits = ["EpollWait", "Poll", "Select"];
        // Descriptor or slot, and event bits; of select(2) the descriptors in each set.
        let found = |line: &str| -> Vec<(String, u32)> {
            let words = line.split([' ', ',']).skip(2);
            words
                .enumerate()
                .filter_map(|(at, word)| match word.split_once(":0x") {
                    Some((name, bits)) => {
                        let name = format!("{name} {}", if op.starts_with('P') { at } else { 0 });
                        Some((name, u32::from_str_radix(bits, 16).ok()?))
                    }
                    None => {
                        let name = word.trim_matches(['[', ']']);
                        (!name.is_empty()).then(|| (name.to_owned(), 1))
                    }
                })
                .collect()
        };
        let (plain, preloaded) = (found(plain), found(preloaded));
        waits.iter().any(|wait| op.starts_with(wait))
            && plain.iter().all(|(name, bits)| {
                let found = preloaded.iter().find(|(other, _)| other == name);
                found.is_some_and(|(_, more)| bits & !more == 0)
            })
    }

    /// Whether it is this: `plain` and `preloaded` are what both sides give for the op, from its number on.
    pub(crate) fn is(&self, op: &str, plain: &str, preloaded: &str) -> bool {
        let result = |line: &str| line.split_once(": ").map(|(_, result)| result.to_owned());
        op.starts_with(self.op)
            && result(plain).is_some_and(|result| result.starts_with(self.plain))
            && result(preloaded).is_some_and(|result| result.starts_with(self.preloaded))
    }
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Needs {
    Nothing,
    /// No preload at all: shows that the traces themselves are steady.
    NoPreload,
    /// To be asked for by its name.
    Asking,
    /// A second namespace, `@NETNS@` in the text, and the right to enter it.
    Namespace,
    /// Somebody who edits the file while the sequences run, see [`EDITS`].
    Editor,
}

/// What the file of a policy that is edited holds in turn, besides its own text: all sockets on the
/// kernel instance, then a mistake, which must leave the policy before it in force.
pub(crate) const EDITS: [&str; 2] = [
    "[default]\nstack = [\"kernel\"]\n",
    "[[rule]]\nstack = [\"nowhere\"\n",
];

impl Policy {
    /// All of them by name, or those that were asked for.
    ///
    /// # Errors
    ///
    /// Names the unknown one, and all that there are.
    pub(crate) fn named(names: &[String]) -> Result<Vec<&'static Self>, String> {
        if names.is_empty() {
            return Ok(ALL
                .iter()
                .filter(|policy| !matches!(policy.needs, Needs::NoPreload | Needs::Asking))
                .collect());
        }
        let known = || {
            ALL.iter()
                .map(|policy| policy.name)
                .collect::<Vec<_>>()
                .join(", ")
        };
        let find = |name: &String| {
            ALL.iter()
                .find(|policy| policy.name == name)
                .ok_or_else(|| format!("no policy {name:?}; there are: {}", known()))
        };
        names.iter().map(find).collect()
    }

    /// The policy file's text; `namespace` is the path of the second namespace.
    pub(crate) fn text(&self, namespace: &str) -> String {
        self.text.replace("@NETNS@", namespace)
    }
}

const ALL: &[Policy] = &[
    Policy {
        name: "plain",
        text: "",
        mask: &[],
        except: &[],
        edges: false,
        two_queues: false,
        more_ready: false,
        accepted: &[],
        needs: Needs::NoPreload,
    },
    Policy {
        name: "default",
        text: "[default]\nstack = [\"kernel\"]\n",
        mask: &[],
        except: &[],
        edges: false,
        two_queues: false,
        more_ready: false,
        accepted: &[],
        needs: Needs::Nothing,
    },
    Policy {
        name: "second",
        text: "\
[stack.second]
type = \"kernel\"

[[rule]]
name = \"some\"
match = { role = [\"listen\", \"datagram\"] }
stack = [\"second\", \"kernel\"]

[[rule]]
name = \"loopback\"
match = { remote = [\"127.0.0.0/8\", \"::1\"], role = \"connect\" }
stack = [\"second\"]
",
        mask: &[],
        except: &[],
        edges: false,
        two_queues: false,
        more_ready: false,
        accepted: &[],
        needs: Needs::Nothing,
    },
    Policy {
        name: "tuned",
        text: "\
[stack.tuned]
type = \"kernel\"
congestion = \"reno\"
options = { nodelay = true, send_buffer = \"256KiB\", receive_buffer = \"256KiB\" }

[[rule]]
name = \"all\"
match = { role = [\"connect\", \"listen\", \"datagram\"] }
stack = [\"tuned\", \"kernel\"]
",
        mask: TUNED,
        // How much fits is what the policy changes, and so is what is writable after it.
        except: &["FillAndDrain"],
        edges: true,
        two_queues: false,
        more_ready: false,
        accepted: &[],
        needs: Needs::Nothing,
    },
    Policy {
        name: "passed-over",
        text: "\
[stack.gone]
type = \"kernel\"
netns = \"dmm-there-is-no-such-namespace\"

[stack.odd]
type = \"kernel\"
congestion = \"nosuchcontrol\"

[[rule]]
name = \"all\"
match = { role = [\"connect\", \"listen\", \"datagram\"] }
stack = [\"gone\", \"odd\", \"kernel\"]
",
        mask: &[],
        except: &[],
        edges: false,
        two_queues: false,
        more_ready: false,
        accepted: &[],
        needs: Needs::Nothing,
    },
    Policy {
        name: "edited",
        text: "\
[stack.second]
type = \"kernel\"

[[rule]]
name = \"all\"
match = { role = [\"connect\", \"listen\", \"datagram\"] }
stack = [\"second\", \"kernel\"]
",
        mask: &[],
        except: &[],
        edges: false,
        two_queues: false,
        more_ready: false,
        accepted: &[],
        needs: Needs::Editor,
    },
    Policy {
        name: "local",
        text: "\
[stack.local]

[default]
stack = [\"local\", \"kernel\"]
",
        mask: LOCAL,
        except: LOCAL_EXCEPT,
        edges: false,
        two_queues: true,
        more_ready: true,
        accepted: LOCAL_ACCEPTED,
        needs: Needs::Asking,
    },
    Policy {
        name: "netns",
        text: "\
[stack.other]
type = \"kernel\"
netns = \"@NETNS@\"

[[rule]]
name = \"all\"
match = { role = [\"connect\", \"listen\", \"datagram\"] }
stack = [\"other\", \"kernel\"]
",
        mask: &[],
        except: NAMESPACE,
        edges: true,
        two_queues: false,
        more_ready: false,
        accepted: &[],
        needs: Needs::Namespace,
    },
];

const TUNED: &[(c_int, c_int)] = &[
    (libc::IPPROTO_TCP, libc::TCP_CONGESTION),
    (libc::IPPROTO_TCP, libc::TCP_NODELAY),
    // It is half the window, until that has grown.
    (libc::IPPROTO_TCP, libc::TCP_MAXSEG),
    (libc::SOL_SOCKET, libc::SO_SNDBUF),
    (libc::SOL_SOCKET, libc::SO_RCVBUF),
    // It is cut to half of the receive buffer.
    (libc::SOL_SOCKET, libc::SO_RCVLOWAT),
];

/// What a session answers by nature differently from TCP.
const LOCAL: &[(c_int, c_int)] = &[
    // Half of the window, as it grows with what is received and when.
    (libc::IPPROTO_TCP, libc::TCP_MAXSEG),
];

/// What a session makes different for what comes after it.
const LOCAL_ACCEPTED: &[Accepted] = &[
    // A session holds no port of TCP's, so that it is in nobody's way.
    Accepted {
        op: "Bind",
        plain: "-1 EADDRINUSE",
        preloaded: "0",
    },
    Accepted {
        op: "Listen",
        plain: "-1 EADDRINUSE",
        preloaded: "0",
    },
    // When its connection is over, a TCP socket can be bound, set up and connected anew, and has no
    // connection to read from; a session cannot.
    Accepted {
        op: "Bind",
        plain: "0",
        preloaded: "-1 EINVAL",
    },
    Accepted {
        op: "SetOption",
        plain: "0",
        preloaded: "-1 EINVAL",
    },
    Accepted {
        op: "GetOption",
        plain: "-1 ENOTCONN",
        preloaded: "0",
    },
    Accepted {
        op: "Receive",
        plain: "-1 ENOTCONN",
        preloaded: "0",
    },
];

/// What cannot be compared with TCP's.
const LOCAL_EXCEPT: &[&str] = &[
    // A client that does not acknowledge quickly delays the end of TCP's handshake: its server accepts
    // it a moment later. A session is there at once.
    "level: 6, name: 12, value: Int(0)",
    // A session cannot become an unconnected TCP socket again (connect(2) with AF_UNSPEC).
    "to: Unspec",
    // SO_PEEK_OFF of a socket that is a session already is refused, and counted.
    "level: 1, name: 42",
    // As is SO_ZEROCOPY, whose completions nobody would tell.
    "level: 1, name: 60",
    // sendfile(2) to TCP sends the file's pages, as they are when they are received; a session has the
    // bytes that were there.
    "how: Ftruncate",
    "how: Pwrite",
    // Whether there is an event to write to a bad place: something may be there that is not the
    // program's.
    "Wrong(EpollWaitNull",
];

/// A socket that a fork has shared cannot be moved, and the kernel instance carries it; its peers,
/// which can, would be in the other namespace.
const NAMESPACE: &[&str] = &["Rest("];
