//! What one connection may do: defaults of the protocol, each of which a tenant may change.

use std::time::Duration;

/// Bounds and times of a session; shared by all sessions of a tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionSettings {
    /// Channels of one connection, joined or being joined.
    pub max_channels: usize,
    /// Bytes of a broadcast's or tracked payload.
    pub max_payload_bytes: usize,
    /// Entries of one join's `postgres_changes`.
    pub max_bindings: usize,
    /// Calls of track and untrack in one channel within [`Self::presence_window`].
    pub max_presence_calls: u32,
    /// The window of [`Self::max_presence_calls`].
    pub presence_window: Duration,
    /// A connection that sends no frame for this long is closed.
    pub idle_timeout: Duration,
    /// A connection that has left its last channel this long ago is closed.
    pub no_channel_timeout: Duration,
    /// How often the tokens of joined channels are verified again.
    pub verify_every: Duration,
    /// How long an error reply to a join is held back, against clients that try again at once.
    pub refusal_delay: Duration,
    /// Public channels are refused.
    pub private_only: bool,
    /// Presence is on where a join does not say.
    pub presence_enabled: bool,
}

impl Default for SessionSettings {
    fn default() -> Self {
        Self {
            max_channels: 100,
            // 3,000 kB and what the reference server allows on top.
            max_payload_bytes: 3_000_500,
            max_bindings: 100,
            max_presence_calls: 5,
            presence_window: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(60),
            no_channel_timeout: Duration::from_secs(600),
            verify_every: Duration::from_secs(300),
            refusal_delay: Duration::ZERO,
            private_only: false,
            presence_enabled: false,
        }
    }
}
