//! Connect, one request, close, in a loop. The client compares every answer.

use super::run::{Loop, Run, micros_each};
use crate::probes::Probe;
use crate::row::Measured;
use crate::rows;

pub(super) fn run(run: &Run<'_>) -> Vec<Measured> {
    let address = run.address();
    let server = run.serve(
        run.probe_server(Probe::Echo)
            .arg(address.to_string())
            .arg("once"),
        &address,
    );
    let client = run
        .probe_client(Probe::Connects)
        .arg(address.to_string())
        .arg(run.seconds().to_string());
    let (report, cpu) = run.metered(&server, client);
    let report = Loop::of(&report);
    vec![
        rows::CONNECTS.is(report.rate),
        rows::CONNECTS_CPU.is(micros_each(cpu, report.all)),
    ]
}
