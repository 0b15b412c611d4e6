//! `dmm why`: how one socket came to its stack.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use dmm::control::{self, Why};
use dmm_nsocket::stats::{PassedInfo, RefusedInfo, SocketRole};
use serde::Serialize;

use super::ps::age;
use super::ss::address;
use crate::Error;
use crate::output::{BOLD, DIM, GOOD, NAME, Out, Styled, WARN, bytes, duration};

const EXAMPLES: &str = "\
Examples:
  dmm why 4711 7
  dmm ss -a pid 4711                         finds the descriptors
  dmm why 4711 7 --json

What a new socket of that kind would get now: dmm policy explain.";

/// Say why a socket is on its stack, and why others were passed over.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The process.
    pid: u32,
    /// The socket's descriptor number in it.
    fd: u32,
}

#[derive(Serialize)]
struct Answer<'a> {
    #[serde(flatten)]
    why: &'a Why,
    passed_over: Vec<PassedOver<'a>>,
}

#[derive(Serialize)]
struct PassedOver<'a> {
    stack: &'a str,
    reason: String,
    sentence: String,
    error: Option<String>,
    remedy: &'static str,
}

/// Tells the story.
pub fn run(args: &Args, out: &mut Out) -> Result<ExitCode, Error> {
    let why = control::why(args.pid, args.fd)?;
    if out.is_json() {
        let passed_over = why
            .socket
            .socket
            .passed_over
            .iter()
            .map(PassedOver::new)
            .collect();
        out.json(&Answer {
            why: &why,
            passed_over,
        })?;
        return Ok(ExitCode::SUCCESS);
    }
    what(&why, out)?;
    if why.socket.socket.role.is_none() {
        writeln!(
            out,
            "  It is not bound to a stack yet: that happens at connect, listen, or the first datagram."
        )?;
        return Ok(ExitCode::SUCCESS);
    }
    rule(&why, out)?;
    stacks(&why, out)?;
    options(&why, out)?;
    Ok(ExitCode::SUCCESS)
}

fn what(why: &Why, out: &mut Out) -> Result<(), Error> {
    let entry = &why.socket;
    let connection = match entry.remote() {
        Some(remote) => format!("{} -> {remote}", address(entry.local())),
        None => address(entry.local()),
    };
    writeln!(
        out,
        "{} {} {connection}, descriptor {} of {} ({})",
        Styled(entry.protocol(), BOLD),
        entry.state(),
        entry.socket.fd,
        entry.program,
        entry.pid,
    )?;
    let mut facts = vec![
        format!("made {} ago", age(entry.age_s)),
        format!("{} sent", bytes(entry.socket.sent)),
        format!("{} received", bytes(entry.socket.received)),
    ];
    if entry.socket.connect_ns > 0 {
        let time = duration(Duration::from_nanos(entry.socket.connect_ns));
        facts.push(format!("connected in {time}"));
    }
    writeln!(out, "  {}", facts.join(", "))?;
    other_end(why, out)
}

/// Who has the other end of a session.
fn other_end(why: &Why, out: &mut Out) -> Result<(), Error> {
    let Some(session) = &why.socket.session else {
        return Ok(());
    };
    if session.peer_closed {
        writeln!(out, "  peer    has closed its end")?;
    } else if session.peers.is_empty() {
        writeln!(
            out,
            "  peer    a process that is not shown to this user, or has ended"
        )?;
    }
    for peer in &session.peers {
        writeln!(
            out,
            "  peer    descriptor {} of {} ({})",
            peer.fd, peer.program, peer.pid
        )?;
    }
    Ok(())
}

fn rule(why: &Why, out: &mut Out) -> Result<(), Error> {
    let socket = &why.socket.socket;
    let place = match (why.policy_file.as_str(), socket.rule_line) {
        ("", _) => "the built-in policy".to_owned(),
        (file, 0) => file.to_owned(),
        (file, line) => format!("{file}:{line}"),
    };
    let inherited = match socket.role {
        Some(SocketRole::Accept) => ", by the listener that accepted it",
        _ => "",
    };
    writeln!(
        out,
        "  rule    {} ({place}){inherited}",
        Styled(&*socket.rule, NAME)
    )?;
    let hash = format!("{:08x}", socket.policy_hash >> 32);
    let version = match &why.version {
        Some(version) => format!("version {} ({hash})", version.version),
        None => hash,
    };
    let changed = if why.policy_changed {
        format!(
            "; {}",
            Styled(
                "the policy has changed since: a new socket may go elsewhere",
                WARN
            )
        )
    } else {
        String::new()
    };
    writeln!(out, "  policy  {version}{changed}")?;
    if !socket.class.is_empty() {
        writeln!(out, "  class   {}", &*socket.class)?;
    }
    Ok(())
}

