//! Tokens of joined channels: the client event `access_token` brings a newer one, never answered; and all are verified again
//! from time to time, since keys are withdrawn. A refusal ends the channel.

use std::time::Duration;

use serde_json::Value;

use super::action::{Action, Authorize, Token};
use super::channel::{Channel, Refresh};
use super::on_client::tree;
use super::{Now, Session};
use crate::audience::Style;
use crate::texts::{Shutdown, TokenRefusal};
use crate::wire::Frame;

/// The shortest time between two verifications of a token that heartbeats ask for.
const HEARTBEAT_VERIFY: Duration = Duration::from_secs(10);

impl<I: Clone> Session<I> {
    pub(super) fn on_access_token(&mut self, index: usize, frame: &Frame) {
        let payload = tree(frame);
        let Some(token) = payload.as_ref().and_then(|payload| payload.get("access_token")).and_then(Value::as_str)
        else {
            return;
        };
        let Some(channel) = self.channels.get(index) else { return };
        let awaited = channel.refresh.as_ref().map_or(&channel.token, |refresh| &refresh.token);
        if token.starts_with("sb_") || awaited.expose() == token {
            return;
        }
        let token = self.kept(Token::new(token));
        let request = self.next_request();
        let Some(channel) = self.channels.get_mut(index) else { return };
        channel.refresh = Some(Refresh { request, token: token.clone() });
        let (channel, name) = (channel.id, channel.name.clone());
        let token = Some(token);
        self.out.act(Action::Authorize(Authorize { request, channel, name, token, refresh: true }));
    }

    /// The token, in the place where the connection keeps it already if it does: channels mostly have the same one.
    pub(super) fn kept(&self, token: Token) -> Token {
        let mut known = self.channels.iter().map(|channel| &channel.token).chain([&self.connection_token]);
        known.find(|known| **known == token).unwrap_or(&token).clone()
    }

    /// Answers [`Action::Verify`] where the token is no longer good: ends the channels that have it.
    pub fn handle_token_refused(&mut self, token: &Token, why: &TokenRefusal, now: Now) {
        let has_it = |channel: &Channel<I>| channel.joining.is_none() && channel.token == *token;
        while let Some(index) = self.channels.iter().position(has_it) {
            self.shut_down(index, &Shutdown::Token(why.clone()), now);
        }
    }

    /// Clients of the oldest generation are told with a heartbeat that their token is no longer good.
    pub(super) fn verify_with_heartbeat(&mut self, now: Now) {
        self.verify(now, |channel| {
            let is_legacy = channel.audience.style == Style::Legacy;
            let verified = channel.verified().filter(|_| is_legacy);
            verified.is_some_and(|at| now.instant.duration_since(at) >= HEARTBEAT_VERIFY)
        });
    }

    /// Tokens that were not verified for long.
    pub(super) fn verify_again(&mut self, now: Now) {
        let every = self.settings.verify_every;
        self.verify(now, |channel| channel.verified().is_some_and(|at| at + every <= now.instant));
    }

    /// Asks for the tokens of the channels that are due, for each once however many have it.
    fn verify(&mut self, now: Now, is_due: impl Fn(&Channel<I>) -> bool) {
        let mut due: Vec<Token> = Vec::new();
        for channel in self.channels.iter().filter(|channel| is_due(channel)) {
            if !due.contains(&channel.token) {
                due.push(channel.token.clone());
            }
        }
        for token in due {
            for channel in self.channels.iter_mut().filter(|channel| channel.token == token) {
                if let Some(member) = &mut channel.member {
                    member.verified = now.instant;
                }
            }
            self.out.act(Action::Verify(token));
        }
    }
}
