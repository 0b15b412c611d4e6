//! A page with the picture and the percentiles, complete in itself.

use std::fmt::Write;

use super::svg::{escape, plot};
use super::text::format_ns;
use super::{Latency, PERCENTILES, Report};

const STYLE: &str = "body{font-family:sans-serif;margin:2em;max-width:900px}\
table{border-collapse:collapse}td,th{padding:.3em .7em;text-align:right;border-bottom:1px solid #ddd}\
td:first-child,th:first-child{text-align:left}";

pub(super) fn page(report: &Report, latencies: &[Latency]) -> String {
    let heads: String = PERCENTILES
        .iter()
        .map(|percentile| format!("<th>p{percentile}</th>"))
        .collect();
    let mut rows = String::new();
    for latency in latencies {
        let cells: String = latency
            .percentiles
            .iter()
            .map(|(_, value)| format!("<td>{}</td>", format_ns(*value)))
            .collect();
        writeln!(
            rows,
            "<tr><td>{}</td><td>{}</td>{cells}</tr>",
            escape(&latency.title()),
            latency.count
        )
        .expect("a String takes everything");
    }
    let processes = match report.processes {
        1 => "1 process".to_owned(),
        n => format!("{n} processes"),
    };
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>DMM latencies</title>\
         <style>{STYLE}</style></head><body>\n<h1>Latencies of {processes}</h1>\n{}\n\
         <table><tr><th>histogram</th><th>samples</th>{heads}</tr>\n{rows}</table>\n</body></html>\n",
        plot(latencies)
    )
}
