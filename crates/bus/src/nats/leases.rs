//! [`Leases`] as keys of one bucket whose entries expire.

use std::sync::MutexGuard;
use std::time::Duration;

use async_nats::jetstream::kv::{Config, CreateErrorKind, DeleteErrorKind, Entry, Operation, Store, UpdateErrorKind};
use async_nats::jetstream::stream::{self, StorageType};
use futures::future::{BoxFuture, FutureExt};
use tokio::time::timeout;

use super::NatsBus;
use super::error::unavailable;
use crate::{BusError, Lease, Leases, lock};

/// How long a lease lives after its last renewal. One for all, being a property of the bucket: the time in which a
/// holder that died is replaced must stay below 10 seconds.
pub const LEASE_TTL: Duration = Duration::from_secs(8);

const BUCKET: &str = "RT_LEASES";

impl Leases for NatsBus {
    /// `ttl` is [`LEASE_TTL`] in any case.
    fn try_acquire<'a>(
        &'a self,
        key: &'a str,
        holder: &'a str,
        _ttl: Duration,
    ) -> BoxFuture<'a, Result<Option<Lease>, BusError>> {
        self.within(self.acquire(key, holder))
    }

    fn renew<'a>(&'a self, lease: &'a mut Lease) -> BoxFuture<'a, Result<(), BusError>> {
        self.within(self.renew_entry(lease))
    }

    fn release(&self, lease: Lease) -> BoxFuture<'_, Result<(), BusError>> {
        self.within(self.delete_entry(lease))
    }

    fn spans_processes(&self) -> bool {
        true
    }
}

impl NatsBus {
    /// Sets the deadline of a whole operation, which may be several requests.
    fn within<'a, T: 'a>(
        &'a self,
        operation: impl Future<Output = Result<T, BusError>> + Send + 'a,
    ) -> BoxFuture<'a, Result<T, BusError>> {
        async move {
            let outcome = timeout(self.config.request_timeout, operation).await;
            outcome.unwrap_or_else(|late| Err(unavailable("no answer about a lease", late)))
        }
        .boxed()
    }

    async fn acquire(&self, key: &str, holder: &str) -> Result<Option<Lease>, BusError> {
        let created = self.bucket().await?.create(key, holder.to_owned().into()).await;
        match created {
            Ok(revision) => Ok(Some(Lease { key: key.to_owned(), holder: holder.to_owned(), revision })),
            Err(error) if error.kind() == CreateErrorKind::AlreadyExists => Ok(None),
            Err(error) => {
                // The bucket may have been deleted; the next attempt makes it again.
                *self.known_bucket() = None;
                Err(unavailable("the lease cannot be taken", error))
            }
        }
    }

    async fn renew_entry(&self, lease: &mut Lease) -> Result<(), BusError> {
        let bucket = self.bucket().await?;
        match update(&bucket, lease).await {
            Err(BusError::LeaseLost) => {}
            done => return done,
        }
        // An earlier renewal may have been stored without its answer reaching us: then the entry is still ours.
        let entry = bucket.entry(&lease.key).await.map_err(|error| unavailable("the lease cannot be read", error))?;
        let ours = |entry: &Entry| entry.operation == Operation::Put && entry.value == lease.holder.as_bytes();
        lease.revision = entry.filter(ours).ok_or(BusError::LeaseLost)?.revision;
        update(&bucket, lease).await
    }

    async fn delete_entry(&self, lease: Lease) -> Result<(), BusError> {
        let bucket = self.bucket().await?;
        match bucket.delete_expect_revision(&lease.key, Some(lease.revision)).await {
            Ok(()) => Ok(()),
            // It is somebody else's by now, or nobody's.
            Err(error) if error.kind() == DeleteErrorKind::WrongLastRevision => Ok(()),
            Err(error) => Err(unavailable("the lease cannot be released", error)),
        }
    }

    /// The bucket, made or brought up to date at the first use.
    async fn bucket(&self) -> Result<Store, BusError> {
        let known = self.known_bucket().clone();
        if let Some(bucket) = known {
            return Ok(bucket);
        }
        let bucket = match self.requests.get_key_value(BUCKET).await {
            // Left alone where it is right already: a cluster with a server down refuses even a change of nothing.
            Ok(bucket) if self.is_right(&bucket.stream.cached_info().config) => bucket,
            _ => self.make_bucket().await?,
        };
        *self.known_bucket() = Some(bucket.clone());
        Ok(bucket)
    }

    fn is_right(&self, found: &stream::Config) -> bool {
        found.max_age == LEASE_TTL && found.num_replicas == self.config.replicas
    }

    async fn make_bucket(&self) -> Result<Store, BusError> {
        let config = Config {
            bucket: BUCKET.to_owned(),
            history: 1,
            max_age: LEASE_TTL,
            storage: StorageType::File,
            num_replicas: self.config.replicas,
            ..Config::default()
        };
        let made = self.requests.create_or_update_key_value(config).await;
        made.map_err(|error| unavailable("the bucket of leases cannot be made", error))
    }

    fn known_bucket(&self) -> MutexGuard<'_, Option<Store>> {
        lock(&self.bucket)
    }
}

/// Stores the lease again; [`BusError::LeaseLost`] when the entry is not at its revision.
async fn update(bucket: &Store, lease: &mut Lease) -> Result<(), BusError> {
    match bucket.update(&lease.key, lease.holder.clone().into(), lease.revision).await {
        Ok(revision) => {
            lease.revision = revision;
            Ok(())
        }
        Err(error) if error.kind() == UpdateErrorKind::WrongLastRevision => Err(BusError::LeaseLost),
        Err(error) => Err(unavailable("the lease cannot be renewed", error)),
    }
}
