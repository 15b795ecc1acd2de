//! The replicator as a cluster runs it, watched through its metrics.

use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use reactor_runtime::clock;
use reactor_testkit::{Nats, Postgres};

use super::wal::{CopiedSlot, PUBLICATION, Source, Wal};
use crate::deployment::{PATIENCE, Service};
use crate::measure::process;
use crate::measure::scrape::{Metrics, Scrape};

/// How often the metrics are looked at: often enough for a run of seconds, seldom enough to cost nothing.
const POLL: Duration = Duration::from_millis(20);
/// A start is looked at more often, because what comes before it is noticed must not be missing from the time.
const START_POLL: Duration = Duration::from_millis(2);
const DONE_WITHIN: Duration = Duration::from_secs(120);

/// One run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    /// From streaming to the last acknowledgement.
    pub(crate) seconds: f64,
    pub(crate) cpu_seconds: f64,
    pub(crate) nats_cpu_seconds: f64,
    pub(crate) walsender_cpu_seconds: f64,
    pub(crate) peak_bytes: u64,
    pub(crate) rows_per_batch: f64,
}

/// Starts a replicator, which makes its slot, and stops it again.
pub(crate) async fn make_slot(postgres: &Postgres, nats: &Nats, tenant: &str) -> Result<()> {
    let replicator = start(postgres, nats, tenant)?;
    replicator.wait_ready().await?;
    replicator.process.stop(PATIENCE).await
}

/// Replicates everything up to the end of the WAL.
pub(crate) async fn run(source: &Source, nats: &Nats, slot: &CopiedSlot, wal: &Wal) -> Result<Run> {
    let nats_server = process::child("nats-server")?;
    let replicator = start(&source.postgres, nats, &slot.tenant)?;
    let id = replicator.process.id();
    let metrics = Metrics::new(&replicator.admin_url)?;

    scrape_until(&metrics, START_POLL, |scrape| Ok(scrape.value("reactor_replicator_sessions_total")? >= 1.0)).await?;
    let begun = clock::now();
    let (cpu, nats_cpu) = (process::cpu_seconds(id)?, process::cpu_seconds(nats_server)?);
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let end = u64::from(wal.end) as f64;
    let walsender = Mutex::new(0.0);
    let done = tokio::select! {
        done = scrape_until(&metrics, POLL, |scrape| Ok(scrape.value("reactor_replicator_acked_lsn")? >= end)) => done?,
        watched = source.watch_walsender(slot, &walsender) => bail!("the walsender is not seen: {watched:?}"),
    };
    let seconds = (clock::now() - begun).as_secs_f64();
    let (cpu, nats_cpu) = (process::cpu_seconds(id)? - cpu, process::cpu_seconds(nats_server)? - nats_cpu);

    let (rows, batches) =
        (done.value("reactor_replicator_rows_total")?, done.value("reactor_replicator_batches_total")?);
    ensure!((rows - f64::from(wal.rows())).abs() < 0.5, "{rows} rows were published of {}", wal.rows());
    let peak_bytes = process::peak_resident_bytes(id)?;
    replicator.process.kill().await?;
    Ok(Run {
        seconds,
        cpu_seconds: cpu,
        nats_cpu_seconds: nats_cpu,
        walsender_cpu_seconds: walsender.into_inner().unwrap_or_default(),
        peak_bytes,
        rows_per_batch: rows / batches,
    })
}

fn start(postgres: &Postgres, nats: &Nats, tenant: &str) -> Result<Service> {
    let env = [
        ("REACTOR_DATA_DATABASE_URL", postgres.url()),
        ("REACTOR_NATS_URL", nats.url()),
        ("REACTOR_TENANT", tenant.to_owned()),
        ("REACTOR_PUBLICATION", PUBLICATION.to_owned()),
    ];
    Service::start("reactor-replicator", &[], &env)
}

/// The first scrape for which `done` holds. Before the admin server listens there is none.
async fn scrape_until(metrics: &Metrics, poll: Duration, done: impl Fn(&Scrape) -> Result<bool>) -> Result<Scrape> {
    let deadline = clock::now() + DONE_WITHIN;
    let mut last = None;
    while clock::now() < deadline {
        match metrics.scrape().await.and_then(|scrape| Ok((done(&scrape)?, scrape))) {
            Ok((true, scrape)) => return Ok(scrape),
            Ok((false, _)) => last = None,
            Err(error) => last = Some(error),
        }
        tokio::time::sleep(poll).await;
    }
    match last {
        Some(error) => Err(error).context("the replicator does not answer"),
        None => bail!("the replicator is not done within {DONE_WITHIN:?}"),
    }
}
