//! Medians, and figures as people read them.

use std::fmt;

/// The median; NaN of nothing.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

/// A number with four significant figures.
#[derive(Clone, Copy, Debug)]
pub struct SignificantFigures(pub f64);

impl fmt::Display for SignificantFigures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.abs().max(f64::MIN_POSITIVE).log10().floor();
        let decimals = (3.0 - digits).clamp(0.0, 6.0) as usize;
        write!(f, "{:.decimals$}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_of_odd_and_even_counts() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn four_figures_however_large() {
        for (value, shown) in [
            (12345.678, "12346"),
            (1.23456, "1.235"),
            (0.012_345_6, "0.01235"),
        ] {
            assert_eq!(SignificantFigures(value).to_string(), shown);
        }
    }
}
