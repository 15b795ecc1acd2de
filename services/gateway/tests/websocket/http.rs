//! Broadcasts over HTTP: what is refused, and what each answer says of its request.

use anyhow::{Context, Result};
use reactor_policy_engine::ChannelAccess;
use reactor_protocol::wire::WireVersion::V2;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};

use crate::client::Client;
use crate::world::{World, user};

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Value,
}

async fn post(url: &str, headers: &[(&str, &str)], body: String) -> Result<Answer> {
    reactor_runtime::crypto::install_crypto_provider();
    let mut request = reqwest::Client::new().post(url).bearer_auth(user()).body(body);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = request.send().await?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let body = serde_json::from_str(&response.text().await?).unwrap_or(Value::Null);
    Ok(Answer { status, headers, body })
}

fn id(answer: &Answer) -> Option<&str> {
    answer.headers.get("x-request-id").and_then(|id| id.to_str().ok())
}

#[tokio::test]
async fn every_answer_names_its_request() -> Result<()> {
    let world = World::start().await?;
    let base = format!("http://{}/realtime/v1/api/broadcast", world.gateways.first().context("two")?);
    let good = json!({"messages": [{"topic": "room", "event": "e", "payload": {}}]}).to_string();
    let mut ids = Vec::new();
    for (body, status) in [(good.clone(), 202), (good.clone(), 202), ("{}".to_owned(), 422)] {
        let answer = post(&base, &[], body).await?;
        assert_eq!(answer.status, status);
        ids.push(id(&answer).context("no id")?.to_owned());
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 3, "each has its own");
    assert!(ids.iter().all(|id| id.len() == 36));
    let own = "0123456789-a-request-of-mine";
    for (given, kept) in [(own, true), ("too short", false), (&"x".repeat(201), false)] {
        let single = post(&format!("{base}/room/events/e"), &[("x-request-id", given)], "{}".to_owned()).await?;
        assert_eq!((single.status, id(&single) == Some(given)), (202, kept), "{given}");
    }
    // What a gateway does not count it does not claim.
    let answer = post(&base, &[("origin", "http://elsewhere")], good).await?;
    assert!(answer.headers.keys().all(|name| !name.as_str().starts_with("x-rate")));
    let exposed = answer.headers.get("access-control-expose-headers").context("no CORS")?.to_str()?;
    assert!(exposed.contains("x-request-id"), "{exposed}");
    Ok(())
}

#[tokio::test]
async fn refusals_are_named_and_counted() -> Result<()> {
    let world = World::start().await?;
    let gateway = *world.gateways.first().context("two")?;
    let batch = format!("http://{gateway}/api/broadcast");
    let single = format!("{batch}/room/events/e");
    let too_large = json!(["Payload size exceeds tenant limit"]);
    let large = json!({"text": "x".repeat(3_000_500)});
    let large_batch = json!({"messages": [{"topic": "room", "event": "e", "payload": large}]});
    let message =
        |payload: Value| json!({"messages": [{"topic": "room", "event": "e", "payload": payload}]}).to_string();
    for (url, body, status, said) in [
        (&batch, "{".to_owned(), 400, json!({"message": "The body is not JSON"})),
        (&batch, message(json!([1])), 422, json!({"errors": {"messages": [{"payload": ["is invalid"]}]}})),
        (&batch, large_batch.to_string(), 422, json!({"errors": {"messages": [{"payload": too_large}]}})),
        (&single, String::new(), 422, json!({"errors": {"payload": ["can't be blank"]}})),
        (&single, "{".to_owned(), 422, json!({"errors": {"payload": ["is invalid"]}})),
        (
            &format!("{single}?persist=true"),
            "{}".to_owned(),
            422,
            json!({"errors": {"persist": ["can only be used on private channels"]}}),
        ),
        // More than the bus takes.
        (&single, json!({"text": "x".repeat(1 << 20)}).to_string(), 422, json!({"errors": {"payload": too_large}})),
        (&single, large.to_string(), 422, json!({"errors": {"payload": too_large}})),
    ] {
        let answer = post(url, &[], body).await?;
        assert_eq!((answer.status, answer.body), (status, said));
    }
    let other = [("content-type", "text/plain")];
    assert_eq!(post(&single, &other, "x".to_owned()).await?.status, 415);
    let private = format!("{single}?private=true");
    assert_eq!(post(&private, &[], "{}".to_owned()).await?.status, 403);
    reactor_runtime::crypto::install_crypto_provider();
    assert_eq!(reqwest::Client::new().post(&single).body("{}").send().await?.status().as_u16(), 401);
    let counted = |reason: &str, count: u32| {
        let line = format!("reactor_gateway_ws_refused_total{{reason=\"{reason}\"}} {count}");
        let world = &world;
        async move { world.wait_for_metric(0, &line).await }
    };
    for (reason, count) in
        [("rest_body", 1), ("rest_invalid", 7), ("rest_media_type", 1), ("rest_not_allowed", 1), ("rest_token", 1)]
    {
        counted(reason, count).await?;
    }
    let answer = post(&single, &[], "x".repeat(8 * 1024 * 1024 + 1)).await?;
    assert_eq!((answer.status, answer.body), (413, json!({"message": "The body could not be read"})));
    counted("rest_body", 2).await
}

#[tokio::test]
async fn a_broadcast_that_cannot_be_stored_is_delivered_and_refused() -> Result<()> {
    let world = World::start().await?;
    let gateway = *world.gateways.first().context("two")?;
    let all = ChannelAccess { read: true, write: true };
    world.authorizer.change(|script| {
        script.rights.insert("room".to_owned(), (all, all));
    });
    let mut client = Client::connect(gateway, V2).await?;
    client.join("realtime:room", json!({"private": true})).await?;
    let url = format!("http://{gateway}/api/broadcast/room/events/kept?private=true&persist=true");
    let answer = post(&url, &[], "{}".to_owned()).await?;
    assert_eq!((answer.status, answer.body), (422, json!({"message": "Tenant database unavailable"})));
    assert_eq!(client.next("realtime:room", "broadcast").await?["event"], "kept");
    world.wait_for_metric(0, "reactor_gateway_ws_refused_total{reason=\"rest_policy\"} 1").await
}

#[tokio::test]
async fn a_gateway_that_is_switched_off_takes_none() -> Result<()> {
    let world = World::start_with(&[("REACTOR_REALTIME_ENABLED", "false")]).await?;
    let url = format!("http://{}/api/broadcast/room/events/e", world.gateways.first().context("two")?);
    let answer = post(&url, &[], "{}".to_owned()).await?;
    assert_eq!((answer.status, answer.body), (403, json!({"message": "Tenant is suspended"})));
    world.wait_for_metric(0, "reactor_gateway_ws_refused_total{reason=\"rest_disabled\"} 1").await
}
