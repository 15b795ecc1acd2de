//! Writes the same bytes to many sockets, and does nothing else: what this machine can deliver at all.
//!
//! A process of its own, so that its processor time is its own too. Two tasks share the sockets, as two workers of a
//! gateway do; each writes one chunk to each of its sockets in turn.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Result;
use clap::Args;
use reactor_runtime::clock;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use crate::measure::process;

/// Tasks that write.
const WRITERS: usize = 2;

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
    writes: usize,
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
    let chunk = Arc::new(event(options.event_bytes).repeat(options.join));
    let cpu = process::cpu_seconds(std::process::id())?;
    let begun = clock::now();
    let writing = shares.into_iter().map(|share| tokio::spawn(write(share, Arc::clone(&chunk), options.writes)));
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

async fn write(mut sockets: Vec<TcpStream>, chunk: Arc<Vec<u8>>, writes: usize) -> Result<Vec<TcpStream>> {
    for _ in 0..writes {
        for socket in &mut sockets {
            socket.write_all(&chunk).await?;
        }
    }
    Ok(sockets)
}

/// An event of this size, or a little more if that is less than an event needs.
fn event(bytes: usize) -> Vec<u8> {
    let head = b"event: insert\nid: 7a21c6f0-00000000019540f0-00000001\ndata: {\"commit_timestamp\":\"2026-11-30T09:12:45.101822Z\",\"new\":\"";
    let tail = b"\"}\n\n";
    let padding = vec![b'x'; bytes.saturating_sub(head.len() + tail.len())];
    [&head[..], &padding, &tail[..]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_has_its_size() {
        assert_eq!(event(400).len(), 400);
        assert!(event(0).ends_with(b"\n\n"));
    }
}
