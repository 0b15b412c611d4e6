//! `dmm top`: what the processes under DMM do now.

use std::collections::HashMap;
use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use dmm::control;
use dmm_nsocket::stats::{HistogramKind, SeriesCounter, SeriesInfo};
use serde::Serialize;

use crate::Error;
use crate::output::{BOLD, Cell, Column, NAME, Out, Styled, Table, WARN, bytes, count, duration};

const EXAMPLES: &str = "\
Examples:
  dmm top                                    until Ctrl-C, once a second
  dmm top -d 5 -n 12 > load.txt              twelve times, five seconds each
  dmm top --once --json                      totals since the processes started

A line is a process, a rule and a stack. Rates are per second; CONNECT is the mean time to connect in
the interval, BLOCKED that of the timed calls that may block (recv, accept, poll and so on; of many,
only some are timed), ONE-WAY that from a write to the read on the other side of sessions (sampled).";

/// Watch rates per process, stack and rule.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Seconds between two looks.
    #[arg(short, long, value_name = "SECS", default_value = "1", value_parser = seconds)]
    delay: Duration,

    /// How often to look; without it, until interrupted.
    #[arg(short = 'n', long, value_name = "ITER")]
    iterations: Option<u64>,

    /// Print totals since the start once, in place of rates.
    #[arg(long, conflicts_with = "iterations")]
    once: bool,

    /// Only this process; may be given several times.
    #[arg(short, long, value_name = "PID")]
    pid: Vec<u32>,
}

/// One pair of rule and stack in one process, over one interval (or since its start).
#[derive(Clone, Debug, Serialize)]
struct Line {
    pid: u32,
    program: String,
    rule: String,
    stack: String,
    sockets_open: u64,
    seconds: f64,
    sockets: u64,
    connects: u64,
    accepts: u64,
    errors: u64,
    fallbacks: u64,
    bytes_sent: u64,
    bytes_received: u64,
    connect_mean_ns: Option<u64>,
    blocked_mean_ns: Option<u64>,
    one_way_mean_ns: Option<u64>,
}

type Key = (u32, u64, String, u32, String);

/// The totals at one moment.
struct Look {
    when: Instant,
    series: HashMap<Key, (SeriesInfo, Context)>,
}

struct Context {
    program: String,
    open: u64,
    uptime: f64,
}

