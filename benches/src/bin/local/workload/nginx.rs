//! wrk on nginx: a master and one worker, `sendfile` and `tcp_nopush` on as in Debian's nginx.conf.

use dmm_benches::clients::number;
use dmm_tests::Running;
use dmm_tests::scratch::pattern;

use super::run::{Run, micros_each};
use crate::row::{Measured, Row};
use crate::rows;
use crate::side::Address;

/// A file, and the figures of its transfer.
pub(super) struct Page {
    size: usize,
    rate: &'static Row,
    cpu: &'static Row,
}

pub(super) static SMALL: Page = Page {
    size: 1 << 10,
    rate: &rows::NGINX_1K,
    cpu: &rows::NGINX_1K_CPU,
};

pub(super) static LARGE: Page = Page {
    size: 1 << 20,
    rate: &rows::NGINX_1M,
    cpu: &rows::NGINX_1M_CPU,
};

/// Totals that can be computed with; wrk's own report rounds them.
const TOTALS: &str = r#"
done = function(summary)
    local e = summary.errors
    io.write(string.format("totals %d %d %d %d\n", summary.requests, summary.bytes,
        summary.duration, e.connect + e.read + e.write + e.status + e.timeout))
end
"#;

pub(super) fn run(run: &Run<'_>, page: &Page) -> Vec<Measured> {
    let address = run.address();
    let url = format!("http://{address}/page");
    let content = pattern(1, page.size);
    run.setting().scratch().file("page", &content);
    let server = serve(run, &address);
    fetch_once(run, &url, &content);

    let script = run.setting().scratch().file("totals.lua", TOTALS);
    let client = run
        .client("wrk")
        .words(&format!("-t1 -c50 -d{}s -s", run.seconds()))
        .arg(script)
        .arg(&url);
    let (report, cpu) = run.metered(&server, client);
    let totals = Totals::of(&report);
    assert_eq!(totals.errors, 0.0, "wrk saw errors:\n{report}");
    assert!(
        totals.bytes >= totals.requests * page.size as f64,
        "less came than was asked for:\n{report}"
    );
    vec![
        page.rate.is(totals.requests / totals.seconds),
        page.cpu.is(micros_each(cpu, totals.requests)),
    ]
}

struct Totals {
    requests: f64,
    bytes: f64,
    seconds: f64,
    errors: f64,
}

impl Totals {
    fn of(report: &str) -> Self {
        let line = report.lines().find_map(|line| line.strip_prefix("totals "));
        let words: Vec<&str> = line.unwrap_or_default().split_whitespace().collect();
        let figure = |at: usize| number(words.get(at).copied(), report);
        Self {
            requests: figure(0),
            bytes: figure(1),
            seconds: figure(2) / 1e6,
            errors: figure(3),
        }
    }
}

fn serve(run: &Run<'_>, address: &Address) -> Running {
    let dir = run.setting().dir().display();
    let config = format!(
        "daemon off; worker_processes 1; pid {dir}/pid; error_log stderr crit;
         events {{ worker_connections 1024; }}
         http {{ access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000000;
             client_body_temp_path {dir}/t1; proxy_temp_path {dir}/t2; fastcgi_temp_path {dir}/t3;
             uwsgi_temp_path {dir}/t4; scgi_temp_path {dir}/t5;
             server {{ listen {address}; root {dir}; }} }}"
    );
    let config = run.setting().scratch().file("nginx.conf", config);
    run.serve(run.server("nginx").arg("-c").arg(config), address)
}

/// wrk does not look at what it gets: curl does once, on the same way.
fn fetch_once(run: &Run<'_>, url: &str, content: &[u8]) {
    let fetched = run.client("curl").words("-sSf").arg(url).run().success();
    assert!(
        fetched.stdout == content,
        "{} bytes came of a file of {}, or they differ",
        fetched.stdout.len(),
        content.len()
    );
}
