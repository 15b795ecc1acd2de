//! What flows to many subscribers, and at what cost.

use anyhow::Result;
use reactor_runtime::clock;
use serde_json::{Value, json};

use crate::measure::process;
use crate::report::{grouped, rounded};
use crate::subscribers::{Subscribers, Totals};
use crate::writer::Writer;

/// Changes of a transaction of the flat-out part.
const BURST_ROWS: i32 = 50;
/// Changes that a subscriber may be behind: less than what closes a connection as too slow, by default 1 MiB.
const WINDOW_ROWS: u64 = 1000;
/// Events to each subscriber before anything is counted.
const WARM_UP_ROWS: i32 = 200;

/// What was delivered, and at what cost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flow {
    pub(crate) totals: Totals,
    pub(crate) seconds: f64,
    pub(crate) cpu_seconds: f64,
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
impl Flow {
    pub(crate) fn per_second(&self) -> f64 {
        self.totals.events as f64 / self.seconds
    }

    pub(crate) fn cpu_us_per_delivery(&self) -> f64 {
        self.cpu_seconds * 1e6 / self.totals.events as f64
    }

    pub(crate) fn event_bytes(&self) -> f64 {
        self.totals.bytes as f64 / self.totals.events as f64
    }

    pub(crate) fn events_per_read(&self) -> f64 {
        self.totals.events as f64 / self.totals.reads as f64
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "deliveries": self.totals.events,
            "deliveries_per_second": self.per_second().round(),
            "mb_per_second": rounded(self.totals.bytes as f64 / 1e6 / self.seconds),
            "server_cpu_us_per_delivery": rounded(self.cpu_us_per_delivery()),
            "events_per_read": rounded(self.events_per_read()),
        })
    }

    pub(crate) fn text(&self) -> String {
        format!("{} deliveries/s, {:.2} µs CPU each", grouped(self.per_second()), self.cpu_us_per_delivery())
    }
}

/// As fast as subscribers take it: the writer keeps a little ahead of the slowest.
pub(crate) async fn flat_out(
    subscribers: &mut Subscribers,
    writer: &Writer,
    server: u32,
    changes: u32,
) -> Result<Flow> {
    let mut written = subscribers.least() + u64::try_from(WARM_UP_ROWS)?;
    writer.commit(WARM_UP_ROWS).await?;
    subscribers.each_has(written).await?;
    let last = written + u64::from(changes);
    let (before, cpu, begun) = (subscribers.totals(), process::cpu_seconds(server)?, clock::unix_micros());
    while written < last {
        writer.commit(BURST_ROWS).await?;
        written += u64::try_from(BURST_ROWS)?;
        subscribers.each_has(written.saturating_sub(WINDOW_ROWS)).await?;
    }
    subscribers.each_has(written).await?;
    let seconds = micros_to_seconds(subscribers.last_read_us() - begun);
    Ok(Flow { totals: subscribers.totals() - before, seconds, cpu_seconds: process::cpu_seconds(server)? - cpu })
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
pub(crate) fn micros_to_seconds(micros: i64) -> f64 {
    micros as f64 / 1e6
}
