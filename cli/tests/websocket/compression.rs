//! Clients that have agreed on compression, and those that have not, in one channel.

use anyhow::{Result, ensure};
use reactor_testkit::PostgresOptions;
use serde_json::{Value, json};

use crate::client::{Clients, NEWEST, places};
use crate::deployment::{Deployment, Mode, user_token};
use crate::in_both_modes;

in_both_modes!(nothing_is_compressed_by_default, everybody_gets_the_same_with_and_without_compression);

const TOPIC: &str = "realtime:compressed";

/// Connects a plain client; the extensions that it has agreed on.
async fn connect(bare: &mut Clients, client: &str, place: &str, options: Value) -> Result<Value> {
    let url = format!("{place}/realtime/v1/websocket?apikey={}&vsn=2.0.0", user_token());
    let mut answer =
        bare.ask(json!({"do": "connect", "client": client, "url": url, "headers": {}, "options": options})).await?;
    ensure!(answer["status"] == 101, "{client}: {answer}");
    Ok(answer["extensions"].take())
}

async fn send(bare: &mut Clients, client: &str, frame: Value) -> Result<()> {
    bare.ask(json!({"do": "frame", "client": client, "frame": frame})).await.map(|_| ())
}

/// The next frame of an event.
async fn next(bare: &mut Clients, client: &str, event: &str) -> Result<Value> {
    let wanted = |seen: &Value| seen["client"] == client && seen["frame"][3] == event;
    Ok(bare.expect(&format!("{client} sees {event}"), wanted).await?["frame"].take())
}

/// The bytes that have come over a client's socket.
async fn bytes_read(bare: &mut Clients, client: &str) -> Result<u64> {
    Ok(bare.ask(json!({"do": "bytesRead", "client": client})).await?.as_u64().unwrap_or_default())
}

async fn nothing_is_compressed_by_default(mode: Mode) -> Result<()> {
    let deployment = Deployment::shared(mode).await?;
    let mut bare = Clients::node("bare.mjs", None).await?;
    let agreed = connect(&mut bare, "c", deployment.url(), json!({"perMessageDeflate": true})).await?;
    assert_eq!(agreed, "", "the client offers, and the server does not answer");
    Ok(())
}

async fn everybody_gets_the_same_with_and_without_compression(mode: Mode) -> Result<()> {
    let settings = [("REACTOR_REALTIME_WEBSOCKET_COMPRESSION", "true")];
    let deployment = Deployment::start_with(mode, PostgresOptions::default(), &settings).await?;
    deployment.create_table("compressed", "id int primary key, note text").await?;
    let mut bare = Clients::node("bare.mjs", None).await?;
    let [here, there] = places(&deployment);
    let offers = json!({"perMessageDeflate": true});
    assert_eq!(connect(&mut bare, "with", here, offers.clone()).await?, "permessage-deflate");
    assert_eq!(connect(&mut bare, "also", there, offers).await?, "permessage-deflate");
    assert_eq!(connect(&mut bare, "without", there, json!({"perMessageDeflate": false})).await?, "");
    let changes = json!([{"event": "INSERT", "schema": "public", "table": "compressed"}]);
    for client in ["with", "also", "without"] {
        let config = json!({"config": {"broadcast": {}, "postgres_changes": changes}});
        send(&mut bare, client, json!(["1", "1", TOPIC, "phx_join", config])).await?;
        next(&mut bare, client, "system").await?;
    }
    assert_eq!(deployment.metric("reactor_gateway_ws_compressed_connections ").await?, 2.0);
    let mut stock = Clients::supabase().await?;
    stock.client("stock", NEWEST, there, &user_token()).await?;
    stock.open("stock", "compressed", Value::Null, json!({"broadcast": ["e"]})).await?;
    // What is short goes as it is; what is long is compressed by both sides.
    for length in [5, 3_000, 900_000] {
        for (sender, listeners) in [("with", ["also", "without"]), ("without", ["with", "also"])] {
            let text = format!("from {sender}: {}", "äé0 ".repeat(length / 6));
            let message = json!({"type": "broadcast", "event": "e", "payload": {"text": text}});
            send(&mut bare, sender, json!(["1", "2", TOPIC, "broadcast", message])).await?;
            for listener in listeners {
                let frame = next(&mut bare, listener, "broadcast").await?;
                ensure!(frame[4] == message, "{listener} hears {length} bytes of {sender}: {:.200}", frame.to_string());
            }
            let heard = stock.next("stock", "broadcast").await?;
            ensure!(heard["payload"]["payload"]["text"] == text, "{length} bytes of {sender} reach the stock client");
        }
    }
    let note = "a note ".repeat(1000);
    deployment.postgres.execute(&format!("insert into compressed values (1, '{note}')")).await?;
    for client in ["with", "also", "without"] {
        let change = next(&mut bare, client, "postgres_changes").await?;
        assert_eq!(change[4]["data"]["record"], json!({"id": 1, "note": note}), "{client}");
    }
    let (plain, compressed) = (bytes_read(&mut bare, "without").await?, bytes_read(&mut bare, "also").await?);
    ensure!(plain > 900_000 && compressed < 100_000, "{plain} bytes came plain, {compressed} compressed");
    Ok(())
}
