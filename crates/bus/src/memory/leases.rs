//! [`Leases`] inside one process.

use std::collections::HashMap;
use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

use futures::future::{self, BoxFuture, FutureExt};
use tokio::time::Instant;

use crate::{BusError, Lease, Leases, lock};

/// Leases that keep out other tasks of this process only.
#[derive(Default)]
pub struct MemoryLeases {
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    held: HashMap<String, Held>,
    last_revision: u64,
}

struct Held {
    revision: u64,
    ttl: Duration,
    lapses_at: Instant,
}

impl MemoryLeases {
    /// With every lease free.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl Table {
    fn acquire(&mut self, key: &str, holder: &str, ttl: Duration, now: Instant) -> Option<Lease> {
        if self.held.get(key).is_some_and(|held| now < held.lapses_at) {
            return None;
        }
        self.last_revision += 1;
        let revision = self.last_revision;
        self.held.insert(key.to_owned(), Held { revision, ttl, lapses_at: now + ttl });
        Some(Lease { key: key.to_owned(), holder: holder.to_owned(), revision })
    }

    fn renew(&mut self, lease: &mut Lease, now: Instant) -> Result<(), BusError> {
        let held = self.held.get_mut(&lease.key).filter(|held| held.revision == lease.revision && now < held.lapses_at);
        let held = held.ok_or(BusError::LeaseLost)?;
        self.last_revision += 1;
        lease.revision = self.last_revision;
        held.revision = lease.revision;
        held.lapses_at = now + held.ttl;
        Ok(())
    }

    fn release(&mut self, lease: &Lease) {
        if self.held.get(&lease.key).is_some_and(|held| held.revision == lease.revision) {
            self.held.remove(&lease.key);
        }
    }
}

impl fmt::Debug for MemoryLeases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryLeases").finish_non_exhaustive()
    }
}

impl Leases for MemoryLeases {
    fn try_acquire<'a>(
        &'a self,
        key: &'a str,
        holder: &'a str,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<Option<Lease>, BusError>> {
        future::ready(Ok(lock(&self.table).acquire(key, holder, ttl, Instant::now()))).boxed()
    }

    fn renew<'a>(&'a self, lease: &'a mut Lease) -> BoxFuture<'a, Result<(), BusError>> {
        future::ready(lock(&self.table).renew(lease, Instant::now())).boxed()
    }

    fn release(&self, lease: Lease) -> BoxFuture<'_, Result<(), BusError>> {
        lock(&self.table).release(&lease);
        future::ready(Ok(())).boxed()
    }

    fn spans_processes(&self) -> bool {
        false
    }
}
