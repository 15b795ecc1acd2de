//! `reactor realtime serve`: replicator, policy and gateway in one process, on a bus in memory. No NATS, no gRPC; the same parts.

use std::sync::Arc;
use std::time::Duration;

use reactor_bus::Backlog;
use reactor_bus::memory::{MemoryLeases, MemoryLog, MemoryLogConfig, MemoryPresence, MemoryPubSub};
use reactor_gateway::authz::CachingAuthorizer;
use reactor_gateway::run::{Buses, Gateway, bind};
use reactor_policy::{PolicySettings, PostgresAuthorizer};
use reactor_replicator::{ReplicatorSettings, ReplicatorStatus};
use reactor_runtime::ServiceContext;
use tokio_util::sync::CancellationToken;

/// Bytes of changes that the window keeps in memory; what is older cannot be resumed from.
const WINDOW_BYTES: usize = 512 * 1024 * 1024;
/// Largest batch. There is no wire between the parts, so that no value is left out of a row of a usual size.
const MAX_BATCH_BYTES: usize = 64 * 1024 * 1024;
/// How long the replicator may take to tell Postgres where it stopped.
const REPLICATOR_STOP: Duration = Duration::from_secs(3);

/// Runs the three parts until the process is told to stop: the gateway first, the replicator last.
pub(crate) async fn serve(context: ServiceContext) -> anyhow::Result<()> {
    let config = &context.config;
    let listener = bind(config.listen).await?;
    let retention = config.realtime.replay_buffer;
    let log = Arc::new(MemoryLog::new(MemoryLogConfig {
        retention,
        max_bytes: WINDOW_BYTES,
        max_payload_bytes: MAX_BATCH_BYTES,
    }));

    let status = ReplicatorStatus::new(&context.metrics, &config.tenant);
    let watched = Arc::clone(&status);
    context.readiness.add("replicator", move || watched.unready_reason());
    let stop_replicator = CancellationToken::new();
    // The window is rebuilt from the write-ahead log after a restart, so the slot trails by just as much.
    let settings = ReplicatorSettings::from_config(config, retention)?;
    let leases = Arc::new(MemoryLeases::default());
    let replicating = reactor_replicator::run(settings, Arc::clone(&log) as _, leases, stop_replicator.clone(), status);
    let replicator = tokio::spawn(replicating);

    let policy = PolicySettings::from_config(config)?;
    let authorizer = Arc::new(CachingAuthorizer::new(
        Arc::new(PostgresAuthorizer::new(policy, &context.metrics)),
        config.policy.recheck,
    ));
    let messages = Arc::new(MemoryPubSub::new(MAX_BATCH_BYTES, Backlog::default()));
    let presences = Arc::new(MemoryPresence::new(MAX_BATCH_BYTES));
    let gateway = Arc::new(Gateway::new(&context, Buses { log, messages, presences }, authorizer)?);
    gateway.run(listener, context.shutdown.draining()).await;
    stop_replicator.cancel();
    if tokio::time::timeout(REPLICATOR_STOP, replicator).await.is_err() {
        tracing::warn!("the replicator did not stop in time; the slot has kept what it has not confirmed");
    }
    Ok(())
}
