//! CPython's own regression tests for sockets and everything on top of them.
//!
//! The outcome of each of some thousand tests is compared. A test whose outcome differs is run twice
//! more on either side, by itself: one that comes out both ways anyhow does not count.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dmm_tests::{Setting, needs, setting::EVERYTHING_TO_SECOND};

/// One test a group of CPython's test modules.
macro_rules! suites {
    ($($name:ident: $($module:literal)+;)+) => {
        $(#[test] fn $name() { compare(&[$($module),+]); })+
    };
}

suites! {
    sockets: "test_socket";
    readiness: "test_select" "test_selectors" "test_poll" "test_epoll" "test_asyncore" "test_asynchat";
    servers: "test_socketserver" "test_httpservers" "test_xmlrpc" "test_wsgiref";
    clients: "test_httplib" "test_ftplib" "test_poplib" "test_smtplib" "test_imaplib" "test_telnetlib"
        "test_nntplib" "test_urllib2_localnet" "test_robotparser" "test_docxmlrpc";
    tls: "test_ssl";
    asyncio_streams: "test_asyncio.test_streams" "test_asyncio.test_sock_lowlevel"
        "test_asyncio.test_sendfile" "test_asyncio.test_server" "test_asyncio.test_sslproto"
        "test_asyncio.test_buffered_proto" "test_asyncio.test_transports"
        "test_asyncio.test_selector_events" "test_asyncio.test_unix_events";
    asyncio_events: "test_asyncio.test_events" "test_asyncio.test_base_events"
        "test_asyncio.test_subprocess";
    processes: "test_subprocess" "test_fork1" "test_posix" "test_wait3" "test_wait4" "test_popen"
        "test_pty" "test_pwd" "test_signal";
    files: "test_os" "test_fileio" "test_io" "test_largefile" "test_fcntl" "test_ioctl" "test_posixpath";
    threads: "test_threading" "test_concurrent_futures.test_thread_pool" "test_threadsignals"
        "test_logging";
}

/// Outcome by test.
type Outcomes = BTreeMap<String, String>;

fn compare(modules: &[&'static str]) {
    needs!(File("/usr/bin/python3"));
    let modules: Vec<String> = modules
        .iter()
        .map(|module| format!("test.{module}"))
        .collect();
    // Both at once: these tests mostly wait.
    let (plain, preloaded) = std::thread::scope(|scope| {
        let plain = scope.spawn(|| run(&Setting::plain(), &modules));
        let preloaded = scope.spawn(|| run(&Setting::under(EVERYTHING_TO_SECOND), &modules));
        (
            plain.join().expect("the plain run"),
            preloaded.join().expect("the run under DMM"),
        )
    });
    assert!(
        plain.len() > 3,
        "the tests did not run (tests/setup.sh installs them): {plain:?}"
    );
    let suspects = differing(&plain, &preloaded);
    let mut culprits = Vec::new();
    for suspect in suspects {
        if !is_flaky(&suspect, plain.get(&suspect), preloaded.get(&suspect)) {
            culprits.push(format!(
                "{suspect}: plain {:?}, under DMM {:?}",
                plain.get(&suspect),
                preloaded.get(&suspect)
            ));
        }
    }
    assert!(
        culprits.is_empty(),
        "{} tests differ:\n{}",
        culprits.len(),
        culprits.join("\n")
    );
}

fn differing(plain: &Outcomes, preloaded: &Outcomes) -> BTreeSet<String> {
    let all: BTreeSet<&String> = plain.keys().chain(preloaded.keys()).collect();
    all.into_iter()
        .filter(|test| plain.get(*test) != preloaded.get(*test))
        .cloned()
        .collect()
}

/// Whether a test by itself has, on either side, the outcome that the other side had.
fn is_flaky(test: &str, plain: Option<&String>, preloaded: Option<&String>) -> bool {
    let again = |setting: &Setting| run(setting, &[test.to_owned()]).remove(test);
    (0..2).any(|_| {
        again(&Setting::plain()).as_ref() == preloaded
            || again(&Setting::under(EVERYTHING_TO_SECOND)).as_ref() == plain
    })
}

/// Runs tests by module or full name.
fn run(setting: &Setting, tests: &[String]) -> Outcomes {
    let runner = setting
        .scratch()
        .file("outcomes.py", include_str!("python/outcomes.py"));
    let work = setting.scratch().shared_dir("work");
    let report = setting
        .program("/usr/bin/python3")
        .arg(runner)
        .args(tests)
        .current_dir(work)
        .limit(Duration::from_secs(300))
        .run();
    let outcomes: Outcomes = report
        .text()
        .lines()
        .filter_map(|line| line.strip_prefix("OUTCOME ")?.split_once(' '))
        .map(|(outcome, test)| (test.to_owned(), outcome.to_owned()))
        .collect();
    assert!(
        report.text().lines().any(|line| line == "ALL DONE"),
        "the test runner ended early ({}):\n{}\n{}",
        report.status,
        report
            .text()
            .lines()
            .rev()
            .take(30)
            .collect::<Vec<_>>()
            .join("\n"),
        report.errors()
    );
    outcomes
}
