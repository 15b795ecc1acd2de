//! Exponential backoff with full jitter: each delay is drawn evenly from zero to a ceiling that doubles.
//!
//! Full jitter, because what is retried here (Postgres, NATS, policy) fails for every process at the same moment,
//! and equal delays would bring all of them back at the same moment too. Pure but for the draw in
//! [`Backoff::next_delay`].

use std::time::Duration;

/// Where in a sequence of failed attempts a caller is.
#[derive(Clone, Debug)]
pub struct Backoff {
    base: Duration,
    cap: Duration,
    attempt: u32,
}

impl Backoff {
    /// Delays up to `base` at first, doubling with each attempt, never above `cap`.
    #[must_use]
    pub fn new(base: Duration, cap: Duration) -> Self {
        Self { base, cap: cap.max(base), attempt: 0 }
    }

    /// How many delays were handed out since the start or the last [`Backoff::reset`].
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// The longest delay that the next attempt can get.
    #[must_use]
    pub fn ceiling(&self) -> Duration {
        2u32.checked_pow(self.attempt)
            .and_then(|factor| self.base.checked_mul(factor))
            .unwrap_or(self.cap)
            .min(self.cap)
    }

    /// The next delay for a draw in `0.0..=1.0`; values outside are clamped.
    pub fn delay_for(&mut self, draw: f64) -> Duration {
        let ceiling = self.ceiling();
        self.attempt = self.attempt.saturating_add(1);
        let draw = if draw.is_nan() { 1.0 } else { draw.clamp(0.0, 1.0) };
        ceiling.mul_f64(draw).min(ceiling)
    }

    /// The next delay, drawn at random.
    pub fn next_delay(&mut self) -> Duration {
        self.delay_for(rand::random::<f64>())
    }

    /// To be called after a success, so that the next failure starts with short delays again.
    pub fn reset(&mut self) {
        self.attempt = 0;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ceilings_double_up_to_the_cap() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        let ceilings: Vec<u128> = (0..6)
            .map(|_| {
                let ceiling = backoff.ceiling().as_millis();
                backoff.delay_for(0.5);
                ceiling
            })
            .collect();
        assert_eq!(ceilings, [100, 200, 400, 800, 1000, 1000]);
        backoff.reset();
        assert_eq!((backoff.attempt(), backoff.ceiling().as_millis()), (0, 100));
    }

    #[test]
    fn the_draw_spans_the_whole_range() {
        let mut backoff = Backoff::new(Duration::from_secs(4), Duration::from_secs(4));
        assert_eq!(backoff.delay_for(0.0), Duration::ZERO);
        assert_eq!(backoff.delay_for(0.25), Duration::from_secs(1));
        assert_eq!(backoff.delay_for(1.0), Duration::from_secs(4));
        assert_eq!(backoff.delay_for(f64::NAN), Duration::from_secs(4));
    }

    proptest! {
        #[test]
        fn a_delay_never_passes_its_ceiling_nor_the_cap(
            base_ms in 0u64..10_000, cap_ms in 0u64..100_000, draws in prop::collection::vec(0.0f64..=1.0, 1..80),
        ) {
            let (base, cap) = (Duration::from_millis(base_ms), Duration::from_millis(cap_ms));
            let mut backoff = Backoff::new(base, cap);
            let mut last_ceiling = Duration::ZERO;
            for draw in draws {
                let ceiling = backoff.ceiling();
                prop_assert!(ceiling >= last_ceiling && ceiling <= cap.max(base));
                prop_assert!(backoff.delay_for(draw) <= ceiling);
                last_ceiling = ceiling;
            }
        }

        #[test]
        fn random_delays_keep_the_same_bound(base_ms in 1u64..1000, attempts in 1usize..100) {
            let cap = Duration::from_secs(5);
            let mut backoff = Backoff::new(Duration::from_millis(base_ms), cap);
            for _ in 0..attempts {
                prop_assert!(backoff.next_delay() <= cap);
            }
        }
    }
}