fn stacks(why: &Why, out: &mut Out) -> Result<(), Error> {
    let socket = &why.socket.socket;
    if let Some(candidates) = &why.candidates {
        writeln!(out, "  asked for {}", candidates.join(", then "))?;
    }
    for passed in &socket.passed_over {
        let told = PassedOver::new(passed);
        let error = told
            .error
            .map(|error| format!(" ({error})"))
            .unwrap_or_default();
        writeln!(
            out,
            "  {} {}: {}{error}",
            Styled("passed over", WARN),
            Styled(told.stack, NAME),
            told.sentence
        )?;
        if !told.remedy.is_empty() {
            writeln!(out, "      {} {}", Styled("help:", GOOD), told.remedy)?;
        }
    }
    if socket.passed_over_unrecorded > 0 {
        writeln!(out, "  passed over {} more", socket.passed_over_unrecorded)?;
    }
    let by = if why.socket.session.is_some() {
        ", in shared memory"
    } else {
        ""
    };
    writeln!(out, "  carried by {}{by}", Styled(&*socket.stack, NAME))?;
    Ok(())
}

fn options(why: &Why, out: &mut Out) -> Result<(), Error> {
    let socket = &why.socket.socket;
    if socket.options_applied > 0 {
        writeln!(
            out,
            "  {} options of the stack applied",
            socket.options_applied
        )?;
    }
    for refused in &socket.options_refused {
        writeln!(
            out,
            "  {} {}: {}",
            Styled("option refused", WARN),
            option_name(refused),
            errno(refused.errno).unwrap_or_default()
        )?;
    }
    if socket.options_refused_unrecorded > 0 {
        writeln!(
            out,
            "  {} more options refused",
            socket.options_refused_unrecorded
        )?;
    }
    if let Some(kernel) = &why.socket.kernel {
        let congestion = kernel.congestion.as_deref().map(|name| format!(", {name}"));
        writeln!(
            out,
            "  {}",
            Styled(
                format!(
                    "kernel: {}, receive queue {}, send queue {}{}",
                    kernel.state.name(),
                    kernel.receive_queue,
                    kernel.send_queue,
                    congestion.unwrap_or_default()
                ),
                DIM
            )
        )?;
    }
    Ok(())
}

impl<'a> PassedOver<'a> {
    fn new(passed: &'a PassedInfo) -> Self {
        Self {
            stack: &passed.stack,
            reason: passed.reason.name(),
            sentence: passed.reason.to_string(),
            error: errno(passed.errno),
            remedy: passed.reason.remedy(),
        }
    }
}

/// The system's sentence about an error.
fn errno(code: i32) -> Option<String> {
    let text = (code != 0).then(|| std::io::Error::from_raw_os_error(code).to_string())?;
    // The number adds nothing for people.
    Some(
        text.split(" (os error")
            .next()
            .unwrap_or_default()
            .to_owned(),
    )
}

/// The options that a policy can set, by their names in socket(7), tcp(7), ip(7) and ipv6(7).
pub fn option_name(refused: &RefusedInfo) -> String {
    let name = match (i32::from(refused.level), i32::from(refused.option)) {
        (libc::SOL_SOCKET, option) => match option {
            libc::SO_MARK => "SO_MARK",
            libc::SO_PRIORITY => "SO_PRIORITY",
            libc::SO_SNDBUF => "SO_SNDBUF",
            libc::SO_RCVBUF => "SO_RCVBUF",
            libc::SO_SNDBUFFORCE => "SO_SNDBUFFORCE",
            libc::SO_RCVBUFFORCE => "SO_RCVBUFFORCE",
            libc::SO_BUSY_POLL => "SO_BUSY_POLL",
            libc::SO_BINDTODEVICE => "SO_BINDTODEVICE",
            libc::SO_KEEPALIVE => "SO_KEEPALIVE",
            _ => "",
        },
        (libc::IPPROTO_TCP, option) => match option {
            libc::TCP_NODELAY => "TCP_NODELAY",
            libc::TCP_CONGESTION => "TCP_CONGESTION",
            libc::TCP_QUICKACK => "TCP_QUICKACK",
            libc::TCP_USER_TIMEOUT => "TCP_USER_TIMEOUT",
            libc::TCP_KEEPIDLE => "TCP_KEEPIDLE",
            libc::TCP_KEEPINTVL => "TCP_KEEPINTVL",
            libc::TCP_KEEPCNT => "TCP_KEEPCNT",
            libc::TCP_NOTSENT_LOWAT => "TCP_NOTSENT_LOWAT",
            _ => "",
        },
        (libc::IPPROTO_IP, libc::IP_TOS) => "IP_TOS",
        (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => "IPV6_TCLASS",
        _ => "",
    };
    if name.is_empty() {
        format!("option {} at level {}", refused.option, refused.level)
    } else {
        name.to_owned()
    }
}
