//! Input: `phx_join`, up to the question who asks; and the answer to the client when all that it waits for is there.

use std::sync::Arc;
use std::time::Duration;

use super::action::{Action, Authorize, ChannelId, ChannelName, Counted, JoinBroadcast, JoinChanges, JoinPresence};
use super::channel::{Channel, Joining, Presence, Stage};
use super::join_payload::JoinPayload;
use super::on_client::{PHOENIX, tree};
use super::output::{Answered, reason};
use super::{Now, Session};
use crate::audience::{Audience, Style, channel_name};
use crate::replay::StoredBroadcast;
use crate::texts::{Close, JoinRefusal, SUBSCRIBED};
use crate::wire::{Frame, FrameRefusal, Payload};

/// How long a client that wants to know waits for broadcasts of the database to be followed.
const REPLICATION_WAIT: Duration = Duration::from_secs(60);

impl<I: Clone> Session<I> {
    pub(super) fn on_join(&mut self, frame: &Frame, now: Now) -> Result<(), FrameRefusal> {
        if !matches!(frame.payload, Payload::Json(_)) {
            return Err(FrameRefusal::BadPayload);
        }
        if let Some(index) = self.index_of_topic(&frame.topic) {
            // The newer join takes the older one's place, whether that was answered or not.
            if let Some(channel) = self.channels.get(index) {
                self.out.phx_close(channel);
            }
            self.remove(index, now);
        }
        let to =
            Answered { join_ref: frame.join_ref.as_ref(), reference: frame.reference.as_ref(), topic: &frame.topic };
        let Some(payload) = tree(frame) else {
            self.refuse(to, &JoinRefusal::Unknown, now);
            return Ok(());
        };
        let payload = JoinPayload::read(frame, &payload, &self.settings);
        match self.early_refusal(&frame.topic, payload.private) {
            Some(refusal) => self.refuse(to, &refusal, now),
            None => self.authorize(frame, payload),
        }
        Ok(())
    }

    fn early_refusal(&self, topic: &str, private: bool) -> Option<JoinRefusal> {
        if channel_name(topic).is_empty() {
            Some(JoinRefusal::TopicRequired)
        } else if topic == PHOENIX {
            Some(JoinRefusal::Unmatched)
        } else if self.draining {
            Some(JoinRefusal::Restarting)
        } else if self.settings.private_only && !private {
            Some(JoinRefusal::PrivateOnly)
        } else if self.channels.len() >= self.settings.max_channels {
            Some(JoinRefusal::TooManyChannels)
        } else {
            None
        }
    }

    fn authorize(&mut self, frame: &Frame, payload: JoinPayload) {
        self.ids.channels = self.ids.channels.wrapping_add(1);
        let id = ChannelId(self.ids.channels);
        let request = self.next_request();
        let name = ChannelName { name: channel_name(&frame.topic).into(), private: payload.private };
        let joining = Joining::new(request, frame, &payload);
        let token = payload.token.map(|token| self.kept(token));
        let channel = Channel {
            id,
            name: name.clone(),
            audience: Audience {
                version: self.out.version(),
                style: payload.style,
                topic: if *name.name == *frame.topic { Arc::clone(&name.name) } else { frame.topic.as_str().into() },
            },
            join_ref: frame.join_ref.clone(),
            joining: Some(Box::new(joining)),
            token: token.clone().unwrap_or_else(|| self.connection_token.clone()),
            member: None,
            refresh: None,
            ack: payload.ack,
            own: payload.own,
            presence: Presence {
                enabled: payload.presence_enabled,
                joined: false,
                key: payload.presence_key.unwrap_or_else(|| self.ids.presence_key(id)),
                tracked: None,
                window_start: None,
                calls: 0,
            },
            bindings: payload.bindings.parsed.unwrap_or_default(),
            replication_due: None,
        };
        self.empty_since = None;
        self.channels.reserve_exact(1);
        self.channels.push(channel);
        self.out.act(Action::Authorize(Authorize { request, channel: id, name, token, refresh: false }));
    }

    /// Replies to a join with an error, after the delay that is set.
    pub(super) fn refuse(&mut self, to: Answered<'_>, refusal: &JoinRefusal, now: Now) {
        let response = reason(refusal);
        let delay = self.settings.refusal_delay;
        self.out.act(Action::Count(Counted::Join(refusal.name())));
        let at_once = delay.is_zero() || refusal.closes() || self.out.delayed_count() >= self.settings.max_channels;
        if at_once {
            self.out.reply_error(to, &response);
        } else {
            self.out.reply_error_at(to, &response, now.after(delay));
        }
        if refusal.closes() {
            self.out.close(Close::Away);
        }
    }

    /// Ends a join that is not answered yet. What the client sent meanwhile is answered as for any topic that is not joined.
    pub(super) fn refuse_joining(&mut self, index: usize, refusal: &JoinRefusal, now: Now) {
        let Some(channel) = self.remove(index, now) else { return };
        let Some(joining) = channel.joining else { return };
        let to = Answered {
            join_ref: channel.join_ref.as_ref(),
            reference: joining.reference.as_ref(),
            topic: &channel.audience.topic,
        };
        self.refuse(to, refusal, now);
        self.take_early(joining, now);
    }

