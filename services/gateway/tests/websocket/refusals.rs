//! What a gateway refuses, drops and ends, each by its name and counted.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use reactor_policy_engine::ChannelAccess;
use reactor_protocol::broadcast::Encoding;
use reactor_protocol::client::encode_frame;
use reactor_protocol::wire::WireVersion::{V1, V2};
use reactor_protocol::wire::{Frame, Payload, Ref};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::client::{Client, open};
use crate::world::{World, user};

const TOPIC: &str = "realtime:room";

/// Waits for a counter with one label.
async fn counted(world: &World, name: &str, label: &str, value: &str, count: u32) -> Result<()> {
    world.wait_for_metric(0, &format!("reactor_gateway_{name}_total{{{label}=\"{value}\"}} {count}")).await
}

async fn refused(world: &World) -> Result<(u16, String)> {
    let gateway = world.gateways.first().context("two")?;
    match open(&format!("ws://{gateway}/realtime/v1/websocket?apikey={}", user())).await {
        Err(Error::Http(response)) => {
            let body: Value = serde_json::from_slice(response.body().as_deref().unwrap_or_default())?;
            Ok((response.status().as_u16(), body["error"].as_str().unwrap_or_default().to_owned()))
        }
        other => anyhow::bail!("{other:?}"),
    }
}

#[tokio::test]
async fn a_gateway_that_is_switched_off_says_so() -> Result<()> {
    let world = World::start_with(&[("REACTOR_REALTIME_ENABLED", "false")]).await?;
    assert_eq!(refused(&world).await?, (403, "Realtime was disabled for this tenant".to_owned()));
    counted(&world, "ws_refused", "reason", "disabled", 1).await
}

#[tokio::test]
async fn connections_are_limited() -> Result<()> {
    let world = World::start_with(&[("REACTOR_REALTIME_MAX_CONNECTIONS", "1")]).await?;
    let mut first = Client::connect(*world.gateways.first().context("two")?, V2).await?;
    assert_eq!(refused(&world).await?, (429, "Too many connected users".to_owned()));
    counted(&world, "ws_refused", "reason", "connections", 1).await?;
    // The one that is there is none the worse for it.
    first.join(TOPIC, json!({})).await?;
    first.raw(Message::Close(None)).await?;
    first.closed().await?;
    world.wait_for_metric(0, "reactor_gateway_connections 0").await?;
    Client::connect(*world.gateways.first().context("two")?, V2).await?;
    Ok(())
}

