//! Measurements of one thing, one a round.

/// In the order of the rounds. NaN stands for a round that failed, so that
/// the others still meet their partners.
#[derive(Clone, Debug, Default)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    pub(crate) fn push(&mut self, sample: f64) {
        self.0.push(sample);
    }

    pub(crate) fn push_failure(&mut self) {
        self.0.push(f64::NAN);
    }

    /// How many rounds failed.
    pub(crate) fn failures(&self) -> usize {
        self.0.iter().filter(|sample| sample.is_nan()).count()
    }

    /// No round gave a figure.
    pub(crate) fn is_empty(&self) -> bool {
        self.failures() == self.0.len()
    }

    pub(crate) fn least(&self) -> f64 {
        self.0.iter().copied().fold(f64::INFINITY, f64::min)
    }

    pub(crate) fn most(&self) -> f64 {
        self.0.iter().copied().fold(f64::NEG_INFINITY, f64::max)
    }

    /// NaN if there is none.
    pub(crate) fn median(&self) -> f64 {
        let mut sorted: Vec<f64> = self.0.iter().copied().filter(|sample| !sample.is_nan()).collect();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        match sorted.len() {
            0 => f64::NAN,
            n if n % 2 == 1 => sorted[middle],
            _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
        }
    }

    /// Round by round, so that what slows a whole round down drops out.
    pub(crate) fn zip(&self, other: &Self, f: impl Fn(f64, f64) -> f64) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(a, b)| f(*a, *b)).collect())
    }

    pub(crate) fn over(&self, other: &Self) -> Self {
        self.zip(other, |a, b| a / b)
    }

    pub(crate) fn minus(&self, other: &Self) -> Self {
        self.zip(other, |a, b| a - b)
    }
}
