//! Redis: one thread over epoll, children forked to write snapshots.

use std::time::Duration;

use dmm_tests::net::free_port;
use dmm_tests::scratch::pattern;
use dmm_tests::{
    Program, Running, Setting, eventually, needs, side_by_side, side_by_side_and_local,
};

#[test]
fn commands_answer_the_same() {
    needs!(Program("redis-server"), Program("redis-cli"));
    side_by_side_and_local(|setting| {
        let port = free_port();
        let server = serve(setting, port, "--save  --appendonly no");
        let answers = cli(setting, port).input(COMMANDS).output();
        assert!(answers.contains("hello, world"), "{answers}");
        let big = String::from_utf8(
            pattern(1, 700_000)
                .iter()
                .map(|byte| b'a' + byte % 26)
                .collect(),
        )
        .expect("letters");
        let stored = cli(setting, port)
            .words("-x SET big")
            .input(big.clone())
            .output();
        assert_eq!(stored, "OK\n");
        assert_eq!(
            cli(setting, port).words("--raw GET big").output(),
            format!("{big}\n")
        );
        server.stop().success();
        answers
    });
}

#[test]
fn messages_reach_subscribers() {
    needs!(Program("redis-server"), Program("redis-cli"));
    side_by_side_and_local(|setting| {
        let port = free_port();
        let _server = serve(setting, port, "--appendonly no");
        let mut subscribers: Vec<Running> = (0..3)
            .map(|_| cli(setting, port).words("--csv PSUBSCRIBE news.*").start())
            .collect();
        for subscriber in &mut subscribers {
            subscriber.wait_for_text("\"psubscribe\",\"news.*\",1");
            setting.check(subscriber);
        }
        let reached = cli(setting, port).words("PUBLISH news.rust 1.95").output();
        assert_eq!(reached, "3\n");
        for subscriber in &mut subscribers {
            subscriber.wait_for_text("\"pmessage\",\"news.*\",\"news.rust\",\"1.95\"");
        }
    });
}

#[test]
fn snapshots_and_logs_are_written_by_forked_children() {
    needs!(Program("redis-server"), Program("redis-cli"));
    side_by_side_and_local(|setting| {
        let port = free_port();
        let server = serve(setting, port, "--appendonly yes");
        cli(setting, port).words("EVAL").arg(FILL).arg("0").output();
        let digest = cli(setting, port).words("DEBUG DIGEST").output();
        for command in ["BGSAVE", "BGREWRITEAOF"] {
            let begun = cli(setting, port).arg(command).output();
            assert!(begun.contains("started"), "{begun}");
            // Other connections are made and served while the child writes.
            eventually("the child to finish", || {
                let state = cli(setting, port).words("INFO persistence").output();
                let done = state.contains("rdb_bgsave_in_progress:0")
                    && state.contains("aof_rewrite_in_progress:0");
                done.then(|| {
                    assert!(state.contains("rdb_last_bgsave_status:ok"), "{state}");
                    assert!(state.contains("aof_last_bgrewrite_status:ok"), "{state}");
                })
            });
        }
        cli(setting, port).words("SET after rewrite").output();
        cli(setting, port).words("DEL after").output();
        server.stop().success();

        let port = free_port();
        let _server = serve(setting, port, "--appendonly yes");
        eventually("the data to be loaded", || {
            (cli(setting, port).words("DEBUG DIGEST").output() == digest).then_some(())
        });
        digest
    });
}

#[test]
fn a_replica_follows() {
    needs!(Program("redis-server"), Program("redis-cli"));
    side_by_side_and_local(|setting| {
        let (port, replica_port) = (free_port(), free_port());
        let _primary = serve(setting, port, "--appendonly no");
        cli(setting, port).words("EVAL").arg(FILL).arg("0").output();
        let replica = setting
            .program("redis-server")
            .words(&format!(
                "--port {replica_port} --bind 127.0.0.1 --enable-debug-command yes"
            ))
            .words(&format!(
                "--replicaof 127.0.0.1 {port} --dbfilename replica.rdb --dir"
            ))
            .arg(setting.dir())
            .start()
            .listening_on(replica_port);
        setting.check(&replica);
        cli(setting, port).words("SET more data").output();
        let digest = cli(setting, port).words("DEBUG DIGEST").output();
        eventually("the replica to catch up", || {
            (cli(setting, replica_port).words("DEBUG DIGEST").output() == digest).then_some(())
        });
        digest
    });
}

