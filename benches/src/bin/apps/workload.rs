//! The workloads: a server, a client, and the numbers that the client prints.

use std::fmt;

use dmm_benches::clients;
use dmm_benches::figures::SignificantFigures;
use dmm_benches::place::{Place, serve};
use dmm_tests::net::free_port;
use dmm_tests::{Need, Setting};

/// What is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Workload {
    /// redis-benchmark with 50 connections, SET and GET.
    Redis,
    /// wrk with 50 connections on nginx, a file of 1 KiB.
    Nginx,
    /// iperf3, one TCP stream.
    Iperf3,
    /// sockperf ping-pong over TCP, 64 bytes.
    Sockperf,
}

/// One number of one run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measured {
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) better: Better,
    pub(crate) value: f64,
}

/// Which way is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Better {
    Higher,
    Lower,
}

impl Workload {
    /// All of them.
    pub(crate) const ALL: [Self; 4] = [Self::Redis, Self::Nginx, Self::Iperf3, Self::Sockperf];

    /// The programs that it runs.
    pub(crate) fn needs(self) -> Vec<Need> {
        let programs: &[&'static str] = match self {
            Self::Redis => &["redis-server", "redis-benchmark"],
            Self::Nginx => &["nginx", "wrk"],
            Self::Iperf3 => &["iperf3"],
            Self::Sockperf => &["sockperf"],
        };
        programs
            .iter()
            .chain(&["taskset"])
            .map(|name| Need::Program(name))
            .collect()
    }

    /// Runs it once.
    pub(crate) fn run(self, setting: &Setting, place: Place) -> Vec<Measured> {
        match self {
            Self::Redis => redis(setting, place),
            Self::Nginx => nginx(setting, place),
            Self::Iperf3 => iperf3(setting, place),
            Self::Sockperf => sockperf(setting, place),
        }
    }
}

fn redis(setting: &Setting, place: Place) -> Vec<Measured> {
    let port = free_port();
    let _server = serve(
        place
            .server(setting, "redis-server")
            .words(&format!(
                "--port {port} --bind 127.0.0.1 --save  --appendonly no --dir"
            ))
            .arg(setting.dir()),
        port,
    );
    // About a second for each of the two commands on a machine of 2020.
    let requests = place.seconds * 50_000;
    let report = place
        .client(setting, "redis-benchmark")
        .words(&format!(
            "-h 127.0.0.1 -p {port} -c 50 -n {requests} -d 64 -t set,get --csv"
        ))
        .output();
    let rate = |command| clients::redis_rate(&report, command);
    vec![
        Measured::rate("redis SET, 50 connections", "requests/s", rate("SET")),
        Measured::rate("redis GET, 50 connections", "requests/s", rate("GET")),
    ]
}

fn nginx(setting: &Setting, place: Place) -> Vec<Measured> {
    let port = free_port();
    let dir = setting.dir().display();
    setting.scratch().file("page", [b'x'; 1024]);
    let config = format!(
        "daemon off; master_process off; worker_processes 1; pid {dir}/pid; error_log stderr crit;
         events {{ worker_connections 1024; use epoll; }}
         http {{ access_log off; keepalive_requests 1000000000; client_body_temp_path {dir}/t1;
             proxy_temp_path {dir}/t2; fastcgi_temp_path {dir}/t3; uwsgi_temp_path {dir}/t4;
             scgi_temp_path {dir}/t5; server {{ listen 127.0.0.1:{port}; root {dir}; }} }}"
    );
    let config = setting.scratch().file("nginx.conf", config);
    let _server = serve(place.server(setting, "nginx").arg("-c").arg(config), port);
    let report = place
        .client(setting, "wrk")
        .words(&format!(
            "-t1 -c50 -d{}s http://127.0.0.1:{port}/page",
            place.seconds
        ))
        .output();
    vec![Measured::rate(
        "nginx 1 KiB, 50 connections",
        "requests/s",
        clients::wrk_rate(&report),
    )]
}

fn iperf3(setting: &Setting, place: Place) -> Vec<Measured> {
    let port = free_port();
    let _server = serve(
        place
            .server(setting, "iperf3")
            .words(&format!("-s -1 -B 127.0.0.1 -p {port}")),
        port,
    );
    let report = place
        .client(setting, "iperf3")
        .words(&format!("-c 127.0.0.1 -p {port} -t {} -J", place.seconds))
        .output();
    let rate = clients::iperf3_received(&report).bits_per_second;
    vec![Measured::rate("iperf3, one stream", "Gbit/s", rate / 1e9)]
}

fn sockperf(setting: &Setting, place: Place) -> Vec<Measured> {
    let port = free_port();
    let _server = serve(
        place
            .server(setting, "sockperf")
            .words(&format!("server --tcp -i 127.0.0.1 -p {port}")),
        port,
    );
    let report = place
        .client(setting, "sockperf")
        .words(&format!(
            "ping-pong --tcp -i 127.0.0.1 -p {port} -m 64 --full-rtt"
        ))
        .words(&format!("-t {}", place.seconds))
        .output();
    let percentile = |which| clients::sockperf_percentile(&report, which);
    vec![
        Measured::time("sockperf round trip, median", "us", percentile("50.000")),
        Measured::time("sockperf round trip, p99", "us", percentile("99.000")),
    ]
}

impl Measured {
    fn rate(name: &'static str, unit: &'static str, value: f64) -> Self {
        Self {
            name,
            unit,
            better: Better::Higher,
            value,
        }
    }

    fn time(name: &'static str, unit: &'static str, value: f64) -> Self {
        Self {
            name,
            unit,
            better: Better::Lower,
            value,
        }
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {} {}",
            self.name,
            SignificantFigures(self.value),
            self.unit
        )
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Redis => "redis",
            Self::Nginx => "nginx",
            Self::Iperf3 => "iperf3",
            Self::Sockperf => "sockperf",
        })
    }
}
