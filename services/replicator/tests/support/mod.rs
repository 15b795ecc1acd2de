//! A running replicator with its log, and what the log says, as lines of text.

pub(crate) mod slow_log;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use reactor_bus::memory::{MemoryLeases, MemoryLog, MemoryLogConfig};
use reactor_bus::{ChangeLog, Leases};
use reactor_model::{Batch, Change, Lsn, OldImage, Position, Relation, RelationCache, TenantId, Tuple, tuple::Datum};
use reactor_pg::PgTarget;
use reactor_replicator::{ReplicatorSettings, ReplicatorStatus};
use reactor_runtime::Registry;
use reactor_testkit::{Postgres, wait};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) const SOON: Duration = Duration::from_secs(20);

/// Settings for a database that has, or is to get, the publication `changes`.
pub(crate) fn settings(url: &str) -> ReplicatorSettings {
    ReplicatorSettings {
        tenant: "acme".parse().expect("a tenant"),
        target: PgTarget::parse(url).expect("a url"),
        publication: "changes".to_owned(),
        create_publication: true,
        install_schema: true,
        slot_prefix: "reactor".to_owned(),
        confirm_lag: Duration::ZERO,
        confirm_lag_max_bytes: 1 << 30,
        max_lag_bytes: None,
    }
}

pub(crate) fn memory_log() -> Arc<MemoryLog> {
    Arc::new(MemoryLog::new(MemoryLogConfig {
        retention: Duration::from_secs(3600),
        max_bytes: 1 << 30,
        max_payload_bytes: 1 << 20,
    }))
}

/// A replicator and what it runs on. `log` and `leases` outlive it, as a bus outlives its writers.
pub(crate) struct Replicator {
    pub(crate) log: Arc<dyn ChangeLog>,
    pub(crate) leases: Arc<dyn Leases>,
    pub(crate) status: Arc<ReplicatorStatus>,
    pub(crate) registry: Registry,
    settings: ReplicatorSettings,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Replicator {
    pub(crate) fn start(settings: ReplicatorSettings) -> Self {
        Self::start_on(settings, memory_log(), Arc::new(MemoryLeases::new()))
    }

    pub(crate) fn start_on(settings: ReplicatorSettings, log: Arc<dyn ChangeLog>, leases: Arc<dyn Leases>) -> Self {
        let registry = Registry::new();
        let status = ReplicatorStatus::new(&registry, &settings.tenant);
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(reactor_replicator::run(
            settings.clone(),
            Arc::clone(&log),
            Arc::clone(&leases),
            shutdown.clone(),
            Arc::clone(&status),
        ));
        Self { log, leases, status, registry, settings, shutdown, task }
    }

    /// Starts and waits until changes flow.
    pub(crate) async fn streaming(settings: ReplicatorSettings) -> Result<Self> {
        let replicator = Self::start(settings);
        replicator.ready().await?;
        Ok(replicator)
    }

    pub(crate) async fn ready(&self) -> Result<()> {
        wait::until(SOON, "changes flow", || async {
            match self.status.unready_reason() {
                None => Ok(true),
                Some(reason) => bail!(reason),
            }
        })
        .await
    }

    /// Waits until `/ready` would say something with `part` in it.
    pub(crate) async fn unready_with(&self, part: &str) -> Result<String> {
        wait::value(SOON, part, || async {
            match self.status.unready_reason() {
                Some(reason) if reason.contains(part) => Ok(Some(reason)),
                other => bail!("{other:?}"),
            }
        })
        .await
    }

    /// Stops in order.
    pub(crate) async fn stop(self) -> Result<Stopped> {
        self.shutdown.cancel();
        tokio::time::timeout(SOON, self.task).await.context("stops in time")??;
        Ok(Stopped { log: self.log, leases: self.leases, settings: self.settings })
    }

    /// Ends as a killed process does: nothing is finished, nothing is said. Its lease is taken to have lapsed.
    pub(crate) async fn kill(self) -> Stopped {
        self.task.abort();
        let _ = self.task.await;
        Stopped { log: self.log, leases: Arc::new(MemoryLeases::new()), settings: self.settings }
    }

    /// Stops and drops what the test leaves behind in a server that others use.
    pub(crate) async fn finish(self, postgres: &Postgres) -> Result<()> {
        self.stop().await?.clean(postgres).await
    }

    pub(crate) fn tenant(&self) -> &TenantId {
        &self.settings.tenant
    }

    /// A metric's value as scraped.
    pub(crate) fn metric(&self, name: &str) -> Option<f64> {
        let text = self.registry.render();
        let line = text.lines().find(|line| line.starts_with(&format!("{name}{{")))?;
        line.rsplit(' ').next()?.parse().ok()
    }

    pub(crate) async fn batches(&self) -> Result<Vec<Batch>> {
        batches(&*self.log, self.tenant()).await
    }

    /// Waits until the log has `count` changes, and gives them as text; more are an error.
    pub(crate) async fn lines(&self, count: usize) -> Result<Vec<String>> {
        let batches = wait::value(SOON, "changes in the log", || async {
            let batches = self.batches().await?;
            let found: usize = batches.iter().map(|batch| batch.changes.len()).sum();
            ensure!(found >= count, "{found} of {count} changes; {:?}", self.status.unready_reason());
            Ok(Some(batches))
        })
        .await?;
        check_chain(&batches)?;
        let lines: Vec<String> = batches.iter().flat_map(lines_of).collect();
        ensure!(lines.len() == count, "{} changes: {lines:#?}", lines.len());
        Ok(lines)
    }

    /// Positions of all changes in the log.
    pub(crate) async fn positions(&self) -> Result<Vec<Position>> {
        Ok(positions(&self.batches().await?))
    }

    /// `confirmed_flush_lsn` of the slot.
    pub(crate) async fn confirmed(&self, postgres: &Postgres) -> Result<Lsn> {
        let slot = self.status.slot().context("a slot")?;
        let sql = "select confirmed_flush_lsn::text from pg_replication_slots where slot_name = $1";
        let row = postgres.connect().await?.query_one(sql, &[&slot]).await?;
        Ok(row.get::<_, String>(0).parse()?)
    }
}

/// What is left of a replicator that has ended.
pub(crate) struct Stopped {
    pub(crate) log: Arc<dyn ChangeLog>,
    pub(crate) leases: Arc<dyn Leases>,
    pub(crate) settings: ReplicatorSettings,
}

impl Stopped {
    /// Another process on the same bus.
    pub(crate) fn start_again(self) -> Replicator {
        Replicator::start_on(self.settings, self.log, self.leases)
    }

