//! One message at a time, there and back, on blocking sockets.

use dmm_benches::clients::{number, sockperf_percentile};

use super::run::{Loop, Run, micros_each};
use crate::probes::Probe;
use crate::row::{Measured, Row};
use crate::rows;

/// The figures of a ping-pong.
pub(super) struct Rows {
    p50: &'static Row,
    p99: &'static Row,
    cpu: &'static Row,
}

pub(super) static TWO_CORES: Rows = Rows {
    p50: &rows::PING_P50,
    p99: &rows::PING_P99,
    cpu: &rows::PING_CPU,
};

pub(super) static ONE_CORE: Rows = Rows {
    p50: &rows::ONE_CORE_PING_P50,
    p99: &rows::ONE_CORE_PING_P99,
    cpu: &rows::ONE_CORE_PING_CPU,
};

/// benches/c/pingpong.c, which compares every answer.
pub(super) fn ping_pong(run: &Run<'_>, rows: &Rows) -> Vec<Measured> {
    let address = run.address();
    let server = run.serve(
        run.probe_server(Probe::PingPong)
            .arg("serve")
            .arg(address.to_string())
            .arg("64"),
        &address,
    );
    let client = run
        .probe_client(Probe::PingPong)
        .arg("drive")
        .arg(address.to_string())
        .words(&format!("64 {}", run.seconds()));
    let pid = server.pid();
    let before = run.cpu_so_far(pid);
    let report = Loop::of(&client.output());
    // It ends with its client: as a child that was waited for, all of its time is known.
    server.wait().success();
    let cpu = run.cpu_so_far(pid).saturating_sub(before);
    vec![
        rows.p50.is(report.p50_us),
        rows.p99.is(report.p99_us),
        rows.cpu.is(micros_each(cpu, report.all)),
    ]
}

pub(super) fn sockperf(run: &Run<'_>) -> Vec<Measured> {
    let address = run.address();
    let port = address.port();
    let server = run.serve(
        run.server("sockperf")
            .words(&format!("server --tcp -i 127.0.0.1 -p {port}")),
        &address,
    );
    let client = run
        .client("sockperf")
        .words(&format!(
            "ping-pong --tcp -i 127.0.0.1 -p {port} -m 64 --full-rtt"
        ))
        .words(&format!("-t {}", run.seconds()));
    let (report, cpu) = run.metered(&server, client);
    for wrong in ["dropped", "duplicated", "out-of-order"] {
        assert!(
            report.contains(&format!("# {wrong} messages = 0")),
            "sockperf has {wrong} messages:\n{report}"
        );
    }
    let total = report.lines().find(|line| line.contains("[Total Run]"));
    let messages = total
        .and_then(|line| line.split("ReceivedMessages=").nth(1))
        .map(|rest| rest.split(';').next().unwrap_or_default());
    vec![
        rows::SOCKPERF_P50.is(sockperf_percentile(&report, "50.000")),
        rows::SOCKPERF_P99.is(sockperf_percentile(&report, "99.000")),
        rows::SOCKPERF_CPU.is(micros_each(cpu, number(messages, &report))),
    ]
}