#[tokio::test]
async fn refused_upgrades_are_counted_by_reason() -> Result<()> {
    let world = World::start().await?;
    let gateway = world.gateways.first().context("two")?;
    for query in ["apikey=nonsense", "vsn=3.0.0"] {
        ensure!(open(&format!("ws://{gateway}/realtime/v1/websocket?{query}")).await.is_err(), "{query}");
    }
    let plain = reqwest::get(format!("http://{gateway}/realtime/v1/websocket")).await?;
    assert_eq!(plain.status().as_u16(), 426);
    assert_eq!(plain.headers().get("sec-websocket-version").map(|version| version.as_bytes()), Some(&b"13"[..]));
    for reason in ["token", "unknown_version", "handshake"] {
        counted(&world, "ws_refused", "reason", reason, 1).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_connection_that_says_nothing_is_closed() -> Result<()> {
    let world = World::start().await?;
    let gateway = *world.gateways.first().context("two")?;
    let (mut silent, mut beating) = (Client::connect(gateway, V2).await?, Client::connect(gateway, V1).await?);
    silent.join(TOPIC, json!({})).await?;
    beating.join(TOPIC, json!({})).await?;
    for seconds in [35, 30] {
        beating.ask("phoenix", "heartbeat", &json!({})).await?;
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(seconds)).await;
        tokio::time::resume();
    }
    assert_eq!(silent.closed().await?, Some(1000));
    assert_eq!(beating.ask("phoenix", "heartbeat", &json!({})).await?["status"], "ok");
    counted(&world, "ws_closed", "code", "1000", 1).await
}

#[tokio::test]
async fn frames_that_are_dropped_are_counted_by_reason() -> Result<()> {
    let world = World::start().await?;
    let gateway = *world.gateways.first().context("two")?;
    let mut client = Client::connect(gateway, V2).await?;
    client.join(TOPIC, json!({"broadcast": {"ack": true}})).await?;
    let text = |text: String| Message::Text(text.into());
    let large = "x".repeat(3_000_500);
    for (frame, reason) in [
        (text("nonsense".to_owned()), "not_json"),
        (text(format!(r#"[{{}},"1","{TOPIC}","e",{{}}]"#)), "bad_member"),
        (text(format!(r#"["j","1","{TOPIC}","dance",{{}}]"#)), "unknown_event"),
        (text(format!(r#"["j","1","{TOPIC}","broadcast",[]]"#)), "bad_payload"),
        (text(format!(r#"["j","1","{TOPIC}","broadcast",{{"a":"{large}"}}]"#)), "too_large"),
        (Message::Binary(vec![9].into()), "unknown_kind"),
        (Message::Binary(vec![3, 1].into()), "truncated"),
    ] {
        client.raw(frame).await?;
        counted(&world, "ws_frames_dropped", "reason", reason, 1).await?;
    }
    assert_eq!(client.reply("1").await?["response"], json!({"error": "payload_size_exceeded"}));
    let mut older = Client::connect(gateway, V1).await?;
    older.raw(Message::Binary(vec![9].into())).await?;
    counted(&world, "ws_frames_dropped", "reason", "no_binary", 1).await
}

#[tokio::test]
async fn broadcasts_that_fail_are_answered_and_counted_by_reason() -> Result<()> {
    let world = World::start().await?;
    let all = ChannelAccess { read: true, write: true };
    world.authorizer.change(|script| {
        script.rights.insert("room".to_owned(), (all, all));
    });
    let mut client = Client::connect(*world.gateways.first().context("two")?, V2).await?;
    client.join(TOPIC, json!({"private": true, "broadcast": {"ack": true, "self": true}})).await?;
    client.join("realtime:quiet", json!({})).await?;
    // More than the bus takes.
    let large = json!({"text": "x".repeat(1 << 20)});
    let sent = client.broadcast(TOPIC, "large", &large).await?;
    assert_eq!(client.reply(&sent).await?["response"], json!({"error": "payload_size_exceeded"}));
    counted(&world, "publish_failed", "reason", "too_large", 1).await?;
    client.broadcast("realtime:quiet", "large", &large).await?;
    counted(&world, "publish_failed", "reason", "too_large", 2).await?;
    // What is to be stored and cannot be is delivered all the same.
    let kept = Frame {
        join_ref: Some(Ref::new("j")),
        reference: Some(Ref::new("kept")),
        topic: TOPIC.to_owned(),
        event: "broadcast".to_owned(),
        payload: Payload::Broadcast {
            event: "kept".to_owned(),
            metadata: Some(Bytes::from_static(br#"{"persist":true}"#)),
            encoding: Encoding::Json,
            payload: Bytes::from_static(b"{}"),
        },
    };
    client.send(encode_frame(V2, &kept).context("it fits")?).await?;
    assert_eq!(client.reply("kept").await?["response"], json!({"reason": "unable to publish"}));
    assert_eq!(client.next(TOPIC, "broadcast").await?["event"], "kept");
    counted(&world, "publish_failed", "reason", "not_stored", 1).await
}

#[tokio::test]
async fn joins_and_ends_of_channels_are_counted_by_reason() -> Result<()> {
    let world = World::start().await?;
    let gateway = *world.gateways.first().context("two")?;
    let mut client = Client::connect(gateway, V2).await?;
    client.join(TOPIC, json!({})).await?;
    for (topic, payload) in [
        ("realtime:", json!({"config": {}})),
        ("realtime:b", json!({"config": {}, "access_token": "nonsense"})),
        ("realtime:c", json!({"config": {"private": true}})),
        ("realtime:d", json!({"config": {"broadcast": {"replay": {"since": 1}}}})),
    ] {
        assert_eq!(client.ask(topic, "phx_join", &payload).await?["status"], "error", "{topic}");
    }
    for outcome in ["ok", "topic_required", "token_malformed", "unauthorized", "replay_of_public"] {
        counted(&world, "ws_joins", "outcome", outcome, 1).await?;
    }
    client.push(TOPIC, "access_token", &json!({"access_token": "nonsense"})).await?;
    assert_eq!(client.system(TOPIC).await?.1, "The token provided is not a valid JWT");
    client.next(TOPIC, "phx_close").await?;
    counted(&world, "ws_channels_ended", "reason", "token_malformed", 1).await?;
    client.join(TOPIC, json!({"presence": {"enabled": true}})).await?;
    for number in 0..6 {
        let track = json!({"type": "presence", "event": "track", "payload": {"n": number}});
        client.push(TOPIC, "presence", &track).await?;
    }
    assert_eq!(client.system(TOPIC).await?.1, "Client presence rate limit exceeded");
    counted(&world, "ws_channels_ended", "reason", "client_presence_rate", 1).await
}
