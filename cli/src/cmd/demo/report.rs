//! The demo in words and tables.

use std::collections::BTreeSet;
use std::io::Write;
use std::time::Duration;

use dmm::control::SocketEntry;
use dmm_nsocket::stats::{HistogramKind, SeriesCounter, SocketRole};

use super::echo::Percentiles;
use super::pair::Outcome;
use crate::Error;
use crate::output::{
    BOLD, Cell, Column, DIM, NAME, Out, Styled, Table, WARN, bytes, count, duration,
};

/// Says what is going to happen.
pub fn introduce(policy: &str, out: &mut Out) -> Result<(), Error> {
    writeln!(
        out,
        "Two plain programs, an echo server and its client, each on a core of its own where there are two, run under \
         libdmm_posix.so and this policy:\n"
    )?;
    show_policy(policy, out)
}

/// Says what is going to happen next.
pub fn introduce_local(policy: &str, out: &mut Out) -> Result<(), Error> {
    writeln!(out, "\nThe same two programs again, under this policy:\n")?;
    show_policy(policy, out)
}

fn show_policy(policy: &str, out: &mut Out) -> Result<(), Error> {
    for line in policy.lines().skip(2) {
        writeln!(out, "    {}", Styled(line, DIM))?;
    }
    writeln!(out)?;
    // It takes a while until there is more to read.
    out.flush()?;
    Ok(())
}

/// Says what has happened in shared memory, and how the two compare.
pub fn print_local(kernel: &Outcome, local: &Outcome, out: &mut Out) -> Result<(), Error> {
    writeln!(out, "{}", Styled("Which stack carried what", BOLD))?;
    out.table(&sockets(local))?;
    writeln!(out)?;
    print_passed_over(local, out)?;
    let title = format!(
        "Side by side: messages of {}, as the client sees them",
        bytes(kernel.message_bytes.into())
    );
    writeln!(out, "{}", Styled(title, BOLD))?;
    out.table(&side_by_side(kernel, local))?;
    writeln!(
        out,
        "\nNext: dmm run -- PROGRAM; dmm ss shows its sockets, dmm why PID FD one of them"
    )?;
    Ok(())
}

fn side_by_side(kernel: &Outcome, local: &Outcome) -> Table {
    let mut table = Table::new([
        Column::text("WHAT"),
        Column::text("CARRIED BY"),
        Column::number("SAMPLES"),
        Column::number("P50"),
        Column::number("P99"),
        Column::number("P99.9"),
        Column::number("MAX"),
    ])
    .indent(2);
    let of = |outcome: &Outcome| {
        let connected = |entry: &&SocketEntry| entry.socket.role == Some(SocketRole::Connect);
        let client = outcome.sockets.iter().find(connected);
        client.map_or_else(|| "-".to_owned(), |entry| entry.socket.stack.to_string())
    };
    for (what, select) in [
        ("round trip", round_trip as fn(&Outcome) -> &Percentiles),
        ("connect", connect),
    ] {
        for outcome in [kernel, local] {
            distribution(&mut table, what, of(outcome), select(outcome));
        }
    }
    let one_way = local
        .latencies
        .iter()
        .filter(|latency| latency.kind == HistogramKind::OneWay);
    for latency in one_way {
        let stack = latency.stack.clone();
        let of = Percentiles::of(&latency.histogram);
        distribution(&mut table, "one way", stack, &of);
    }
    table
}

const fn round_trip(outcome: &Outcome) -> &Percentiles {
    &outcome.client.round_trip
}

const fn connect(outcome: &Outcome) -> &Percentiles {
    &outcome.client.connect
}

fn distribution(table: &mut Table, what: &str, by: String, of: &Percentiles) {
    let time = |ns| Cell::from(duration(Duration::from_nanos(ns)));
    table.row([
        what.into(),
        by.into(),
        count(of.samples).into(),
        time(of.p50),
        time(of.p99),
        time(of.p999),
        time(of.max),
    ]);
}

