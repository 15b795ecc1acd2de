//! What waits to be drained, and the shapes of the session's own messages.

use std::collections::VecDeque;
use std::fmt::Display;
use std::time::Instant;

use super::Now;
use super::action::Action;
use super::channel::Channel;
use crate::json;
use crate::texts::{Close, PAYLOAD_TOO_LARGE};
use crate::wire::{Encoded, Message, Ref, WireVersion};

/// The session's outgoing side.
#[derive(Debug)]
pub(super) struct Output<I> {
    version: WireVersion,
    actions: VecDeque<Action<I>>,
    /// Error replies that are held back, in the order in which they are due; as many as there may be channels.
    delayed: VecDeque<(Instant, Encoded)>,
    closed: bool,
}

/// The request that a reply answers.
#[derive(Clone, Copy)]
pub(super) struct Answered<'a> {
    pub(super) join_ref: Option<&'a Ref>,
    pub(super) reference: Option<&'a Ref>,
    pub(super) topic: &'a str,
}

impl<I> Output<I> {
    pub(super) fn new(version: WireVersion) -> Self {
        Self { version, actions: VecDeque::new(), delayed: VecDeque::new(), closed: false }
    }

    pub(super) fn version(&self) -> WireVersion {
        self.version
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// The next action. An idle connection keeps no room for more.
    pub(super) fn next(&mut self) -> Option<Action<I>> {
        let action = self.actions.pop_front();
        if action.is_none() {
            self.actions = VecDeque::new();
        }
        action
    }

    pub(super) fn act(&mut self, action: Action<I>) {
        self.actions.push_back(action);
    }

    pub(super) fn close(&mut self, close: Close) {
        if !self.closed {
            self.closed = true;
            self.act(Action::Close(close));
        }
    }

    /// There is no socket any more.
    pub(super) fn shut(&mut self) {
        self.closed = true;
        self.delayed.clear();
    }

    fn send(&mut self, message: &Message<'_>) {
        let frame = self.version.wire().encode(message);
        self.act(Action::Send(frame));
    }

    /// `phx_reply` with status `ok`; `response` is JSON.
    pub(super) fn reply_ok(&mut self, to: Answered<'_>, response: &[&[u8]]) {
        let mut payload: Vec<&[u8]> = vec![b"{\"status\":\"ok\",\"response\":"];
        payload.extend_from_slice(response);
        payload.push(b"}");
        self.send(&reply(to, &payload));
    }

    /// `phx_reply` with status `error`; `response` is JSON.
    pub(super) fn reply_error(&mut self, to: Answered<'_>, response: &[u8]) {
        self.send(&reply(to, &[b"{\"status\":\"error\",\"response\":", response, b"}"]));
    }

    /// The error reply to a join, held back until `due`.
    pub(super) fn reply_error_at(&mut self, to: Answered<'_>, response: &[u8], due: Instant) {
        let payload: [&[u8]; 3] = [b"{\"status\":\"error\",\"response\":", response, b"}"];
        let frame = self.version.wire().encode(&reply(to, &payload));
        self.delayed.push_back((due, frame));
    }

    pub(super) fn delayed_count(&self) -> usize {
        self.delayed.len()
    }

    pub(super) fn next_delayed(&self) -> Option<Instant> {
        self.delayed.front().map(|(due, _)| *due)
    }

    pub(super) fn send_due(&mut self, now: Now) {
        while self.next_delayed().is_some_and(|due| due <= now.instant) {
            if let Some((_, frame)) = self.delayed.pop_front() {
                self.act(Action::Send(frame));
            }
        }
    }

    /// A `system` message of a channel.
    pub(super) fn system(&mut self, channel: &Channel<I>, extension: &str, status: &str, message: &dyn Display) {
        let mut payload = system_payload(extension, status, message);
        payload.extend_from_slice(b",\"channel\":");
        json::write_string(&mut payload, &channel.name.name);
        payload.push(b'}');
        let frame = channel.audience.push(channel.join_ref.as_ref(), "system", &[&payload]);
        self.act(Action::Send(frame));
    }

    /// The `system` message that every channel gets before the connection is closed.
    pub(super) fn system_of_all(&mut self, channel: &Channel<I>, status: &str, message: &str) {
        let mut payload = system_payload("system", status, &message);
        payload.push(b'}');
        let frame = channel.audience.push(None, "system", &[&payload]);
        self.act(Action::Send(frame));
    }

    /// `phx_close`: the client takes the channel for closed and does not join it again by itself.
    pub(super) fn phx_close(&mut self, channel: &Channel<I>) {
        let join_ref = channel.join_ref.as_ref();
        let topic = &channel.audience.topic;
        self.send(&Message { join_ref, reference: join_ref, topic, event: "phx_close", payload: &[b"{}"] });
    }
}

/// `{"reason":…}`.
pub(super) fn reason(text: &dyn Display) -> Vec<u8> {
    let mut out = b"{\"reason\":".to_vec();
    json::write_string(&mut out, &text.to_string());
    out.push(b'}');
    out
}

/// `{"error":…}` for a broadcast that is larger than is taken.
pub(super) fn too_large() -> Vec<u8> {
    format!("{{\"error\":\"{PAYLOAD_TOO_LARGE}\"}}").into_bytes()
}

fn reply<'a>(to: Answered<'a>, payload: &'a [&'a [u8]]) -> Message<'a> {
    Message { join_ref: to.join_ref, reference: to.reference, topic: to.topic, event: "phx_reply", payload }
}

fn system_payload(extension: &str, status: &str, message: &dyn Display) -> Vec<u8> {
    let mut out = b"{\"extension\":".to_vec();
    json::write_string(&mut out, extension);
    out.extend_from_slice(b",\"status\":");
    json::write_string(&mut out, status);
    out.extend_from_slice(b",\"message\":");
    json::write_string(&mut out, &message.to_string());
    out
}
