//! Client event `access_token`: a newer token for one channel. Never answered; a refusal ends the channel.

use std::hash::{DefaultHasher, Hash, Hasher};

use serde_json::Value;

use super::Session;
use super::action::{Action, Authorize, Token};
use super::channel::Refresh;
use super::on_client::tree;
use crate::wire::Frame;

/// What tells tokens apart without keeping them. A client that finds two with the same one cheats itself of a refresh.
pub(super) fn fingerprint(token: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    token.hash(&mut hasher);
    hasher.finish()
}

impl<I: Clone> Session<I> {
    pub(super) fn on_access_token(&mut self, index: usize, frame: &Frame) {
        let payload = tree(frame);
        let Some(token) = payload.as_ref().and_then(|payload| payload.get("access_token")).and_then(Value::as_str)
        else {
            return;
        };
        let fingerprint = fingerprint(token);
        let Some(channel) = self.channels.get(index) else { return };
        let awaited = channel.refresh.as_ref().map_or(channel.token, |refresh| refresh.token);
        if token.starts_with("sb_") || awaited == fingerprint {
            return;
        }
        let request = self.next_request();
        let Some(channel) = self.channels.get_mut(index) else { return };
        channel.refresh = Some(Refresh { request, token: fingerprint });
        let (channel, name) = (channel.id, channel.name.clone());
        let token = Some(Token(token.to_owned()));
        self.out.act(Action::Authorize(Authorize { request, channel, name, token, refresh: true }));
    }
}