    /// Goes on with a join that is allowed: the past first, then row changes where the client waits for them, then the answer.
    pub(super) fn go_on_joining(&mut self, index: usize, now: Now) {
        let Some(channel) = self.channels.get_mut(index) else { return };
        let rights = channel.rights();
        let id = channel.id;
        let Some(joining) = channel.joining.as_mut() else { return };
        if let Some(Ok(replay)) = joining.replay.take_if(|_| rights.broadcast.read) {
            joining.stage = Stage::Replay;
            let action = channel.join_broadcast(Some(replay));
            self.out.act(Action::JoinBroadcast(action));
            return;
        }
        if let Some(wait) = joining.wait.take() {
            if let Some(message) = joining.binding_error.take() {
                self.refuse_joining(index, &JoinRefusal::SubscribeFailed { message }, now);
                return;
            }
            joining.stage = Stage::Changes(now.after(wait));
            joining.waited = wait;
            let since = joining.since.take();
            self.join_changes(id, since, false);
            return;
        }
        self.answer(index, now);
    }

    /// The join is complete: the reply, then members, in the order in which clients expect their messages.
    fn answer(&mut self, index: usize, now: Now) {
        let Some(channel) = self.channels.get_mut(index) else { return };
        let Some(mut joining) = channel.joining.take() else { return };
        let (id, rights, out) = (channel.id, channel.rights(), &mut self.out);
        let response: [&[u8]; 3] = [b"{\"postgres_changes\":", &joining.echo, b"}"];
        out.reply_ok(channel.answering(joining.reference.as_ref()), &response);
        out.act(Action::Count(Counted::Join("ok")));
        match joining.replayed.take() {
            Some(replayed) => channel.send_replayed(out, &replayed),
            None if rights.broadcast.read => {
                out.act(Action::JoinBroadcast(channel.join_broadcast(None)));
            }
            None => {}
        }
        let is_waited_for = matches!(joining.stage, Stage::Changes(_));
        if is_waited_for {
            out.system(channel, "postgres_changes", "ok", &SUBSCRIBED);
            out.act(Action::StartChanges { channel: id });
        } else if let Some(message) = joining.binding_error.take() {
            out.system(channel, "postgres_changes", "error", &message);
        }
        if joining.replication_ready {
            channel.replication_due = Some(now.after(REPLICATION_WAIT));
            out.act(Action::AwaitReplication { channel: id });
        }
        if let Some(action) = channel.join_presence() {
            out.act(Action::JoinPresence(action));
        }
        if !is_waited_for {
            self.join_changes(id, joining.since.take(), false);
        }
        self.take_early(joining, now);
    }

    /// Asks for the channel's row changes, if it wants any.
    pub(super) fn join_changes(&mut self, id: ChannelId, since: Option<String>, again: bool) {
        let Some(channel) = self.channels.iter().find(|channel| channel.id == id) else { return };
        let Some(member) = &channel.member else { return };
        if channel.bindings.is_empty() {
            return;
        }
        self.out.act(Action::JoinChanges(JoinChanges {
            channel: id,
            identity: member.identity.clone(),
            audience: channel.audience.clone(),
            bindings: Arc::clone(&channel.bindings),
            since,
            again,
        }));
    }

    /// What came before the answer is taken now.
    fn take_early(&mut self, joining: Box<Joining>, now: Now) {
        for frame in joining.into_early() {
            if let Err(refusal) = self.on_frame(frame, now) {
                self.out.act(Action::Count(Counted::Dropped(refusal)));
            }
        }
    }
}

impl<I> Channel<I> {
    pub(super) fn join_broadcast(&self, replay: Option<super::Replay>) -> JoinBroadcast {
        JoinBroadcast { channel: self.id, audience: self.audience.clone(), own: self.own, replay }
    }

    /// The membership in presences that the channel should have and has not. Public channels get differences without asking;
    /// clients of the oldest generation know no presence.
    pub(super) fn join_presence(&mut self) -> Option<JoinPresence> {
        let is_wanted = self.presence.enabled || (!self.name.private && self.audience.style != Style::Legacy);
        if self.presence.joined || !is_wanted || !self.rights().presence.read {
            return None;
        }
        self.presence.joined = true;
        Some(JoinPresence {
            channel: self.id,
            audience: self.audience.clone(),
            join_ref: self.join_ref.clone(),
            state: self.presence.enabled,
        })
    }

    fn send_replayed(&self, out: &mut super::output::Output<I>, replayed: &[StoredBroadcast]) {
        for stored in replayed {
            if let Some(frame) = self.audience.encode_replayed(self.join_ref.as_ref(), stored) {
                out.act(Action::Send(frame));
            }
        }
        let replayed = replayed.iter().map(|stored| stored.id.clone()).collect();
        out.act(Action::OpenBroadcast { channel: self.id, replayed });
    }
}
