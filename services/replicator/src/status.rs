//! What the outside may know: readiness, positions, metrics.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use reactor_model::{Epoch, Lsn, TenantId};
use reactor_runtime::Registry;

use crate::apply::{Lsns, Machine, Totals};
use crate::metrics::Metrics;

/// Shared by the replicator, the admin server and whoever starts them.
pub struct ReplicatorStatus {
    inner: Mutex<Inner>,
    metrics: Metrics,
}

#[derive(Debug)]
struct Inner {
    unready: Option<String>,
    lsns: Lsns,
    epoch: Option<Epoch>,
    slot: Option<String>,
}

impl ReplicatorStatus {
    /// Not ready yet; the tenant's metrics are made in `registry`.
    #[must_use]
    pub fn new(registry: &Registry, tenant: &TenantId) -> Arc<Self> {
        let inner = Inner { unready: Some("starting".to_owned()), lsns: Lsns::default(), epoch: None, slot: None };
        Arc::new(Self { inner: Mutex::new(inner), metrics: Metrics::new(registry, tenant) })
    }

    /// Why changes do not flow, in one sentence; `None` while they do, here or in the replicator that holds the lease.
    #[must_use]
    pub fn unready_reason(&self) -> Option<String> {
        self.lock().unready.clone()
    }

    /// The four positions of the newest session.
    #[must_use]
    pub fn lsns(&self) -> Lsns {
        self.lock().lsns
    }

    /// The history that is being written, once a session has begun.
    #[must_use]
    pub fn epoch(&self) -> Option<Epoch> {
        self.lock().epoch
    }

    /// The slot in use, once a session has begun.
    #[must_use]
    pub fn slot(&self) -> Option<String> {
        self.lock().slot.clone()
    }

    pub(crate) fn set_unready(&self, reason: impl Into<String>) {
        self.lock().unready = Some(reason.into());
    }

    /// Another replicator of this tenant is at work, and this one is ready to take over: to report anything else would
    /// hold up every rolling update.
    pub(crate) fn set_standing_by(&self) {
        self.lock().unready = None;
    }

    pub(crate) fn set_streaming(&self, epoch: Epoch, slot: &str) {
        let mut inner = self.lock();
        inner.unready = None;
        inner.epoch = Some(epoch);
        inner.slot = Some(slot.to_owned());
        self.metrics.sessions.inc();
    }

    /// Records where a session stands; `counted` are its totals as recorded before.
    pub(crate) fn record(&self, machine: &mut Machine, now: std::time::Duration, counted: &mut Totals) {
        let lsns = machine.lsns(now);
        self.lock().lsns = lsns;
        let metrics = &self.metrics;
        metrics.received_lsn.set(gauge(lsns.received));
        metrics.published_lsn.set(gauge(lsns.published));
        metrics.acked_lsn.set(gauge(lsns.acked));
        metrics.flushed_lsn.set(gauge(lsns.flushed));
        metrics.commit_lag_seconds.set(machine.commit_lag().as_secs_f64());
        let (batches, bytes) = machine.in_flight();
        metrics.in_flight_batches.set(batches.try_into().unwrap_or(i64::MAX));
        metrics.in_flight_bytes.set(bytes.try_into().unwrap_or(i64::MAX));
        let totals = machine.totals();
        metrics.rows.inc_by(totals.rows - counted.rows);
        metrics.skipped_rows.inc_by(totals.skipped - counted.skipped);
        metrics.oversize_rows.inc_by(totals.oversize - counted.oversize);
        metrics.batches.inc_by(totals.batches - counted.batches);
        metrics.bytes.inc_by(totals.bytes - counted.bytes);
        *counted = totals;
    }

    pub(crate) fn set_retained(&self, bytes: u64) {
        self.metrics.slot_retained_bytes.set(bytes.try_into().unwrap_or(i64::MAX));
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for ReplicatorStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lock().fmt(f)
    }
}

fn gauge(lsn: Lsn) -> i64 {
    i64::try_from(lsn.0).unwrap_or(i64::MAX)
}
