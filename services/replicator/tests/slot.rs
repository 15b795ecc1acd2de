//! What the slot holds back, and its end.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use reactor_bus::ChangeLog;
use reactor_bus::memory::MemoryLeases;
use reactor_model::{BatchBuilder, Epoch, Lsn, Position, TenantId};
use reactor_replicator::ReplicatorSettings;
use reactor_testkit::{Postgres, PostgresOptions, wait};

use crate::support::{Replicator, SOON, memory_log, settings};

#[tokio::test]
async fn an_idle_slot_follows_what_others_write() -> Result<()> {
    let postgres = Postgres::start().await?;
    let url = postgres.create_database("idle").await?;
    postgres.create_database("busy").await?;
    postgres.execute_in("busy", "create table t (text text)").await?;
    let replicator = Replicator::streaming(settings(&url)).await?;
    let before = replicator.confirmed(&postgres).await?;
    postgres.execute_in("busy", "insert into t select repeat('x', 1000) from generate_series(1, 10000)").await?;
    wait::until(SOON, "the slot lets go", || async {
        Ok(replicator.confirmed(&postgres).await?.bytes_since(before) > 10_000_000)
    })
    .await?;
    let batches = replicator.batches().await?;
    assert!(batches.iter().all(|batch| batch.relation.is_none()), "only marks");
    assert!(batches.len() <= 5, "{} marks", batches.len());
    crate::support::check_chain(&batches)?;
    replicator.stop().await?;
    Ok(())
}

#[tokio::test]
async fn the_slot_trails_by_the_lag() -> Result<()> {
    let postgres = Postgres::shared().await?;
    let url = postgres.create_database("lagging").await?;
    postgres.execute_in("lagging", "create table t (id int)").await?;
    let lagging = ReplicatorSettings { confirm_lag: Duration::from_secs(3), ..settings(&url) };
    let replicator = Replicator::streaming(lagging).await?;
    postgres.execute_in("lagging", "insert into t values (1)").await?;
    replicator.lines(1).await?;
    let commit = replicator.positions().await?[0].lsn;
    assert!(replicator.status.lsns().acked >= commit);
    reactor_testkit::wait::elapse(Duration::from_secs(1), "for what must not move").await;
    assert!(replicator.confirmed(postgres).await? < commit, "not yet");
    wait::until(SOON, "confirmed after the lag", || async { Ok(replicator.confirmed(postgres).await? >= commit) })
        .await?;
    let lsns = replicator.status.lsns();
    assert!(lsns.flushed <= lsns.acked && lsns.acked <= lsns.published && lsns.published <= lsns.received, "{lsns:?}");
    replicator.finish(postgres).await
}

async fn write_wal(postgres: &Postgres, database: &str, megabytes: usize) -> Result<()> {
    let sql = postgres.connect_to(database).await?;
    for _ in 0..megabytes {
        sql.batch_execute("select pg_logical_emit_message(false, 'filler', repeat('x', 1000000))").await?;
    }
    sql.batch_execute("select pg_switch_wal(); checkpoint").await?;
    Ok(())
}

