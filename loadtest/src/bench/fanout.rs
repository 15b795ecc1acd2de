//! One table to many subscribers of one gateway, beside a program that only writes to sockets.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;
use reactor_runtime::clock;
use reactor_testkit::{ProcessOptions, free_port};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::flow::{Flow, flat_out, micros_to_seconds};
use crate::deployment::{Deployment, Mode, PATIENCE};
use crate::measure::process;
use crate::measure::samples::Summary;
use crate::report::{Line, Report, rounded, say};
use crate::subscribers::{self, Subscribers};
use crate::writer::{TABLE, TABLE_SQL, Writer};

/// Changes a second of the part with a pace.
const PACE: u32 = 50;
const PACED_FOR: Duration = Duration::from_secs(8);
/// Events in one write of the bare writer, when it joins.
const JOINED: usize = 16;
/// Events to each socket by the bare writer, one by one and joined.
const BARE_EVENTS: [usize; 2] = [600, 4800];

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
    let mut subscribers = Subscribers::read(sockets);
    let writer = Writer::connect(&deployment.postgres).await?;
    let server = deployment.server.id();
    let flat_out = flat_out(&mut subscribers, &writer, server, options.changes).await?;
    let (paced, latency) = paced(&mut subscribers, &writer, server).await?;
    drop(subscribers);
    drop(deployment);
    let bare = |join, events| bare(options.subscribers, flat_out.event_bytes(), join, events);
    let single = bare(1, BARE_EVENTS[0]).await?;
    let joined = bare(JOINED, BARE_EVENTS[1]).await?;
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

async fn paced(subscribers: &mut Subscribers, writer: &Writer, server: u32) -> Result<(Flow, Summary)> {
    let before = subscribers.totals();
    let had = subscribers.least();
    let (cpu, begun) = (process::cpu_seconds(server)?, clock::unix_micros());
    subscribers.begin_timing();
    let kept = writer.keep_schedule(PACE, PACED_FOR).await?;
    subscribers.each_has(had + kept.commits).await?;
    let seconds = micros_to_seconds(subscribers.last_read_us() - begun);
    let flow =
        Flow { totals: subscribers.totals() - before, seconds, cpu_seconds: process::cpu_seconds(server)? - cpu };
    Ok((flow, subscribers.end_timing().summary()))
}

/// The bare writer to as many sockets, with events of the same size.
async fn bare(sockets: usize, event_bytes: f64, join: usize, events: usize) -> Result<Flow> {
    say(format_args!("fanout: a bare writer, {join} in one write"));
    let address = format!("127.0.0.1:{}", free_port()?);
    let writes = events / join;
    let process = ProcessOptions::new("reactor-loadtest")
        .args(["bare-writer", "--listen", &address, "--sockets", &sockets.to_string()])
        .args([
            "--event-bytes",
            &format!("{event_bytes:.0}"),
            "--join",
            &join.to_string(),
            "--writes",
            &writes.to_string(),
        ])
        .start()?;
    let mut opened = Vec::with_capacity(sockets);
    let deadline = clock::now() + PATIENCE;
    while opened.len() < sockets {
        match TcpStream::connect(&address).await {
            Ok(socket) => opened.push(socket),
            // It does not listen yet.
            Err(_) if clock::now() < deadline => tokio::time::sleep(Duration::from_millis(5)).await,
            Err(error) => return Err(error).context("the bare writer does not listen"),
        }
    }
    let begun = clock::unix_micros();
    let mut subscribers = Subscribers::read(opened);
    subscribers.each_has((writes * join) as u64).await?;
    let seconds = micros_to_seconds(subscribers.last_read_us() - begun);
    process.wait_for_output("cpu_seconds", PATIENCE).await?;
    let told: Value = serde_json::from_str(process.stdout()?.trim())?;
    let cpu_seconds = told["cpu_seconds"].as_f64().context("the bare writer told no processor time")?;
    process.kill().await?;
    ensure!(seconds > 0.0, "nothing was written");
    Ok(Flow { totals: subscribers.totals(), seconds, cpu_seconds })
}
