//! Python programs: asyncio, selectors, multiprocessing and the servers of the standard library.
//!
//! Each script prints what it saw, and the same lines are expected with and without DMM.

use std::time::Duration;

use dmm_tests::{Setting, needs, side_by_side, side_by_side_and_local};

const PYTHON: &str = "/usr/bin/python3";

/// One test a script: `name => what its output ends with`.
macro_rules! scripts {
    ($($name:ident => $last:literal;)+) => {
        $(
            #[test]
            fn $name() {
                run(concat!(stringify!($name), ".py"), include_str!(concat!("python/", stringify!($name), ".py")), $last);
            }
        )+
    };
}

scripts! {
    asyncio_streams => "50 clients, 0 errors";
    asyncio_udp_and_unix => "datagrams and unix done";
    selectors_of_all_kinds => "selectors done";
    multiprocessing_managers_and_pools => "multiprocessing done";
    sockets_passed_between_processes => "passing done";
    forking_servers => "forking servers done";
    http_client_and_server => "http done";
    subprocesses_and_descriptors => "subprocesses done";
    tls_sockets => "tls done";
    socket_files_and_timeouts => "files done";
}

/// Scripts that are not run over shared memory: one makes no TCP connections, and what the others do
/// beside them (urgent data with MSG_PEEK, descriptors passed to other processes) does not work there
/// yet.
const NOT_LOCAL: [&str; 4] = [
    "asyncio_udp_and_unix.py",
    "socket_files_and_timeouts.py",
    "sockets_passed_between_processes.py",
    "subprocesses_and_descriptors.py",
];

fn run(file: &str, script: &str, last: &str) {
    needs!(File(PYTHON), Program("openssl"));
    let scenario = |setting: &Setting| {
        crate::support::certificate(setting);
        let script = setting.scratch().file(file, script);
        let report = setting
            .program(PYTHON)
            .words("-X dev -W error::ResourceWarning")
            .arg(script)
            .current_dir(setting.dir())
            .limit(Duration::from_secs(120))
            .output();
        assert_eq!(report.lines().last(), Some(last), "{report}");
        report
    };
    if NOT_LOCAL.contains(&file) {
        side_by_side(scenario);
    } else {
        side_by_side_and_local(scenario);
    }
}
