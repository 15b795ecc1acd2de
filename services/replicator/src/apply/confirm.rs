//! How far Postgres may be told that the log has everything.

use std::collections::VecDeque;
use std::time::Duration;

use reactor_model::Lsn;

/// Parts of the lag that are told apart: with 130 s one entry per half second, however many commits there are.
const STEPS: u32 = 256;

/// Holds stored positions back until they are as old as the lag.
#[derive(Debug)]
pub(super) struct Confirm {
    lag: Duration,
    max_bytes: u64,
    waiting: VecDeque<Waiting>,
    acked: Lsn,
    flushed: Lsn,
}

#[derive(Debug)]
struct Waiting {
    since: Duration,
    stored_at: Duration,
    lsn: Lsn,
}

impl Confirm {
    /// Starts with what the slot has confirmed already, which is never taken back.
    pub(super) const fn new(lag: Duration, max_bytes: u64, flushed: Lsn) -> Self {
        Self { lag, max_bytes, waiting: VecDeque::new(), acked: flushed, flushed }
    }

    /// Everything that committed before `lsn` is stored.
    pub(super) fn handle_stored(&mut self, lsn: Lsn, now: Duration) {
        if lsn <= self.acked {
            return;
        }
        self.acked = lsn;
        let step = self.lag / STEPS;
        match self.waiting.back_mut() {
            Some(last) if now < last.since + step => {
                last.stored_at = now;
                last.lsn = lsn;
            }
            _ => self.waiting.push_back(Waiting { since: now, stored_at: now, lsn }),
        }
    }

    /// What Postgres may be told at `now`.
    pub(super) fn flushed(&mut self, now: Duration) -> Lsn {
        while let Some(oldest) = self.waiting.front().filter(|oldest| oldest.stored_at + self.lag <= now) {
            self.flushed = self.flushed.max(oldest.lsn);
            self.waiting.pop_front();
        }
        self.flushed = self.flushed.max(Lsn(self.acked.0.saturating_sub(self.max_bytes)));
        self.flushed
    }

    /// When [`Confirm::flushed`] next grows by itself.
    pub(super) fn next(&self) -> Option<Duration> {
        self.waiting.front().map(|oldest| oldest.stored_at + self.lag)
    }

    /// What the log has stored.
    pub(super) const fn acked(&self) -> Lsn {
        self.acked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn without_a_lag_what_is_stored_is_confirmed() {
        let mut confirm = Confirm::new(Duration::ZERO, u64::MAX, Lsn(5));
        assert_eq!(confirm.flushed(SECOND), Lsn(5));
        confirm.handle_stored(Lsn(9), SECOND);
        assert_eq!(confirm.flushed(SECOND), Lsn(9));
    }

    #[test]
    fn confirms_when_as_old_as_the_lag_and_never_less() {
        let mut confirm = Confirm::new(10 * SECOND, u64::MAX, Lsn(5));
        confirm.handle_stored(Lsn(9), SECOND);
        confirm.handle_stored(Lsn(20), 3 * SECOND);
        confirm.handle_stored(Lsn(7), 4 * SECOND);
        for (at, expected) in [(10, 5), (11, 9), (12, 9), (13, 20), (100, 20)] {
            assert_eq!(confirm.flushed(at * SECOND), Lsn(expected), "at {at} s");
        }
    }

    #[test]
    fn stays_within_the_byte_bound() {
        let mut confirm = Confirm::new(1000 * SECOND, 100, Lsn(5));
        for (stored, expected) in [(50, 5), (104, 5), (110, 10), (1000, 900)] {
            confirm.handle_stored(Lsn(stored), SECOND);
            assert_eq!(confirm.flushed(SECOND), Lsn(expected));
        }
    }

    #[test]
    fn many_commits_cost_few_entries_and_are_confirmed_late_rather_than_early() {
        let lag = 130 * SECOND;
        let mut confirm = Confirm::new(lag, u64::MAX, Lsn(0));
        for at in 1..=200_000_u64 {
            confirm.handle_stored(Lsn(at), Duration::from_millis(at));
        }
        assert!(confirm.waiting.len() <= 512, "{}", confirm.waiting.len());
        let at = Duration::from_millis(200_000);
        let flushed = confirm.flushed(at).0;
        assert!((69_000..=70_000).contains(&flushed), "{flushed}");
        assert!(confirm.waiting.len() <= STEPS as usize + 1);
    }
}
