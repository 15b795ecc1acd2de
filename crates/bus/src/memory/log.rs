//! [`ChangeLog`] in memory, bounded by age and by bytes.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::future::{self, BoxFuture, FutureExt};
use futures::stream::{self, BoxStream, StreamExt};
use reactor_model::TenantId;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::{Ack, Bounds, BusError, ChangeLog, Stored, lock};

/// How much a [`MemoryLog`] keeps.
#[derive(Clone, Copy, Debug)]
pub struct MemoryLogConfig {
    /// How long a batch is kept.
    pub retention: Duration,
    /// Payload bytes kept for each tenant. The newest batch is kept in any case.
    pub max_bytes: usize,
    /// Largest payload in bytes.
    pub max_payload_bytes: usize,
}

/// The logs of this process's tenants.
pub struct MemoryLog {
    config: MemoryLogConfig,
    tenants: Mutex<HashMap<TenantId, Arc<TenantLog>>>,
}

impl MemoryLog {
    /// Without any tenant: [`ChangeLog::open`] creates their logs.
    #[must_use]
    pub fn new(config: MemoryLogConfig) -> Self {
        Self { config, tenants: Mutex::default() }
    }

    fn tenant(&self, tenant: &TenantId) -> Result<Arc<TenantLog>, BusError> {
        lock(&self.tenants).get(tenant).cloned().ok_or(BusError::NoLog)
    }

    fn append_now(&self, tenant: &TenantId, payload: Bytes, expected_last: u64) -> Result<u64, BusError> {
        if payload.len() > self.config.max_payload_bytes {
            return Err(BusError::TooLarge(payload.len()));
        }
        let log = self.tenant(tenant)?;
        let mut entries = lock(&log.entries);
        if entries.last != expected_last {
            return Err(BusError::Fenced);
        }
        let now = Instant::now();
        let seq = entries.push(payload, now);
        entries.trim(&self.config, now);
        // Under the lock, so that followers are told of sequences in order.
        log.newest.send_replace(seq);
        Ok(seq)
    }

    fn get_now(&self, tenant: &TenantId, seq: u64) -> Result<Option<Stored>, BusError> {
        let log = self.tenant(tenant)?;
        let mut entries = lock(&log.entries);
        entries.trim(&self.config, Instant::now());
        Ok(entries.get(seq))
    }

    fn bounds_now(&self, tenant: &TenantId) -> Result<Bounds, BusError> {
        let log = self.tenant(tenant)?;
        let mut entries = lock(&log.entries);
        entries.trim(&self.config, Instant::now());
        Ok(entries.bounds())
    }

    fn follow_now(&self, tenant: &TenantId, after: u64) -> Result<Follower, BusError> {
        let log = self.tenant(tenant)?;
        let bounds = lock(&log.entries).bounds();
        if bounds.last < after {
            return Err(BusError::Reset);
        }
        if after + 1 < bounds.first {
            return Err(BusError::Trimmed);
        }
        let newest = log.newest.subscribe();
        Ok(Follower { log, newest, cursor: after })
    }
}

impl fmt::Debug for MemoryLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryLog").field("config", &self.config).finish_non_exhaustive()
    }
}

impl ChangeLog for MemoryLog {
    fn max_payload_bytes(&self) -> usize {
        self.config.max_payload_bytes
    }

    fn open<'a>(&'a self, tenant: &'a TenantId) -> BoxFuture<'a, Result<(), BusError>> {
        lock(&self.tenants).entry(tenant.clone()).or_default();
        future::ready(Ok(())).boxed()
    }

    fn bounds<'a>(&'a self, tenant: &'a TenantId) -> BoxFuture<'a, Result<Bounds, BusError>> {
        future::ready(self.bounds_now(tenant)).boxed()
    }

    fn append<'a>(
        &'a self,
        tenant: &'a TenantId,
        _schema: &'a str,
        _table: &'a str,
        payload: Bytes,
        expected_last: u64,
    ) -> BoxFuture<'a, Result<Ack, BusError>> {
        let stored = self.append_now(tenant, payload, expected_last);
        future::ready(stored.map(|seq| future::ready(Ok(seq)).boxed())).boxed()
    }

    fn get<'a>(&'a self, tenant: &'a TenantId, seq: u64) -> BoxFuture<'a, Result<Option<Stored>, BusError>> {
        future::ready(self.get_now(tenant, seq)).boxed()
    }

    fn follow<'a>(
        &'a self,
        tenant: &'a TenantId,
        after: u64,
    ) -> BoxFuture<'a, Result<BoxStream<'static, Result<Stored, BusError>>, BusError>> {
        let follower = self.follow_now(tenant, after);
        future::ready(follower.map(|follower| stream::try_unfold(follower, Follower::step).boxed())).boxed()
    }

    fn unavailable(&self) -> Option<String> {
        None
    }
}

/// One tenant's log, shared by its writer and its followers.
struct TenantLog {
    entries: Mutex<Entries>,
    newest: watch::Sender<u64>,
}

impl Default for TenantLog {
    fn default() -> Self {
        Self { entries: Mutex::default(), newest: watch::Sender::new(0) }
    }
}

#[derive(Default)]
struct Entries {
    kept: VecDeque<(Instant, Bytes)>,
    bytes: usize,
    last: u64,
}

impl Entries {
    fn bounds(&self) -> Bounds {
        Bounds { first: self.last + 1 - self.kept.len() as u64, last: self.last }
    }

    fn push(&mut self, payload: Bytes, now: Instant) -> u64 {
        self.bytes += payload.len();
        self.kept.push_back((now, payload));
        self.last += 1;
        self.last
    }

    fn trim(&mut self, config: &MemoryLogConfig, now: Instant) {
        while let Some((stored_at, payload)) = self.kept.front() {
            let expired = now.duration_since(*stored_at) >= config.retention;
            let too_much = self.bytes > config.max_bytes && self.kept.len() > 1;
            if !expired && !too_much {
                return;
            }
            self.bytes -= payload.len();
            self.kept.pop_front();
        }
    }

    fn get(&self, seq: u64) -> Option<Stored> {
        let index = seq.checked_sub(self.bounds().first)?;
        let (_, payload) = self.kept.get(usize::try_from(index).ok()?)?;
        Some(Stored { seq, payload: payload.clone() })
    }
}

/// One reader's place in a log.
struct Follower {
    log: Arc<TenantLog>,
    newest: watch::Receiver<u64>,
    cursor: u64,
}

impl Follower {
    async fn step(mut self) -> Result<Option<(Stored, Self)>, BusError> {
        loop {
            // Marked as seen before looking, so that an append after the look wakes this follower.
            self.newest.borrow_and_update();
            if let Some(stored) = self.look()? {
                self.cursor = stored.seq;
                return Ok(Some((stored, self)));
            }
            if self.newest.changed().await.is_err() {
                return Ok(None);
            }
        }
    }

    fn look(&self) -> Result<Option<Stored>, BusError> {
        let entries = lock(&self.log.entries);
        let wanted = self.cursor + 1;
        if wanted < entries.bounds().first {
            return Err(BusError::Trimmed);
        }
        Ok(entries.get(wanted))
    }
}
