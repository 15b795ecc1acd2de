//! The only place that reads a clock. Pure code takes `now` as an argument; shells ask here.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// The monotonic time. Follows tokio's paused clock inside a test that paused it.
#[must_use]
pub fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// The time of day.
#[must_use]
#[allow(clippy::disallowed_methods, reason = "this module is where the clock is read")]
pub fn system_now() -> SystemTime {
    SystemTime::now()
}

/// Microseconds since 1970-01-01 UTC, the unit in which commit times travel.
#[must_use]
pub fn unix_micros() -> i64 {
    let since = system_now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// Seconds since 1970-01-01 UTC, the unit of `exp` in tokens.
#[must_use]
pub fn unix_secs() -> i64 {
    unix_micros() / 1_000_000
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_time_of_day_is_plausible() {
        assert!(unix_secs() > 1_700_000_000);
        assert!(unix_micros() / 1_000_000 - unix_secs() <= 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_paused_clock_is_followed() {
        let before = now();
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert!(now() - before >= Duration::from_secs(3600));
    }
}
