//! All that was measured: medians over the rounds, their ratios, and whether they meet the bars.

use dmm_benches::figures::median;
use serde_json::{Value, json};

use crate::row::{Compare, Limit, Measured, Row};
use crate::side::Side;
use crate::workload::Workload;

/// The results of all rounds.
#[derive(Debug)]
pub(crate) struct Report {
    stack: String,
    series: Vec<Series>,
    troubles: Vec<Trouble>,
}

/// A run that gave no figures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    pub(crate) workload: Workload,
    pub(crate) side: Side,
    pub(crate) what: String,
}

#[derive(Debug)]
struct Series {
    row: &'static Row,
    /// By the order of [`Side::ALL`].
    runs: [Vec<f64>; 3],
}

/// What is said of one row.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) row: &'static Row,
    /// By the order of [`Side::ALL`]; `None` for a side without a figure.
    pub(crate) medians: [Option<f64>; 3],
    pub(crate) to_tcp: Option<Ratio>,
    pub(crate) to_unix: Option<Ratio>,
    pub(crate) verdicts: Vec<Verdict>,
}

/// Of the medians, and the lowest and highest of the rounds' own.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Ratio {
    pub(crate) of_medians: f64,
    pub(crate) lowest: f64,
    pub(crate) highest: f64,
}

/// A bar, and how it was met.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Verdict {
    pub(crate) against: Against,
    pub(crate) limit: Limit,
    /// `None` if there is nothing to hold against it.
    pub(crate) value: Option<f64>,
}

/// What a bar applies to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Against {
    Tcp,
    Unix,
    /// The figure itself.
    Itself,
}

impl Report {
    /// An empty one; `stack` is what the side under DMM has to be carried by.
    pub(crate) fn new(stack: &str) -> Self {
        Self {
            stack: stack.to_owned(),
            series: Vec::new(),
            troubles: Vec::new(),
        }
    }

    /// Adds the figures of one run.
    pub(crate) fn add(&mut self, side: Side, values: &[Measured]) {
        for Measured { row, value } in values {
            let at = self
                .series
                .iter()
                .position(|series| std::ptr::eq(series.row, *row))
                .unwrap_or_else(|| {
                    self.series.push(Series {
                        row,
                        runs: Default::default(),
                    });
                    self.series.len() - 1
                });
            self.series[at].runs[side as usize].push(*value);
        }
    }

    /// Adds a run without figures.
    pub(crate) fn add_trouble(&mut self, trouble: Trouble) {
        self.troubles.push(trouble);
    }

    /// The stack that the side under DMM has to be carried by.
    pub(crate) fn stack(&self) -> &str {
        &self.stack
    }

    /// The runs without figures, each kind once, and how often it happened.
    pub(crate) fn troubles(&self) -> Vec<(&Trouble, usize)> {
        let mut kinds: Vec<(&Trouble, usize)> = Vec::new();
        for trouble in &self.troubles {
            match kinds.iter_mut().find(|(kind, _)| *kind == trouble) {
                Some((_, times)) => *times += 1,
                None => kinds.push((trouble, 1)),
            }
        }
        kinds
    }

    /// A line for each figure.
    pub(crate) fn lines(&self) -> Vec<Line> {
        self.series.iter().map(Series::line).collect()
    }

    /// Whether every run gave figures and every bar is met.
    pub(crate) fn meets_all_bars(&self) -> bool {
        let met = |line: &Line| line.verdicts.iter().all(Verdict::is_met);
        self.troubles.is_empty() && self.lines().iter().all(met)
    }

    /// For programs: each run's figures, too.
    pub(crate) fn json(&self) -> String {
        let rows: Vec<Value> = self.series.iter().map(Series::json).collect();
        let troubles: Vec<Value> = self
            .troubles()
            .into_iter()
            .map(|(trouble, times)| {
                json!({
                    "workload": trouble.workload.to_string(),
                    "side": trouble.side.to_string(),
                    "what": trouble.what,
                    "times": times,
                })
            })
            .collect();
        let report = json!({
            "stack": self.stack,
            "meets_all_bars": self.meets_all_bars(),
            "rows": rows,
            "troubles": troubles,
        });
        format!("{report:#}\n")
    }
}

impl Series {
    fn line(&self) -> Line {
        let medians = Side::ALL.map(|side| {
            let runs = self.of(side);
            (!runs.is_empty()).then(|| median(runs))
        });
        let to_tcp = self.ratio_to(Side::Tcp);
        let to_unix = self.ratio_to(Side::Unix);
        let mut verdicts = Vec::new();
        let mut hold = |against, limit: Option<Limit>, value| {
            verdicts.extend(limit.map(|limit| Verdict {
                against,
                limit,
                value,
            }));
        };
        hold(Against::Tcp, self.row.tcp, to_tcp.map(|to| to.of_medians));
        if !self.of(Side::Unix).is_empty() {
            hold(
                Against::Unix,
                self.row.unix,
                to_unix.map(|to| to.of_medians),
            );
        }
        hold(
            Against::Itself,
            self.row.itself,
            medians[Side::Local as usize],
        );
        Line {
            row: self.row,
            medians,
            to_tcp,
            to_unix,
            verdicts,
        }
    }

