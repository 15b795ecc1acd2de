//! When Postgres is told how far the session has come, and how its shutdown is noticed.

use std::time::Duration;

use reactor_model::Lsn;

/// Without news. Sessions ask for a `wal_sender_timeout` of a minute; this is often enough for much shorter ones.
const EVERY: Duration = Duration::from_secs(10);
/// With news: keeps the walsender from sending keepalives for what has been received, at no cost.
const SPACING: Duration = Duration::from_secs(1);
/// A server that shuts down asks for a reply again and again, as fast as it is answered, until it is told that
/// everything is flushed. A server in operation asks after half a `wal_sender_timeout` of silence.
const STOPPING_REQUESTS: u32 = 3;
const STOPPING_WITHIN: Duration = Duration::from_secs(1);

/// What a standby status update says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StandbyStatus {
    /// Written: all that has been read.
    pub received: Lsn,
    /// Flushed and applied: what Postgres may forget.
    pub flushed: Lsn,
}

#[derive(Debug)]
pub(super) struct Status {
    sent_at: Duration,
    sent: Option<StandbyStatus>,
    requested: bool,
    quick_requests: u32,
}

impl Status {
    /// The first status is due at once.
    pub(super) const fn new() -> Self {
        Self { sent_at: Duration::ZERO, sent: None, requested: false, quick_requests: 0 }
    }

    /// The server asks for a reply.
    pub(super) fn handle_request(&mut self, now: Duration) {
        self.requested = true;
        let quick = self.sent.is_some() && now.saturating_sub(self.sent_at) < STOPPING_WITHIN;
        self.quick_requests = if quick { self.quick_requests + 1 } else { 0 };
    }

    /// The server sends changes, so it is not waiting for us.
    pub(super) const fn handle_change(&mut self) {
        self.quick_requests = 0;
    }

    pub(super) const fn server_is_stopping(&self) -> bool {
        self.quick_requests >= STOPPING_REQUESTS
    }

    /// `status` when it is time to send it.
    pub(super) fn poll(&mut self, status: StandbyStatus, now: Duration) -> Option<StandbyStatus> {
        if !self.requested && now < self.due(status) {
            return None;
        }
        self.requested = false;
        self.sent_at = now;
        self.sent = Some(status);
        Some(status)
    }

    /// When `status` is to be sent if nothing happens.
    pub(super) fn due(&self, status: StandbyStatus) -> Duration {
        match self.sent {
            None => Duration::ZERO,
            Some(sent) if sent == status => self.sent_at + EVERY,
            Some(_) => self.sent_at + SPACING,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(received: u64) -> StandbyStatus {
        StandbyStatus { received: Lsn(received), flushed: Lsn(1) }
    }

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn sends_at_once_then_with_news_then_without() {
        let mut status = Status::new();
        assert_eq!(status.poll(at(1), ms(0)), Some(at(1)));
        assert_eq!(status.poll(at(2), ms(999)), None);
        assert_eq!(status.poll(at(2), ms(1000)), Some(at(2)));
        assert_eq!(status.poll(at(2), ms(10_999)), None);
        assert_eq!(status.poll(at(2), ms(11_000)), Some(at(2)));
        status.handle_request(ms(11_001));
        assert_eq!(status.poll(at(2), ms(11_001)), Some(at(2)));
    }

    #[test]
    fn requests_in_quick_succession_mean_that_the_server_stops() {
        let mut status = Status::new();
        for at_ms in [0, 30_000, 60_000, 90_000] {
            status.handle_request(ms(at_ms));
            status.poll(at(1), ms(at_ms));
            assert!(!status.server_is_stopping());
        }
        for at_ms in [90_001, 90_002] {
            status.handle_request(ms(at_ms));
            status.poll(at(1), ms(at_ms));
        }
        status.handle_change();
        for at_ms in [90_003, 90_004, 90_005] {
            assert!(!status.server_is_stopping());
            status.handle_request(ms(at_ms));
            status.poll(at(1), ms(at_ms));
        }
        assert!(status.server_is_stopping());
    }
}
