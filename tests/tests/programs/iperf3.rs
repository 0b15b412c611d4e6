//! iperf3: bulk streams, datagrams, options and TCP_INFO.

use dmm_tests::net::free_port;
use dmm_tests::{Setting, needs, side_by_side, side_by_side_and_local};
use serde_json::Value;

#[test]
fn one_tcp_stream() {
    check("-t 1", |end| assert!(bytes(end, "sum_received") > 1 << 20));
}

#[test]
fn four_parallel_streams() {
    check_local("-t 1 -P 4", |end| {
        let streams = end["streams"].as_array().expect("streams");
        assert_eq!(streams.len(), 4);
        for stream in streams {
            assert!(
                stream["receiver"]["bytes"].as_u64().expect("a number") > 1 << 16,
                "{stream}"
            );
        }
    });
}

#[test]
fn the_reverse_direction() {
    check_local("-t 1 -R", |end| {
        assert!(bytes(end, "sum_received") > 1 << 20);
    });
}

#[test]
fn both_directions_at_once() {
    check_local("-t 1 --bidir", |end| {
        assert!(bytes(end, "sum_received") > 1 << 20);
        assert!(bytes(end, "sum_received_bidir_reverse") > 1 << 20);
    });
}

#[test]
fn datagrams() {
    check("-t 1 -u -b 50M -l 1200", |end| {
        let sum = &end["sum"];
        let packets = sum["packets"].as_u64().expect("a number");
        let lost = sum["lost_packets"].as_u64().expect("a number");
        assert!(packets > 100 && lost < packets / 2, "{sum}");
    });
}

#[test]
fn options_set_before_the_connection() {
    // Window, segment size, no-delay, type of service and congestion control.
    check("-n 16M -w 256K -M 1400 -N -C reno -S 0x28", |end| {
        assert!(bytes(end, "sum_sent") >= 16 << 20, "{end}");
        assert!(bytes(end, "sum_received") > 12 << 20, "{end}");
        assert_eq!(end["sender_tcp_congestion"], "reno");
    });
}

#[test]
fn zero_copy_sends_use_sendfile() {
    check_local("-n 64M -Z", |end| {
        // What is under way when the sender says that it is done is not counted by the receiver.
        assert!(bytes(end, "sum_sent") >= 64 << 20, "{end}");
        assert!(bytes(end, "sum_received") > 48 << 20, "{end}");
    });
}

fn check(options: &str, verify: impl Fn(&Value)) {
    needs!(Program("iperf3"), Congestion("reno"));
    side_by_side(|setting| verify(&measure(setting, options)));
}

/// [`check`], and through shared memory as well.
fn check_local(options: &str, verify: impl Fn(&Value)) {
    needs!(Program("iperf3"), Congestion("reno"));
    side_by_side_and_local(|setting| verify(&measure(setting, options)));
}

/// Runs a server for one test and a client with `options`; what the client says at the end.
fn measure(setting: &Setting, options: &str) -> Value {
    let port = free_port();
    let server = setting
        .program("iperf3")
        .words(&format!("-s -1 -B 127.0.0.1 -p {port}"))
        .start()
        .listening_on(port);
    setting.check(&server);
    let client = setting
        .program("iperf3")
        .words(&format!("-c 127.0.0.1 -p {port} -J {options}"))
        .run();
    let report: Value = serde_json::from_slice(&client.stdout).expect("a JSON report");
    assert_eq!(report["error"], Value::Null, "{report}");
    server.wait().success();
    report["end"].clone()
}

fn bytes(end: &Value, sum: &str) -> u64 {
    end[sum]["bytes"]
        .as_u64()
        .unwrap_or_else(|| panic!("no {sum}: {end}"))
}
