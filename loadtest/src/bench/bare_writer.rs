//! Writes the same bytes to many sockets, and does nothing else: what this machine can deliver at all.
//!
//! A process of its own, so that its processor time is its own too. Two tasks share the sockets, as two workers of a
//! gateway do; each writes one chunk to each of its sockets in turn.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use reactor_gateway::timestamp;
use reactor_runtime::clock;
use reactor_testkit::{Process, ProcessOptions, free_port};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use super::flow::{Flow, micros_to_seconds};
use crate::deployment::PATIENCE;
use crate::measure::process;
use crate::measure::samples::Summary;
use crate::report::say;
use crate::subscribers::{Subscribers, Transport};

/// Tasks that write.
const WRITERS: usize = 2;
/// Sockets before memory is measured: what the first ones cost is not the cost of one more.
const FIRST_SOCKETS: usize = 20;

/// What to write.
#[derive(Clone, Debug, Args)]
#[group(skip)]
pub(crate) struct Options {
    /// Where readers connect.
    #[arg(long)]
    listen: SocketAddr,
    /// Readers to wait for.
    #[arg(long)]
    sockets: usize,
    /// Size of an event.
    #[arg(long)]
    event_bytes: usize,
    /// Events in one write.
    #[arg(long)]
    join: usize,
    /// Writes to each socket.
    #[arg(long)]
    writes: u32,
    /// Writes a second to each socket; as many as can be without it.
    #[arg(long)]
    per_second: Option<u32>,
}

/// Waits for the readers, writes, and prints the seconds and processor seconds that it took.
pub(crate) async fn run(options: Options) -> Result<()> {
    let listener = TcpListener::bind(options.listen).await?;
    let mut shares: Vec<Vec<TcpStream>> = (0..WRITERS).map(|_| Vec::new()).collect();
    for index in 0..options.sockets {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        shares[index % WRITERS].push(socket);
    }
    let cpu = process::cpu_seconds(std::process::id())?;
    let begun = clock::now();
    let writing = shares.into_iter().map(|share| tokio::spawn(write(share, options.clone(), begun)));
    // The sockets are kept until all is written: a reader that sees an end has lost nothing.
    let mut sockets = Vec::new();
    for share in futures::future::join_all(writing).await {
        sockets.push(share??);
    }
    let seconds = (clock::now() - begun).as_secs_f64();
    let cpu = process::cpu_seconds(std::process::id())? - cpu;
    let result = json!({ "seconds": seconds, "cpu_seconds": cpu });
    std::io::Write::write_all(&mut std::io::stdout().lock(), format!("{result}\n").as_bytes())?;
    // Until it is killed.
    std::future::pending().await
}

async fn write(mut sockets: Vec<TcpStream>, options: Options, begun: Instant) -> Result<Vec<TcpStream>> {
    let chunk = || event(options.event_bytes, clock::unix_micros()).repeat(options.join);
    let mut bytes = chunk();
    for number in 0..options.writes {
        if let Some(rate) = options.per_second {
            let due = begun + Duration::from_secs(1).mul_f64(f64::from(number) / f64::from(rate));
            tokio::time::sleep_until(due.into()).await;
            bytes = chunk();
        }
        for socket in &mut sockets {
            socket.write_all(&bytes).await?;
        }
    }
    Ok(sockets)
}

/// An event of this size and time, or a little larger if that is less than an event needs.
fn event(bytes: usize, sent_us: i64) -> Vec<u8> {
    let head = format!("event: insert\ndata: {{\"commit_timestamp\":\"{}\",\"new\":\"", timestamp::text(sent_us));
    let tail = "\"}\n\n";
    let padding = "x".repeat(bytes.saturating_sub(head.len() + tail.len()));
    [head, padding, tail.to_owned()].concat().into_bytes()
}

/// What it is to write in a measure.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// Events in one write.
    pub(crate) join: u32,
    /// Events to each socket.
    pub(crate) events: u32,
    /// Writes a second, for which the age of events is kept.
    pub(crate) per_second: Option<u32>,
}

/// Has it write to as many sockets, events of this size: what flowed, and how old it was.
pub(crate) async fn measure(sockets: usize, event_bytes: f64, load: Load) -> Result<(Flow, Summary)> {
    let Load { join, events, per_second } = load;
    say(format_args!("a bare writer, {join} in one write"));
    let writes = events / join;
    let mut arguments = vec![
        format!("--sockets={sockets}"),
        format!("--event-bytes={event_bytes:.0}"),
        format!("--join={join}"),
        format!("--writes={writes}"),
    ];
    arguments.extend(per_second.map(|rate| format!("--per-second={rate}")));
    let (process, address) = start(arguments)?;
    let opened = connect(address, sockets).await?;
    let begun = clock::unix_micros();
    let mut subscribers = Subscribers::read(Transport::Sse, opened);
    if per_second.is_some() {
        subscribers.begin_timing();
    }
    subscribers.each_has(u64::from(writes * join)).await?;
    let seconds = micros_to_seconds(subscribers.last_read_us() - begun);
    process.wait_for_output("cpu_seconds", PATIENCE).await?;
    let told: Value = serde_json::from_str(process.stdout()?.trim())?;
    let cpu_seconds = told["cpu_seconds"].as_f64().context("the bare writer told no processor time")?;
    process.kill().await?;
    ensure!(seconds > 0.0, "nothing was written");
    let flow = Flow { totals: subscribers.totals(), seconds, cpu_seconds };
    Ok((flow, subscribers.end_timing().summary()))
}

/// The resident memory of a socket that it only holds.
pub(crate) async fn resident_bytes_per_socket(sockets: usize) -> Result<f64> {
    say("a bare writer, which holds sockets");
    let all = sockets + FIRST_SOCKETS;
    let arguments = vec![format!("--sockets={all}"), "--event-bytes=0".into(), "--join=1".into(), "--writes=0".into()];
    let (process, address) = start(arguments)?;
    let _first = connect(address, FIRST_SOCKETS).await?;
    let before = process::resident_bytes(process.id())?;
    let _rest = connect(address, sockets).await?;
    process.wait_for_output("cpu_seconds", PATIENCE).await?;
    let grown = process::resident_bytes(process.id())?.saturating_sub(before);
    process.kill().await?;
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    Ok(grown as f64 / sockets as f64)
}

fn start(arguments: Vec<String>) -> Result<(Process, SocketAddr)> {
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()?));
    let options =
        ProcessOptions::new("reactor-loadtest").args(["bare-writer".to_owned(), format!("--listen={address}")]);
    Ok((options.args(arguments).start()?, address))
}

async fn connect(address: SocketAddr, sockets: usize) -> Result<Vec<TcpStream>> {
    let mut opened = Vec::with_capacity(sockets);
    let deadline = clock::now() + PATIENCE;
    while opened.len() < sockets {
        match TcpStream::connect(address).await {
            Ok(socket) => opened.push(socket),
            // It does not listen yet.
            Err(_) if clock::now() < deadline => tokio::time::sleep(Duration::from_millis(5)).await,
            Err(error) => return Err(error).context("the bare writer does not listen"),
        }
    }
    Ok(opened)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_has_its_size() {
        assert_eq!(event(400, 0).len(), 400);
        assert!(event(0, 0).ends_with(b"\n\n"));
    }
}