#[test]
fn a_benchmark_runs_without_an_error() {
    needs!(Program("redis-server"), Program("redis-benchmark"));
    side_by_side(|setting| {
        let port = free_port();
        let _server = serve(setting, port, "--appendonly no");
        let report = setting
            .program("redis-benchmark")
            .words("-h 127.0.0.1 -c 50 -n 20000 -P 4 -d 1000 -r 5000 -t set,get,lpush,lrange_100 --csv")
            .words(&format!("-p {port}"))
            .limit(Duration::from_secs(120))
            .run()
            .success();
        assert_eq!(report.errors(), "", "{}", report.text());
        let tests: Vec<String> = report
            .text()
            .lines()
            .skip(1)
            .map(|line| line.split("\",").next().unwrap_or_default().to_owned())
            .collect();
        assert_eq!(tests.len(), 5, "{}", report.text());
        // At least: a benchmark sends a few more than asked for when its last pipelines are full.
        let length: u32 = cli(setting, port)
            .words("LLEN mylist")
            .output()
            .trim()
            .parse()
            .expect("a number");
        assert!(length >= 40_000, "{length}");
        tests
    });
}

#[test]
fn io_threads_and_a_unix_socket_serve() {
    needs!(
        Program("redis-server"),
        Program("redis-benchmark"),
        Program("redis-cli")
    );
    side_by_side(|setting| {
        let port = free_port();
        let unix = setting.dir().join("redis.sock");
        let unix = unix.to_str().expect("an ASCII path");
        let options = format!("--io-threads 2 --io-threads-do-reads yes --unixsocket {unix}");
        let _server = serve(setting, port, &options);
        setting
            .program("redis-benchmark")
            .words(&format!(
                "-h 127.0.0.1 -p {port} -c 40 -n 4000 -t set,get -q"
            ))
            .run()
            .success();
        let answers = setting
            .program("redis-cli")
            .args(["-s", unix])
            .input(COMMANDS)
            .output();
        assert!(answers.contains("hello, world"), "{answers}");
        answers
    });
}

const COMMANDS: &str = "\
FLUSHALL
SET greeting \"hello, world\"
GET greeting
GET nothing
INCR counter
INCRBY counter 41
APPEND greeting \", again\"
STRLEN greeting
RPUSH list a b c d
LRANGE list 0 -1
LPUSH list
HSET hash one 1 two 2
HGETALL hash
ZADD board 3 carol 1 alice 2 bob
ZRANGE board 0 -1 WITHSCORES
MULTI
SET a 1
INCR a
GET a
EXEC
MULTI
SET a 5
DISCARD
GET a
EXPIRE a 1000
EVAL \"return {1, 2, {3, 'four'}}\" 0
SETBIT bits 7 1
GETRANGE bits 0 -1
DBSIZE
ECHO \"the end\"
";

/// Some thousand keys of several types.
const FILL: &str = "for i = 1, 5000 do redis.call('SET', 'key:' .. i, string.rep(i, 20)) \
    redis.call('RPUSH', 'list:' .. i % 50, i) redis.call('HSET', 'hash:' .. i % 50, i, i) end";

fn serve(setting: &Setting, port: u16, options: &str) -> Running {
    let server = setting
        .program("redis-server")
        .words(&format!(
            "--port {port} --bind 127.0.0.1 ::1 --enable-debug-command yes"
        ))
        .words("--repl-diskless-sync-delay 0")
        .args(options.split(' '))
        .args(["--dir".as_ref(), setting.dir().as_os_str()])
        .start()
        .listening_on(port);
    setting.check(&server);
    server
}

fn cli(setting: &Setting, port: u16) -> Program {
    setting
        .program("redis-cli")
        .words(&format!("-h 127.0.0.1 -p {port}"))
}
