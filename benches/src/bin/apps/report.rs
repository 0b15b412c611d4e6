//! Medians over the rounds, and their ratios.

use std::fmt;

use dmm_benches::figures::{SignificantFigures, median};
use serde_json::json;

use crate::workload::{Better, Measured};

/// With or without DMM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Plain,
    Dmm,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain => "plain",
            Self::Dmm => "DMM",
        })
    }
}

/// All that was measured.
#[derive(Debug, Default)]
pub(crate) struct Report {
    series: Vec<Series>,
}

#[derive(Debug)]
struct Series {
    name: &'static str,
    unit: &'static str,
    better: Better,
    plain: Vec<f64>,
    dmm: Vec<f64>,
}

/// What is said of one number.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) plain: f64,
    pub(crate) dmm: f64,
    /// Of the medians; above 1 DMM is better.
    pub(crate) ratio: f64,
    /// The median, lowest and highest of the rounds' own ratios: what the machine's noise does.
    pub(crate) of_rounds: [f64; 3],
}

impl Report {
    /// Adds the numbers of one run.
    pub(crate) fn add(&mut self, side: Side, values: Vec<Measured>) {
        for Measured {
            name,
            unit,
            better,
            value,
        } in values
        {
            let at = self
                .series
                .iter()
                .position(|series| series.name == name)
                .unwrap_or_else(|| {
                    self.series.push(Series {
                        name,
                        unit,
                        better,
                        plain: Vec::new(),
                        dmm: Vec::new(),
                    });
                    self.series.len() - 1
                });
            match side {
                Side::Plain => self.series[at].plain.push(value),
                Side::Dmm => self.series[at].dmm.push(value),
            }
        }
    }

    /// One row for each number.
    pub(crate) fn rows(&self) -> Vec<Row> {
        self.series.iter().map(Series::row).collect()
    }

    /// For people.
    pub(crate) fn table(&self) -> String {
        let mut text = format!(
            "{:<30} {:>12} {:>12} {:<11} {:>7} {:>7}   {}\n",
            "", "plain", "DMM", "", "ratio", "rounds", "lowest..highest"
        );
        for row in self.rows() {
            let [median, lowest, highest] = row.of_rounds;
            text += &format!(
                "{:<30} {:>12} {:>12} {:<11} {:>7.3} {:>7.3}   {:.3}..{:.3}\n",
                row.name,
                SignificantFigures(row.plain).to_string(),
                SignificantFigures(row.dmm).to_string(),
                row.unit,
                row.ratio,
                median,
                lowest,
                highest
            );
        }
        text += "ratio: of the medians, above 1 DMM is better; rounds: the median of each round's own ratio\n";
        text
    }

    /// For programs: each run's numbers, too.
    pub(crate) fn json(&self) -> String {
        let rows: Vec<_> = self
            .series
            .iter()
            .map(|series| {
                let row = series.row();
                json!({
                    "name": row.name,
                    "unit": row.unit,
                    "higher_is_better": series.better == Better::Higher,
                    "plain": { "median": row.plain, "runs": series.plain },
                    "dmm": { "median": row.dmm, "runs": series.dmm },
                    "ratio_of_medians": row.ratio,
                    "ratio_of_rounds": {
                        "median": row.of_rounds[0], "lowest": row.of_rounds[1], "highest": row.of_rounds[2],
                    },
                })
            })
            .collect();
        format!("{:#}\n", json!({ "workloads": rows }))
    }
}

impl Series {
    fn row(&self) -> Row {
        let (plain, dmm) = (median(&self.plain), median(&self.dmm));
        let rounds: Vec<f64> = self
            .plain
            .iter()
            .zip(&self.dmm)
            .map(|(plain, dmm)| self.ratio(*plain, *dmm))
            .collect();
        let lowest = rounds.iter().copied().fold(f64::INFINITY, f64::min);
        let highest = rounds.iter().copied().fold(0.0, f64::max);
        Row {
            name: self.name,
            unit: self.unit,
            plain,
            dmm,
            ratio: self.ratio(plain, dmm),
            of_rounds: [median(&rounds), lowest, highest],
        }
    }

    fn ratio(&self, plain: f64, dmm: f64) -> f64 {
        match self.better {
            Better::Higher => dmm / plain,
            Better::Lower => plain / dmm,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(better: Better, value: f64) -> Vec<Measured> {
        vec![Measured {
            name: "x",
            unit: "u",
            better,
            value,
        }]
    }

    #[test]
    fn above_one_is_better_for_rates_and_for_times() {
        for (better, plain, dmm) in [
            (Better::Higher, 100.0, 110.0),
            (Better::Lower, 110.0, 100.0),
        ] {
            let mut report = Report::default();
            report.add(Side::Plain, measured(better, plain));
            report.add(Side::Dmm, measured(better, dmm));
            let row = &report.rows()[0];
            assert!((row.ratio - 1.1).abs() < 1e-9, "{row:?}");
            assert!((row.of_rounds[0] - 1.1).abs() < 1e-9, "{row:?}");
        }
    }

    #[test]
    fn the_table_and_the_json_have_each_row() {
        let mut report = Report::default();
        report.add(Side::Plain, measured(Better::Higher, 12345.678));
        report.add(Side::Dmm, measured(Better::Higher, 12345.678));
        assert!(report.table().contains("12346"), "{}", report.table());
        let json: serde_json::Value = serde_json::from_str(&report.json()).expect("JSON");
        assert_eq!(json["workloads"][0]["ratio_of_medians"], 1.0);
    }
}
