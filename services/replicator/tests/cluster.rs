//! The program itself, on a real NATS server.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use reactor_bus::BusError;
use reactor_bus::ChangeLog;
use reactor_bus::nats::{NatsBus, NatsConfig};
use reactor_model::{Batch, TenantId};
use reactor_testkit::{Nats, Postgres, Process, ProcessOptions, free_port, wait};

use crate::support::{SOON, batches, check_chain, lines_of, positions};

struct Cluster {
    nats: Nats,
    bus: Arc<NatsBus>,
    tenant: TenantId,
}

impl Cluster {
    async fn start() -> Result<Self> {
        let nats = Nats::start().await?;
        let bus = Arc::new(NatsBus::connect(NatsConfig::new(nats.url())).await?);
        Ok(Self { nats, bus, tenant: "acme".parse()? })
    }

    fn replicator(&self, url: &str, admin: u16) -> Result<Process> {
        ProcessOptions::new("reactor-replicator")
            .env("REACTOR_TENANT", self.tenant.as_str())
            .env("REACTOR_DATA_DATABASE_URL", url)
            .env("REACTOR_NATS_URL", self.nats.url())
            .env("REACTOR_ADMIN_LISTEN", format!("127.0.0.1:{admin}"))
            .env("REACTOR_PUBLICATION_CREATE", "true")
            .env("REACTOR_REPLICATION_CONFIRM_LAG_SECS", "0")
            .start()
    }

    async fn batches(&self) -> Result<Vec<Batch>> {
        batches(&*self.bus, &self.tenant).await
    }

    /// Waits for rows `1..=rows` of the table `t`, each once and in order.
    async fn check_rows(&self, rows: usize) -> Result<()> {
        let stored = wait::value(SOON, "rows in JetStream", || async {
            let batches = self.batches().await?;
            let found = positions(&batches).len();
            ensure!(found >= rows, "{found} of {rows}");
            Ok(Some(batches))
        })
        .await?;
        check_chain(&stored)?;
        let lines: Vec<String> = stored.iter().flat_map(lines_of).collect();
        ensure!(lines.len() == rows, "{} rows", lines.len());
        for (id, line) in (1..).zip(&lines) {
            ensure!(line == &format!("insert public.t new[id={id}]"), "{line} at {id}");
        }
        Ok(())
    }
}

async fn insert(postgres: &Postgres, database: &str, from: usize, to: usize) -> Result<()> {
    postgres.execute_in(database, &format!("insert into t select generate_series({from}, {to})")).await
}

#[tokio::test]
async fn the_program_survives_its_own_death_and_that_of_nats() -> Result<()> {
    let postgres = Postgres::shared().await?;
    let url = postgres.create_database("cluster").await?;
    postgres.execute_in("cluster", "create table t (id int)").await?;
    let cluster = Cluster::start().await?;
    ensure!(matches!(cluster.bus.bounds(&cluster.tenant).await, Err(BusError::NoLog)));
    let admin = free_port()?;
    let ready = format!("http://127.0.0.1:{admin}/ready");
    let replicator = cluster.replicator(&url, admin)?;
    replicator.wait_for_url(&ready, SOON).await?;

    insert(postgres, "cluster", 1, 10_000).await?;
    wait::until(SOON, "a part is stored", || async { Ok(positions(&cluster.batches().await?).len() > 500) }).await?;
    replicator.kill().await?;
    replicator.start_again()?;
    replicator.wait_for_url(&ready, SOON).await?;
    cluster.check_rows(10_000).await?;

    insert(postgres, "cluster", 10_001, 20_000).await?;
    cluster.nats.restart().await?;
    insert(postgres, "cluster", 20_001, 20_010).await?;
    cluster.check_rows(20_010).await?;

    // Another one stands by, and takes over as soon as the first one stops in order.
    let other_admin = free_port()?;
    let other = cluster.replicator(&url, other_admin)?;
    replicator.wait_for_url(&ready, SOON).await?;
    replicator.stop(Duration::from_secs(10)).await?;
    let stopped = tokio::time::Instant::now();
    other.wait_for_url(&format!("http://127.0.0.1:{other_admin}/ready"), SOON).await?;
    ensure!(stopped.elapsed() < Duration::from_secs(5), "the lease was given back: {:?}", stopped.elapsed());
    insert(postgres, "cluster", 20_011, 20_020).await?;
    cluster.check_rows(20_020).await?;
    other.stop(Duration::from_secs(10)).await?;
    let log = replicator.stderr()? + &replicator.stdout()?;
    ensure!(!log.contains("panicked"), "{log}");
    let sql = "select pg_drop_replication_slot(slot_name) from pg_replication_slots where database = 'cluster'";
    postgres.execute(sql).await
}
