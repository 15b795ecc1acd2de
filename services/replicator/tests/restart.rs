//! Ends and beginnings: nothing is lost, nothing comes twice.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use reactor_bus::Leases;
use reactor_bus::memory::MemoryLeases;
use reactor_testkit::{Postgres, PostgresOptions, TcpProxy, wait};

use crate::support::{Replicator, SOON, memory_log, settings};

const ROWS: usize = 10_000;

async fn fill(postgres: &Postgres, database: &str, rows: usize) -> Result<()> {
    let sql = format!("insert into t select i, repeat('x', 100) from generate_series(1, {rows}) i");
    postgres.execute_in(database, &sql).await
}

async fn table(postgres: &Postgres, database: &str) -> Result<String> {
    let url = postgres.create_database(database).await?;
    postgres.execute_in(database, "create table t (id int, text text)").await?;
    Ok(url)
}

/// The log holds exactly the rows 1 to `rows` of one transaction, in order.
async fn check_whole(replicator: &Replicator, rows: usize) -> Result<()> {
    let lines = replicator.lines(rows).await?;
    for (id, line) in (1..).zip(&lines) {
        ensure!(line.starts_with(&format!("insert public.t new[id={id} ")), "{line} at {id}");
    }
    let ordinals = replicator.positions().await?.into_iter().map(|position| position.ordinal as usize);
    ensure!(ordinals.eq(1..=rows), "ordinals count from 1");
    Ok(())
}

#[tokio::test]
async fn killed_in_the_middle_of_a_transaction_it_goes_on_where_the_log_ends() -> Result<()> {
    let postgres = Postgres::shared().await?;
    let url = table(postgres, "killed").await?;
    let mut replicator = Replicator::streaming(settings(&url)).await?;
    fill(postgres, "killed", ROWS).await?;
    for round in 1..=3 {
        let target = round * ROWS / 5;
        wait::until(SOON, "a part is stored", || async { Ok(replicator.positions().await?.len() >= target) }).await?;
        let stopped = replicator.kill().await;
        replicator = stopped.start_again();
    }
    check_whole(&replicator, ROWS).await?;
    replicator.finish(postgres).await
}

#[tokio::test]
async fn cut_off_again_and_again_it_goes_on() -> Result<()> {
    let postgres = Postgres::shared().await?;
    table(postgres, "cut").await?;
    let proxy = TcpProxy::to_port(postgres.port()).await?;
    let url = format!("postgres://postgres@127.0.0.1:{}/cut", proxy.port());
    let replicator = Replicator::streaming(settings(&url)).await?;
    fill(postgres, "cut", ROWS).await?;
    for _ in 0..4 {
        reactor_testkit::wait::elapse(Duration::from_millis(15), "between kills").await;
        proxy.cut();
    }
    check_whole(&replicator, ROWS).await?;
    replicator.finish(postgres).await
}

#[tokio::test]
async fn an_orderly_stop_leaves_nothing_to_do_again() -> Result<()> {
    let postgres = Postgres::shared().await?;
    let url = table(postgres, "stopped").await?;
    let replicator = Replicator::streaming(settings(&url)).await?;
    fill(postgres, "stopped", 100).await?;
    check_whole(&replicator, 100).await?;
    let slot = replicator.status.slot();
    let stopped = replicator.stop().await?;
    fill(postgres, "stopped", 3).await?;
    let replicator = stopped.start_again();
    let lines = replicator.lines(103).await?;
    ensure!(lines[100].starts_with("insert public.t new[id=1 "), "{}", lines[100]);
    assert_eq!(replicator.status.slot(), slot, "the slot stays");
    replicator.finish(postgres).await
}

#[tokio::test]
async fn a_log_in_memory_is_rebuilt_from_the_slot_with_the_same_positions() -> Result<()> {
    let postgres = Postgres::shared().await?;
    let url = table(postgres, "rebuilt").await?;
    let lagging = reactor_replicator::ReplicatorSettings { confirm_lag: Duration::from_secs(300), ..settings(&url) };
    let replicator = Replicator::streaming(lagging.clone()).await?;
    let sql = postgres.connect_to("rebuilt").await?;
    for id in 1..=20 {
        sql.execute("insert into t values ($1, 'x')", &[&id]).await?;
    }
    replicator.lines(20).await?;
    let (positions, epoch) = (replicator.positions().await?, replicator.status.epoch());
    replicator.stop().await?;
    let replicator = Replicator::start(lagging);
    replicator.lines(20).await?;
    assert_eq!((replicator.positions().await?, replicator.status.epoch()), (positions.clone(), epoch));
    let batches = replicator.batches().await?;
    assert!(batches.iter().all(|batch| batch.live_from > positions[19].lsn), "told to be a re-reading of the past");
    replicator.finish(postgres).await
}