    /// The slots of the database are dropped, so that those who come after find room.
    pub(crate) async fn clean(self, postgres: &Postgres) -> Result<()> {
        let client = postgres.connect().await?;
        let database = self.settings.target.dbname();
        wait::until(SOON, "slots are dropped", || async {
            let sql = "select pg_drop_replication_slot(slot_name) from pg_replication_slots where database = $1";
            client.execute(sql, &[&database]).await?;
            Ok(true)
        })
        .await
    }
}

pub(crate) async fn batches(log: &dyn ChangeLog, tenant: &TenantId) -> Result<Vec<Batch>> {
    let bounds = log.bounds(tenant).await?;
    let cache = RelationCache::default();
    let mut batches = Vec::new();
    for seq in bounds.first..=bounds.last {
        let stored = log.get(tenant, seq).await?.context("a stored batch")?;
        batches.push(Batch::decode(stored.payload, &cache)?);
    }
    Ok(batches)
}

pub(crate) fn positions(batches: &[Batch]) -> Vec<Position> {
    batches.iter().flat_map(|batch| batch.changes.iter().map(|change| change.position)).collect()
}

/// Each batch names the one before it, and positions only grow.
pub(crate) fn check_chain(batches: &[Batch]) -> Result<()> {
    for pair in batches.windows(2) {
        ensure!(
            pair[1].previous == pair[0].last || pair[1].epoch != pair[0].epoch,
            "{:?} does not follow {:?}",
            pair[1].previous,
            pair[0].last
        );
    }
    let positions = positions(batches);
    ensure!(positions.windows(2).all(|pair| pair[0] < pair[1]), "positions grow");
    Ok(())
}

pub(crate) fn lines_of(batch: &Batch) -> Vec<String> {
    let Some(relation) = &batch.relation else { return Vec::new() };
    batch.changes.iter().map(|change| line(relation, change)).collect()
}

fn line(relation: &Relation, change: &Change) -> String {
    let mut line = format!("{} {}.{}", change.kind.event_name(), relation.schema, relation.table);
    match &change.old {
        OldImage::None => {}
        OldImage::Key(old) => line.push_str(&format!(" key[{}]", row(relation, old))),
        OldImage::Full(old) => line.push_str(&format!(" old[{}]", row(relation, old))),
    }
    if let Some(new) = &change.new {
        line.push_str(&format!(" new[{}]", row(relation, new)));
    }
    line
}

fn row(relation: &Relation, tuple: &Tuple) -> String {
    let value = |datum: Datum<'_>| match datum {
        Datum::Null => "null".to_owned(),
        Datum::Unchanged => "unchanged".to_owned(),
        Datum::Omitted => "omitted".to_owned(),
        Datum::Text(text) if text.len() > 40 => format!("{} bytes", text.len()),
        Datum::Text(text) => String::from_utf8_lossy(text).into_owned(),
    };
    let columns = relation.columns.iter().zip(tuple.iter());
    columns.map(|(column, datum)| format!("{}={}", column.name, value(datum))).collect::<Vec<_>>().join(" ")
}
