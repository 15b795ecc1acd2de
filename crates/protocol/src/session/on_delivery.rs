//! Input: what became of what the shell was asked to do for a channel.

use super::action::{ChannelId, Ticket};
use super::channel::Stage;
use super::output::{reason, too_large};
use super::{Action, Now, Session};
use crate::json;
use crate::replay::StoredBroadcast;
use crate::texts::{JoinRefusal, REPLICATION_READY, RESYNC, SUBSCRIBED};

/// Row changes cannot be delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangesRefusal {
    /// What the client is told ([`super::ChangeBinding::not_enabled`] and [`super::ChangeBinding::exception`] give some).
    pub message: String,
    /// Whether the shell tries again by itself and will answer again.
    pub retrying: bool,
}

/// The past could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplayRefused;

/// Why a broadcast was not taken, or not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishRefused {
    /// It is larger than the bus takes.
    TooLarge,
    /// The bus did not take it.
    Bus,
    /// It was delivered, and policy does not let it be stored.
    StoringNotAllowed,
    /// It was delivered, and could not be stored.
    NotStored,
}

impl PublishRefused {
    /// A name for metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::TooLarge => "too_large",
            Self::Bus => "bus",
            Self::StoringNotAllowed => "not_allowed",
            Self::NotStored => "not_stored",
        }
    }
}

impl<I: Clone> Session<I> {
    /// Answers [`Action::JoinChanges`]: nothing that commits from now on will be missed. [`Action::StartChanges`] follows.
    pub fn handle_changes(&mut self, channel: ChannelId, outcome: Result<(), ChangesRefusal>, now: Now) {
        let Some(index) = self.index_of(channel) else { return };
        let Some(member) = self.channels.get_mut(index) else { return };
        let is_waited_for = member.joining.as_ref().is_some_and(|joining| matches!(joining.stage, Stage::Changes(_)));
        if is_waited_for {
            match outcome {
                Ok(()) => self.go_on_joining(index, now),
                Err(refusal) if refusal.retrying => {}
                Err(ChangesRefusal { message, .. }) => {
                    self.refuse_joining(index, &JoinRefusal::SubscribeFailed { message }, now);
                }
            }
            return;
        }
        match outcome {
            Ok(()) => {
                self.out.system(member, "postgres_changes", "ok", &SUBSCRIBED);
                self.out.act(Action::StartChanges { channel });
            }
            Err(refusal) => self.out.system(member, "postgres_changes", "error", &refusal.message),
        }
    }

    /// The position that was asked for, or where delivery was, is no longer to be had; delivery goes on with what is live.
    pub fn handle_resync(&mut self, channel: ChannelId, why: &str) {
        if let Some(member) = self.index_of(channel).and_then(|index| self.channels.get(index)) {
            self.out.system(member, "postgres_changes", "error", &format_args!("{RESYNC}{why}"));
        }
    }

    /// Answers the replay of [`Action::JoinBroadcast`]: rows in the order in which they committed.
    pub fn handle_replay(
        &mut self,
        channel: ChannelId,
        outcome: Result<Vec<StoredBroadcast>, ReplayRefused>,
        now: Now,
    ) {
        let Some(index) = self.index_of(channel) else { return };
        let Some(joining) = self.channels.get_mut(index).and_then(|member| member.joining.as_mut()) else { return };
        if joining.stage != Stage::Replay {
            return;
        }
        match outcome {
            Ok(rows) => {
                joining.replayed = Some(rows);
                self.go_on_joining(index, now);
            }
            Err(ReplayRefused) => self.refuse_joining(index, &JoinRefusal::ReplayFailed, now),
        }
    }

    /// Answers [`Action::AwaitReplication`].
    pub fn handle_replication_ready(&mut self, channel: ChannelId) {
        let Some(index) = self.index_of(channel) else { return };
        let Some(member) = self.channels.get_mut(index) else { return };
        if member.replication_due.take().is_some() {
            self.out.system(member, "system", "ok", &REPLICATION_READY);
        }
    }

    /// Answers [`Action::Publish`] with a ticket. A stored message has an id.
    pub fn handle_published(&mut self, ticket: &Ticket, outcome: Result<Option<&str>, PublishRefused>) {
        let Some(member) = self.index_of(ticket.channel).and_then(|index| self.channels.get(index)) else { return };
        let to = member.answering(ticket.reference.as_ref());
        match outcome {
            Ok(None) => self.out.reply_ok(to, &[b"{}"]),
            Ok(Some(id)) => {
                let mut response = b"{\"id\":".to_vec();
                json::write_string(&mut response, id);
                response.push(b'}');
                self.out.reply_ok(to, &[&response]);
            }
            Err(PublishRefused::TooLarge) => self.out.reply_error(to, &too_large()),
            Err(PublishRefused::Bus | PublishRefused::StoringNotAllowed | PublishRefused::NotStored) => {
                self.out.reply_error(to, &reason(&"unable to publish"));
            }
        }
    }
}
