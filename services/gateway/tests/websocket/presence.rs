//! Who is in a channel, seen from two gateways.

use anyhow::Result;
use reactor_protocol::wire::WireVersion::{V1, V2};
use serde_json::{Value, json};

use crate::client::Client;
use crate::world::World;

const TOPIC: &str = "realtime:room";

fn track(payload: &Value) -> Value {
    json!({"type": "presence", "event": "track", "payload": payload})
}

#[tokio::test]
async fn joiners_see_the_state_and_then_what_changes() -> Result<()> {
    let world = World::start().await?;
    let [here, there] = world.gateways[..] else { anyhow::bail!("two gateways") };
    let mut first = Client::connect(here, V2).await?;
    first.join(TOPIC, json!({"presence": {"enabled": true, "key": "a"}})).await?;
    assert_eq!(first.next(TOPIC, "presence_state").await?, json!({}));
    assert_eq!(first.ask(TOPIC, "presence", &track(&json!({"n": 1}))).await?["status"], "ok");
    assert_eq!(first.next(TOPIC, "presence_diff").await?["joins"]["a"]["metas"][0]["n"], 1);
    let mut second = Client::connect(there, V1).await?;
    second.join(TOPIC, json!({"broadcast": {}, "presence": {"enabled": true, "key": "b"}})).await?;
    let state = second.next(TOPIC, "presence_state").await?;
    assert_eq!(state["a"]["metas"][0]["n"], 1);
    second.ask(TOPIC, "presence", &track(&json!({"n": 2}))).await?;
    for client in [&mut first, &mut second] {
        let diff = client.next(TOPIC, "presence_diff").await?;
        assert_eq!((&diff["joins"]["b"]["metas"][0]["n"], &diff["leaves"]), (&json!(2), &json!({})));
    }
    // An update is the old one going and the new one coming.
    first.ask(TOPIC, "presence", &track(&json!({"n": 3}))).await?;
    let diff = second.next(TOPIC, "presence_diff").await?;
    assert_eq!(diff["leaves"]["a"]["metas"][0]["phx_ref"], state["a"]["metas"][0]["phx_ref"]);
    assert_eq!(diff["joins"]["a"]["metas"][0]["phx_ref_prev"], state["a"]["metas"][0]["phx_ref"]);
    first.next(TOPIC, "presence_diff").await?;
    drop(second);
    assert_eq!(first.next(TOPIC, "presence_diff").await?["leaves"]["b"]["metas"][0]["n"], 2);
    first.ask(TOPIC, "presence", &json!({"type": "presence", "event": "untrack"})).await?;
    assert_eq!(first.next(TOPIC, "presence_diff").await?["leaves"]["a"]["metas"][0]["n"], 3);
    Ok(())
}

#[tokio::test]
async fn a_gateway_that_leaves_takes_its_presences_along() -> Result<()> {
    let world = World::start().await?;
    let [here, there] = world.gateways[..] else { anyhow::bail!("two gateways") };
    let (mut one, mut other) = (Client::connect(here, V2).await?, Client::connect(there, V2).await?);
    one.join(TOPIC, json!({"presence": {"enabled": true, "key": "a"}})).await?;
    one.next(TOPIC, "presence_state").await?;
    other.join(TOPIC, json!({"presence": {"enabled": true, "key": "b"}})).await?;
    other.ask(TOPIC, "presence", &track(&json!({}))).await?;
    assert!(one.next(TOPIC, "presence_diff").await?["joins"]["b"].is_object());
    other.socket.close(None).await?;
    assert!(one.next(TOPIC, "presence_diff").await?["leaves"]["b"].is_object());
    world.wait_for_metric(1, "reactor_gateway_ws_channels 0").await
}
