//! What flows to many subscribers, and at what cost.

use std::time::Duration;

use anyhow::Result;
use reactor_runtime::clock;
use serde_json::{Value, json};

use crate::measure::process;
use crate::measure::samples::Summary;
use crate::report::{grouped, rounded};
use crate::source::{Source, keep_schedule};
use crate::subscribers::{Subscribers, Totals};

/// Events a second of the part with a pace.
pub(crate) const PACE: u32 = 50;
/// Events that are made together in the flat-out part.
const BURST: u32 = 50;
/// Events that a subscriber may be behind: less than what closes a connection as too slow, by default 1 MiB.
const WINDOW: u64 = 1000;
/// Events to each subscriber before anything is counted.
const WARM_UP: u32 = 200;

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

/// As fast as subscribers take it: the source keeps a little ahead of the slowest.
pub(crate) async fn flat_out(
    subscribers: &mut Subscribers,
    source: &mut impl Source,
    server: u32,
    events: u32,
) -> Result<Flow> {
    let mut sent = subscribers.least() + u64::from(WARM_UP);
    source.send(WARM_UP).await?;
    subscribers.each_has(sent).await?;
    let last = sent + u64::from(events);
    let (before, cpu, begun) = (subscribers.totals(), process::cpu_seconds(server)?, clock::unix_micros());
    while sent < last {
        source.send(BURST).await?;
        sent += u64::from(BURST);
        subscribers.each_has(sent.saturating_sub(WINDOW)).await?;
    }
    subscribers.each_has(sent).await?;
    let seconds = micros_to_seconds(subscribers.last_read_us() - begun);
    Ok(Flow { totals: subscribers.totals() - before, seconds, cpu_seconds: process::cpu_seconds(server)? - cpu })
}

/// [`PACE`] for this long, and how old the events were when they were read.
pub(crate) async fn paced(
    subscribers: &mut Subscribers,
    source: &mut impl Source,
    server: u32,
    during: Duration,
) -> Result<(Flow, Summary)> {
    let (before, had) = (subscribers.totals(), subscribers.least());
    let (cpu, begun) = (process::cpu_seconds(server)?, clock::unix_micros());
    subscribers.begin_timing();
    let kept = keep_schedule(source, PACE, during).await?;
    subscribers.each_has(had + kept.events).await?;
    let seconds = micros_to_seconds(subscribers.last_read_us() - begun);
    let flow =
        Flow { totals: subscribers.totals() - before, seconds, cpu_seconds: process::cpu_seconds(server)? - cpu };
    Ok((flow, subscribers.end_timing().summary()))
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
pub(crate) fn micros_to_seconds(micros: i64) -> f64 {
    micros as f64 / 1e6
}
