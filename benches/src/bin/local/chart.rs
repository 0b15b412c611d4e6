//! A picture of the ratios on a logarithmic axis: a dot for `local` on a line that spans its rounds, a
//! ring for a Unix socket, a tick for the bar; all in multiples of loopback TCP, better to the right.

use std::fmt::Write;

use crate::report::{Against, Line};
use crate::row::{Compare, Limit};
use crate::side::Side;

const WIDTH: f64 = 880.0;
const LEFT: f64 = 260.0;
const RIGHT: f64 = 80.0;
const TOP: f64 = 62.0;
const ROW: f64 = 26.0;
const BOTTOM: f64 = 40.0;

const INK: &str = "#1f2937";
const FAINT: &str = "#6b7280";
const MET: &str = "#0f766e";
const MISSED: &str = "#b45309";

/// The picture as SVG; lines without a ratio are left out.
pub(crate) fn svg(lines: &[Line]) -> String {
    let drawn: Vec<Drawn<'_>> = lines.iter().filter_map(Drawn::of).collect();
    let axis = Axis::over(&drawn);
    let height = TOP + ROW * drawn.len() as f64 + BOTTOM;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"system-ui, sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
         <text x=\"16\" y=\"24\" font-size=\"16\" font-weight=\"600\" fill=\"{INK}\">\
         Unmodified programs over shared memory: times better than loopback TCP</text>\n\
         <text x=\"16\" y=\"43\" fill=\"{FAINT}\">dot: local, ratio of medians; line: its rounds; \
         ring: a Unix socket; tick: the bar</text>\n"
    );
    axis.draw(&mut svg, height);
    for (number, line) in drawn.iter().enumerate() {
        line.draw(&mut svg, &axis, TOP + ROW * (number as f64 + 0.5));
    }
    svg + "</svg>\n"
}

/// A line as multiples of loopback TCP, above 1 better.
struct Drawn<'a> {
    line: &'a Line,
    local: f64,
    lowest: f64,
    highest: f64,
    unix: Option<f64>,
    bar: Option<f64>,
}

impl<'a> Drawn<'a> {
    fn of(line: &'a Line) -> Option<Self> {
        let to_tcp = line.to_tcp?;
        let turned = |ratio: f64| match line.row.compare {
            Compare::Share => 1.0 / ratio,
            _ => ratio,
        };
        let ends = [turned(to_tcp.lowest), turned(to_tcp.highest)];
        let [tcp, _, unix] = line.medians;
        let unix = unix
            .zip(tcp)
            .and_then(|(unix, tcp)| line.row.compare.ratio(unix, tcp))
            .map(turned);
        Some(Self {
            line,
            local: turned(to_tcp.of_medians),
            lowest: ends[0].min(ends[1]),
            highest: ends[0].max(ends[1]),
            unix,
            bar: line.row.tcp.map(Limit::bound).map(turned),
        })
        .filter(|drawn| drawn.all().all(|value| value.is_finite() && value > 0.0))
    }

    fn all(&self) -> impl Iterator<Item = f64> {
        [self.local, self.lowest, self.highest]
            .into_iter()
            .chain(self.unix)
            .chain(self.bar)
    }