/// Says what has happened.
pub fn print(outcome: &Outcome, out: &mut Out) -> Result<(), Error> {
    writeln!(out, "{}", Styled("Which stack carried what", BOLD))?;
    out.table(&sockets(outcome))?;
    writeln!(out)?;
    print_passed_over(outcome, out)?;
    writeln!(out, "{}", Styled("Totals by rule and stack", BOLD))?;
    out.table(&totals(outcome))?;
    writeln!(out)?;
    let title = format!(
        "Latency of {} messages",
        bytes(outcome.message_bytes.into())
    );
    writeln!(out, "{}", Styled(title, BOLD))?;
    out.table(&latency(outcome))?;
    Ok(())
}

fn sockets(outcome: &Outcome) -> Table {
    let mut table = Table::new([
        Column::text("PROGRAM"),
        Column::text("ROLE"),
        Column::text("LOCAL"),
        Column::text("REMOTE"),
        Column::text("STACK"),
        Column::text("RULE"),
    ])
    .indent(2);
    for entry in &outcome.sockets {
        let address = |address: Option<std::net::SocketAddr>| {
            Cell::from(address.map_or_else(|| "-".to_owned(), |address| address.to_string()))
        };
        table.row([
            entry.label.as_str().into(),
            role(entry).into(),
            address(entry.local()),
            address(entry.remote()),
            Cell::new(&*entry.socket.stack).style(NAME),
            (&*entry.socket.rule).into(),
        ]);
    }
    table
}

fn role(entry: &SocketEntry) -> &'static str {
    match entry.socket.role {
        Some(SocketRole::Listen) => "listen",
        Some(SocketRole::Accept) => "accept",
        Some(SocketRole::Connect) => "connect",
        Some(SocketRole::Datagram) => "datagram",
        None => "-",
    }
}

fn print_passed_over(outcome: &Outcome, out: &mut Out) -> Result<(), Error> {
    let passed: BTreeSet<_> = outcome
        .sockets
        .iter()
        .flat_map(|entry| {
            entry.socket.passed_over.iter().map(|passed| {
                (
                    entry.socket.rule.to_string(),
                    passed.stack.to_string(),
                    passed.reason.to_string(),
                    passed.reason.remedy(),
                )
            })
        })
        .collect();
    if passed.is_empty() {
        return Ok(());
    }
    writeln!(out, "{}", Styled("What was passed over", BOLD))?;
    for (rule, stack, reason, remedy) in passed {
        writeln!(
            out,
            "  {} of rule {rule}: {} ({remedy})",
            Styled(stack, NAME),
            Styled(reason, WARN)
        )?;
    }
    writeln!(out)?;
    Ok(())
}

fn totals(outcome: &Outcome) -> Table {
    let mut table = Table::new([
        Column::text("RULE"),
        Column::text("STACK"),
        Column::number("SOCKETS"),
        Column::number("SENT"),
        Column::number("RECEIVED"),
    ])
    .indent(2);
    for series in &outcome.series {
        table.row([
            (&*series.rule).into(),
            Cell::new(&*series.stack).style(NAME),
            count(series.counters.of(SeriesCounter::Sockets)).into(),
            bytes(series.counters.of(SeriesCounter::BytesSent)).into(),
            bytes(series.counters.of(SeriesCounter::BytesReceived)).into(),
        ]);
    }
    table
}

fn latency(outcome: &Outcome) -> Table {
    let mut table = Table::new([
        Column::text("WHAT"),
        Column::text("MEASURED BY"),
        Column::number("SAMPLES"),
        Column::number("P50"),
        Column::number("P99"),
        Column::number("P99.9"),
        Column::number("MAX"),
    ])
    .indent(2);
    let mut row = |what: &str, by: String, of: &Percentiles| distribution(&mut table, what, by, of);
    let client = || "the client".to_owned();
    row("round trip", client(), &outcome.client.round_trip);
    row("connect", client(), &outcome.client.connect);
    for latency in &outcome.latencies {
        let by = format!("dmm: {} on {}", latency.rule, latency.stack);
        row(
            latency.kind.name(),
            by,
            &Percentiles::of(&latency.histogram),
        );
    }
    table
}