#[tokio::test]
async fn postgres_restarts_and_crashes() -> Result<()> {
    let postgres = Postgres::start_with(PostgresOptions::default().set("fsync", "on")).await?;
    let url = table(&postgres, "restarted").await?;
    // With a lag, what the server wants to hear before it shuts down is never said.
    let lagging = reactor_replicator::ReplicatorSettings { confirm_lag: Duration::from_secs(130), ..settings(&url) };
    let replicator = Replicator::streaming(lagging).await?;
    fill(&postgres, "restarted", 10).await?;
    replicator.lines(10).await?;
    let begun = Instant::from(tokio::time::Instant::now());
    postgres.restart().await?;
    ensure!(begun.elapsed() < Duration::from_secs(5), "the server was kept from stopping for {:?}", begun.elapsed());
    fill(&postgres, "restarted", 10).await?;
    replicator.lines(20).await?;
    postgres.kill().await?;
    replicator.unready_with("check that Postgres runs").await?;
    postgres.start_again().await?;
    fill(&postgres, "restarted", 10).await?;
    replicator.lines(30).await?;
    replicator.ready().await?;
    replicator.stop().await?;
    Ok(())
}

#[tokio::test]
async fn one_of_two_leads_and_the_other_takes_over() -> Result<()> {
    let postgres = Postgres::shared().await?;
    let url = table(postgres, "led").await?;
    let (log, leases) = (memory_log(), Arc::new(MemoryLeases::new()));
    let first = Replicator::start_on(settings(&url), log.clone(), leases.clone());
    first.ready().await?;
    let second = Replicator::start_on(settings(&url), log, leases);
    second.ready().await?;
    ensure!(second.status.slot().is_none(), "one that stands by is ready and has no session");
    fill(postgres, "led", 10).await?;
    check_whole(&first, 10).await?;
    first.kill().await;
    let begun = tokio::time::Instant::now();
    reactor_testkit::wait::until(Duration::from_secs(20), "the second to take over", || async {
        Ok(second.status.slot().is_some())
    })
    .await?;
    ensure!(begun.elapsed() < Duration::from_secs(10), "takes over in time");
    fill(postgres, "led", 10).await?;
    second.lines(20).await?;
    second.finish(postgres).await
}

#[tokio::test]
async fn a_lost_lease_ends_the_session_and_a_predecessor_is_ended() -> Result<()> {
    let postgres = Postgres::shared().await?;
    let url = table(postgres, "zombie").await?;
    // Each believes in leases of its own, as after a split: the log and the slot must sort it out.
    let log = memory_log();
    let zombie = Replicator::start_on(settings(&url), log.clone(), Arc::new(MemoryLeases::new()));
    zombie.ready().await?;
    let mut spanning = settings(&url);
    spanning.confirm_lag = Duration::ZERO;
    let second = Replicator::start_on(spanning, log, Arc::new(Spanning(MemoryLeases::new())));
    second.ready().await?;
    zombie.kill().await;
    fill(postgres, "zombie", 10).await?;
    check_whole(&second, 10).await?;
    second.finish(postgres).await
}

/// Leases that claim to span processes.
#[derive(Debug)]
struct Spanning(MemoryLeases);

impl Leases for Spanning {
    fn try_acquire<'a>(
        &'a self,
        key: &'a str,
        holder: &'a str,
        ttl: Duration,
    ) -> futures::future::BoxFuture<'a, Result<Option<reactor_bus::Lease>, reactor_bus::BusError>> {
        self.0.try_acquire(key, holder, ttl)
    }

    fn renew<'a>(
        &'a self,
        lease: &'a mut reactor_bus::Lease,
    ) -> futures::future::BoxFuture<'a, Result<(), reactor_bus::BusError>> {
        self.0.renew(lease)
    }

    fn release(&self, lease: reactor_bus::Lease) -> futures::future::BoxFuture<'_, Result<(), reactor_bus::BusError>> {
        self.0.release(lease)
    }

    fn spans_processes(&self) -> bool {
        true
    }
}
