//! Who may open a connection.

use anyhow::{Context, Result};
use reactor_protocol::wire::WireVersion;
use reactor_testkit::token;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Error;

use crate::client::{Client, open};
use crate::world::{World, until, user};

async fn refused(url: &str) -> Result<(u16, Value)> {
    match open(url).await {
        Err(Error::Http(response)) => {
            let body = response.body().as_deref().unwrap_or_default();
            let body = if body.is_empty() { Value::Null } else { serde_json::from_slice(body)? };
            Ok((response.status().as_u16(), body))
        }
        other => anyhow::bail!("{url}: {other:?}"),
    }
}

#[tokio::test]
async fn refusals_have_their_status_and_text() -> Result<()> {
    let world = World::start().await?;
    let base = format!("ws://{}/realtime/v1/websocket", world.gateways.first().context("two")?);
    for (query, status, error) in [
        (String::new(), 401, Some("API key is missing")),
        ("?apikey=nonsense".to_owned(), 401, Some("The token provided is not a valid JWT")),
        (format!("?apikey={}", until(1000)), 401, Some("Token has expired")),
        (
            format!(
                "?apikey={}",
                token::token("another secret that is long enough", &json!({"role": "r", "exp": u32::MAX}))?
            ),
            401,
            Some("Failed to validate JWT signature"),
        ),
        (
            format!("?apikey={}", token::token(reactor_testkit::fixtures::JWT_SECRET, &json!({"exp": u32::MAX}))?),
            401,
            Some("Fields `role` and `exp` are required in JWT"),
        ),
        (format!("?apikey={}&vsn=3.0.0", user()), 403, None),
    ] {
        let expected = error.map_or(Value::Null, |error| json!({"error": error}));
        assert_eq!(refused(&format!("{base}{query}")).await?, (status, expected), "{query}");
    }
    Ok(())
}

#[tokio::test]
async fn both_paths_and_versions_are_served() -> Result<()> {
    let world = World::start().await?;
    let gateway = *world.gateways.first().context("two")?;
    // Without a version it is the first, and blanks in a token do no harm.
    let spaced = user().replacen('.', ".%0A%20", 1);
    open(&format!("ws://{gateway}/socket/websocket?eventsPerSecond=10&apikey={spaced}")).await?;
    for version in [WireVersion::V1, WireVersion::V2] {
        let mut client = Client::connect(gateway, version).await?;
        assert_eq!(client.ask("phoenix", "heartbeat", &json!({})).await?, json!({"status": "ok", "response": {}}));
        let reply = client.ask("realtime:nowhere", "broadcast", &json!({})).await?;
        assert_eq!(reply["response"]["reason"], "unmatched topic");
    }
    world.wait_for_metric(0, "reactor_gateway_ws_connections 0").await?;
    world.wait_for_metric(0, "reactor_gateway_ws_topics 0").await
}