/// Looks, and looks again.
pub fn run(args: &Args, out: &mut Out) -> Result<ExitCode, Error> {
    if args.once {
        let lines = lines(None, &look(&args.pid)?);
        show(&lines, None, out)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut before = look(&args.pid)?;
    let mut left = args.iterations;
    while left != Some(0) {
        std::thread::sleep(args.delay);
        let now = look(&args.pid)?;
        show(&lines(Some(&before), &now), Some(args.delay), out)?;
        out.flush()?;
        before = now;
        left = left.map(|left| left - 1);
    }
    Ok(ExitCode::SUCCESS)
}

fn look(pids: &[u32]) -> Result<Look, Error> {
    let mut series = HashMap::new();
    let when = Instant::now();
    for process in control::processes()?.processes {
        let Some(snapshot) = &process.snapshot else {
            continue;
        };
        if !pids.is_empty() && !pids.contains(&process.pid) {
            continue;
        }
        for pair in &snapshot.series {
            let open = snapshot
                .sockets
                .iter()
                .filter(|socket| socket.rule == pair.rule && socket.stack == pair.stack)
                .count();
            #[expect(clippy::cast_precision_loss, reason = "seconds")]
            let context = Context {
                program: process.name().to_owned(),
                open: open as u64,
                uptime: process.uptime_s.unwrap_or(0).max(1) as f64,
            };
            // The segment's making tells a process from a later one with its number.
            let key = (
                process.pid,
                snapshot.created_ns,
                pair.rule.to_string(),
                pair.line,
                pair.stack.to_string(),
            );
            series.insert(key, (pair.clone(), context));
        }
    }
    Ok(Look { when, series })
}

fn lines(before: Option<&Look>, now: &Look) -> Vec<Line> {
    let mut lines: Vec<Line> = now
        .series
        .iter()
        .map(|(key, (pair, context))| {
            let old = before
                .and_then(|before| before.series.get(key))
                .map(|(pair, _)| pair);
            let seconds = before.map_or(context.uptime, |before| {
                now.when
                    .duration_since(before.when)
                    .as_secs_f64()
                    .max(0.001)
            });
            line(key, pair, old, context, seconds)
        })
        .collect();
    lines.sort_by(|a, b| {
        let load = |line: &Line| line.bytes_sent + line.bytes_received;
        load(b)
            .cmp(&load(a))
            .then(b.sockets.cmp(&a.sockets))
            .then(a.pid.cmp(&b.pid))
    });
    lines
}

fn line(
    key: &Key,
    pair: &SeriesInfo,
    old: Option<&SeriesInfo>,
    context: &Context,
    seconds: f64,
) -> Line {
    let more = |counter| {
        let before = old.map_or(0, |old| old.counters.of(counter));
        // A socket that closes moves its bytes between two reads: never less than nothing.
        pair.counters.of(counter).saturating_sub(before)
    };
    let time = |kind| {
        let of = |pair: &SeriesInfo| pair.histogram(kind).map_or((0, 0), |h| (h.count, h.sum));
        let ((count, sum), (old_count, old_sum)) = (of(pair), old.map_or((0, 0), of));
        (count.saturating_sub(old_count), sum.wrapping_sub(old_sum))
    };
    let (connects, connect_ns) = time(HistogramKind::Connect);
    let (blocking, accept) = (time(HistogramKind::Blocking), time(HistogramKind::Accept));
    let (blocked, blocked_ns) = (blocking.0 + accept.0, blocking.1.saturating_add(accept.1));
    let (sampled, sampled_ns) = time(HistogramKind::OneWay);
    Line {
        pid: key.0,
        program: context.program.clone(),
        rule: pair.rule.to_string(),
        stack: pair.stack.to_string(),
        sockets_open: context.open,
        seconds,
        sockets: more(SeriesCounter::Sockets),
        connects: more(SeriesCounter::Connects),
        accepts: more(SeriesCounter::Accepts),
        errors: more(SeriesCounter::ConnectErrors)
            + more(SeriesCounter::AcceptErrors)
            + more(SeriesCounter::SendErrors)
            + more(SeriesCounter::ReceiveErrors),
        fallbacks: more(SeriesCounter::Fallbacks),
        bytes_sent: more(SeriesCounter::BytesSent),
        bytes_received: more(SeriesCounter::BytesReceived),
        connect_mean_ns: connect_ns.checked_div(connects),
        blocked_mean_ns: blocked_ns.checked_div(blocked),
        one_way_mean_ns: sampled_ns.checked_div(sampled),
    }
}

fn show(lines: &[Line], interval: Option<Duration>, out: &mut Out) -> Result<(), Error> {
    if out.is_json() {
        // A document for each look: `jq` takes them one after the other.
        return out.json(&lines);
    }
    if out.is_terminal() && interval.is_some() {
        write!(out, "\x1b[H\x1b[2J")?;
    }
    let processes: std::collections::HashSet<u32> = lines.iter().map(|line| line.pid).collect();
    let what = match interval {
        Some(interval) => format!("rates over {}", duration(interval)),
        None => "totals".to_owned(),
    };
    let n = processes.len();
    let noun = if n == 1 { "process" } else { "processes" };
    writeln!(out, "{}, {n} {noun} with sockets", Styled(what, BOLD))?;
    out.table(&table(lines, interval.is_some()))?;
    if !out.is_terminal() {
        writeln!(out)?;
    }
    Ok(())
}

fn table(lines: &[Line], rates: bool) -> Table {
    let mut table = Table::new([
        Column::number("PID"),
        Column::text("PROGRAM").shrinks(),
        Column::text("STACK"),
        Column::text("RULE").shrinks(),
        Column::number("OPEN"),
        Column::number(if rates { "NEW/s" } else { "NEW" }),
        Column::number(if rates { "SENT/s" } else { "SENT" }),
        Column::number(if rates { "RECEIVED/s" } else { "RECEIVED" }),
        Column::number(if rates { "ERRORS/s" } else { "ERRORS" }),
        Column::number(if rates { "FALLBACKS/s" } else { "FALLBACKS" }),
        Column::number("CONNECT"),
        Column::number("BLOCKED"),
        Column::number("ONE-WAY"),
    ]);
    for line in lines {
        let per = |n: u64| {
            if rates {
                per_second(n, line.seconds)
            } else {
                n
            }
        };
        let alarming = |n: u64| {
            let cell = Cell::new(count(per(n)));
            if n > 0 { cell.style(WARN) } else { cell }
        };
        table.row([
            line.pid.into(),
            line.program.as_str().into(),
            Cell::new(line.stack.as_str()).style(NAME),
            line.rule.as_str().into(),
            count(line.sockets_open).into(),
            count(per(line.sockets)).into(),
            bytes(per(line.bytes_sent)).into(),
            bytes(per(line.bytes_received)).into(),
            alarming(line.errors),
            alarming(line.fallbacks),
            mean(line.connect_mean_ns),
            mean(line.blocked_mean_ns),
            mean(line.one_way_mean_ns),
        ]);
    }
    table
}

fn mean(ns: Option<u64>) -> Cell {
    ns.map_or_else(|| "-".to_owned(), |ns| duration(Duration::from_nanos(ns)))
        .into()
}

fn per_second(n: u64, seconds: f64) -> u64 {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rate for people"
    )]
    let rate = (n as f64 / seconds).round() as u64;
    rate
}

fn seconds(text: &str) -> Result<Duration, String> {
    text.parse()
        .ok()
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .filter(|delay| *delay >= Duration::from_millis(50))
        .ok_or_else(|| "seconds, at least 0.05".to_owned())
}
