//! Client event `presence`, and `presence_diff` as bare clients send it: track and untrack.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use serde_json::{Map, Value};

use super::action::Action;
use super::channel::Tracked;
use super::on_client::tree;
use super::output::reason;
use super::{Now, Session};
use crate::presence::Meta;
use crate::texts::{Shutdown, TRACK_NOT_A_MAP};
use crate::wire::{Frame, FrameRefusal};

/// What a call asks for.
enum Call {
    Track(Map<String, Value>),
    NotAMap,
    Untrack,
    Nothing,
    Unknown,
}

/// What became of it.
enum Outcome {
    Done,
    NotAMap,
    Refused,
    /// The channel is gone.
    Ended,
}

impl<I: Clone> Session<I> {
    /// `{"event":"track","payload":{…}}` or `{"event":"untrack"}`; answered.
    pub(super) fn on_presence(&mut self, index: usize, frame: &Frame, now: Now) -> Result<(), FrameRefusal> {
        let payload = tree(frame).ok_or(FrameRefusal::BadPayload)?;
        let call = match payload.get("event") {
            None => Call::Nothing,
            Some(event) => call(event, payload.get("payload")),
        };
        let outcome = self.on_call(index, call, frame.payload.len(), now);
        let Some(channel) = self.channels.get(index) else { return Ok(()) };
        let to = channel.answering(frame.reference.as_ref());
        match outcome {
            Outcome::Done => self.out.reply_ok(to, &[b"{}"]),
            Outcome::NotAMap => self.out.reply_error(to, &reason(&TRACK_NOT_A_MAP)),
            Outcome::Refused => self.out.reply_error(to, b"{}"),
            Outcome::Ended => {}
        }
        Ok(())
    }

    /// `{"action":"track","data":{…}}` or `{"action":"untrack"}`. Not answered when it is done: to these clients every
    /// reply with status ok on the topic says that the channel is joined, and they would track again.
    pub(super) fn on_bare_presence(&mut self, index: usize, frame: &Frame, now: Now) -> Result<(), FrameRefusal> {
        let payload = tree(frame).ok_or(FrameRefusal::BadPayload)?;
        let action = payload.get("action").ok_or(FrameRefusal::UnknownEvent)?;
        let outcome = self.on_call(index, call(action, payload.get("data")), frame.payload.len(), now);
        let Some(channel) = self.channels.get(index) else { return Ok(()) };
        let to = channel.answering(frame.reference.as_ref());
        match outcome {
            Outcome::Done | Outcome::Ended => {}
            Outcome::NotAMap => self.out.reply_error(to, &reason(&TRACK_NOT_A_MAP)),
            Outcome::Refused => self.out.reply_error(to, b"{}"),
        }
        Ok(())
    }

    fn on_call(&mut self, index: usize, call: Call, bytes: usize, now: Now) -> Outcome {
        match call {
            Call::Nothing => return Outcome::Done,
            Call::Unknown => return Outcome::Refused,
            Call::Track(_) | Call::NotAMap | Call::Untrack => {}
        }
        if self.is_over_rate(index, now) {
            self.shut_down(index, &Shutdown::ClientPresenceRate, now);
            return Outcome::Ended;
        }
        if bytes > self.settings.max_payload_bytes {
            self.shut_down(index, &Shutdown::TrackTooLarge, now);
            return Outcome::Ended;
        }
        match call {
            Call::Untrack => self.untrack(index),
            Call::Track(payload) => self.track(index, payload),
            Call::NotAMap => Outcome::NotAMap,
            Call::Nothing | Call::Unknown => Outcome::Done,
        }
    }

    /// Counts a call in its window.
    fn is_over_rate(&mut self, index: usize, now: Now) -> bool {
        let (window, max) = (self.settings.presence_window, self.settings.max_presence_calls);
        let Some(presence) = self.channels.get_mut(index).map(|channel| &mut channel.presence) else { return false };
        if presence.window_start.is_none_or(|start| now.instant.duration_since(start) >= window) {
            presence.window_start = Some(now.instant);
            presence.calls = 0;
        }
        presence.calls = presence.calls.saturating_add(1);
        presence.calls > max
    }

    /// Tracking switches presence on for a channel that did not ask for it: its client gets the state, then differences.
    fn track(&mut self, index: usize, mut payload: Map<String, Value>) -> Outcome {
        let Some(channel) = self.channels.get_mut(index) else { return Outcome::Ended };
        if !channel.rights().presence.write {
            return Outcome::Refused;
        }
        if !std::mem::replace(&mut channel.presence.enabled, true) {
            channel.presence.joined = false;
            if let Some(action) = channel.join_presence() {
                self.out.act(Action::JoinPresence(action));
            }
        }
        // These names are the server's.
        payload.remove("phx_ref");
        payload.remove("phx_ref_prev");
        let data = serde_json::to_vec(&payload).unwrap_or_else(|_| b"{}".to_vec());
        let mut hasher = DefaultHasher::new();
        data.hash(&mut hasher);
        let hash = hasher.finish();
        let tracked = channel.presence.tracked.take();
        if tracked.as_ref().is_some_and(|tracked| tracked.data == hash) {
            channel.presence.tracked = tracked;
            return Outcome::Done;
        }
        let phx_ref = self.ids.presence_ref();
        let previous = tracked.map(|tracked| tracked.phx_ref);
        channel.presence.tracked = Some(Box::new(Tracked { phx_ref: phx_ref.clone(), data: hash }));
        let (origin, key) = (channel.origin(self.ids.session), Arc::clone(&channel.presence.key));
        let meta = Meta { phx_ref, previous, data: data.into() };
        self.out.act(Action::Track { channel: channel.id, origin, key, meta });
        Outcome::Done
    }

    fn untrack(&mut self, index: usize) -> Outcome {
        let Some(channel) = self.channels.get_mut(index) else { return Outcome::Ended };
        if channel.presence.tracked.take().is_some() {
            let origin = channel.origin(self.ids.session);
            self.out.act(Action::Untrack { channel: channel.id, origin });
        }
        Outcome::Done
    }
}

fn call(name: &Value, payload: Option<&Value>) -> Call {
    let Some(name) = name.as_str() else { return Call::Unknown };
    if name.eq_ignore_ascii_case("untrack") {
        return Call::Untrack;
    }
    if !name.eq_ignore_ascii_case("track") {
        return Call::Unknown;
    }
    match payload {
        None => Call::Track(Map::new()),
        Some(Value::Object(payload)) => Call::Track(payload.clone()),
        Some(_) => Call::NotAMap,
    }
}
