//! Latency by percentile as a picture: both axes logarithmic, so that the tail is as visible as the
//! middle. Written by hand: a few lines and texts need no library.

use std::fmt::Write;

use super::Latency;
use super::text::format_ns;

const WIDTH: f64 = 860.0;
const PLOT_HEIGHT: f64 = 380.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 40.0;
const LEGEND_LINE: f64 = 18.0;

/// Colours that stay apart also for colour-blind eyes (Okabe and Ito).
const COLORS: [&str; 8] = [
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999999",
];
/// More curves than this cannot be told apart.
const CURVES: usize = 16;

pub(super) fn plot(latencies: &[Latency]) -> String {
    let curves = &latencies[..latencies.len().min(CURVES)];
    #[expect(clippy::cast_precision_loss, reason = "at most sixteen")]
    let legend = LEGEND_LINE * (curves.len().max(1) as f64 + 1.0);
    let height = TOP + PLOT_HEIGHT + 50.0 + legend;
    let axes = Axes::over(curves);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"24\" font-size=\"16\">Latency by percentile</text>\n"
    );
    axes.draw(&mut svg);
    for (i, latency) in curves.iter().enumerate() {
        curve(&mut svg, &axes, latency, i);
    }
    if curves.is_empty() {
        let (x, y) = (WIDTH / 2.0, TOP + PLOT_HEIGHT / 2.0);
        push(
            &mut svg,
            format_args!("<text x=\"{x}\" y=\"{y}\" text-anchor=\"middle\">no samples</text>\n"),
        );
    }
    svg.push_str("</svg>\n");
    svg
}

/// Text made safe for XML.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

struct Axes {
    /// Powers of ten: nanoseconds at the lower and the upper edge.
    low: f64,
    high: f64,
    /// Nines at the right edge: 3 is 99.9 %.
    nines: f64,
}

impl Axes {
    #[expect(clippy::cast_precision_loss, reason = "coordinates of a picture")]
    fn over(latencies: &[Latency]) -> Self {
        let edge = |ns: u64| (ns.max(1) as f64).log10();
        let low = latencies
            .iter()
            .map(|l| edge(l.min_ns).floor())
            .fold(f64::INFINITY, f64::min);
        let high = latencies
            .iter()
            .map(|l| edge(l.max_ns).ceil())
            .fold(0.0, f64::max);
        let samples = latencies.iter().map(|l| l.count).max().unwrap_or(1);
        let low = if low.is_finite() { low } else { 3.0 };
        Self {
            low,
            high: high.max(low + 1.0),
            nines: (samples.max(10) as f64).log10().ceil().clamp(2.0, 7.0),
        }
    }

    fn x(&self, nines: f64) -> f64 {
        LEFT + (WIDTH - LEFT - RIGHT) * (nines / self.nines).clamp(0.0, 1.0)
    }

    fn y(&self, ns: f64) -> f64 {
        let share = (ns.max(1.0).log10() - self.low) / (self.high - self.low);
        TOP + PLOT_HEIGHT * (1.0 - share.clamp(0.0, 1.0))
    }

    fn draw(&self, svg: &mut String) {
        let (right, bottom) = (WIDTH - RIGHT, TOP + PLOT_HEIGHT);
        let mut decade = self.low;
        while decade <= self.high {
            let y = self.y(10_f64.powf(decade));
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a small power of ten"
            )]
            let label = format_ns(10_f64.powf(decade) as u64);
            let (x, below) = (LEFT - 8.0, y + 4.0);
            push(
                svg,
                format_args!(
                    "<line x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{right}\" y2=\"{y:.1}\" stroke=\"#ddd\"/>\n\
                 <text x=\"{x}\" y=\"{below:.1}\" text-anchor=\"end\">{label}</text>\n"
                ),
            );
            decade += 1.0;
        }
        let mut nines = 0.0;
        while nines <= self.nines {
            let x = self.x(nines);
            let label = percentile_label(nines);
            let below = bottom + 18.0;
            push(
                svg,
                format_args!(
                    "<line x1=\"{x:.1}\" y1=\"{TOP}\" x2=\"{x:.1}\" y2=\"{bottom}\" stroke=\"#ddd\"/>\n\
                 <text x=\"{x:.1}\" y=\"{below}\" text-anchor=\"middle\">{label}</text>\n"
                ),
            );
            nines += 1.0;
        }
        push(
            svg,
            format_args!(
                "<rect x=\"{LEFT}\" y=\"{TOP}\" width=\"{}\" height=\"{PLOT_HEIGHT}\" fill=\"none\" stroke=\"#666\"/>\n",
                right - LEFT
            ),
        );
    }
}

/// `0%`, `90%`, `99%`, `99.9%`.
fn percentile_label(nines: f64) -> String {
    if nines < 0.5 {
        return "0%".to_owned();
    }
    let share = 100.0 * (1.0 - 10_f64.powf(-nines));
    let decimals = if nines > 2.5 { nines - 2.0 } else { 0.0 };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a small whole number"
    )]
    let decimals = decimals.round() as usize;
    format!("{share:.decimals$}%")
}

#[expect(clippy::cast_precision_loss, reason = "coordinates of a picture")]
fn curve(svg: &mut String, axes: &Axes, latency: &Latency, index: usize) {
    let color = COLORS[index % COLORS.len()];
    let dash = if index < COLORS.len() {
        ""
    } else {
        " stroke-dasharray=\"6 3\""
    };
    let mut points = format!("{:.1},{:.1}", axes.x(0.0), axes.y(latency.min_ns as f64));
    let mut below = 0_u64;
    for value in latency.histogram.iter_recorded() {
        below = below.saturating_add(value.count_at_value());
        let above = 1.0 - below as f64 / latency.count.max(1) as f64;
        let nines = if above <= 0.0 {
            axes.nines
        } else {
            -above.log10()
        };
        let ns = value.value_iterated_to().min(latency.max_ns) as f64;
        push(
            &mut points,
            format_args!(" {:.1},{:.1}", axes.x(nines), axes.y(ns)),
        );
    }
    let y = TOP + PLOT_HEIGHT + 50.0 + LEGEND_LINE * index as f64;
    let title = escape(&format!("{} ({} samples)", latency.title(), latency.count));
    let (line_y, line_end, text_x) = (y - 4.0, LEFT + 24.0, LEFT + 32.0);
    push(
        svg,
        format_args!(
            "<polyline fill=\"none\" stroke=\"{color}\" stroke-width=\"2\"{dash} points=\"{points}\"/>\n\
         <line x1=\"{LEFT}\" y1=\"{line_y}\" x2=\"{line_end}\" y2=\"{line_y}\" stroke=\"{color}\" stroke-width=\"2\"{dash}/>\n\
         <text x=\"{text_x}\" y=\"{y}\">{title}</text>\n"
        ),
    );
}

fn push(to: &mut String, text: std::fmt::Arguments<'_>) {
    to.write_fmt(text).expect("a String takes everything");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_count_nines() {
        let labels = [0.0, 1.0, 2.0, 3.0, 4.0].map(percentile_label);
        assert_eq!(labels, ["0%", "90%", "99%", "99.9%", "99.99%"]);
    }
}
