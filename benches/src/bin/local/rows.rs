//! Every figure that is measured, and its bar.

use crate::row::{Limit, Row};

const US: &str = "us";
const RATE: &str = "requests/s";
const US_REQUEST: &str = "us/request";
const US_TRIP: &str = "us/round trip";
const KIB: &str = "KiB";

pub(crate) static SOCKPERF_P50: Row = Row::time("sockperf 64 B, p50", US).times_tcp(30.0);
pub(crate) static SOCKPERF_P99: Row = Row::time("sockperf 64 B, p99", US).times_tcp(8.0);
pub(crate) static SOCKPERF_CPU: Row = Row::cpu("sockperf 64 B, CPU", US_TRIP);

pub(crate) static PING_P50: Row = Row::time("ping-pong 64 B, p50", US).times_tcp(30.0);
pub(crate) static PING_P99: Row = Row::time("ping-pong 64 B, p99", US).times_tcp(8.0);
pub(crate) static PING_CPU: Row = Row::cpu("ping-pong 64 B, CPU", US_TRIP);

pub(crate) static REDIS_SET_50: Row = Row::rate("redis SET -c 50", RATE).times_tcp(5.0);
pub(crate) static REDIS_GET_50: Row = Row::rate("redis GET -c 50", RATE).times_tcp(5.0);
pub(crate) static REDIS_SET_50_CPU: Row = Row::cpu("redis SET -c 50, CPU", US_REQUEST);
pub(crate) static REDIS_GET_50_CPU: Row = Row::cpu("redis GET -c 50, CPU", US_REQUEST);

pub(crate) static REDIS_SET_PIPELINE: Row = Row::rate("redis SET -c 50 -P 16", RATE).times_tcp(1.5);
pub(crate) static REDIS_GET_PIPELINE: Row = Row::rate("redis GET -c 50 -P 16", RATE).times_tcp(1.5);
pub(crate) static REDIS_SET_PIPELINE_CPU: Row = Row::cpu("redis SET -c 50 -P 16, CPU", US_REQUEST);
pub(crate) static REDIS_GET_PIPELINE_CPU: Row = Row::cpu("redis GET -c 50 -P 16, CPU", US_REQUEST);

pub(crate) static REDIS_SET_1: Row = Row::rate("redis SET -c 1", RATE).times_tcp(5.0);
pub(crate) static REDIS_GET_1: Row = Row::rate("redis GET -c 1", RATE).times_tcp(5.0);
pub(crate) static REDIS_SET_1_CPU: Row = Row::cpu("redis SET -c 1, CPU", US_REQUEST);
pub(crate) static REDIS_GET_1_CPU: Row = Row::cpu("redis GET -c 1, CPU", US_REQUEST);

pub(crate) static IPERF3: Row = Row::rate("iperf3, one stream", "Gbit/s").times_tcp(3.5);
pub(crate) static IPERF3_CPU: Row = Row::cpu("iperf3, one stream, CPU", "ms/GB");

pub(crate) static MEMCACHED: Row =
    Row::rate("memcached 9 get : 1 set, 50 conns", RATE).times_tcp(3.0);
pub(crate) static MEMCACHED_CPU: Row = Row::cpu("memcached, CPU", US_REQUEST);

pub(crate) static NGINX_1K: Row = Row::rate("nginx 1 KiB, wrk -c 50", RATE).times_tcp(1.6);
pub(crate) static NGINX_1K_CPU: Row = Row::cpu("nginx 1 KiB, CPU", US_REQUEST);
pub(crate) static NGINX_1M: Row = Row::rate("nginx 1 MiB, wrk -c 50", RATE).times_tcp(1.6);
pub(crate) static NGINX_1M_CPU: Row = Row::cpu("nginx 1 MiB, CPU", US_REQUEST);

pub(crate) static CONNECTS: Row = Row::rate("connect, request, close", RATE).times_tcp(1.0);
pub(crate) static CONNECTS_CPU: Row = Row::cpu("connect, request, close, CPU", US_REQUEST);

pub(crate) static ONE_CORE_SET: Row = Row::rate("one core: redis SET -c 50", RATE).times_tcp(1.0);
pub(crate) static ONE_CORE_GET: Row = Row::rate("one core: redis GET -c 50", RATE).times_tcp(1.0);
pub(crate) static ONE_CORE_SET_CPU: Row = Row::cpu("one core: redis SET -c 50, CPU", US_REQUEST);
pub(crate) static ONE_CORE_GET_CPU: Row = Row::cpu("one core: redis GET -c 50, CPU", US_REQUEST);
pub(crate) static ONE_CORE_PING_P50: Row = Row::time("one core: ping-pong, p50", US).times_tcp(1.0);
pub(crate) static ONE_CORE_PING_P99: Row = Row::time("one core: ping-pong, p99", US).times_tcp(1.0);
pub(crate) static ONE_CORE_PING_CPU: Row = Row::cpu("one core: ping-pong, CPU", US_TRIP);

pub(crate) static IDLE_CPU: Row =
    Row::itself("1,000 idle sessions, CPU in 5 s", US, Limit::AtMost(0.0));
pub(crate) static IDLE_SERVER: Row =
    Row::itself("an idle session, server's memory", KIB, Limit::AtMost(8.0));
pub(crate) static IDLE_CLIENT: Row =
    Row::itself("an idle session, client's memory", KIB, Limit::AtMost(8.0));
pub(crate) static IDLE_SHARED: Row =
    Row::itself("an idle session, shared by both", KIB, Limit::AtMost(16.0));

pub(crate) static EVENT_FEW: Row = Row::time("event, 10 sessions", US);
pub(crate) static EVENT_MANY: Row = Row::time("event, 10,000 sessions", US);
pub(crate) static EVENT_GROWTH: Row =
    Row::itself("event, from 10 to 10,000", "x", Limit::AtMost(1.3));
pub(crate) static EVENT_CPU: Row = Row::cpu("event, 10,000 sessions, CPU", "us/event");
pub(crate) static SCATTERED_FEW: Row = Row::time("scattered event, 10 sessions", US);
pub(crate) static SCATTERED_MANY: Row = Row::time("scattered event, 10,000 sessions", US);
pub(crate) static SCATTERED_GROWTH: Row = Row::itself(
    "scattered event, from 10 to 10,000",
    "x",
    Limit::AtMost(1.3),
);
pub(crate) static SCATTERED_CPU: Row = Row::cpu("scattered event, 10,000, CPU", "us/event");
