//! From commit to one client at a quiet pace, through a cluster and in one process.
//!
//! Latency is from the event's commit time, which Postgres takes before it writes the commit record, to the clock of the
//! client when it has read the event. Commits are sent at scheduled times, however long the ones before took.

use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args;
use serde_json::json;

use super::round_trip;
use crate::deployment::{Deployment, Mode};
use crate::measure::samples::{Summary, millis};
use crate::report::{Aim, Line, Report, rounded, say};
use crate::source::{Kept, keep_schedule};
use crate::subscribers::{self, Subscribers, Transport};
use crate::writer::{TABLE, TABLE_SQL, Writer};

/// p50 and p99 in ms.
const AIM: [f64; 2] = [3.0, 10.0];
/// Before anything is counted: caches, pools and the scheduler have settled.
const WARM_UP: Duration = Duration::from_secs(1);

/// Options of the measure.
#[derive(Clone, Debug, Args)]
#[group(skip)]
pub(crate) struct Options {
    /// Latency: commits a second.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=5000))]
    rate: u32,
    /// Latency: for how long, in seconds.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,
}

pub(crate) async fn run(options: &Options) -> Result<Report> {
    let bare = round_trip::run(options.rate, options.rate * 3).await?;
    let (cluster, kept) = measure(Mode::Cluster, options).await?;
    let (single, kept_single) = measure(Mode::Single, options).await?;
    let line = |what: &str, summary: Summary| {
        let got = [millis(summary.p50), millis(summary.p99)];
        let beside = format!("round trip {}", bare.text());
        Line::new(what, summary.text(), beside).aim(Aim::Within { got, aim: AIM })
    };
    let over = |summary: Summary| rounded(millis(summary.p50) / millis(bare.p50));
    Ok(Report {
        name: "latency",
        figures: json!({
            "commits_per_second": options.rate,
            "cluster": cluster.json(),
            "single": single.json(),
            "late_commits": { "cluster": kept.late, "single": kept_single.late },
        }),
        limits: json!({ "loopback_round_trip": bare.json() }),
        ratio: json!({ "cluster_p50_over_round_trip": over(cluster), "single_p50_over_round_trip": over(single) }),
        lines: vec![
            line(&format!("cluster, {} commits/s: p50 / p99 / max", options.rate), cluster),
            line(&format!("one process, {} commits/s: p50 / p99 / max", options.rate), single),
        ],
    })
}

async fn measure(mode: Mode, options: &Options) -> Result<(Summary, Kept)> {
    say(format_args!("latency: {mode:?}"));
    let deployment = Deployment::start(mode, TABLE_SQL).await?;
    let sockets = subscribers::open(deployment.address, TABLE, &deployment.token, 1).await?;
    let mut subscribers = Subscribers::read(Transport::Sse, sockets);
    let mut writer = Writer::connect(&deployment.postgres).await?;
    let warm = keep_schedule(&mut writer, options.rate, WARM_UP).await?;
    subscribers.each_has(warm.events).await?;
    subscribers.begin_timing();
    let kept = keep_schedule(&mut writer, options.rate, Duration::from_secs(options.seconds.into())).await?;
    subscribers.each_has(warm.events + kept.events).await?;
    let summary = subscribers.end_timing().summary();
    ensure!(summary.count as u64 == kept.events, "{} events of {} commits", summary.count, kept.events);
    Ok((summary, kept))
}
