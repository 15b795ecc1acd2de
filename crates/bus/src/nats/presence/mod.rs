//! [`Presence`] on one JetStream stream for all tenants, laid out as a bucket of keys and values.
//!
//! An owner has a key that stays (`owner.<id>`), a lease that the server lets lapse (`lease.<id>`), and its entries
//! (`entry.<tenant>.<scope>.<topic>.<id>.<key>`). All are in one stream, so that everybody sees leases lapse and entries
//! come in one order. Watchers show the entries of owners that have a lease; what an owner without one has left is
//! deleted by one of the others.

mod desk;
mod feed;
mod ledger;
mod mirror;
mod names;
mod owner;
mod store;
mod sweep;

pub(super) use mirror::Mirrors;

use std::sync::Arc;

use futures::future::{BoxFuture, FutureExt};
use futures::stream::{BoxStream, StreamExt};
use reactor_model::TenantId;

use super::NatsBus;
use super::log::HEADER_ALLOWANCE;
use crate::{BusError, OwnerId, Presence, PresenceEvent, PresenceOwner, Watched};
use owner::NatsOwner;
use store::Store;

impl Presence for NatsBus {
    fn max_value_bytes(&self) -> usize {
        self.client.max_payload().saturating_sub(HEADER_ALLOWANCE)
    }

    fn register(&self, owner: OwnerId) -> Arc<dyn PresenceOwner> {
        Arc::new(NatsOwner::start(owner, self.presence_store(), Presence::max_value_bytes(self)))
    }

    fn watch<'a>(&'a self, watched: Watched<'a>) -> BoxFuture<'a, Result<BoxStream<'static, PresenceEvent>, BusError>> {
        async move {
            let mirror = self.mirrors.of(tenant_of(watched), || self.presence_store());
            mirror.ready(self.config.append_timeout).await?;
            Ok(mirror.board().watch(watched, Arc::clone(&mirror)).boxed())
        }
        .boxed()
    }
}

impl NatsBus {
    fn presence_store(&self) -> Store {
        Store {
            requests: self.requests.clone(),
            publishes: self.publishes.clone(),
            link: self.link.clone(),
            replicas: self.config.replicas,
            deadline: self.config.append_timeout,
        }
    }
}

fn tenant_of(watched: Watched<'_>) -> &TenantId {
    match watched {
        Watched::Channel(channel) => &channel.tenant,
        Watched::Tenant(tenant) => tenant,
    }
}
