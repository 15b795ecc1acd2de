//! When to try again. Pure, but for the draw.

use std::time::Duration;

use reactor_runtime::Backoff;

/// The first pause is at most this long: a server that was restarted, or a proxy that cut a connection, is there at once.
const BASE: Duration = Duration::from_millis(500);

/// No pause is longer, so that a server that was away for a night is noticed within half a minute.
const CAP: Duration = Duration::from_secs(30);

/// More than this is not waited because a server asks for it.
const MAX_ASKED: Duration = Duration::from_secs(300);

/// Where in a row of failed connections we are, and what the server asked for.
#[derive(Debug)]
pub(super) struct Retry {
    backoff: Backoff,
    asked: Option<Duration>,
}

impl Retry {
    pub(super) fn new() -> Self {
        Self { backoff: Backoff::new(BASE, CAP), asked: None }
    }

    /// Notes a `retry:` of the server, which holds until it sends another.
    pub(super) fn note_asked(&mut self, millis: u64) {
        self.asked = Some(Duration::from_millis(millis).min(MAX_ASKED));
    }

    /// Notes that a connection does what it should, so that the next failure starts with short pauses again.
    pub(super) fn note_success(&mut self) {
        self.backoff.reset();
    }

    /// The next pause: what the server asked for, and a random time on top, so that those who were cut off together do
    /// not come back together.
    pub(super) fn pause(&mut self, retry_after: Option<Duration>) -> Duration {
        let floor = retry_after.map(|time| time.min(MAX_ASKED)).max(self.asked).unwrap_or_default();
        floor + self.backoff.next_delay()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_is_heard() {
        let mut retry = Retry::new();
        assert!(retry.pause(None) <= BASE);
        retry.note_success();
        retry.note_asked(2_000);
        let pause = retry.pause(None);
        assert!((2_000..=2_500).contains(&pause.as_millis()), "{pause:?}");
        retry.note_success();
        let pause = retry.pause(Some(Duration::from_secs(7)));
        assert!((7_000..=7_500).contains(&pause.as_millis()), "{pause:?}");
    }

    #[test]
    fn no_pause_is_absurd() {
        let mut retry = Retry::new();
        retry.note_asked(u64::MAX);
        for _ in 0..100 {
            assert!(retry.pause(Some(Duration::MAX)) <= MAX_ASKED + CAP);
        }
    }
}
