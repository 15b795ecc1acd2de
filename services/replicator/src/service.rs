//! The replicator of a cluster, put together from the process's configuration.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use reactor_bus::ChangeLog;
use reactor_bus::nats::{NatsBus, NatsConfig};
use reactor_runtime::{Config, ServiceContext};

use crate::settings::ReplicatorSettings;
use crate::status::ReplicatorStatus;

/// JetStream acknowledges before it syncs to disk, by default every two minutes; what a power failure there could take
/// back is still in the slot.
const CONFIRM_LAG: Duration = Duration::from_secs(130);

/// Replicates the configured tenant into NATS until the process drains.
///
/// # Errors
/// What can never work: a setting that cannot be used. A database or a bus that is not there is waited for.
pub async fn service(context: ServiceContext) -> anyhow::Result<()> {
    let config = &context.config;
    let settings = ReplicatorSettings::from_config(config, CONFIRM_LAG).context("the database URL cannot be used")?;
    let bus = Arc::new(NatsBus::connect(nats_config(config)?).await.context("cannot set up NATS")?);
    let status = ReplicatorStatus::new(&context.metrics, &settings.tenant);
    add_checks(&context, &bus, &status);
    crate::run(settings, Arc::clone(&bus) as _, bus, context.shutdown.draining(), status).await;
    Ok(())
}

fn add_checks(context: &ServiceContext, bus: &Arc<NatsBus>, status: &Arc<ReplicatorStatus>) {
    let bus = Arc::clone(bus);
    context.readiness.add("bus", move || bus.unavailable());
    let status = Arc::clone(status);
    context.readiness.add("replication", move || status.unready_reason());
}

fn nats_config(config: &Config) -> anyhow::Result<NatsConfig> {
    let url = config.nats.url.as_ref().context("no NATS address")?;
    Ok(NatsConfig {
        name: "reactor-replicator".to_owned(),
        retention: config.realtime.replay_buffer,
        max_bytes: config.nats.max_bytes,
        replicas: usize::try_from(config.nats.replicas).context("too many NATS replicas")?,
        credentials_file: config.nats.creds_file.clone(),
        ..NatsConfig::new(url.expose().clone())
    })
}
