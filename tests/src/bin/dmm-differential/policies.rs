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
    pub(crate) needs: Needs,
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Needs {
    Nothing,
    /// No preload at all: shows that the traces themselves are steady.
    NoPreload,
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
                .filter(|policy| policy.needs != Needs::NoPreload)
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
        needs: Needs::NoPreload,
    },
    Policy {
        name: "default",
        text: "[default]\nstack = [\"kernel\"]\n",
        mask: &[],
        except: &[],
        edges: false,
        two_queues: false,
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
        needs: Needs::Nothing,
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
    // No urgent byte is carried: MSG_OOB is refused, and counted.
    "flags: 1,",
    "flags: 65,",
    "flags: 16385,",
    "Wrong(SendNegativeFlags",
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