    fn of(&self, side: Side) -> &[f64] {
        &self.runs[side as usize]
    }

    fn ratio_to(&self, other: Side) -> Option<Ratio> {
        let compare = self.row.compare;
        let (ours, others) = (self.of(Side::Local), self.of(other));
        let of_rounds: Vec<f64> = ours
            .iter()
            .zip(others)
            .filter_map(|(ours, other)| compare.ratio(*ours, *other))
            .collect();
        if of_rounds.is_empty() {
            return None;
        }
        Some(Ratio {
            of_medians: compare.ratio(median(ours), median(others))?,
            lowest: of_rounds.iter().copied().fold(f64::INFINITY, f64::min),
            highest: of_rounds.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        })
    }

    fn json(&self) -> Value {
        let line = self.line();
        let sides: serde_json::Map<String, Value> = Side::ALL
            .into_iter()
            .filter(|side| !self.of(*side).is_empty())
            .map(|side| {
                let figures =
                    json!({ "median": line.medians[side as usize], "runs": self.of(side) });
                (side.to_string(), figures)
            })
            .collect();
        let ratio = |ratio: Option<Ratio>| {
            ratio.map(|ratio| {
                json!({
                    "of_medians": ratio.of_medians,
                    "lowest": ratio.lowest,
                    "highest": ratio.highest,
                })
            })
        };
        let bars: Vec<Value> = line
            .verdicts
            .iter()
            .map(|verdict| {
                json!({
                    "against": verdict.against.name(),
                    "limit": verdict.limit.to_string(),
                    "value": verdict.value,
                    "met": verdict.is_met(),
                })
            })
            .collect();
        json!({
            "name": self.row.name,
            "unit": self.row.unit,
            "ratios_are": match self.row.compare {
                Compare::TimesHigher => "times higher",
                Compare::TimesLower => "times lower",
                Compare::Share => "share left",
                Compare::Itself => "none",
            },
            "sides": sides,
            "to_tcp": ratio(line.to_tcp),
            "to_unix": ratio(line.to_unix),
            "bars": bars,
        })
    }
}

impl Verdict {
    /// Whether the bar is met; what was not measured meets none.
    pub(crate) fn is_met(&self) -> bool {
        self.value.is_some_and(|value| self.limit.is_met_by(value))
    }
}

impl Against {
    /// For JSON.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Unix => "unix",
            Self::Itself => "itself",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows;

    fn report(local: &[f64], tcp: &[f64], unix: &[f64]) -> Report {
        let mut report = Report::new("local");
        for (side, values) in [(Side::Local, local), (Side::Tcp, tcp), (Side::Unix, unix)] {
            for value in values {
                report.add(side, &[rows::REDIS_SET_50.is(*value)]);
            }
        }
        report
    }

    #[test]
    fn a_bar_is_met_by_the_ratio_of_medians() {
        let good = report(&[60.0, 50.0, 52.0], &[10.0, 10.0, 11.0], &[20.0]);
        assert!(good.meets_all_bars());
        let line = &good.lines()[0];
        let to_tcp = line.to_tcp.expect("both were measured");
        assert!((to_tcp.of_medians - 5.2).abs() < 1e-9, "{line:?}");
        assert!((to_tcp.highest - 6.0).abs() < 1e-9, "{line:?}");
        assert!(!report(&[49.0], &[10.0], &[20.0]).meets_all_bars());
        assert!(!report(&[60.0], &[10.0], &[60.0]).meets_all_bars());
    }

    #[test]
    fn what_was_not_measured_meets_no_bar() {
        let none = report(&[], &[10.0], &[]);
        assert!(!none.meets_all_bars());
        assert_eq!(none.lines()[0].to_tcp, None);
        // A workload that cannot use a Unix socket is not held against one.
        assert!(report(&[60.0], &[10.0], &[]).meets_all_bars());
    }

    #[test]
    fn a_failed_run_meets_no_bar() {
        let mut report = report(&[60.0], &[10.0], &[20.0]);
        let trouble = Trouble {
            workload: Workload::Redis,
            side: Side::Local,
            what: "the connections went by kernel".to_owned(),
        };
        report.add_trouble(trouble.clone());
        report.add_trouble(trouble.clone());
        assert!(!report.meets_all_bars());
        assert_eq!(report.troubles(), [(&trouble, 2)]);
        let json: Value = serde_json::from_str(&report.json()).expect("JSON");
        assert_eq!(json["meets_all_bars"], false);
        assert_eq!(json["troubles"][0]["times"], 2);
        assert_eq!(json["rows"][0]["to_tcp"]["of_medians"], 6.0);
        assert_eq!(json["rows"][0]["bars"][0]["limit"], ">=5");
    }
}
