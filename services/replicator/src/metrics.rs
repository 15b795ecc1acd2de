//! The replicator's metrics, by tenant.

use reactor_model::TenantId;
use reactor_runtime::Registry;
use reactor_runtime::metrics::{Gauge, IntCounter, IntGauge};

const LABELS: &[&str] = &["tenant"];

/// Every metric, with the tenant's label filled in.
#[derive(Debug)]
pub(crate) struct Metrics {
    pub(crate) received_lsn: IntGauge,
    pub(crate) published_lsn: IntGauge,
    pub(crate) acked_lsn: IntGauge,
    pub(crate) flushed_lsn: IntGauge,
    pub(crate) in_flight_batches: IntGauge,
    pub(crate) in_flight_bytes: IntGauge,
    pub(crate) slot_retained_bytes: IntGauge,
    pub(crate) commit_lag_seconds: Gauge,
    pub(crate) leading: IntGauge,
    pub(crate) rows: IntCounter,
    pub(crate) skipped_rows: IntCounter,
    pub(crate) oversize_rows: IntCounter,
    pub(crate) batches: IntCounter,
    pub(crate) bytes: IntCounter,
    pub(crate) sessions: IntCounter,
    pub(crate) session_errors: IntCounter,
    pub(crate) history_lost: IntCounter,
}

impl Metrics {
    pub(crate) fn new(registry: &Registry, tenant: &TenantId) -> Self {
        let gauge = |name, help| registry.gauge_vec(name, help, LABELS).with_label_values(&[tenant.as_str()]);
        let counter = |name, help| registry.counter_vec(name, help, LABELS).with_label_values(&[tenant.as_str()]);
        let seconds = |name, help| registry.float_gauge_vec(name, help, LABELS).with_label_values(&[tenant.as_str()]);
        Self {
            received_lsn: gauge("reactor_replicator_received_lsn", "log position read from Postgres"),
            published_lsn: gauge("reactor_replicator_published_lsn", "log position handed to the change log"),
            acked_lsn: gauge("reactor_replicator_acked_lsn", "log position stored by the change log"),
            flushed_lsn: gauge("reactor_replicator_flushed_lsn", "log position confirmed to Postgres"),
            in_flight_batches: gauge("reactor_replicator_in_flight_batches", "batches on their way to the change log"),
            in_flight_bytes: gauge("reactor_replicator_in_flight_bytes", "bytes on their way to the change log"),
            slot_retained_bytes: gauge("reactor_replicator_slot_retained_bytes", "write-ahead log held by the slot"),
            commit_lag_seconds: seconds(
                "reactor_replicator_commit_lag_seconds",
                "age of the commit that is being read when Postgres sent it",
            ),
            leading: gauge("reactor_replicator_leading", "1 while this process holds the tenant's lease"),
            rows: counter("reactor_replicator_rows_total", "changes published"),
            skipped_rows: counter("reactor_replicator_skipped_rows_total", "changes that the change log had already"),
            oversize_rows: counter(
                "reactor_replicator_oversize_rows_total",
                "changes with values left out because they exceed the maximum payload",
            ),
            batches: counter("reactor_replicator_batches_total", "batches published, marks included"),
            bytes: counter("reactor_replicator_bytes_total", "bytes of batches published"),
            sessions: counter("reactor_replicator_sessions_total", "replication sessions begun"),
            session_errors: counter("reactor_replicator_session_errors_total", "replication sessions that failed"),
            history_lost: counter("reactor_replicator_history_lost_total", "new epochs because history was lost"),
        }
    }
}