#[tokio::test]
async fn an_invalidated_slot_begins_a_new_epoch() -> Result<()> {
    let options = PostgresOptions::default().set("max_slot_wal_keep_size", "1MB").set("wal_keep_size", "0");
    let options = options.set("min_wal_size", "32MB").set("max_wal_size", "32MB");
    let postgres = Postgres::start_with(options).await?;
    let url = postgres.create_database("invalidated").await?;
    postgres.execute_in("invalidated", "create table t (id int); insert into t values (0)").await?;
    let replicator = Replicator::streaming(settings(&url)).await?;
    postgres.execute_in("invalidated", "insert into t values (1)").await?;
    replicator.lines(1).await?;
    let (slot, epoch) = (replicator.status.slot(), replicator.status.epoch());
    let stopped = replicator.stop().await?;
    write_wal(&postgres, "invalidated", 40).await?;
    let lost = "select count(*) from pg_replication_slots where wal_status = 'lost'";
    assert_eq!(postgres.connect().await?.query_one(lost, &[]).await?.get::<_, i64>(0), 1);
    let replicator = stopped.start_again();
    replicator.ready().await?;
    assert!(replicator.status.slot() != slot && replicator.status.epoch() != epoch);
    postgres.execute_in("invalidated", "insert into t values (2)").await?;
    assert_eq!(replicator.lines(2).await?, ["insert public.t new[id=1]", "insert public.t new[id=2]"]);
    assert_eq!(replicator.metric("reactor_replicator_history_lost_total"), Some(1.0));
    let slots = "select count(*) from pg_replication_slots";
    assert_eq!(postgres.connect().await?.query_one(slots, &[]).await?.get::<_, i64>(0), 1, "the old one is dropped");
    let batches = replicator.batches().await?;
    let mark = batches.iter().find(|batch| Some(batch.epoch) == replicator.status.epoch());
    assert!(mark.is_some_and(|mark| mark.relation.is_none() && mark.previous == mark.last), "a mark begins the epoch");
    replicator.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_slot_that_holds_back_too_much_is_dropped() -> Result<()> {
    let postgres = Postgres::start().await?;
    let url = postgres.create_database("bounded").await?;
    let bounded = ReplicatorSettings { max_lag_bytes: Some(20_000_000), ..settings(&url) };
    let replicator = Replicator::streaming(bounded).await?;
    let epoch = replicator.status.epoch();
    let stopped = replicator.stop().await?;
    let replicator = stopped.start_again();
    replicator.ready().await?;
    assert_eq!(replicator.status.epoch(), epoch, "within the bound");
    let stopped = replicator.stop().await?;
    write_wal(&postgres, "bounded", 40).await?;
    let replicator = stopped.start_again();
    replicator.ready().await?;
    assert_ne!(replicator.status.epoch(), epoch);
    assert_eq!(replicator.metric("reactor_replicator_history_lost_total"), Some(1.0));
    replicator.stop().await?;
    Ok(())
}

#[tokio::test]
async fn strays_of_broken_off_starts_are_dropped_and_others_are_left_alone() -> Result<()> {
    let postgres = Postgres::start().await?;
    let url = postgres.create_database("strays").await?;
    let sql = postgres.connect_to("strays").await?;
    for name in ["reactor_acme_000000aa", "reactor_other_000000aa", "mine"] {
        sql.execute("select pg_create_logical_replication_slot($1, 'pgoutput')", &[&name]).await?;
    }
    sql.execute("select pg_create_logical_replication_slot('reactor_acme_000000bb', 'pgoutput')", &[]).await?;
    sql.batch_execute("create publication changes for all tables").await?;
    let replicator = Replicator::streaming(settings(&url)).await?;
    assert_eq!(replicator.status.slot().as_deref(), Some("reactor_acme_000000bb"));
    let rows = sql.query("select slot_name::text from pg_replication_slots order by 1", &[]).await?;
    let names: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(names, ["mine", "reactor_acme_000000bb", "reactor_other_000000aa"]);
    replicator.stop().await?;
    Ok(())
}

/// Stores a mark at `lsn`, as a replicator of this epoch would have.
async fn store_mark(log: &dyn ChangeLog, tenant: &TenantId, epoch: Epoch, lsn: Lsn) -> Result<()> {
    log.open(tenant).await?;
    let last = log.bounds(tenant).await?.last;
    let at = Position::before(lsn);
    let mark = BatchBuilder::new(epoch, at, lsn, None).finish_at(at);
    log.append(tenant, "", "", mark, last).await?.await?;
    Ok(())
}

#[tokio::test]
async fn a_server_that_lost_what_was_published_begins_a_new_epoch() -> Result<()> {
    let postgres = Postgres::shared().await?;
    let url = postgres.create_database("diverged").await?;
    let replicator = Replicator::streaming(settings(&url)).await?;
    let epoch = replicator.status.epoch().context("an epoch")?;
    let stopped = replicator.stop().await?;
    // As after a failover to a standby that had not received the end.
    let beyond = Lsn(current_position(postgres).await?.0 + (1 << 40));
    store_mark(&*stopped.log, &stopped.settings.tenant, epoch, beyond).await?;
    let replicator = stopped.start_again();
    replicator.ready().await?;
    assert_ne!(replicator.status.epoch(), Some(epoch));
    assert_eq!(replicator.metric("reactor_replicator_history_lost_total"), Some(1.0));
    replicator.finish(postgres).await
}

async fn current_position(postgres: &Postgres) -> Result<Lsn> {
    let row = postgres.connect().await?.query_one("select pg_current_wal_lsn()::text", &[]).await?;
    Ok(row.get::<_, String>(0).parse()?)
}

#[tokio::test]
async fn a_log_that_lost_more_than_the_slot_holds_shows_the_gap() -> Result<()> {
    let postgres = Postgres::shared().await?;
    let url = postgres.create_database("forgetful").await?;
    postgres.execute_in("forgetful", "create table t (id int)").await?;
    let replicator = Replicator::streaming(settings(&url)).await?;
    let epoch = replicator.status.epoch().context("an epoch")?;
    let stopped = replicator.stop().await?;
    let log = memory_log();
    store_mark(&*log, &stopped.settings.tenant, epoch, Lsn(16)).await?;
    let replicator = Replicator::start_on(stopped.settings, log, Arc::new(MemoryLeases::new()));
    replicator.ready().await?;
    postgres.execute_in("forgetful", "insert into t values (1)").await?;
    let batches = wait::value(SOON, "three batches", || async {
        let batches = replicator.batches().await?;
        Ok((batches.len() == 3).then_some(batches))
    })
    .await?;
    assert_eq!(replicator.status.epoch(), Some(epoch), "the slot is the same");
    assert!(batches[1].previous > batches[0].last, "followers notice");
    assert_eq!(batches[2].previous, batches[1].last);
    replicator.finish(postgres).await
}
