//! The bus on NATS: a JetStream stream for each tenant's log, a bucket for all leases, one for all presences, and core
//! subjects for messages.

mod chain;
mod connect;
mod consumer;
mod error;
mod follow;
mod leases;
mod log;
mod presence;
mod pubsub;
mod round_trip;
mod subject;
mod task;

pub use connect::NatsConfig;
pub use leases::LEASE_TTL;

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_nats::jetstream::context::ContextBuilder;
use async_nats::jetstream::kv::Store;
use async_nats::jetstream::{self};
use tokio::sync::watch;

use crate::BusError;

/// A connection to NATS: a [`crate::ChangeLog`], [`crate::Leases`], [`crate::PubSub`] and [`crate::Presence`].
///
/// Dropping it closes the connection, once the streams that came from it are dropped too, and the owners of presences.
pub struct NatsBus {
    client: async_nats::Client,
    /// For everything but appends; its requests have the request timeout.
    requests: jetstream::Context,
    /// For appends and lease writes; its acknowledgements have the append timeout.
    publishes: jetstream::Context,
    link: watch::Receiver<connect::Link>,
    chains: chain::Chains,
    bucket: Mutex<Option<Store>>,
    round_trips: Arc<round_trip::RoundTrips>,
    mirrors: Arc<presence::Mirrors>,
    config: NatsConfig,
}

impl NatsBus {
    /// Connects, and goes on trying for ever while there is no server: [`crate::ChangeLog::unavailable`] tells.
    ///
    /// Fails only for a configuration that can never work.
    pub async fn connect(config: NatsConfig) -> Result<Self, BusError> {
        let (client, link) = connect::connect(&config).await?;
        let context =
            |timeout: Duration| ContextBuilder::new().timeout(timeout).ack_timeout(timeout).build(client.clone());
        Ok(Self {
            requests: context(config.request_timeout),
            publishes: context(config.append_timeout),
            round_trips: Arc::new(round_trip::RoundTrips::start(client.clone(), link.clone(), config.request_timeout)),
            mirrors: Arc::default(),
            link,
            chains: chain::Chains::new(),
            bucket: Mutex::default(),
            client,
            config,
        })
    }
}

impl fmt::Debug for NatsBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsBus").field("config", &self.config).finish_non_exhaustive()
    }
}
