//! A bulk transfer: iperf3 as it is, one stream.

use dmm_benches::clients::iperf3_received;

use super::run::Run;
use crate::row::Measured;
use crate::rows;

pub(super) fn run(run: &Run<'_>) -> Vec<Measured> {
    let address = run.address();
    let port = address.port();
    let server = run.serve(
        run.server("iperf3")
            .words(&format!("-s -B 127.0.0.1 -p {port}")),
        &address,
    );
    let client = run
        .client("iperf3")
        .words(&format!("-c 127.0.0.1 -p {port} -t {} -J", run.seconds()));
    let (report, cpu) = run.metered(&server, client);
    let received = iperf3_received(&report);
    vec![
        rows::IPERF3.is(received.bits_per_second / 1e9),
        rows::IPERF3_CPU.is(cpu.as_secs_f64() * 1e3 / (received.bytes / 1e9)),
    ]
}
