//! The workloads: a server, a client, and the figures that come of it.

mod connects;
mod iperf3;
mod memcached;
mod nginx;
mod redis;
mod round_trips;
mod run;
mod sessions;

use std::fmt;

use dmm_tests::Need;

use crate::row::Measured;
use crate::side::Side;

pub(crate) use run::Run;

/// What is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Workload {
    /// sockperf ping-pong over TCP, 64 bytes.
    Sockperf,
    /// A plain C program's blocking ping-pong, 64 bytes.
    PingPong,
    /// redis-benchmark SET and GET, 64 bytes, 50 connections.
    Redis,
    /// The same with 16 requests a pipeline.
    RedisPipeline,
    /// The same with one connection.
    RedisOne,
    /// iperf3, one stream, default buffers.
    Iperf3,
    /// memcached with one thread; a closed loop of 9 get : 1 set over 50 connections.
    Memcached,
    /// wrk with 50 keep-alive connections on nginx with one worker, a file of 1 KiB.
    NginxSmall,
    /// The same, a file of 1 MiB.
    NginxLarge,
    /// Connect, one request, close, in a loop.
    Connects,
    /// The redis workload with both programs on one core.
    OneCoreRedis,
    /// The ping-pong with both programs on one core.
    OneCorePingPong,
    /// 1,000 open sessions that do nothing: CPU time and memory.
    Idle,
    /// One active session among 10 and among 10,000 in one epoll set.
    ManySessions,
}

impl Workload {
    /// All of them.
    pub(crate) const ALL: [Self; 14] = [
        Self::Sockperf,
        Self::PingPong,
        Self::Redis,
        Self::RedisPipeline,
        Self::RedisOne,
        Self::Iperf3,
        Self::Memcached,
        Self::NginxSmall,
        Self::NginxLarge,
        Self::Connects,
        Self::OneCoreRedis,
        Self::OneCorePingPong,
        Self::Idle,
        Self::ManySessions,
    ];

    /// The programs that it runs.
    pub(crate) fn needs(self) -> Vec<Need> {
        let programs: &[&'static str] = match self {
            Self::Sockperf => &["sockperf"],
            Self::Redis | Self::RedisPipeline | Self::RedisOne | Self::OneCoreRedis => {
                &["redis-server", "redis-benchmark"]
            }
            Self::Iperf3 => &["iperf3"],
            Self::Memcached => &["memcached"],
            Self::NginxSmall | Self::NginxLarge => &["nginx", "wrk", "curl"],
            Self::PingPong
            | Self::Connects
            | Self::OneCorePingPong
            | Self::Idle
            | Self::ManySessions => &[],
        };
        programs
            .iter()
            .chain(&["taskset", "cc"])
            .map(|name| Need::Program(name))
            .collect()
    }

    /// Whether its programs can be run so: sockperf 3.7, iperf3 and wrk know no Unix sockets.
    pub(crate) fn can_run(self, side: Side) -> bool {
        let tcp_only = matches!(
            self,
            Self::Sockperf | Self::Iperf3 | Self::NginxSmall | Self::NginxLarge
        );
        !(tcp_only && side == Side::Unix)
    }

    /// Runs it once.
    ///
    /// # Panics
    /// When a program fails, or its content is wrong.
    pub(crate) fn run(self, run: &Run<'_>) -> Vec<Measured> {
        match self {
            Self::Sockperf => round_trips::sockperf(run),
            Self::PingPong => round_trips::ping_pong(run, &round_trips::TWO_CORES),
            Self::Redis => redis::run(run, &redis::FIFTY),
            Self::RedisPipeline => redis::run(run, &redis::PIPELINE),
            Self::RedisOne => redis::run(run, &redis::ONE),
            Self::Iperf3 => iperf3::run(run),
            Self::Memcached => memcached::run(run),
            Self::NginxSmall => nginx::run(run, &nginx::SMALL),
            Self::NginxLarge => nginx::run(run, &nginx::LARGE),
            Self::Connects => connects::run(run),
            Self::OneCoreRedis => redis::run(&run.on_one_core(), &redis::FIFTY_ON_ONE_CORE),
            Self::OneCorePingPong => {
                round_trips::ping_pong(&run.on_one_core(), &round_trips::ONE_CORE)
            }
            Self::Idle => sessions::idle(run),
            Self::ManySessions => sessions::many(run),
        }
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = clap::ValueEnum::to_possible_value(self);
        f.write_str(value.as_ref().map_or("", |value| value.get_name()))
    }
}