    fn draw(&self, svg: &mut String, axis: &Axis, y: f64) {
        let verdict = |against| {
            let verdicts = &self.line.verdicts;
            verdicts
                .iter()
                .find(move |verdict| verdict.against == against)
        };
        let color = match verdict(Against::Tcp) {
            Some(verdict) if !verdict.is_met() => MISSED,
            _ => MET,
        };
        let text = y + 4.0;
        let _infallible = writeln!(
            svg,
            "<text x=\"16\" y=\"{text:.1}\" fill=\"{INK}\">{name}</text>\n\
             <line x1=\"{from:.1}\" x2=\"{to:.1}\" y1=\"{y}\" y2=\"{y}\" stroke=\"{color}\" \
             stroke-width=\"3\" stroke-opacity=\"0.35\" stroke-linecap=\"round\"/>\n\
             <circle cx=\"{at:.1}\" cy=\"{y}\" r=\"4.5\" fill=\"{color}\"/>\n\
             <text x=\"{label:.1}\" y=\"{text:.1}\" fill=\"{color}\" font-weight=\"600\">{ratio:.2}</text>",
            name = self
                .line
                .row
                .name
                .replace('&', "&amp;")
                .replace('<', "&lt;"),
            from = axis.x(self.lowest),
            to = axis.x(self.highest),
            at = axis.x(self.local),
            label = WIDTH - RIGHT + 16.0,
            ratio = self.local,
        );
        if let Some(unix) = self.unix {
            let _infallible = writeln!(
                svg,
                "<circle class=\"{}\" cx=\"{:.1}\" cy=\"{y}\" r=\"3.5\" fill=\"none\" stroke=\"{FAINT}\" \
                 stroke-width=\"1.5\"/>",
                Side::Unix,
                axis.x(unix)
            );
        }
        if let Some(bar) = self.bar {
            let _infallible = writeln!(
                svg,
                "<line class=\"bar\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{:.1}\" y2=\"{:.1}\" stroke=\"{INK}\" \
                 stroke-width=\"2\"/>",
                y - 8.0,
                y + 8.0,
                x = axis.x(bar)
            );
        }
    }
}

/// A logarithmic one that holds all that is drawn.
struct Axis {
    least: f64,
    most: f64,
}

impl Axis {
    fn over(drawn: &[Drawn<'_>]) -> Self {
        let all = || drawn.iter().flat_map(Drawn::all);
        Self {
            least: all().fold(0.5, f64::min) * 0.9,
            most: all().fold(2.0, f64::max) * 1.1,
        }
    }

    fn x(&self, value: f64) -> f64 {
        let share = (value / self.least).ln() / (self.most / self.least).ln();
        LEFT + share * (WIDTH - LEFT - RIGHT)
    }

    /// Grid lines at 1, 2, 5, 10, ..., the one at 1 stronger.
    fn draw(&self, svg: &mut String, height: f64) {
        let steps =
            (-3..=4).flat_map(|power| [1.0, 2.0, 5.0].map(|step| step * 10_f64.powi(power)));
        for value in steps.filter(|value| (self.least..=self.most).contains(value)) {
            let (stroke, width) = if (value - 1.0).abs() < 1e-9 {
                ("#374151", 1.5)
            } else {
                ("#e5e7eb", 1.0)
            };
            let _infallible = writeln!(
                svg,
                "<line x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{bottom:.1}\" stroke=\"{stroke}\" \
                 stroke-width=\"{width}\"/>\n<text x=\"{at:.1}\" y=\"{label:.1}\" text-anchor=\"middle\" \
                 fill=\"{FAINT}\">{value}x</text>",
                at = self.x(value),
                bottom = height - BOTTOM + 6.0,
                label = height - 16.0,
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Report;
    use crate::rows;

    #[test]
    fn every_ratio_has_its_marks_within_the_picture() {
        let mut report = Report::new("local");
        let rows = |value: f64| {
            [
                rows::REDIS_SET_50.is(value),
                rows::REDIS_SET_50_CPU.is(1.0 / value),
                rows::IDLE_CPU.is(0.0),
            ]
        };
        report.add(Side::Tcp, &rows(1.0));
        report.add(Side::Local, &rows(40.0));
        report.add(Side::Unix, &rows(1.6));
        let picture = svg(&report.lines());
        let places: Vec<f64> = picture
            .split("cx=\"")
            .skip(1)
            .map(|rest| {
                rest.split('"')
                    .next()
                    .and_then(|x| x.parse().ok())
                    .expect("a number")
            })
            .collect();
        // Two rows, a dot and a ring each; what is not compared is not drawn.
        assert_eq!(places.len(), 4);
        assert!(
            places.iter().all(|x| (LEFT..=WIDTH - RIGHT).contains(x)),
            "{places:?}"
        );
        assert_eq!(picture.matches("class=\"bar\"").count(), 2);
        assert!(picture.ends_with("</svg>\n"));
    }
}
