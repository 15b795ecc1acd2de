//! Private channels and tokens.

use anyhow::{Context, Result};
use reactor_policy_engine::ChannelAccess;
use reactor_protocol::wire::WireVersion::V2;
use reactor_testkit::token;
use serde_json::json;

use crate::client::Client;
use crate::world::{World, until};

const TOPIC: &str = "realtime:room";
const READ: ChannelAccess = ChannelAccess { read: true, write: false };
const ALL: ChannelAccess = ChannelAccess { read: true, write: true };

#[tokio::test]
async fn policies_decide_who_reads_and_writes() -> Result<()> {
    let world = World::start().await?;
    let [here, there] = world.gateways[..] else { anyhow::bail!("two gateways") };
    let config = json!({"private": true, "broadcast": {"ack": true}, "presence": {"enabled": true}});
    let mut client = Client::connect(here, V2).await?;
    let refused = client.ask(TOPIC, "phx_join", &json!({"config": config})).await?;
    let reason = "Unauthorized: You do not have permissions to read from this Channel topic: room";
    assert_eq!(refused["response"]["reason"], reason);
    world.authorizer.change(|script| {
        script.rights.insert("room".to_owned(), (READ, READ));
    });
    client.join(TOPIC, config.clone()).await?;
    client.next(TOPIC, "presence_state").await?;
    let track = json!({"type": "presence", "event": "track", "payload": {}});
    assert_eq!(client.ask(TOPIC, "presence", &track).await?["status"], "error");
    // What may not be sent is dropped without a word.
    client.broadcast(TOPIC, "refused", &json!({})).await?;
    let mut other = Client::connect(there, V2).await?;
    other.join(TOPIC, json!({"broadcast": {"ack": true}})).await?;
    other.broadcast(TOPIC, "public", &json!({})).await?;
    client.has_nothing(TOPIC, "broadcast").await?;
    // A right that is given holds soon, without a new join.
    world.authorizer.change(|script| {
        script.rights.insert("room".to_owned(), (ALL, ALL));
    });
    let mut writer = Client::connect(there, V2).await?;
    writer.join(TOPIC, config).await?;
    writer.broadcast(TOPIC, "private", &json!({})).await?;
    assert_eq!(client.next(TOPIC, "broadcast").await?["event"], "private");
    other.has_nothing(TOPIC, "broadcast").await?;
    // One that is taken ends the channel.
    world.authorizer.change(|script| {
        script.rights.remove("room");
    });
    for client in [&mut client, &mut writer] {
        let text = "You no longer have permission to read from this Channel topic: room";
        assert_eq!(client.system(TOPIC).await?.1, text);
        client.next(TOPIC, "phx_close").await?;
    }
    other.has_nothing(TOPIC, "phx_close").await
}

#[tokio::test]
async fn a_token_that_ends_ends_its_channels() -> Result<()> {
    let world = World::start().await?;
    let gateway = *world.gateways.first().context("two")?;
    let mut client = Client::connect_with(gateway, V2, &until(token::now() + 3)).await?;
    client.join("realtime:kept", json!({})).await?;
    client.push("realtime:kept", "access_token", &json!({"access_token": until(token::now() + 100)})).await?;
    client.join(TOPIC, json!({})).await?;
    assert_eq!(client.system(TOPIC).await?.1, "Token has expired 0 seconds ago");
    client.next(TOPIC, "phx_close").await?;
    client.has_nothing("realtime:kept", "phx_close").await?;
    let refused = client.ask(TOPIC, "phx_join", &json!({"config": {}})).await?;
    let reason = refused["response"]["reason"].as_str().unwrap_or_default();
    assert!(reason.starts_with("InvalidJWTToken: Token has expired"), "{reason}");
    let wrong = json!({"config": {}, "access_token": "nonsense"});
    let refused = client.ask(TOPIC, "phx_join", &wrong).await?;
    assert_eq!(refused["response"]["reason"], "MalformedJWT: The token provided is not a valid JWT");
    client.push("realtime:kept", "access_token", &json!({"access_token": "nonsense"})).await?;
    assert_eq!(client.system("realtime:kept").await?.1, "The token provided is not a valid JWT");
    Ok(())
}
