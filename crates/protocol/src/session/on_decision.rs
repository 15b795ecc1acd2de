//! Input: what a token may do in a channel, at its join, at a new token, and when policies changed.

use std::time::Duration;

use super::action::{Action, ChannelId, Counted, RequestId};
use super::channel::{Channel, Member, Stage};
use super::{Now, Session};
use crate::texts::{JoinRefusal, Shutdown, TokenRefusal};

/// What may be done with one extension of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// Receive.
    pub read: bool,
    /// Send.
    pub write: bool,
}

/// What may be done in a channel. In public channels everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rights {
    /// Broadcasts.
    pub broadcast: Access,
    /// Presences.
    pub presence: Access,
}

impl Rights {
    /// Everything.
    pub const ALL: Self =
        Self { broadcast: Access { read: true, write: true }, presence: Access { read: true, write: true } };

    /// Nothing.
    pub const NONE: Self =
        Self { broadcast: Access { read: false, write: false }, presence: Access { read: false, write: false } };
}

/// The answer to [`Action::Authorize`] when the token is good.
#[derive(Clone, Debug)]
pub struct Grant<I> {
    /// Who it is.
    pub identity: I,
    /// When the token ends, since 1970.
    pub expires: Duration,
    /// What it may do.
    pub rights: Rights,
}

impl<I: Clone> Session<I> {
    /// Answers [`Action::Authorize`]; whether it was waited for. It is not when the channel was left or a newer token came.
    pub fn handle_decision(&mut self, request: RequestId, decision: Result<Grant<I>, JoinRefusal>, now: Now) -> bool {
        let decision = decision.and_then(|grant| check_expiry(grant, now));
        let asks = |channel: &Channel<I>| {
            let joins = channel.joining.as_ref().is_some_and(|joining| joining.stage == Stage::Decision(request));
            joins || channel.refresh.as_ref().is_some_and(|refresh| refresh.request == request)
        };
        let Some(index) = self.channels.iter().position(asks) else { return false };
        let is_join = self.channels.get(index).is_some_and(|channel| channel.joining.is_some());
        match (is_join, decision) {
            (true, Ok(grant)) => self.on_join_allowed(index, grant, now),
            (true, Err(refusal)) => self.refuse_joining(index, &refusal, now),
            (false, Ok(grant)) => self.on_refresh_allowed(index, grant, now),
            (false, Err(refusal)) => self.shut_down(index, &as_shutdown(refusal), now),
        }
        true
    }

    /// Policies changed: what a joined channel may do now. Unknown channels are passed over.
    pub fn handle_rights(&mut self, channel: ChannelId, rights: Rights, now: Now) {
        let Some(index) = self.index_of(channel) else { return };
        if self.channels.get(index).is_some_and(|channel| channel.joining.is_none()) {
            self.change_rights(index, rights, now);
        }
    }

    /// Ends a joined channel with a `system` message and `phx_close`; one that is being joined is left to its answer.
    pub fn handle_shutdown(&mut self, channel: ChannelId, why: &Shutdown, now: Now) {
        if let Some(index) = self.index_of(channel) {
            self.shut_down(index, why, now);
        }
    }

    fn on_join_allowed(&mut self, index: usize, grant: Grant<I>, now: Now) {
        let Some(channel) = self.channels.get_mut(index) else { return };
        let is_readable = grant.rights.broadcast.read || (channel.presence.enabled && grant.rights.presence.read);
        let replay = channel.joining.as_ref().and_then(|joining| joining.replay);
        let refusal = match replay {
            _ if !is_readable => Some(JoinRefusal::Unauthorized { name: channel.name.name.to_string() }),
            Some(_) if !channel.name.private => Some(JoinRefusal::ReplayOfPublic),
            Some(Err(_)) => Some(JoinRefusal::ReplayParams),
            Some(Ok(_)) | None => None,
        };
        match refusal {
            Some(refusal) => self.refuse_joining(index, &refusal, now),
            None => {
                channel.member = Some(Member::new(grant, now));
                self.go_on_joining(index, now);
            }
        }
    }

