//! `pg_recvlogical`, which does as little as a reader can.

use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use reactor_runtime::clock;
use reactor_testkit::ProcessOptions;

use super::wal::{CopiedSlot, Lsn, PUBLICATION, Source};

const ENDS_WITHIN: Duration = Duration::from_secs(120);

/// One run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    /// From start to end of the program.
    pub(crate) seconds: f64,
    pub(crate) walsender_cpu_seconds: f64,
}

/// Reads up to `end` to `/dev/null`.
pub(crate) async fn run(source: &Source, slot: &CopiedSlot, end: Lsn) -> Result<Run> {
    let options = ProcessOptions::other(source.postgres.bin_dir().join("pg_recvlogical"))
        .args(["--dbname", &source.postgres.url(), "--slot", &slot.name, "--start", "--no-loop"])
        .args(["--file", "/dev/null", "--endpos", &end.to_string()])
        .args(["-o", "proto_version=2", "-o", &format!("publication_names={PUBLICATION}")]);
    let begun = clock::now();
    let process = options.start()?;
    let walsender = Mutex::new(0.0);
    let status = tokio::select! {
        status = process.wait(ENDS_WITHIN) => status?,
        watched = source.watch_walsender(slot, &walsender) => bail!("the walsender is not seen: {watched:?}"),
    };
    let seconds = (clock::now() - begun).as_secs_f64();
    ensure!(status.success(), "pg_recvlogical failed: {}", process.stderr()?);
    Ok(Run { seconds, walsender_cpu_seconds: walsender.into_inner().unwrap_or_default() })
}
