//! Durations in µs, kept one by one, and their quantiles.

use serde_json::{Value, json};

/// Observed durations. A run has well below a million, so that none has to be rounded into a bucket.
#[derive(Clone, Debug, Default)]
pub(crate) struct Samples {
    micros: Vec<u32>,
}

/// What is told of [`Samples`], in µs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) count: usize,
    pub(crate) p50: u32,
    pub(crate) p99: u32,
    pub(crate) max: u32,
}

impl Samples {
    /// Adds a duration; clocks of two processes may disagree by less than nothing, which is nothing.
    pub(crate) fn add(&mut self, micros: i64) {
        self.micros.push(u32::try_from(micros.max(0)).unwrap_or(u32::MAX));
    }

    pub(crate) fn append(&mut self, mut other: Self) {
        self.micros.append(&mut other.micros);
    }

    pub(crate) fn summary(mut self) -> Summary {
        self.micros.sort_unstable();
        let at = |quantile| nearest_rank(&self.micros, quantile);
        Summary { count: self.micros.len(), p50: at(0.5), p99: at(0.99), max: at(1.0) }
    }
}

impl Summary {
    pub(crate) fn json(self) -> Value {
        json!({ "count": self.count, "p50_ms": millis(self.p50), "p99_ms": millis(self.p99), "max_ms": millis(self.max) })
    }

    /// `p50/p99/max`, for people.
    pub(crate) fn text(self) -> String {
        format!("{:.2} / {:.2} / {:.2} ms", millis(self.p50), millis(self.p99), millis(self.max))
    }
}

pub(crate) fn millis(micros: u32) -> f64 {
    f64::from(micros) / 1e3
}

/// The smallest value that at least this share of all values does not exceed; 0 of none.
fn nearest_rank(sorted: &[u32], quantile: f64) -> u32 {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "far below 2^52"
    )]
    let rank = (quantile * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied().unwrap_or(0)
}

/// The middle of a few figures; of an even number the mean of the two middle ones. 0 of none.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = |index: usize| sorted.get(index).copied().unwrap_or(0.0);
    match sorted.len() {
        0 => 0.0,
        count if count % 2 == 1 => middle(count / 2),
        count => f64::midpoint(middle(count / 2 - 1), middle(count / 2)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(values: impl IntoIterator<Item = i64>) -> Summary {
        let mut samples = Samples::default();
        values.into_iter().for_each(|value| samples.add(value));
        samples.summary()
    }

    #[test]
    fn quantiles_are_values_that_were_seen() {
        assert_eq!(summary([]), Summary::default());
        assert_eq!(summary([7]), Summary { count: 1, p50: 7, p99: 7, max: 7 });
        assert_eq!(summary((1..=100).rev()), Summary { count: 100, p50: 50, p99: 99, max: 100 });
        assert_eq!(summary(1..=1000), Summary { count: 1000, p50: 500, p99: 990, max: 1000 });
        assert_eq!(summary([-5, i64::MAX]), Summary { count: 2, p50: 0, p99: u32::MAX, max: u32::MAX });
    }

    #[test]
    fn samples_are_joined() {
        let (mut one, mut other) = (Samples::default(), Samples::default());
        one.add(1);
        other.add(3);
        one.append(other);
        assert_eq!(one.summary(), Summary { count: 2, p50: 1, p99: 3, max: 3 });
    }

    #[test]
    fn the_median_of_few() {
        for (values, expected) in [(&[][..], 0.0), (&[3.0], 3.0), (&[4.0, 1.0], 2.5), (&[9.0, 1.0, 2.0], 2.0)] {
            assert!((median(values) - expected).abs() < 1e-9, "{values:?}");
        }
    }
}
