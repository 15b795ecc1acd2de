//! An owner: its handle, and the task that keeps its lease and writes its entries.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::future::{BoxFuture, FutureExt, ready};
use futures::stream::FuturesUnordered;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{debug, info, warn};

use super::super::error::unavailable;
use super::super::subject::{entries_of_owner, entry_key, lease_key, owner_key};
use super::super::task::Task;
use super::desk::{Content, Desk, Job};
use super::names::{REGISTERED, encode_entry, lease_payload};
use super::store::{LEASE_TTL, Options, Store, WriteError};
use super::sweep::sweep;
use crate::{BusError, Channel, EntryId, OwnerId, PresenceOwner, Taken};

/// Between renewals of the lease: three may fail before it lapses.
const RENEW_EVERY: Duration = Duration::from_secs(2);
/// Writes on the way. More wait at the desk.
const WINDOW: usize = 1_000;
/// Bounds of the wait after a failure over a live connection.
const RETRY_DELAY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

pub(super) struct NatsOwner {
    id: OwnerId,
    desk: Arc<Desk>,
    store: Store,
    max_value_bytes: usize,
    writer: Task,
    sweeper: Task,
}

impl NatsOwner {
    pub(super) fn start(id: OwnerId, store: Store, max_value_bytes: usize) -> Self {
        let desk = Arc::new(Desk::default());
        let writer = Writer {
            id: id.clone(),
            desk: Arc::clone(&desk),
            store: store.clone(),
            lease: None,
            on_the_way: FuturesUnordered::new(),
            delay: RETRY_DELAY.0,
            paused_until: None,
        };
        Self {
            writer: Task::spawn(writer.run()),
            sweeper: Task::spawn(sweep(id.clone(), store.clone())),
            id,
            desk,
            store,
            max_value_bytes,
        }
    }

    fn set(&self, channel: &Channel, key: &str, value: &[u8], removed: bool) -> Taken {
        let id = EntryId { channel: channel.clone(), owner: self.id.clone(), key: key.into() };
        let payload = match encode_entry(&id, value, self.max_value_bytes) {
            Ok(payload) => payload,
            Err(error) => return ready(Err(error)).boxed(),
        };
        let Some(stored) = self.desk.set(id, Content { payload, removed }) else {
            return ready(Err(BusError::Unavailable("the owner of presences has left", None))).boxed();
        };
        let deadline = self.store.deadline;
        async move {
            match timeout(deadline, stored).await {
                Ok(Ok(())) => Ok(()),
                Ok(Err(gone)) => Err(unavailable("the owner of presences has left", gone)),
                Err(late) => Err(unavailable("the presence is not stored yet", late)),
            }
        }
        .boxed()
    }

    /// The lease goes first, so that watchers drop everything at once.
    async fn end(&self) -> Result<(), BusError> {
        self.desk.leave();
        self.writer.end().await;
        self.sweeper.end().await;
        let delete = Options { delete: true, ..Options::default() };
        let ended = self.store.store(lease_key(self.id.as_str()), Bytes::new(), delete).await;
        let last = match ended {
            Ok(revision) => revision,
            // Nothing was ever stored.
            Err(WriteError::NoStore) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        self.store.purge(entries_of_owner(&self.id), last).await?;
        self.store.store(owner_key(self.id.as_str()), Bytes::new(), delete).await?;
        Ok(())
    }
}

impl fmt::Debug for NatsOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsOwner").field("id", &self.id).finish_non_exhaustive()
    }
}

impl PresenceOwner for NatsOwner {
    fn id(&self) -> &OwnerId {
        &self.id
    }

    fn put(&self, channel: &Channel, key: &str, value: Bytes) -> Taken {
        self.set(channel, key, &value, false)
    }

    fn remove(&self, channel: &Channel, key: &str) -> Taken {
        self.set(channel, key, &[], true)
    }

    /// What cannot be deleted now is swept by others when the lease has lapsed.
    fn leave(&self) -> BoxFuture<'_, Result<(), BusError>> {
        async move {
            let ended = timeout(self.store.deadline, self.end()).await;
            ended.unwrap_or_else(|late| Err(unavailable("no answer about the end of presences", late)))
        }
        .boxed()
    }
}

/// The lease that the owner has now.
struct Lease {
    /// Of the newest renewal.
    revision: u64,
    /// At which it was taken. All that counts is written after that.
    taken: u64,
    /// Whether all has been written since.
    settled: bool,
    renew_at: Instant,
    /// Of the connection that it was renewed over last.
    generation: u64,
}

type Written = BoxFuture<'static, (EntryId, u64, Result<u64, WriteError>)>;

struct Writer {
    id: OwnerId,
    desk: Arc<Desk>,
    store: Store,
    lease: Option<Lease>,
    on_the_way: FuturesUnordered<Written>,
    delay: Duration,
    /// Nothing more is written until then, because something failed.
    paused_until: Option<Instant>,
}

