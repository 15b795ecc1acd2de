//! Where events come from: a table that is written to, or a client that broadcasts.

use std::time::Duration;

use anyhow::Result;
use reactor_runtime::clock;

/// Makes events that every subscriber gets.
pub(crate) trait Source {
    /// Makes this many together: rows of one transaction, or messages in one write.
    async fn send(&mut self, events: u32) -> Result<()>;
}

/// How well a schedule was kept.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Kept {
    pub(crate) events: u64,
    /// Events that were sent more than 2 ms after their time.
    pub(crate) late: u64,
}

/// Single events at `rate` a second for this long, at scheduled times, whatever becomes of them: an open loop, so that
/// a slow system is not asked less.
pub(crate) async fn keep_schedule(source: &mut impl Source, rate: u32, during: Duration) -> Result<Kept> {
    let begun = clock::now();
    let mut kept = Kept::default();
    loop {
        let due = Duration::from_secs(1).mul_f64(f64::from(u32::try_from(kept.events)?) / f64::from(rate));
        if due >= during {
            return Ok(kept);
        }
        tokio::time::sleep_until((begun + due).into()).await;
        kept.late += u64::from((clock::now() - begun).saturating_sub(due) > Duration::from_millis(2));
        source.send(1).await?;
        kept.events += 1;
    }
}
