//! memcached with one thread, for the one core that it gets, and a closed loop over 50 connections.
//! The client compares every answer.

use super::run::{Loop, Run, micros_each};
use crate::probes::Probe;
use crate::row::Measured;
use crate::rows;
use crate::side::Address;

pub(super) fn run(run: &Run<'_>) -> Vec<Measured> {
    let address = run.address();
    let server = run.server("memcached").words("-t 1 -m 64 -U 0 -u root");
    let server = match &address {
        Address::Tcp(port) => server.words(&format!("-l 127.0.0.1 -p {port}")),
        Address::Unix(path) => server.arg("-s").arg(path),
    };
    let server = run.serve(server, &address);
    let client = run
        .probe_client(Probe::Memload)
        .arg(address.to_string())
        .words(&format!("50 {}", run.seconds()));
    let (report, cpu) = run.metered(&server, client);
    let report = Loop::of(&report);
    vec![
        rows::MEMCACHED.is(report.rate),
        rows::MEMCACHED_CPU.is(micros_each(cpu, report.all)),
    ]
}