impl Writer {
    async fn run(mut self) {
        loop {
            if self.store.link.wait_for(|link| link.connected).await.is_err() {
                return;
            }
            if let Err(error) = self.go_on().await {
                debug!(owner = %self.id, error = %error, "the lease of presences cannot be written now");
                sleep(self.delay).await;
                self.delay = (self.delay * 2).min(RETRY_DELAY.1);
            }
        }
    }

    /// One step: the lease when it is due, else entries.
    async fn go_on(&mut self) -> Result<(), BusError> {
        let Some(lease) = &self.lease else { return self.take_lease().await };
        let generation = self.store.link.borrow().generation;
        let just_settled = !lease.settled && self.desk.is_settled();
        if just_settled || lease.generation != generation || lease.renew_at <= Instant::now() {
            return self.renew(generation).await;
        }
        let renew_at = lease.renew_at;
        if self.paused_until.is_some_and(|until| until <= Instant::now()) {
            self.paused_until = None;
        }
        while self.paused_until.is_none()
            && self.on_the_way.len() < WINDOW
            && let Some(job) = self.desk.next_job()
        {
            self.write(job).await;
        }
        let may_write = self.paused_until.is_none() && self.on_the_way.len() < WINDOW;
        let wake_at = self.paused_until.map_or(renew_at, |until| until.min(renew_at));
        let written = tokio::select! {
            Some(written) = self.on_the_way.next() => Some(written),
            () = self.desk.changed(), if may_write => None,
            () = sleep_until(wake_at) => None,
            // The end of the connection is seen by who waits for it to be connected.
            _ = self.store.link.wait_for(|link| !link.connected || link.generation != generation) => None,
        };
        if let Some((id, version, outcome)) = written {
            self.note(&id, version, outcome.map(drop));
        }
        Ok(())
    }

    async fn write(&mut self, job: Job) {
        let Job { id, content, version } = job;
        let options = Options { delete: content.removed, ..Options::default() };
        match self.store.write(entry_key(&id), content.payload, options).await {
            Ok(write) => self.on_the_way.push(async move { (id, version, write.await) }.boxed()),
            Err(error) => self.note(&id, version, Err(error)),
        }
    }

    fn note(&mut self, id: &EntryId, version: u64, outcome: Result<(), WriteError>) {
        let Err(error) = outcome else {
            self.delay = RETRY_DELAY.0;
            self.desk.stored(id, version);
            return;
        };
        self.desk.failed(id);
        if matches!(error, WriteError::NoStore) {
            self.lease = None;
        }
        if self.paused_until.is_none() {
            let error = BusError::from(error);
            debug!(owner = %self.id, error = %error, "presences cannot be written now");
            self.paused_until = Some(Instant::now() + self.delay);
            self.delay = (self.delay * 2).min(RETRY_DELAY.1);
        }
    }

    /// Begins anew: after this, everything is written.
    async fn take_lease(&mut self) -> Result<(), BusError> {
        self.store.ensure().await?;
        let generation = self.store.link.borrow().generation;
        let owner = self.id.as_str();
        self.store.store(owner_key(owner), REGISTERED.into(), Options::default()).await?;
        let options = Options { ttl: Some(LEASE_TTL), ..Options::default() };
        let revision = self.store.store(lease_key(owner), lease_payload(0), options).await?;
        let renew_at = Instant::now() + RENEW_EVERY;
        self.on_the_way.clear();
        self.paused_until = None;
        self.desk.write_all_anew();
        // With nothing to write, the next renewal is early enough to say so.
        let settled = self.desk.is_settled();
        self.lease = Some(Lease { revision, taken: revision, settled, renew_at, generation });
        info!(%owner, "the owner of presences has its lease");
        Ok(())
    }

    async fn renew(&mut self, generation: u64) -> Result<(), BusError> {
        let Some(lease) = &mut self.lease else { return Ok(()) };
        lease.settled |= self.desk.is_settled();
        let since = if lease.settled { lease.taken } else { 0 };
        let options = Options { ttl: Some(LEASE_TTL), expected: Some(lease.revision), ..Options::default() };
        let key = lease_key(self.id.as_str());
        match self.store.store(key.clone(), lease_payload(since), options).await {
            Ok(revision) => {
                lease.revision = revision;
                lease.generation = generation;
                lease.renew_at = Instant::now() + RENEW_EVERY;
                Ok(())
            }
            // An earlier renewal may have been stored without its answer reaching us: then the lease is still ours.
            Err(WriteError::Changed) => match self.store.read(&key).await? {
                Some((_, revision)) if revision > lease.revision => {
                    lease.revision = revision;
                    Ok(())
                }
                _ => {
                    warn!(owner = %self.id, "the lease of presences has lapsed; writing them anew");
                    self.lease = None;
                    Ok(())
                }
            },
            Err(WriteError::NoStore) => {
                warn!(owner = %self.id, "the store of presences is gone; writing them anew");
                self.lease = None;
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }
}
