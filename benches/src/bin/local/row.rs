//! What a figure is, and what it has to reach.

use std::fmt;

/// One line of the table.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) compare: Compare,
    /// What the ratio to loopback TCP has to be.
    pub(crate) tcp: Option<Limit>,
    /// What the ratio to a Unix socket has to be, where there is one.
    pub(crate) unix: Option<Limit>,
    /// What the figure itself has to be.
    pub(crate) itself: Option<Limit>,
}

/// How two sides make one ratio.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compare {
    /// A rate: how many times higher.
    TimesHigher,
    /// A time: how many times lower.
    TimesLower,
    /// A cost: the share that is left.
    Share,
    /// Not at all: the figure stands for itself.
    Itself,
}

/// A bar.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Limit {
    AtLeast(f64),
    Above(f64),
    AtMost(f64),
    Below(f64),
}

/// One figure of one run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measured {
    pub(crate) row: &'static Row,
    pub(crate) value: f64,
}

impl Row {
    /// Requests or bytes a second; a Unix socket is to be left behind.
    pub(crate) const fn rate(name: &'static str, unit: &'static str) -> Self {
        Self::new(name, unit, Compare::TimesHigher).against_unix(Limit::Above(1.0))
    }

    /// A latency; a Unix socket is to be left behind.
    pub(crate) const fn time(name: &'static str, unit: &'static str) -> Self {
        Self::new(name, unit, Compare::TimesLower).against_unix(Limit::Above(1.0))
    }

    /// CPU time a request, of all processes: below loopback's.
    pub(crate) const fn cpu(name: &'static str, unit: &'static str) -> Self {
        Self::new(name, unit, Compare::Share).against_tcp(Limit::Below(1.0))
    }

    /// A figure that is not compared with another side's.
    pub(crate) const fn itself(name: &'static str, unit: &'static str, limit: Limit) -> Self {
        let mut row = Self::new(name, unit, Compare::Itself);
        row.itself = Some(limit);
        row
    }

    /// As many times better than loopback TCP.
    pub(crate) const fn times_tcp(self, times: f64) -> Self {
        self.against_tcp(Limit::AtLeast(times))
    }

    /// A figure of this row.
    pub(crate) const fn is(&'static self, value: f64) -> Measured {
        Measured { row: self, value }
    }

    const fn new(name: &'static str, unit: &'static str, compare: Compare) -> Self {
        Self {
            name,
            unit,
            compare,
            tcp: None,
            unix: None,
            itself: None,
        }
    }

    const fn against_tcp(mut self, limit: Limit) -> Self {
        self.tcp = Some(limit);
        self
    }

    const fn against_unix(mut self, limit: Limit) -> Self {
        self.unix = Some(limit);
        self
    }
}

impl Compare {
    /// The ratio of `ours` to `other`; `None` where nothing is compared.
    pub(crate) fn ratio(self, ours: f64, other: f64) -> Option<f64> {
        match self {
            Self::TimesHigher | Self::Share => Some(ours / other),
            Self::TimesLower => Some(other / ours),
            Self::Itself => None,
        }
    }
}

impl Limit {
    /// Whether `value` meets it; NaN meets none.
    pub(crate) fn is_met_by(self, value: f64) -> bool {
        match self {
            Self::AtLeast(bound) => value >= bound,
            Self::Above(bound) => value > bound,
            Self::AtMost(bound) => value <= bound,
            Self::Below(bound) => value < bound,
        }
    }

    /// The number in it.
    pub(crate) fn bound(self) -> f64 {
        let (Self::AtLeast(bound) | Self::Above(bound) | Self::AtMost(bound) | Self::Below(bound)) =
            self;
        bound
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self {
            Self::AtLeast(_) => ">=",
            Self::Above(_) => ">",
            Self::AtMost(_) => "<=",
            Self::Below(_) => "<",
        };
        write!(f, "{sign}{}", self.bound())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_includes_its_bound_or_not() {
        assert!(Limit::AtLeast(1.0).is_met_by(1.0) && !Limit::Above(1.0).is_met_by(1.0));
        assert!(Limit::AtMost(1.0).is_met_by(1.0) && !Limit::Below(1.0).is_met_by(1.0));
        for limit in [
            Limit::AtLeast(1.0),
            Limit::Above(1.0),
            Limit::AtMost(1.0),
            Limit::Below(1.0),
        ] {
            assert!(!limit.is_met_by(f64::NAN));
        }
        assert_eq!(Limit::AtLeast(3.5).to_string(), ">=3.5");
        assert_eq!(Limit::Below(1.0).to_string(), "<1");
    }

    #[test]
    fn a_ratio_is_turned_as_its_figure_asks() {
        assert_eq!(Compare::TimesHigher.ratio(6.0, 2.0), Some(3.0));
        assert_eq!(Compare::TimesLower.ratio(2.0, 6.0), Some(3.0));
        assert_eq!(Compare::Share.ratio(2.0, 8.0), Some(0.25));
        assert_eq!(Compare::Itself.ratio(2.0, 8.0), None);
    }
}
