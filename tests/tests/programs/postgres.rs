//! PostgreSQL: a process a connection, started as root and run as another user.

use std::time::Duration;

use dmm_tests::need::find_file;
use dmm_tests::net::free_port;
use dmm_tests::{Program, Running, Setting, needs, side_by_side};
use rustix::process::Signal;

#[test]
fn queries_answer_the_same() {
    needs!(Root, File(SERVER), Program("setpriv"));
    side_by_side(|setting| {
        let port = free_port();
        let server = cluster(setting, port);
        let mut answers = psql(setting, port)
            .args(["-f", "-"])
            .input(QUERIES)
            .output();
        // A query is cancelled from outside.
        let waiting = psql(setting, port)
            .args(["-c", "SELECT pg_sleep(60)"])
            .start();
        let cancelled = dmm_tests::eventually("the query to be cancelled", || {
            let cancel = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity \
                          WHERE query LIKE 'SELECT pg_sleep%' AND state = 'active'";
            let rows = psql(setting, port).args(["-c", cancel]).output();
            rows.contains('t').then_some(rows)
        });
        answers += &cancelled;
        answers += &waiting.wait().errors();
        assert!(
            answers.contains("canceling statement due to user request"),
            "{answers}"
        );
        server.stop_by(Signal::INT).success();
        answers
    });
}

#[test]
fn a_benchmark_leaves_consistent_books() {
    needs!(Root, File(SERVER), Program("setpriv"));
    side_by_side(|setting| {
        let port = free_port();
        let server = cluster(setting, port);
        let pgbench = |words: &str| {
            setting
                .program(&installed("pgbench"))
                .words(&format!(
                    "-h 127.0.0.1 -p {port} -U postgres {words} postgres"
                ))
                .limit(Duration::from_secs(120))
                .run()
                .success()
                .text()
        };
        pgbench("-i -s 1 -q");
        let report = pgbench("-c 4 -j 2 -t 100 -n");
        assert!(
            report.contains("number of transactions actually processed: 400/400"),
            "{report}"
        );
        assert!(
            report.contains("number of failed transactions: 0 "),
            "{report}"
        );
        // One connection a transaction: a fork of the server and a login each.
        let report = pgbench("-C -c 2 -t 15 -n -S");
        assert!(report.contains("actually processed: 30/30"), "{report}");
        let books = psql(setting, port)
            .args([
                "-c",
                "SELECT (SELECT sum(abalance) FROM pgbench_accounts) = (SELECT sum(bbalance) \
                          FROM pgbench_branches), (SELECT count(*) FROM pgbench_history)",
            ])
            .output();
        assert_eq!(books, "t|400\n");
        server.stop_by(Signal::INT).success();
        books
    });
}

/// Where Debian keeps the programs of each version; only some of them are on PATH.
const SERVER: &str = "/usr/lib/postgresql/*/bin/postgres";

fn installed(name: &str) -> String {
    let server = find_file(SERVER).expect("found before");
    server.with_file_name(name).display().to_string()
}

const QUERIES: &str = "
CREATE TABLE numbers (n int PRIMARY KEY, squared int, word text);
INSERT INTO numbers SELECT n, n * n, repeat(chr(97 + n % 26), n % 40) FROM generate_series(1, 20000) n;
SELECT count(*), sum(squared::bigint), md5(string_agg(word, ',' ORDER BY n)) FROM numbers;
COPY (SELECT * FROM numbers WHERE n % 4000 = 7) TO STDOUT;
BEGIN; UPDATE numbers SET word = 'changed'; ROLLBACK;
SELECT * FROM numbers WHERE n < 4 ORDER BY n;
SELECT repeat('long', 1000000) AS text \\gset
SELECT length(:'text');
SELECT 1 / 0;
SELECT current_user, inet_server_addr(), inet_client_addr();
";

/// Makes a cluster of its own and starts it as the user `postgres`.
fn cluster(setting: &Setting, port: u16) -> Running {
    let data = setting.scratch().shared_dir("cluster").join("data");
    let data = data.display();
    setting
        .program_as("postgres", &installed("initdb"))
        .words(&format!(
            "-D {data} -U postgres -A trust --no-sync -E UTF8 --locale=C"
        ))
        .current_dir("/")
        .run()
        .success();
    let server = setting
        .program_as("postgres", &installed("postgres"))
        .words(&format!(
            "-D {data} -p {port} -c listen_addresses=127.0.0.1 -c fsync=off -k {data}"
        ))
        .current_dir("/")
        .limit(Duration::from_secs(180))
        .start()
        .listening_on(port);
    setting.check(&server);
    dmm_tests::eventually("the server to accept logins", || {
        let probe = setting
            .tool(&installed("pg_isready"))
            .words(&format!("-h 127.0.0.1 -p {port} -U postgres"));
        probe.run().status.success().then_some(())
    });
    server
}

fn psql(setting: &Setting, port: u16) -> Program {
    setting
        .program(&installed("psql"))
        .words(&format!("-h 127.0.0.1 -p {port} -U postgres -X -q -A -t"))
}
