//! How connections end.

use anyhow::{Context, Result};
use reactor_protocol::wire::MAX_FRAME_BYTES;
use reactor_protocol::wire::WireVersion::V2;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::client::Client;
use crate::world::{SOON, World, user};

const TOPIC: &str = "realtime:room";

#[tokio::test]
async fn a_close_is_answered() -> Result<()> {
    let world = World::start().await?;
    let gateway = *world.gateways.first().context("two")?;
    let mut client = Client::connect(gateway, V2).await?;
    client.join(TOPIC, json!({})).await?;
    client.raw(Message::Ping(vec![1, 2].into())).await?;
    client.raw(Message::Close(Some(CloseFrame { code: CloseCode::from(3001), reason: "done".into() }))).await?;
    assert_eq!(client.closed().await?, Some(3001));
    world.wait_for_metric(0, "reactor_gateway_ws_channels 0").await
}

#[tokio::test]
async fn what_is_too_large_or_no_text_closes() -> Result<()> {
    let world = World::start().await?;
    let gateway = *world.gateways.first().context("two")?;
    let mut client = Client::connect(gateway, V2).await?;
    // The server may close before all of it is read.
    let _ = client.raw(Message::Binary(vec![0; MAX_FRAME_BYTES + 1].into())).await;
    assert_eq!(client.closed().await?, Some(1009));
    for (bytes, code) in [
        (&[0x81, 0x81, 0, 0, 0, 0, 0xff][..], 1007_u16),
        (&[0xc1, 0x80, 0, 0, 0, 0], 1002),
        (&[0x81, 0x01, b'a'], 1002),
    ] {
        let mut socket = TcpStream::connect(gateway).await?;
        let request = format!(
            "GET /realtime/v1/websocket?apikey={}&vsn=2.0.0 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            user()
        );
        // The frame comes with the request, as it may.
        socket.write_all(&[request.as_bytes(), bytes].concat()).await?;
        let mut answer = Vec::new();
        tokio::time::timeout(SOON, socket.read_to_end(&mut answer)).await??;
        let end = answer.windows(4).position(|window| window == b"\r\n\r\n").context("a head")?;
        let frame = answer.get(end + 4..).context("a frame")?;
        assert_eq!(frame.get(..1), Some(&[0x88][..]));
        assert_eq!(frame.get(2..4), Some(&code.to_be_bytes()[..]), "{bytes:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_server_that_leaves_says_so() -> Result<()> {
    let world = World::start().await?;
    let gateway = *world.gateways.first().context("two")?;
    let mut client = Client::connect(gateway, V2).await?;
    client.join(TOPIC, json!({})).await?;
    world.leave();
    assert_eq!(client.closed().await?, Some(1012));
    assert!(client.was_told("Server requested disconnect"));
    Ok(())
}

#[tokio::test]
async fn a_slow_reader_is_closed_alone() -> Result<()> {
    let world = World::start_with(&[("REACTOR_REALTIME_CONNECTION_QUEUE_BYTES", "262144")]).await?;
    let [here, there] = world.gateways[..] else { anyhow::bail!("two gateways") };
    let mut slow = Client::connect(here, V2).await?;
    let (mut quick, mut sender) = (Client::connect(here, V2).await?, Client::connect(there, V2).await?);
    for client in [&mut slow, &mut quick, &mut sender] {
        client.join(TOPIC, json!({})).await?;
    }
    let payload = json!({"text": "x".repeat(100_000)});
    for _ in 0..200 {
        sender.broadcast(TOPIC, "big", &payload).await?;
        quick.next(TOPIC, "broadcast").await?;
    }
    assert_eq!(slow.closed().await?, Some(1013));
    assert!(slow.was_told("SlowConsumer: the connection reads too slowly and is closed"));
    assert_eq!(quick.ask("phoenix", "heartbeat", &json!({})).await?["status"], "ok");
    Ok(())
}
