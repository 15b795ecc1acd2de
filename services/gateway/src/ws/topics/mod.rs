//! The channels that clients of this gateway have joined: one subscription on the bus for each, and who of the clients gets what
//! comes.

mod listeners;
mod presence;
mod topic;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use reactor_bus::{Channel, OwnerId, Presence, PresenceOwner, PubSub, Scope};
use reactor_model::TenantId;
use reactor_protocol::session::ChannelName;

pub use listeners::Listener;
pub use presence::Watcher;
pub use topic::{Hold, Topic};

use crate::metrics::Metrics;

/// The channels of a tenant that are followed here.
#[derive(Debug)]
pub struct Topics {
    tenant: TenantId,
    bus: Arc<dyn PubSub>,
    presence: Arc<dyn Presence>,
    owner: Arc<dyn PresenceOwner>,
    metrics: Arc<Metrics>,
    known: Mutex<HashMap<ChannelName, Weak<topic::Held>>>,
}

impl Topics {
    /// Follows nothing yet. Must be called within a runtime.
    #[must_use]
    pub fn new(
        tenant: TenantId,
        bus: Arc<dyn PubSub>,
        presence: Arc<dyn Presence>,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        let owner = presence.register(OwnerId::unique("gateway"));
        Arc::new(Self { tenant, bus, presence, owner, metrics, known: Mutex::default() })
    }

    fn known(&self) -> MutexGuard<'_, HashMap<ChannelName, Weak<topic::Held>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A channel on the bus.
    #[must_use]
    pub fn channel(&self, name: &ChannelName) -> Channel {
        let scope = if name.private { Scope::Private } else { Scope::Public };
        Channel::new(self.tenant.clone(), scope, Arc::clone(&name.name))
    }

    /// Holds a channel, which is followed from the first hold to the last; see [`Hold::follow`].
    #[must_use]
    pub fn hold(self: &Arc<Self>, name: &ChannelName) -> Hold {
        let mut known = self.known();
        if let Some(held) = known.get(name).and_then(Weak::upgrade) {
            return Hold::of(held);
        }
        let held = topic::Held::new(self, name);
        known.insert(name.clone(), Arc::downgrade(&held));
        self.metrics.ws.topics.set(i64::try_from(known.len()).unwrap_or(i64::MAX));
        Hold::of(held)
    }

    /// The channel, if somebody here has joined it.
    #[must_use]
    pub fn find(&self, name: &ChannelName) -> Option<Hold> {
        let found = self.known().get(name).and_then(Weak::upgrade);
        found.map(Hold::of)
    }

    /// Forgets a channel that nobody holds.
    fn forget(&self, name: &ChannelName) {
        let mut known = self.known();
        if known.get(name).is_some_and(|held| held.strong_count() == 0) {
            known.remove(name);
        }
        self.metrics.ws.topics.set(i64::try_from(known.len()).unwrap_or(i64::MAX));
    }

    /// What carries broadcasts.
    #[must_use]
    pub fn bus(&self) -> &Arc<dyn PubSub> {
        &self.bus
    }

    /// Ends all presences of this gateway at once, when it leaves.
    pub async fn leave(&self) {
        if let Err(error) = self.owner.leave().await {
            tracing::warn!(%error, "presences could not be taken back; they end by themselves");
        }
    }
}
