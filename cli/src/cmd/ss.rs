//! `dmm ss`: sockets under DMM, as ss(8) shows those of the kernel, with their stack and rule.

mod filter;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use dmm::control::{self, SocketEntry};

use super::ps::age;
use crate::Error;
use crate::output::{Cell, Column, DIM, NAME, Out, Table, WARN, bytes, duration};
use filter::Filter;

const EXAMPLES: &str = "\
Examples:
  dmm ss                                     connected sockets
  dmm ss -a                                  listeners and unbound ones too
  dmm ss -tl                                 listening TCP sockets
  dmm ss stack bulk and not rule default
  dmm ss state established '( dport = :443 or dport = :80 )'
  dmm ss dst 10.0.0.0/8 pid 4711
  dmm ss -a --json | jq '.[] | select(.stack != \"kernel\")'

Filters:
  state NAME                    established, syn-sent, listen, close-wait, ..., connected, all
  sport|dport [OP] :PORT        OP: = != < > <= >=
  src|dst [OP] ADDR[/LEN][:PORT]
  stack|rule|program|label|class [OP] NAME   OP: = !=; a NAME may hold * and ?
  pid|fd [OP] NUMBER
  and (or nothing), or, not, ( )

PEER is who has the other end of a connection that shared memory carries. A state in brackets is what
the library knows: the kernel's tables do not hold that socket. '*' after a stack's name: others were
passed over before; dmm why PID FD says why.";

/// List the sockets of processes under DMM.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
#[expect(clippy::struct_excessive_bools, reason = "the options of ss(8)")]
pub struct Args {
    /// Only TCP (and MPTCP) sockets.
    #[arg(short, long)]
    tcp: bool,

    /// Only UDP sockets.
    #[arg(short, long)]
    udp: bool,

    /// Only listening sockets.
    #[arg(short, long, conflicts_with = "all")]
    listening: bool,

    /// All sockets: listening, and those not bound to a stack yet.
    #[arg(short, long)]
    all: bool,

    /// Queues, congestion control and round-trip times as well.
    #[arg(short, long)]
    info: bool,

    /// Accepted as ss(8) does; the process is always shown.
    #[arg(short, long, hide = true)]
    processes: bool,

    /// Accepted as ss(8) does; addresses are always numbers.
    #[arg(short, long, hide = true)]
    numeric: bool,

    /// Which sockets; see below.
    #[arg(value_name = "FILTER")]
    filter: Vec<String>,
}

/// Prints a line for each socket.
pub fn run(args: &Args, out: &mut Out) -> Result<ExitCode, Error> {
    let filter = Filter::parse(&args.filter).map_err(Error::Usage)?;
    let listing = control::processes()?;
    let mut sockets = control::sockets(&listing.processes);
    sockets.retain(|entry| args.wants(entry, &filter) && filter.matches(entry));
    if out.is_json() {
        out.json(&sockets)?;
        return Ok(ExitCode::SUCCESS);
    }
    if sockets.is_empty() {
        out.notice("no such socket under DMM");
        return Ok(ExitCode::SUCCESS);
    }
    out.table(&table(&sockets, args.info))?;
    if !listing.hidden.is_empty() {
        out.detail(format_args!(
            "{} processes of other users not shown",
            listing.hidden.len()
        ));
    }
    Ok(ExitCode::SUCCESS)
}

impl Args {
    fn wants(&self, entry: &SocketEntry, filter: &Filter) -> bool {
        let protocol = entry.protocol();
        let wanted = match (self.tcp, self.udp) {
            (false, false) => true,
            (tcp, udp) => {
                (tcp && (protocol == "tcp" || protocol == "mptcp")) || (udp && protocol == "udp")
            }
        };
        let state = entry.state();
        let passive = matches!(state, "listen" | "unbound" | "bound" | "unconnected");
        wanted
            && if self.listening {
                state == "listen" || (protocol == "udp" && state == "unconnected")
            } else {
                self.all || filter.names_a_state() || !passive
            }
    }
}

