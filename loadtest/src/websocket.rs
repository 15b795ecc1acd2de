//! WebSocket connections on plain sockets, each joined to one channel, as the newest stock client opens and joins them.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reactor_gateway::timestamp;
use reactor_protocol::client;
use reactor_protocol::texts::SUBSCRIBED;
use reactor_protocol::wire::{Encoded, WireVersion};
use reactor_runtime::clock;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;

use crate::source::Source;

const VERSION: WireVersion = WireVersion::V2;
/// Any 16 bytes will do.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// The only join of each connection.
const JOIN_REF: &str = "1";
/// How often each connection says that it is there; without a word for 60 s it is closed.
const BEAT: Duration = Duration::from_secs(20);
/// Of the JSON that is broadcast.
pub(crate) const PAYLOAD_BYTES: usize = 256;

/// Opens a connection and joins a channel; with a table, for its row changes, each of which is delivered from now on.
pub(crate) async fn open(address: SocketAddr, token: &str, topic: &str, table: Option<&str>) -> Result<TcpStream> {
    let mut socket = TcpStream::connect(address).await.context("cannot connect")?;
    socket.set_nodelay(true)?;
    let request = format!(
        "GET /realtime/v1/websocket?apikey={token}&vsn=2.0.0 HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
    );
    socket.write_all(request.as_bytes()).await?;
    read_until(&mut socket, "\r\n\r\n").await?;
    let changes = table.map(|table| json!({ "event": "*", "schema": "public", "table": table }));
    let join = json!({
        "config": {
            "broadcast": { "ack": false, "self": false },
            "presence": { "key": "", "enabled": false },
            "postgres_changes": changes.into_iter().collect::<Vec<_>>(),
            "private": false,
        },
        "access_token": token,
    });
    let join = client::encode(VERSION, Some(JOIN_REF), Some(JOIN_REF), topic, "phx_join", &join);
    socket.write_all(&frame(&join)?).await?;
    read_until(&mut socket, if table.is_some() { SUBSCRIBED } else { "\"status\":\"ok\"" }).await?;
    Ok(socket)
}

/// Reads until this was said; fails when it is refused instead.
async fn read_until(socket: &mut TcpStream, wanted: &str) -> Result<()> {
    let (mut answer, mut buffer) = (Vec::new(), [0; 2048]);
    loop {
        let read = socket.read(&mut buffer).await?;
        answer.extend_from_slice(buffer.get(..read).unwrap_or_default());
        let text = String::from_utf8_lossy(&answer);
        let is_refused = text.contains("\"status\":\"error\"");
        ensure!(read > 0 && !is_refused, "refused: {text}");
        if text.contains(wanted) {
            let is_other = text.starts_with("HTTP/1.1 ") && !text.starts_with("HTTP/1.1 101 ");
            ensure!(!is_other, "refused: {text}");
            return Ok(());
        }
    }
}

/// A client's frame. Its mask is zero, which leaves the payload as it is.
fn frame(message: &Encoded) -> Result<Vec<u8>> {
    let payload = message.bytes();
    let opcode = if matches!(message, Encoded::Text(_)) { 1 } else { 2 };
    let mut frame = vec![0x80 | opcode];
    match u8::try_from(payload.len()) {
        Ok(length @ ..=125) => frame.push(0x80 | length),
        _ => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&u16::try_from(payload.len()).context("a frame is too long")?.to_be_bytes());
        }
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(payload);
    Ok(frame)
}

fn heartbeat() -> Result<Vec<u8>> {
    frame(&client::encode(VERSION, None, Some("2"), "phoenix", "heartbeat", &json!({})))
}

/// Sends a heartbeat and waits for its answer.
pub(crate) async fn beat(socket: &mut TcpStream) -> Result<()> {
    socket.write_all(&heartbeat()?).await?;
    read_until(socket, "phx_reply").await
}

/// Keeps connections open that others read from. Ends with the first that breaks.
pub(crate) async fn keep_alive(mut sockets: Vec<OwnedWriteHalf>) -> Result<()> {
    let (heartbeat, count) = (heartbeat()?, u32::try_from(sockets.len())?.max(1));
    loop {
        for socket in &mut sockets {
            tokio::time::sleep(BEAT / count).await;
            socket.write_all(&heartbeat).await.context("a subscriber's connection broke")?;
        }
    }
}

/// A client that broadcasts to a channel, and gets nothing of it.
#[derive(Debug)]
pub(crate) struct Publisher {
    socket: TcpStream,
    topic: String,
}

impl Publisher {
    pub(crate) async fn join(address: SocketAddr, token: &str, topic: &str) -> Result<Self> {
        Ok(Self { socket: open(address, token, topic, None).await?, topic: topic.to_owned() })
    }
}

impl Source for Publisher {
    async fn send(&mut self, messages: u32) -> Result<()> {
        let mut frames = Vec::new();
        for _ in 0..messages {
            let payload = payload(clock::unix_micros());
            let message = client::encode_broadcast(VERSION, JOIN_REF, "3", &self.topic, "message", &payload);
            frames.extend_from_slice(&frame(&message.context("a name is too long")?)?);
        }
        self.socket.write_all(&frames).await.context("cannot broadcast")
    }
}

/// Tells its time under the name that row changes have for theirs, so that one reader counts both.
fn payload(sent_us: i64) -> serde_json::Value {
    let of = |padding: usize| json!({ "commit_timestamp": timestamp::text(sent_us), "text": "x".repeat(padding) });
    of(PAYLOAD_BYTES.saturating_sub(of(0).to_string().len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::frames::Frames;

    #[test]
    fn a_payload_has_its_size_and_its_time() {
        let text = payload(1_763_511_760_877_123).to_string();
        assert_eq!(text.len(), PAYLOAD_BYTES);
        let (mut frames, mut times) = (Frames::default(), Vec::new());
        frames.room()[..text.len()].copy_from_slice(text.as_bytes());
        frames.scan(text.len(), |time| times.push(String::from_utf8_lossy(time).into_owned()));
        assert_eq!(times, ["2025-11-19T00:22:40.877123Z"]);
    }

    #[test]
    fn frames_have_their_length_in_its_shortest_form() {
        for (length, head) in [
            (0, &[0x82, 0x80][..]),
            (125, &[0x82, 0xfd]),
            (126, &[0x82, 0xfe, 0, 126]),
            (65_535, &[0x82, 0xfe, 0xff, 0xff]),
        ] {
            let written = frame(&Encoded::Binary(vec![7; length].into())).unwrap();
            assert_eq!(written.get(..head.len()), Some(head));
            assert_eq!(written.len(), head.len() + 4 + length);
        }
        assert!(frame(&Encoded::Binary(vec![7; 65_536].into())).is_err());
    }
}
