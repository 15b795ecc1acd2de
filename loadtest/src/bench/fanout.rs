//! One table to many subscribers of one gateway, beside a program that only writes to sockets.

use std::time::Duration;

use anyhow::Result;
use clap::Args;
use serde_json::json;
use tokio::net::TcpStream;

use super::bare_writer::{self, Load};
use super::flow::{PACE, flat_out, paced};
use crate::deployment::{Deployment, Mode};
use crate::measure::process;
use crate::report::{Line, Report, rounded};
use crate::subscribers::{self, Subscribers, Transport};
use crate::writer::{TABLE, TABLE_SQL, Writer};

const PACED_FOR: Duration = Duration::from_secs(8);
/// Events in one write of the bare writer, when it joins.
const JOINED: u32 = 16;
/// Events to each socket by the bare writer, one by one and joined.
const BARE_EVENTS: [u32; 2] = [600, 4800];

/// Options of the measure.
#[derive(Clone, Debug, Args)]
#[group(skip)]
pub(crate) struct Options {
    /// Fan-out: subscribers.
    #[arg(long, default_value_t = 1000)]
    subscribers: usize,
    /// Fan-out: connections whose memory is measured.
    #[arg(long, default_value_t = 5000)]
    idle: usize,
    /// Fan-out: changes of the flat-out part.
    #[arg(long, default_value_t = 4000)]
    changes: u32,
}

pub(crate) async fn run(options: &Options) -> Result<Report> {
    let deployment = Deployment::start(Mode::Cluster, TABLE_SQL).await?;
    let (sockets, idle_bytes) = idle(&deployment, options).await?;
    let mut subscribers = Subscribers::read(Transport::Sse, sockets);
    let mut writer = Writer::connect(&deployment.postgres).await?;
    let server = deployment.server.id();
    let flat_out = flat_out(&mut subscribers, &mut writer, server, options.changes).await?;
    let (paced, latency) = paced(&mut subscribers, &mut writer, server, PACED_FOR).await?;
    drop(subscribers);
    drop(deployment);
    let bare = |join, events| {
        bare_writer::measure(options.subscribers, flat_out.event_bytes(), Load { join, events, per_second: None })
    };
    let (single, _) = bare(1, BARE_EVENTS[0]).await?;
    let (joined, _) = bare(JOINED, BARE_EVENTS[1]).await?;
    let ratio = flat_out.per_second() / joined.per_second();
    let count = options.subscribers;
    let of_one_by_one = paced.cpu_us_per_delivery() / single.cpu_us_per_delivery();
    Ok(Report {
        name: "fanout",
        figures: json!({
            "subscribers": count,
            "event_bytes": flat_out.event_bytes().round(),
            "flat_out": flat_out.json(),
            "paced": { "changes_per_second": PACE, "flow": paced.json(), "latency": latency.json() },
            "resident_bytes_per_idle_connection": idle_bytes.round(),
        }),
        limits: json!({ "bare_one_by_one": single.json(), "bare_joined": joined.json(), "joined": JOINED }),
        ratio: json!({
            "flat_out_over_bare_joined": rounded(ratio),
            "flat_out_over_bare_one_by_one": rounded(flat_out.per_second() / single.per_second()),
            "paced_cpu_over_bare_one_by_one": rounded(of_one_by_one),
        }),
        lines: vec![
            Line::new(
                format!("{count} subscribers, flat out"),
                flat_out.text(),
                format!("bare, {JOINED} joined: {}", joined.text()),
            ),
            Line::new(
                format!("{count} subscribers, {PACE} changes/s"),
                paced.text(),
                format!("bare, one by one: {}", single.text()),
            ),
            Line::new(format!("{count} subscribers, {PACE} changes/s: p50 / p99 / max"), latency.text(), ""),
            Line::new(
                format!("{} idle connections", options.idle.max(count)),
                format!("{:.1} KB each", idle_bytes / 1e3),
                "",
            ),
        ],
    })
}

/// Opens many connections, and says what one costs; those that are subscribers further on are given back.
async fn idle(deployment: &Deployment, options: &Options) -> Result<(Vec<TcpStream>, f64)> {
    let open = |count| subscribers::open(deployment.address, TABLE, &deployment.token, count);
    // What the first ones cost, such as the connection to policy, is not the cost of one more.
    let mut sockets = open(20).await?;
    let before = process::resident_bytes(deployment.server.id())?;
    let count = options.idle.max(options.subscribers);
    sockets.extend(open(count).await?);
    tokio::time::sleep(Duration::from_millis(500)).await;
    let after = process::resident_bytes(deployment.server.id())?;
    sockets.truncate(options.subscribers);
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let each = after.saturating_sub(before) as f64 / count as f64;
    Ok((sockets, each))
}