    /// A new token is good: its rights hold from now on, and row changes are decided again for who it names.
    fn on_refresh_allowed(&mut self, index: usize, grant: Grant<I>, now: Now) {
        let Some(channel) = self.channels.get_mut(index) else { return };
        if let Some(refresh) = channel.refresh.take() {
            channel.token = refresh.token;
        }
        let (id, old, new) = (channel.id, channel.rights(), grant.rights);
        channel.member = Some(Member { rights: old, ..Member::new(grant, now) });
        self.change_rights(index, new, now);
        self.join_changes(id, None, true);
    }

    /// A permission to read that is lost ends the channel; one that is won starts its delivery.
    fn change_rights(&mut self, index: usize, rights: Rights, now: Now) {
        let Some(channel) = self.channels.get_mut(index) else { return };
        let old = channel.rights();
        let Some(member) = channel.member.as_mut() else { return };
        let lost = (old.broadcast.read && !rights.broadcast.read)
            || (channel.presence.enabled && old.presence.read && !rights.presence.read);
        if lost {
            let name = channel.name.name.to_string();
            self.shut_down(index, &Shutdown::PermissionLost { name }, now);
            return;
        }
        member.rights = rights;
        if rights.broadcast.read && !old.broadcast.read {
            self.out.act(Action::JoinBroadcast(channel.join_broadcast(None)));
        }
        if let Some(action) = channel.join_presence() {
            self.out.act(Action::JoinPresence(action));
        }
    }

    pub(super) fn shut_down(&mut self, index: usize, why: &Shutdown, now: Now) {
        let Some(channel) = self.channels.get(index).filter(|channel| channel.joining.is_none()) else { return };
        self.out.system(channel, "system", "error", why);
        self.out.phx_close(channel);
        self.out.act(Action::Count(Counted::Shutdown(why.name())));
        self.remove(index, now);
    }
}

impl<I> Member<I> {
    fn new(grant: Grant<I>, now: Now) -> Self {
        Self {
            identity: grant.identity,
            rights: grant.rights,
            expires: now.instant_of(grant.expires),
            expires_unix: grant.expires,
            verified: now.instant,
        }
    }
}

fn check_expiry<I>(grant: Grant<I>, now: Now) -> Result<Grant<I>, JoinRefusal> {
    if grant.expires > now.unix {
        return Ok(grant);
    }
    let seconds_ago = now.unix.saturating_sub(grant.expires).as_secs();
    Err(JoinRefusal::Token(TokenRefusal::Expired { seconds_ago }))
}

/// What a refused token means for a channel that is joined.
fn as_shutdown(refusal: JoinRefusal) -> Shutdown {
    match refusal {
        JoinRefusal::Token(token) => Shutdown::Token(token),
        JoinRefusal::Unauthorized { name } => Shutdown::Unauthorized { name },
        JoinRefusal::QueryCanceled => Shutdown::QueryCanceled,
        JoinRefusal::RpcTimeout => Shutdown::RpcTimeout,
        JoinRefusal::TopicRequired
        | JoinRefusal::Unmatched
        | JoinRefusal::Restarting
        | JoinRefusal::TenantUnknown
        | JoinRefusal::TenantSuspended
        | JoinRefusal::PrivateOnly
        | JoinRefusal::TooManyConnections
        | JoinRefusal::TooManyJoins
        | JoinRefusal::TooManyChannels
        | JoinRefusal::PoolExhausted
        | JoinRefusal::NoConnections
        | JoinRefusal::Unreachable
        | JoinRefusal::Initializing
        | JoinRefusal::MissingPartition
        | JoinRefusal::ReplayOfPublic
        | JoinRefusal::ReplayParams
        | JoinRefusal::ReplayFailed
        | JoinRefusal::SubscribeTimeout { .. }
        | JoinRefusal::SubscribeFailed { .. }
        | JoinRefusal::Unknown => Shutdown::Unreachable,
    }
}
