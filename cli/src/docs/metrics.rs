//! `docs/metrics.md`.

use anyhow::Context;
use reactor_gateway::metrics::Metrics;
use reactor_model::TenantId;
use reactor_pg::PgTarget;
use reactor_policy::{PolicySettings, PostgresAuthorizer};
use reactor_replicator::ReplicatorStatus;
use reactor_runtime::docs::metrics_markdown;
use reactor_runtime::{Registry, Shutdown, process};

/// A row for each metric of the process and of every service.
pub(super) fn markdown() -> anyhow::Result<String> {
    // What the services start in it is never run: no task is polled before it is dropped.
    let runtime = tokio::runtime::Builder::new_current_thread().build().context("no runtime")?;
    let _inside = runtime.enter();
    let registry = Registry::new();
    let tenant: TenantId = "default".parse()?;
    let target = PgTarget::parse("postgres://nobody@localhost/nothing")?;

    process::register(&registry, runtime.handle());
    let _ = Shutdown::new(&registry);
    let _ = Metrics::new(&registry);
    let _ = ReplicatorStatus::new(&registry, &tenant);
    let _ = PostgresAuthorizer::new(PolicySettings::new(tenant, target, String::new()), &registry);
    Ok(metrics_markdown(&registry))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_service_is_there() {
        let page = markdown().expect("a page");
        for part in ["process_", "reactor_task_", "reactor_gateway_", "reactor_replicator_", "reactor_policy_"] {
            assert!(page.contains(&format!("| `{part}")), "{part}");
        }
    }
}
