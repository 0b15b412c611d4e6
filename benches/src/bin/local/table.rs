//! The results for people.

use dmm_benches::figures::SignificantFigures;

use crate::report::{Against, Line, Ratio, Report};

/// The table, and what went wrong.
pub(crate) fn text(report: &Report) -> String {
    let lines = report.lines();
    let mut text = String::new();
    if !lines.is_empty() {
        text += &format!(
            "{:<36} {:>10} {:>10} {:>10} {:<13} {:>8} {:<16} {:<13} {:>8} {}\n",
            "",
            "tcp",
            report.stack(),
            "unix",
            "",
            "to tcp",
            "",
            "bar",
            "to unix",
            "bar"
        );
    }
    for line in &lines {
        text += &format!("{}\n", Shown(line));
    }
    let verdicts = || lines.iter().flat_map(|line| &line.verdicts);
    let met = verdicts().filter(|verdict| verdict.is_met()).count();
    text += &format!("{met} of {} bars met\n", verdicts().count());
    for (trouble, times) in report.troubles() {
        text += &format!(
            "NO FIGURES of {}, {}, {times} x: {}\n",
            trouble.workload, trouble.side, trouble.what
        );
    }
    text
}

struct Shown<'a>(&'a Line);

impl std::fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let line = self.0;
        let [tcp, local, unix] = line.medians.map(figure);
        let first = [self.bar(Against::Tcp), self.bar(Against::Itself)].concat();
        let row = format!(
            "{:<36} {tcp:>10} {local:>10} {unix:>10} {:<13} {:>8} {:<16} {first:<13} {:>8} {}",
            line.row.name,
            line.row.unit,
            ratio(line.to_tcp),
            spread(line.to_tcp),
            ratio(line.to_unix),
            self.bar(Against::Unix),
        );
        f.write_str(row.trim_end())
    }
}

impl Shown<'_> {
    fn bar(&self, against: Against) -> String {
        let verdict = self
            .0
            .verdicts
            .iter()
            .find(|verdict| verdict.against == against);
        verdict.map_or_else(String::new, |verdict| {
            let how = match verdict.value {
                None => "unknown",
                Some(_) if verdict.is_met() => "met",
                Some(_) => "MISSED",
            };
            format!("{} {how}", verdict.limit)
        })
    }
}

fn figure(value: Option<f64>) -> String {
    match value {
        None => "-".to_owned(),
        Some(0.0) => "0".to_owned(),
        Some(value) => SignificantFigures(value).to_string(),
    }
}

fn ratio(ratio: Option<Ratio>) -> String {
    ratio.map_or_else(String::new, |ratio| format!("{:.2}", ratio.of_medians))
}

fn spread(ratio: Option<Ratio>) -> String {
    ratio.map_or_else(String::new, |ratio| {
        format!("[{:.2}..{:.2}]", ratio.lowest, ratio.highest)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Trouble;
    use crate::rows;
    use crate::side::Side;
    use crate::workload::Workload;

    #[test]
    fn each_line_has_its_bar_and_troubles_are_said() {
        let mut report = Report::new("local");
        report.add(
            Side::Tcp,
            &[rows::PING_P50.is(19.0), rows::IDLE_CPU.is(0.0)],
        );
        report.add(
            Side::Local,
            &[rows::PING_P50.is(0.5), rows::IDLE_CPU.is(7.0)],
        );
        report.add(Side::Tcp, &[rows::IPERF3.is(29.0)]);
        report.add_trouble(Trouble {
            workload: Workload::Iperf3,
            side: Side::Local,
            what: "the connections went by kernel: no peer".to_owned(),
        });
        let text = text(&report);
        for wanted in [
            "38.00 [38.00..38.00]",
            ">=30 met",
            "<=0 MISSED",
            ">=3.5 unknown",
            "1 of 3 bars met",
            "NO FIGURES of iperf3, local, 1 x: the connections went by kernel: no peer",
        ] {
            assert!(text.contains(wanted), "no {wanted:?} in\n{text}");
        }
    }
}
