//! Input: time.

use std::time::Instant;

use super::channel::Stage;
use super::{Now, Session};
use crate::texts::{Close, JoinRefusal, Shutdown, TokenRefusal};

impl<I: Clone> Session<I> {
    /// When [`Self::handle_timeout`] is due, and what for.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        if self.out.is_closed() {
            return None;
        }
        let mut next = (self.idle_at(), "idle");
        let mut consider = |at: Option<Instant>, why| {
            if let Some(at) = at.filter(|at| *at < next.0) {
                next = (at, why);
            }
        };
        consider(self.no_channel_at(), "no channel");
        consider(self.out.next_delayed(), "delayed reply");
        for channel in &self.channels {
            consider(channel.member.as_ref().map(|member| member.expires), "token expiry");
            consider(channel.verified().map(|at| at + self.settings.verify_every), "token verification");
            consider(channel.replication_due, "replication");
            if let Some(Stage::Changes(at)) = channel.joining.as_ref().map(|joining| &joining.stage) {
                consider(Some(*at), "waiting for row changes");
            }
        }
        Some(next)
    }

    /// Does what is due. Being called early or late does no harm.
    pub fn handle_timeout(&mut self, now: Now) {
        self.out.send_due(now);
        self.end_expired(now);
        self.verify_again(now);
        self.end_waits(now);
        self.end_replication_waits(now);
        let is_idle = self.idle_at() <= now.instant;
        let is_empty = self.no_channel_at().is_some_and(|at| at <= now.instant);
        if is_idle || is_empty {
            self.out.close(Close::Idle);
        }
    }

    fn idle_at(&self) -> Instant {
        self.last_heard + self.settings.idle_timeout
    }

    fn no_channel_at(&self) -> Option<Instant> {
        self.empty_since.map(|since| since + self.settings.no_channel_timeout)
    }

    /// Ends channels whose token has ended. A token that is being replaced keeps its channel until that is decided only as long
    /// as it lasts itself.
    pub(super) fn end_expired(&mut self, now: Now) {
        let is_expired = |member: &super::channel::Member<I>| member.expires <= now.instant;
        while let Some(index) = self.channels.iter().position(|channel| channel.member.as_ref().is_some_and(is_expired))
        {
            let expired = self.channels.get(index).and_then(|channel| channel.member.as_ref());
            let ended = expired.map_or(now.unix, |member| member.expires_unix);
            let refusal = TokenRefusal::Expired { seconds_ago: now.unix.saturating_sub(ended).as_secs() };
            if self.channels.get(index).is_some_and(|channel| channel.joining.is_some()) {
                self.refuse_joining(index, &JoinRefusal::Token(refusal), now);
            } else {
                self.shut_down(index, &Shutdown::Token(refusal), now);
            }
        }
    }

    fn end_waits(&mut self, now: Now) {
        let is_over = |stage: &Stage| matches!(stage, Stage::Changes(at) if *at <= now.instant);
        while let Some(index) = self
            .channels
            .iter()
            .position(|channel| channel.joining.as_ref().is_some_and(|joining| is_over(&joining.stage)))
        {
            let waited = self.channels.get(index).and_then(|channel| channel.joining.as_ref());
            let millis = waited.map_or(0, |joining| joining.waited.as_millis());
            self.refuse_joining(index, &JoinRefusal::SubscribeTimeout { millis }, now);
        }
    }

    fn end_replication_waits(&mut self, now: Now) {
        while let Some(index) =
            self.channels.iter().position(|channel| channel.replication_due.is_some_and(|at| at <= now.instant))
        {
            self.shut_down(index, &Shutdown::ReplicationTimeout, now);
        }
    }
}
