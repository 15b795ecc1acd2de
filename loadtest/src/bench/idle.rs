//! What a WebSocket connection costs that has joined a channel and is idle, beside a program that only holds sockets.
//!
//! Each connection has joined and had a heartbeat answered before memory is looked at. Once all are in the same channel,
//! once each is in one of its own, which the gateway follows on the bus.

use std::time::Duration;

use anyhow::Result;
use clap::Args;
use serde_json::json;

use super::bare_writer;
use crate::deployment::{Deployment, Mode};
use crate::measure::process;
use crate::report::{Aim, Line, Report, grouped, rounded, say};
use crate::subscribers::a_few_at_a_time;
use crate::websocket;
use crate::writer::TABLE_SQL;

const AIM_BYTES: f64 = 8.0 * 1024.0;
/// Connections before the first look: what the first ones cost is not the cost of one more.
const FIRST: u32 = 20;
/// Files that a process has open beside its connections; far more than it needs.
const OTHER_FILES: usize = 500;
/// For what was asked of the kernel and of the allocator to be done.
const SETTLE: Duration = Duration::from_secs(1);

/// Options of the measure.
#[derive(Clone, Debug, Args)]
#[group(skip)]
pub(crate) struct Options {
    /// Idle: WebSocket connections, each joined to a channel.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    joined: u32,
}

pub(crate) async fn run(options: &Options) -> Result<Report> {
    let most = u32::try_from(process::most_open_files()?.saturating_sub(OTHER_FILES)).unwrap_or(u32::MAX);
    let count = options.joined.min(most);
    if count < options.joined {
        say(format_args!("idle: only {count} connections, for want of open files"));
    }
    let one = measure("one channel", count, |_| "realtime:lobby".to_owned()).await?;
    let own = measure("channels of their own", count, |number| format!("realtime:room-{number}")).await?;
    let bare = bare_writer::resident_bytes_per_socket(usize::try_from(count)?).await?;
    let line = |what: &str, bytes: f64| {
        Line::new(
            format!("{} idle connections in {what}", grouped(count.into())),
            format!("{:.1} KiB each", bytes / 1024.0),
            format!("a bare socket: {:.1} KiB", bare / 1024.0),
        )
        .aim(Aim::Bytes { got: bytes, aim: AIM_BYTES })
    };
    Ok(Report {
        name: "idle",
        figures: json!({
            "connections": count,
            "resident_bytes_each": { "one_channel": one.round(), "own_channels": own.round() },
        }),
        limits: json!({ "bare_socket_bytes": bare.round() }),
        ratio: json!({ "one_channel_over_bare": rounded(one / bare), "own_channels_over_bare": rounded(own / bare) }),
        lines: vec![line("one channel", one), line("channels of their own", own)],
    })
}

/// The resident memory of one more connection.
async fn measure(what: &str, count: u32, topic: impl Fn(u32) -> String) -> Result<f64> {
    say(format_args!("idle: {count} connections in {what}"));
    let deployment = Deployment::start(Mode::Cluster, TABLE_SQL).await?;
    let open = async |number| {
        let mut socket = websocket::open(deployment.address, &deployment.token, &topic(number), None).await?;
        websocket::beat(&mut socket).await?;
        anyhow::Ok(socket)
    };
    let server = deployment.server.id();
    let _first = a_few_at_a_time((0..FIRST).map(open)).await?;
    let before = process::resident_bytes(server)?;
    let mut sockets = a_few_at_a_time((FIRST..FIRST + count).map(open)).await?;
    tokio::time::sleep(SETTLE).await;
    let grown = process::resident_bytes(server)?.saturating_sub(before);
    // Nobody was closed meanwhile.
    a_few_at_a_time(sockets.iter_mut().map(websocket::beat)).await?;
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    Ok(grown as f64 / f64::from(count))
}
