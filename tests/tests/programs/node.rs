//! Node: libuv's event loop, a cluster of processes on one port, sockets sent to children.

use std::time::Duration;

use dmm_tests::{needs, side_by_side_and_local};

#[test]
fn servers_clients_and_a_cluster() {
    needs!(Program("node"));
    side_by_side_and_local(|setting| {
        let script = setting
            .scratch()
            .file("sockets.js", include_str!("node/sockets.js"));
        let report = setting
            .program("node")
            .arg(script)
            .limit(Duration::from_secs(120))
            .output();
        assert_eq!(report.lines().last(), Some("node done"), "{report}");
        report
    });
}
