//! Broadcasts of one client to many WebSocket subscribers of one channel, through a cluster with one gateway, beside a
//! program that only writes to sockets.

use std::time::Duration;

use anyhow::Result;
use clap::Args;
use serde_json::json;

use super::bare_writer::{self, Load};
use super::flow::{PACE, flat_out, paced};
use crate::deployment::{Deployment, Mode};
use crate::report::{Line, Report, grouped, rounded, say};
use crate::subscribers::{self, Subscribers, Transport};
use crate::websocket::{self, PAYLOAD_BYTES, Publisher};
use crate::writer::TABLE_SQL;

const TOPIC: &str = "realtime:bench";
/// Events in one write of the bare writer, when it joins.
const JOINED: u32 = 16;

/// Options of the measure.
#[derive(Clone, Debug, Args)]
#[group(skip)]
pub(crate) struct Options {
    /// Broadcast: WebSocket subscribers of one channel.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u16).range(1..))]
    listeners: u16,
    /// Broadcast: messages of the flat-out part.
    #[arg(long, default_value_t = 4000)]
    broadcasts: u32,
    /// Broadcast: for how long messages come at a pace, in seconds.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=50))]
    paced_secs: u32,
}

pub(crate) async fn run(options: &Options) -> Result<Report> {
    let count = usize::from(options.listeners);
    let deployment = Deployment::start(Mode::Cluster, TABLE_SQL).await?;
    let open = |_| websocket::open(deployment.address, &deployment.token, TOPIC, None);
    let sockets = subscribers::a_few_at_a_time((0..count).map(open)).await?;
    let mut subscribers = Subscribers::read(Transport::WebSocket, sockets);
    let mut publisher = Publisher::join(deployment.address, &deployment.token, TOPIC).await?;
    let server = deployment.server.id();
    say(format_args!("broadcast: to {count} subscribers, flat out"));
    let flat_out = flat_out(&mut subscribers, &mut publisher, server, options.broadcasts).await?;
    say(format_args!("broadcast: to {count} subscribers, {PACE} messages/s"));
    let during = Duration::from_secs(options.paced_secs.into());
    let (paced, latency) = paced(&mut subscribers, &mut publisher, server, during).await?;
    drop((subscribers, publisher));
    drop(deployment);
    let bare = |load| bare_writer::measure(count, flat_out.event_bytes(), load);
    let (joined, _) = bare(Load { join: JOINED, events: options.broadcasts, per_second: None }).await?;
    let slowly = Load { join: 1, events: PACE * options.paced_secs, per_second: Some(PACE) };
    let (bare_paced, bare_latency) = bare(slowly).await?;
    let to = format!("{} subscribers of {PAYLOAD_BYTES} bytes", grouped(options.listeners.into()));
    Ok(Report {
        name: "broadcast",
        figures: json!({
            "subscribers": count,
            "payload_bytes": PAYLOAD_BYTES,
            "frame_bytes": flat_out.event_bytes().round(),
            "flat_out": flat_out.json(),
            "paced": { "messages_per_second": PACE, "flow": paced.json(), "latency": latency.json() },
        }),
        limits: json!({
            "bare_joined": joined.json(),
            "joined": JOINED,
            "bare_paced": { "flow": bare_paced.json(), "latency": bare_latency.json() },
        }),
        ratio: json!({
            "flat_out_over_bare_joined": rounded(flat_out.per_second() / joined.per_second()),
            "paced_cpu_over_bare": rounded(paced.cpu_us_per_delivery() / bare_paced.cpu_us_per_delivery()),
            "paced_p50_over_bare": rounded(f64::from(latency.p50) / f64::from(bare_latency.p50)),
        }),
        lines: vec![
            Line::new(format!("{to}, flat out"), flat_out.text(), format!("bare, {JOINED} joined: {}", joined.text())),
            Line::new(
                format!("{to}, {PACE} messages/s"),
                paced.text(),
                format!("bare, one by one: {}", bare_paced.text()),
            ),
            Line::new(format!("{to}, {PACE} messages/s: p50 / p99 / max"), latency.text(), bare_latency.text()),
        ],
    })
}
