//! Much at once: memory stays flat, order stays.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reactor_bus::memory::MemoryLeases;
use reactor_testkit::{Postgres, wait};

use crate::support::slow_log::SlowLog;
use crate::support::{Replicator, settings};

const ROWS: usize = 300_000;
const WINDOW_BYTES: usize = 16 * 1024 * 1024;

/// Resident memory of this process in bytes.
fn resident() -> Result<usize> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("VmRSS")?;
    let kilobytes: usize = line.split_whitespace().nth(1).context("a number")?.parse()?;
    Ok(kilobytes * 1024)
}

#[tokio::test]
async fn a_huge_transaction_into_a_slow_log_needs_no_more_memory() -> Result<()> {
    let postgres = Postgres::shared().await?;
    let url = postgres.create_database("huge").await?;
    postgres.execute_in("huge", "create table t (id int, text text)").await?;
    let log = Arc::new(SlowLog::new(Duration::from_millis(100)));
    let replicator = Replicator::start_on(settings(&url), log.clone(), Arc::new(MemoryLeases::new()));
    replicator.ready().await?;
    let before = resident()?;
    let sql = format!("insert into t select i, repeat('x', 200) from generate_series(1, {ROWS}) i");
    postgres.execute_in("huge", &sql).await?;
    let mut most = 0;
    wait::until(Duration::from_secs(60), "every row is stored", || {
        most = most.max(resident().unwrap_or_default());
        let rows = log.rows.load(Ordering::SeqCst);
        async move { Ok(rows >= ROWS) }
    })
    .await?;
    assert_eq!(log.rows.load(Ordering::SeqCst), ROWS);
    let in_flight = log.most_in_flight.load(Ordering::SeqCst);
    ensure!(in_flight > WINDOW_BYTES / 2, "the window was used: {in_flight}");
    ensure!(in_flight < WINDOW_BYTES + 1024 * 1024, "the window was kept: {in_flight}");
    // Other tests run in this process, so the bound is wide; the rows are 66 MB.
    ensure!(most.saturating_sub(before) < 60 * 1024 * 1024, "grew by {} bytes", most.saturating_sub(before));
    replicator.finish(postgres).await
}
