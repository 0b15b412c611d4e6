//! Histograms: of a running program, at its end, and on a signal.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use dmm_tests::net::free_port;
use dmm_tests::{Setting, eventually, needs};
use rustix::process::Signal;

use crate::probe::Probe;

const POLICY: &str = "\
[stack.second]\ntype = \"kernel\"\n
[[rule]]\nname = \"everything\"\nstack = [\"second\"]\ndump = \"SIGUSR2\"\n";

#[test]
fn a_run_leaves_its_histograms_in_each_format() {
    needs!(Program("curl"), File("/usr/bin/python3"));
    let setting = Setting::under(POLICY);
    let port = free_port();
    let script = setting
        .scratch()
        .file("greet.py", include_str!("python/greet.py"));
    let _server = setting
        .tool("/usr/bin/python3")
        .arg(script)
        .words(&format!("127.0.0.1 {port} greetings"))
        .start()
        .listening_on(port);
    let report = |format: &str| {
        let file = setting.dir().join(format!("report.{format}"));
        let answer = setting
            .program_with_report("curl", &file)
            .words(&format!("-sS http://127.0.0.1:{port}/"))
            .output();
        assert_eq!(answer, "greetings\n");
        std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
    };
    let json = report("json");
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert!(json.to_string().contains("everything"), "{json}");
    let csv = report("csv");
    assert!(
        csv.lines().count() > 1 && csv.contains("everything"),
        "{csv}"
    );
    let columns = csv.lines().next().map_or(0, |line| line.split(',').count());
    assert!(
        columns > 2 && csv.lines().all(|line| line.split(',').count() == columns),
        "{csv}"
    );
    let log = report("hlog");
    assert!(
        log.contains("#[StartTime: ") && log.contains("Tag=connect|everything|second"),
        "{log}"
    );
    // How an encoded V2 histogram begins.
    assert!(log.contains(",HISTFAAA"), "{log}");
    let svg = report("svg");
    assert!(
        svg.contains("<svg") && svg.trim_end().ends_with("</svg>"),
        "{svg}"
    );
    let html = report("html");
    assert!(
        html.contains("<html") && html.trim_end().ends_with("</html>"),
        "{html}"
    );
    assert!(report("txt").contains("everything"));
}

#[test]
fn a_signal_writes_a_copy_where_a_rule_says_so() {
    needs!(File("/usr/bin/python3"));
    let setting = Setting::under(POLICY);
    let port = free_port();
    let _listener = TcpListener::bind(("127.0.0.1", port)).expect("a listener");
    let dumps = setting.scratch().shared_dir("dumps");
    let program = setting
        .program("/usr/bin/python3")
        .env("DMM_DUMP_DIR", &dumps);
    let mut probe = Probe::start_with(&setting, program);
    for _ in 0..10 {
        probe.open(&format!("connect 127.0.0.1 {port}"));
    }
    probe.signal(Signal::USR2);
    let copy: PathBuf = eventually("the copy", || {
        std::fs::read_dir(&dumps)
            .ok()?
            .flatten()
            .next()
            .map(|entry| entry.path())
    });
    // The probe goes on as before.
    probe.open(&format!("connect 127.0.0.1 {port}"));
    let shown = eventually("a whole copy", || {
        let shown = setting.dmm("hist --from").arg(&copy).run();
        shown.status.success().then(|| shown.text())
    });
    assert!(
        shown.contains("everything") && shown.contains("second"),
        "{shown}"
    );
    let live = setting
        .dmm(&format!("hist {} --kind connect", probe.pid()))
        .output();
    assert!(live.contains("everything"), "{live}");
    probe.finish();
}

#[test]
fn segments_are_private_and_those_of_the_dead_are_swept() {
    needs!(File("/usr/bin/python3"));
    let setting = Setting::under(POLICY);
    let port = free_port();
    let _listener = TcpListener::bind(("127.0.0.1", port)).expect("a listener");
    let start = || {
        let program = setting
            .program("/usr/bin/python3")
            .env("DMM_KEEP_STATS", "0");
        let mut probe = Probe::start_with(&setting, program);
        probe.open(&format!("connect 127.0.0.1 {port}"));
        probe
    };
    let segments_of = |pid: u32| -> Vec<PathBuf> {
        let files = std::fs::read_dir(setting.segments())
            .expect("the segments")
            .flatten();
        let ours = format!("dmm.{pid}.");
        files
            .filter(|file| file.file_name().to_string_lossy().starts_with(&ours))
            .map(|file| file.path())
            .collect()
    };
    let (mut orderly, mut killed, mut living) = (start(), start(), start());
    let pids = [&orderly, &killed, &living].map(Probe::pid);
    for pid in pids {
        let [segment] = &segments_of(pid)[..] else {
            panic!("not one segment of process {pid}")
        };
        let mode = segment.metadata().expect("a segment").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", segment.display());
    }
    orderly.ask("close");
    orderly.finish();
    assert!(
        segments_of(pids[0]).is_empty(),
        "an orderly end leaves nothing"
    );
    killed.signal(Signal::KILL);
    killed.wait_for_end();
    assert_eq!(segments_of(pids[1]).len(), 1);
    setting.dmm("ps").run().success();
    assert!(segments_of(pids[1]).is_empty(), "it was not swept");
    assert_eq!(
        segments_of(pids[2]).len(),
        1,
        "that of a living process was swept"
    );
    living.ask("close");
    living.finish();
}
