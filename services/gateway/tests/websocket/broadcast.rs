//! Broadcasts between clients of two gateways, over HTTP, and from the database.

use anyhow::{Context, Result};
use reactor_protocol::wire::WireVersion::{V1, V2};
use serde_json::{Value, json};

use crate::client::Client;
use crate::world::{World, user};

const TOPIC: &str = "realtime:room";

#[tokio::test]
async fn broadcasts_reach_everybody_but_the_sender() -> Result<()> {
    let world = World::start().await?;
    let [here, there] = world.gateways[..] else { anyhow::bail!("two gateways") };
    let mut sender = Client::connect(here, V2).await?;
    let mut old = Client::connect(there, V1).await?;
    let mut new = Client::connect(there, V2).await?;
    sender.join(TOPIC, json!({"broadcast": {"ack": true}})).await?;
    old.join(TOPIC, json!({"broadcast": {"self": true}})).await?;
    // Without the prefix it is the same channel; each sees the topic as it joined it.
    new.join("room", json!({})).await?;
    let acked = sender.broadcast(TOPIC, "cursor", &json!({"x": 1})).await?;
    assert_eq!(sender.reply(&acked).await?["status"], "ok");
    let expected = json!({"type": "broadcast", "event": "cursor", "payload": {"x": 1}});
    assert_eq!(old.next(TOPIC, "broadcast").await?, expected);
    assert_eq!(new.next("room", "broadcast").await?, expected);
    old.broadcast(TOPIC, "own", &json!({})).await?;
    assert_eq!(old.next(TOPIC, "broadcast").await?["event"], "own");
    assert_eq!(sender.next(TOPIC, "broadcast").await?["event"], "own");
    sender.has_nothing(TOPIC, "broadcast").await?;
    // Those who have left get nothing.
    assert_eq!(new.ask("room", "phx_leave", &json!({})).await?["status"], "ok");
    sender.broadcast(TOPIC, "later", &json!({})).await?;
    assert_eq!(old.next(TOPIC, "broadcast").await?["event"], "later");
    assert_eq!(new.next("room", "broadcast").await?["event"], "own");
    new.has_nothing("room", "broadcast").await
}

#[tokio::test]
async fn binary_payloads_reach_those_who_can_read_them() -> Result<()> {
    let world = World::start().await?;
    let [here, there] = world.gateways[..] else { anyhow::bail!("two gateways") };
    let (mut old, mut new) = (Client::connect(here, V1).await?, Client::connect(here, V2).await?);
    old.join(TOPIC, json!({})).await?;
    new.join(TOPIC, json!({})).await?;
    let url = format!("http://{there}/realtime/v1/api/broadcast/room/events/bytes");
    let send = reqwest(&url, "application/octet-stream", "\u{1}\u{2}").await?;
    assert_eq!(send, (202, String::new()));
    assert_eq!(new.next(TOPIC, "broadcast").await?["payload"], "AQI=");
    old.has_nothing(TOPIC, "broadcast").await
}

async fn reqwest(url: &str, content_type: &str, body: &str) -> Result<(u16, String)> {
    reactor_runtime::crypto::install_crypto_provider();
    let request = reqwest::Client::new().post(url).bearer_auth(user()).header("content-type", content_type);
    let response = request.body(body.to_owned()).send().await?;
    Ok((response.status().as_u16(), response.text().await?))
}

async fn post(url: &str, body: &Value) -> Result<(u16, Value)> {
    let (status, body) = reqwest(url, "application/json", &body.to_string()).await?;
    Ok((status, serde_json::from_str(&body).unwrap_or(Value::Null)))
}

