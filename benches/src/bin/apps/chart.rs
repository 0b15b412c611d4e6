//! A picture of the ratios: a dot for each number's ratio of medians on a line that spans its rounds.

use std::fmt::Write;

use crate::report::Row;

const WIDTH: f64 = 820.0;
const LEFT: f64 = 240.0;
const RIGHT: f64 = 70.0;
const TOP: f64 = 58.0;
const ROW: f64 = 34.0;
/// What the axis shows at least and at most, on either side of 1. What lies farther out is drawn at
/// the edge: one disturbed round must not squeeze all others together.
const LEAST_REACH: f64 = 0.05;
const MOST_REACH: f64 = 0.5;

/// The picture as SVG.
pub(crate) fn svg(rows: &[Row]) -> String {
    let reach = rows
        .iter()
        .flat_map(|row| [row.ratio, row.of_rounds[1], row.of_rounds[2]])
        .map(|ratio| (ratio - 1.0).abs())
        .filter(|distance| distance.is_finite())
        .fold(LEAST_REACH, f64::max)
        .min(MOST_REACH)
        * 1.1;
    let x = |ratio: f64| {
        let offset = (ratio - 1.0).clamp(-reach, reach);
        LEFT + (offset + reach) / (2.0 * reach) * (WIDTH - LEFT - RIGHT)
    };
    let height = TOP + ROW * rows.len() as f64 + 40.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"system-ui, sans-serif\" font-size=\"13\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
         <text x=\"16\" y=\"24\" font-size=\"16\" font-weight=\"600\" fill=\"#1f2937\">\
         Unmodified programs on the kernel stack: under DMM against plain</text>\n\
         <text x=\"16\" y=\"43\" fill=\"#6b7280\">ratio of medians (dot) and of the rounds (line); \
         right of 1 DMM is better</text>\n"
    );
    axis(&mut svg, reach, &x, height);
    for (number, row) in rows.iter().enumerate() {
        let y = TOP + ROW * (number as f64 + 0.5);
        let [_, lowest, highest] = row.of_rounds;
        let color = if row.ratio >= 0.99 {
            "#0f766e"
        } else {
            "#b45309"
        };
        let _infallible = writeln!(
            svg,
            "<text x=\"16\" y=\"{:.1}\" fill=\"#1f2937\">{}</text>\n\
             <line x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{y}\" y2=\"{y}\" stroke=\"{color}\" \
             stroke-width=\"3\" stroke-opacity=\"0.35\" stroke-linecap=\"round\"/>\n\
             <circle cx=\"{:.1}\" cy=\"{y}\" r=\"5\" fill=\"{color}\"/>\n\
             <text x=\"{:.1}\" y=\"{:.1}\" fill=\"{color}\" font-weight=\"600\">{:.3}</text>",
            y + 4.5,
            row.name,
            x(lowest),
            x(highest),
            x(row.ratio),
            WIDTH - RIGHT + 16.0,
            y + 4.5,
            row.ratio
        );
    }
    svg + "</svg>\n"
}

/// Grid lines at round steps, the one at 1 stronger.
fn axis(svg: &mut String, reach: f64, x: &impl Fn(f64) -> f64, height: f64) {
    let step = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0]
        .into_iter()
        .find(|step| reach / step <= 4.0)
        .unwrap_or(10.0);
    let count = (reach / step).floor() as i32;
    for number in -count..=count {
        let ratio = 1.0 + f64::from(number) * step;
        let (stroke, width) = if number == 0 {
            ("#374151", 1.5)
        } else {
            ("#e5e7eb", 1.0)
        };
        let _infallible = writeln!(
            svg,
            "<line x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{bottom:.1}\" stroke=\"{stroke}\" \
             stroke-width=\"{width}\"/>\n<text x=\"{at:.1}\" y=\"{label:.1}\" text-anchor=\"middle\" \
             fill=\"#6b7280\">{ratio:.2}</text>",
            at = x(ratio),
            bottom = height - 34.0,
            label = height - 16.0,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_has_a_dot_within_the_picture() {
        let row = |ratio| Row {
            name: "one",
            unit: "u",
            plain: 1.0,
            dmm: ratio,
            ratio,
            of_rounds: [ratio, ratio * 0.9, ratio * 1.2],
        };
        let picture = svg(&[row(1.0), row(0.5), row(3.0)]);
        let dots: Vec<f64> = picture
            .split("<circle cx=\"")
            .skip(1)
            .map(|rest| {
                rest.split('"')
                    .next()
                    .and_then(|x| x.parse().ok())
                    .expect("a number")
            })
            .collect();
        assert_eq!(dots.len(), 3);
        assert!(
            dots.iter().all(|x| (LEFT..=WIDTH - RIGHT).contains(x)),
            "{dots:?}"
        );
        assert!(picture.ends_with("</svg>\n"));
    }
}