fn table(sockets: &[SocketEntry], info: bool) -> Table {
    let peers = sockets.iter().any(|entry| entry.session.is_some());
    let mut columns = vec![
        Column::text("PROTO"),
        Column::text("STATE"),
        Column::text("LOCAL"),
        Column::text("REMOTE"),
        Column::text("PROCESS").shrinks(),
        Column::number("FD"),
        Column::text("STACK"),
        Column::text("RULE").shrinks(),
        Column::number("SENT"),
        Column::number("RECEIVED"),
        Column::text("AGE"),
    ];
    if peers {
        columns.push(Column::text("PEER").shrinks());
    }
    if info {
        columns.push(Column::text("INFO"));
    }
    let mut table = Table::new(columns);
    for entry in sockets {
        let socket = &entry.socket;
        let mut cells = vec![
            entry.protocol().into(),
            state_cell(entry),
            address(entry.local()).into(),
            address(entry.remote()).into(),
            format!("{}/{}", entry.program, entry.pid).into(),
            socket.fd.into(),
            stack_cell(entry),
            (&*socket.rule).into(),
            bytes(socket.sent).into(),
            bytes(socket.received).into(),
            age(entry.age_s).into(),
        ];
        if peers {
            cells.push(peer(entry).into());
        }
        if info {
            cells.push(Cell::new(details(entry)).style(DIM));
        }
        table.row(cells);
    }
    table
}

fn state_cell(entry: &SocketEntry) -> Cell {
    if entry.kernel.is_some() || entry.session.is_some() {
        entry.state().into()
    } else {
        Cell::new(format!("[{}]", entry.state())).style(DIM)
    }
}

fn stack_cell(entry: &SocketEntry) -> Cell {
    let stack = &*entry.socket.stack;
    match (stack.is_empty(), entry.socket.passed_over.is_empty()) {
        (true, _) => Cell::new("-").style(DIM),
        (false, true) => Cell::new(stack).style(NAME),
        (false, false) => Cell::new(format!("{stack}*")).style(WARN),
    }
}

/// Who has the other end of a session: `redis-server/21334`, and how many more.
pub(super) fn peer(entry: &SocketEntry) -> String {
    let Some(session) = &entry.session else {
        return String::new();
    };
    match (session.peers.as_slice(), session.peer_closed) {
        (_, true) => "(closed)".to_owned(),
        ([], false) => "-".to_owned(),
        ([peer], false) => format!("{}/{}", peer.program, peer.pid),
        ([peer, more @ ..], false) => format!("{}/{} +{}", peer.program, peer.pid, more.len()),
    }
}

/// `*` for what is not known or not bound.
pub(super) fn address(address: Option<SocketAddr>) -> String {
    let Some(address) = address else {
        return "*".to_owned();
    };
    match (address.ip().is_unspecified(), address.port()) {
        (true, 0) => "*".to_owned(),
        // ss(8) shows both families' wildcards alike; which one it is matters here.
        (false, 0) if address.is_ipv6() => format!("[{}]:*", address.ip()),
        (false, 0) => format!("{}:*", address.ip()),
        _ => address.to_string(),
    }
}

fn details(entry: &SocketEntry) -> String {
    let Some(kernel) = &entry.kernel else {
        return String::new();
    };
    let mut text = format!(
        "recv-q {} send-q {}",
        kernel.receive_queue, kernel.send_queue
    );
    if let Some(congestion) = &kernel.congestion {
        text.push(' ');
        text.push_str(congestion);
    }
    if let Some(tcp) = &kernel.tcp {
        use std::fmt::Write;
        let rtt = duration(Duration::from_micros(u64::from(tcp.rtt_us)));
        // Writing to a String does not fail.
        let _ = write!(text, " rtt {rtt} cwnd {} mss {}", tcp.cwnd, tcp.mss);
        if tcp.retransmits > 0 {
            let _ = write!(text, " retransmits {}", tcp.retransmits);
        }
    }
    text
}
