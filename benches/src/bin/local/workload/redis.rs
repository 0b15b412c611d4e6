//! redis-benchmark, SET and GET of 64 bytes. It parses every reply and fails for one that is an error.

use dmm_benches::clients::redis_rate;
use dmm_tests::{Program, Running};

use super::run::{Run, micros_each};
use crate::row::{Measured, Row};
use crate::rows;
use crate::side::Address;

/// How redis-benchmark is called, and what comes of it.
pub(super) struct Load {
    options: &'static str,
    commands: [Command; 2],
}

struct Command {
    name: &'static str,
    rate: &'static Row,
    cpu: &'static Row,
}

pub(super) static FIFTY: Load = Load {
    options: "-c 50",
    commands: [
        Command::new("SET", &rows::REDIS_SET_50, &rows::REDIS_SET_50_CPU),
        Command::new("GET", &rows::REDIS_GET_50, &rows::REDIS_GET_50_CPU),
    ],
};

pub(super) static PIPELINE: Load = Load {
    options: "-c 50 -P 16",
    commands: [
        Command::new(
            "SET",
            &rows::REDIS_SET_PIPELINE,
            &rows::REDIS_SET_PIPELINE_CPU,
        ),
        Command::new(
            "GET",
            &rows::REDIS_GET_PIPELINE,
            &rows::REDIS_GET_PIPELINE_CPU,
        ),
    ],
};

pub(super) static ONE: Load = Load {
    options: "-c 1",
    commands: [
        Command::new("SET", &rows::REDIS_SET_1, &rows::REDIS_SET_1_CPU),
        Command::new("GET", &rows::REDIS_GET_1, &rows::REDIS_GET_1_CPU),
    ],
};

pub(super) static FIFTY_ON_ONE_CORE: Load = Load {
    options: "-c 50",
    commands: [
        Command::new("SET", &rows::ONE_CORE_SET, &rows::ONE_CORE_SET_CPU),
        Command::new("GET", &rows::ONE_CORE_GET, &rows::ONE_CORE_GET_CPU),
    ],
};

pub(super) fn run(run: &Run<'_>, load: &Load) -> Vec<Measured> {
    let address = run.address();
    let server = serve(run, &address);
    let mut measured = Vec::new();
    for command in &load.commands {
        let client = |requests: u64| {
            benchmark(run, &address, load.options)
                .words(&format!("-n {requests} -t {}", command.name.to_lowercase()))
        };
        // It takes a number of requests, not a time: a first, short go says how many there have to be.
        let first = redis_rate(&client(10_000).output(), command.name);
        let requests = ((first * run.seconds() as f64) as u64).max(10_000);
        let (report, cpu) = run.metered(&server, client(requests));
        measured.push(command.rate.is(redis_rate(&report, command.name)));
        measured.push(command.cpu.is(micros_each(cpu, requests as f64)));
    }
    measured
}

impl Command {
    const fn new(name: &'static str, rate: &'static Row, cpu: &'static Row) -> Self {
        Self { name, rate, cpu }
    }
}

fn serve(run: &Run<'_>, address: &Address) -> Running {
    let server = run.server("redis-server");
    let server = match address {
        Address::Tcp(port) => server.words(&format!("--port {port} --bind 127.0.0.1")),
        Address::Unix(path) => server.words("--port 0 --unixsocket").arg(path),
    };
    let server = server
        .arg("--save")
        .arg("")
        .words("--appendonly no --dir")
        .arg(run.setting().dir());
    run.serve(server, address)
}

fn benchmark(run: &Run<'_>, address: &Address, options: &str) -> Program {
    let client = run.client("redis-benchmark");
    let client = match address {
        Address::Tcp(port) => client.words(&format!("-h 127.0.0.1 -p {port}")),
        Address::Unix(path) => client.arg("-s").arg(path),
    };
    client.words(options).words("-d 64 --csv")
}
