//! The state of one WebSocket connection: what it may do and what it is answered.
//!
//! Pure: inputs are `handle_*` and say the time, outputs are drained with [`Session::poll_action`] after every input, and
//! [`Session::poll_timeout`] says when [`Session::handle_timeout`] is due. Row changes, broadcasts and presence differences do
//! not come through here: the shell's fan-out encodes them with the [`Audience`](crate::audience::Audience) that an action
//! gave it, and queues them behind what the session sent.
//!
//! Order: a join's reply is sent before the actions that make members, and `phx_close` before [`Action::Leave`]; a shell
//! that obeys actions in order never shows a client a message of a channel that it has not joined.

mod access_token;
mod action;
mod bindings;
mod broadcast;
mod channel;
mod connect;
mod join;
mod join_payload;
mod on_client;
mod on_decision;
mod on_delivery;
mod on_timer;
mod output;
mod presence;
mod settings;

use std::sync::Arc;
use std::time::{Duration, Instant};

pub use action::{
    Action, Authorize, ChangeBinding, ChannelId, ChannelName, Counted, JoinBroadcast, JoinChanges, JoinPresence,
    Publish, Replay, RequestId, Ticket, Token,
};
pub use on_decision::{Access, Grant, Rights};
pub use on_delivery::{ChangesRefusal, PublishRefused, ReplayRefused};
pub use settings::SessionSettings;

use channel::Channel;
use output::Output;

use crate::uuid;
use crate::wire::WireVersion;

/// The time of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// For timers.
    pub instant: Instant,
    /// Since 1970; for the ends of tokens.
    pub unix: Duration,
}

impl Now {
    /// The instant at which the time of day will be `unix`.
    fn instant_of(self, unix: Duration) -> Instant {
        self.after(unix.saturating_sub(self.unix))
    }

    /// The instant after a while; never so far off that it cannot be told.
    fn after(self, wait: Duration) -> Instant {
        const FAR: Duration = Duration::from_secs(366 * 24 * 3600);
        self.instant + wait.min(FAR)
    }
}

/// One connection. `I` is the shell's verified identity, cheap to clone.
#[derive(Debug)]
pub struct Session<I> {
    settings: Arc<SessionSettings>,
    /// Kept small: most connections have one channel.
    channels: Vec<Channel<I>>,
    out: Output<I>,
    ids: Ids,
    connection_token: Token,
    last_heard: Instant,
    /// When the last channel was left.
    empty_since: Option<Instant>,
    draining: bool,
}

/// Numbers that are given out.
#[derive(Debug)]
struct Ids {
    session: u64,
    channels: u32,
    requests: u64,
    refs: u32,
}

impl<I: Clone> Session<I> {
    /// A connection that was just accepted.
    ///
    /// `id` is random, and unique in the cluster: origins of broadcasts, presence keys and references are made from it.
    /// `token` is the connection's own, verified already.
    #[must_use]
    pub fn new(version: WireVersion, id: u64, token: &str, settings: Arc<SessionSettings>, now: Now) -> Self {
        Self {
            settings,
            channels: Vec::new(),
            out: Output::new(version),
            ids: Ids { session: id, channels: 0, requests: 0, refs: 0 },
            connection_token: Token(token.into()),
            last_heard: now.instant,
            empty_since: None,
            draining: false,
        }
    }

    /// The next thing for the shell to do; `None` until there is another input.
    pub fn poll_action(&mut self) -> Option<Action<I>> {
        self.out.next()
    }

    /// Channels that are joined or being joined.
    #[must_use]
    pub fn channel_count(&self) -> usize {
        self.channels.len()
    }

    fn index_of(&self, id: ChannelId) -> Option<usize> {
        self.channels.iter().position(|channel| channel.id == id)
    }

    fn index_of_topic(&self, topic: &str) -> Option<usize> {
        self.channels.iter().position(|channel| *channel.audience.topic == *topic)
    }

    fn next_request(&mut self) -> RequestId {
        self.ids.requests += 1;
        RequestId(self.ids.requests)
    }

    /// Takes a channel out: its presence ends and the shell forgets it.
    fn remove(&mut self, index: usize, now: Now) -> Option<Channel<I>> {
        if index >= self.channels.len() {
            return None;
        }
        let channel = self.channels.remove(index);
        if channel.presence.tracked.is_some() {
            let origin = channel.origin(self.ids.session);
            self.out.act(Action::Untrack { channel: channel.id, origin });
        }
        self.out.act(Action::Leave { channel: channel.id });
        if self.channels.is_empty() {
            self.channels = Vec::new();
            self.empty_since = Some(now.instant);
        }
        Some(channel)
    }
}

impl Ids {
    /// Mixes the session's number with another (splitmix64's finisher), so that neither can be read off.
    fn mix(&self, number: u64) -> u64 {
        let mut mixed = self.session ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A presence key for a channel that did not name one: the form of a UUID.
    fn presence_key(&self, channel: ChannelId) -> Arc<str> {
        let number = u64::from(channel.0);
        let bits = (u128::from(self.mix(2 * number + 1)) << 64) | u128::from(self.mix(2 * number + 2));
        // Version 8: made in the maker's own way.
        uuid::text(bits, 8).into()
    }

    /// A presence reference: 16 characters, never used twice in the cluster.
    fn presence_ref(&mut self) -> Box<str> {
        use base64::Engine as _;
        self.refs = self.refs.wrapping_add(1);
        let mut bytes = [0; 12];
        for (slot, byte) in bytes.iter_mut().zip(self.mix(0).to_be_bytes().into_iter().chain(self.refs.to_be_bytes())) {
            *slot = byte;
        }
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes).into()
    }
}