#[tokio::test]
async fn http_broadcasts_and_their_refusals() -> Result<()> {
    let world = World::start().await?;
    let [here, there] = world.gateways[..] else { anyhow::bail!("two gateways") };
    let mut client = Client::connect(here, V2).await?;
    client.join(TOPIC, json!({})).await?;
    let batch = format!("http://{there}/realtime/v1/api/broadcast?apikey=ignored&vsn=2.0.0");
    let message = |topic: &str, payload: Value| json!({"topic": topic, "event": "e", "payload": payload});
    let good = json!({"messages": [message("room", json!({"n": 1})), message("realtime:room", json!({"n": 2}))]});
    assert_eq!(post(&batch, &good).await?, (202, Value::Null));
    for n in 1..=2 {
        let expected = json!({"type": "broadcast", "event": "e", "payload": {"n": n}});
        assert_eq!(client.next(TOPIC, "broadcast").await?, expected);
    }
    assert_eq!(post(&batch, &json!({})).await?, (422, json!({"errors": {"messages": ["can't be blank"]}})));
    let wrong = json!({"messages": [message("room", json!({"n": 3})), {"topic": "room", "event": "e"}]});
    assert_eq!(
        post(&batch, &wrong).await?,
        (422, json!({"errors": {"messages": [{}, {"payload": ["can't be blank"]}]}}))
    );
    let private = json!({"messages": [{"topic": "room", "event": "e", "payload": {}, "private": true}]});
    assert_eq!(post(&batch, &private).await?, (202, Value::Null), "dropped without a word");
    let single = |rest: &str| format!("http://{there}/api/broadcast/{rest}");
    assert_eq!(post(&single("room/events/one"), &json!([1])).await?.0, 202);
    assert_eq!(client.next(TOPIC, "broadcast").await?["payload"], json!({"_json": [1]}));
    let refused = post(&single("room/events/one?private=true"), &json!({})).await?;
    assert_eq!(refused, (403, json!({"message": "Unauthorized"})));
    assert_eq!(reqwest(&single("room/events/one"), "text/plain", "x").await?.0, 415);
    client.has_nothing(TOPIC, "broadcast").await?;
    let nobody = reqwest::Client::new().post(batch).body("{}").send().await?;
    assert_eq!((nobody.status().as_u16(), nobody.text().await?), (401, r#"{"message":"Unauthorized"}"#.to_owned()));
    Ok(())
}

#[tokio::test]
async fn rows_of_the_database_are_broadcast_once() -> Result<()> {
    let world = World::start().await?;
    let [here, there] = world.gateways[..] else { anyhow::bail!("two gateways") };
    let mut clients = [Client::connect(here, V2).await?, Client::connect(there, V1).await?];
    for client in &mut clients {
        client.join(TOPIC, json!({"postgres_changes": [{"event": "*", "schema": "*", "table": "*"}]})).await?;
        assert_eq!(client.system(TOPIC).await?.1, "Subscribed to PostgreSQL");
    }
    world.store("room", true, "private", "{}", "p").await?;
    world.store("room", false, "ev", r#"{"a":1}"#, "i").await?;
    world.insert("notes", "1", "last").await?;
    for client in &mut clients {
        let expected = json!({"type": "broadcast", "event": "ev", "payload": {"a": 1}, "meta": {"id": "i"}});
        assert_eq!(client.next(TOPIC, "broadcast").await?, expected);
        // What `*` means is not this table.
        assert_eq!(client.next(TOPIC, "postgres_changes").await?["data"]["table"], "notes");
        client.has_nothing(TOPIC, "broadcast").await?;
    }
    Ok(())
}

#[tokio::test]
async fn rows_that_come_again_in_a_batch_with_new_ones_are_not_broadcast_again() -> Result<()> {
    let world = World::start().await?;
    let mut client = Client::connect(*world.gateways.first().context("two")?, V2).await?;
    client.join(TOPIC, json!({})).await?;
    world.store("room", false, "e", "{}", "1").await?;
    world.store_all("room", false, "e", "{}", &["1", "2"]).await?;
    world.store_all("room", false, "e", "{}", &["1", "2", "3"]).await?;
    for id in ["1", "2", "3"] {
        assert_eq!(client.next(TOPIC, "broadcast").await?["meta"]["id"], id);
    }
    client.has_nothing(TOPIC, "broadcast").await
}

#[tokio::test]
async fn the_past_comes_first_and_nothing_twice() -> Result<()> {
    use reactor_policy_engine::{ChannelAccess, StoredMessage, StoredPayload};
    let world = World::start().await?;
    let gateway = *world.gateways.first().context("two")?;
    let stored =
        |id: &str| StoredMessage { id: id.into(), event: "e".into(), payload: StoredPayload::Json("{}".into()) };
    let all = ChannelAccess { read: true, write: true };
    world.authorizer.change(|script| {
        script.rights.insert("room".to_owned(), (all, all));
        script.stored.insert("room".to_owned(), vec![stored("1"), stored("2")]);
    });
    let mut client = Client::connect(gateway, V2).await?;
    client.join(TOPIC, json!({"private": true, "broadcast": {"replay": {"since": 0, "limit": 5}}})).await?;
    world.store("room", true, "e", "{}", "2").await?;
    world.store("room", true, "e", "{}", "3").await?;
    for (id, replayed) in [("1", json!(true)), ("2", json!(true)), ("3", Value::Null)] {
        let meta = client.next(TOPIC, "broadcast").await?["meta"].clone();
        assert_eq!((&meta["id"], &meta["replayed"]), (&json!(id), &replayed));
    }
    let refused =
        client.ask("realtime:pub", "phx_join", &json!({"config": {"broadcast": {"replay": {"since": 0}}}})).await?;
    assert_eq!(refused["response"]["reason"], "UnableToReplayMessages: Replay is not allowed for public channels");
    Ok(())
}
