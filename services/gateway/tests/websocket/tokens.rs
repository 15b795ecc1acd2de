//! Tokens that are verified again while their channels are joined.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use axum::Router;
use axum::extract::State;
use axum::routing::get;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use reactor_protocol::wire::WireVersion::{V1, V2};
use reactor_testkit::token;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::client::Client;
use crate::world::World;

/// A key, and the name under which the endpoint has it.
struct Signer {
    key: EncodingKey,
    kid: &'static str,
}

impl Signer {
    /// Made by openssl, so that none is kept in the sources.
    fn new(kid: &'static str) -> Result<Self> {
        let made = Command::new("openssl").args(["genpkey", "-algorithm", "ed25519"]).output()?;
        ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        Ok(Self { key: EncodingKey::from_ed_pem(&made.stdout)?, kid })
    }

    fn public(&self) -> Result<Jwk> {
        let mut jwk = Jwk::from_encoding_key(&self.key, Algorithm::EdDSA)?;
        jwk.common.key_id = Some(self.kid.to_owned());
        Ok(jwk)
    }

    fn token(&self) -> Result<String> {
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = Some(self.kid.to_owned());
        let claims = json!({"role": "authenticated", "sub": "u", "exp": token::now() + 3600});
        Ok(jsonwebtoken::encode(&header, &claims, &self.key)?)
    }
}

/// Serves the keys that are in the list.
async fn serve(keys: Arc<Mutex<Vec<Jwk>>>) -> Result<String> {
    reactor_runtime::crypto::install_crypto_provider();
    let answer = async |State(keys): State<Arc<Mutex<Vec<Jwk>>>>| axum::Json(json!({"keys": *keys.lock().await}));
    let router = Router::new().route("/jwks.json", get(answer)).with_state(keys);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/jwks.json", listener.local_addr()?);
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(url)
}

/// Lets time pass for the gateways, and nothing else.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

/// A join as the oldest clients write it.
async fn join_legacy(client: &mut Client, topic: &str, token: &str) -> Result<()> {
    let reply = client.ask(topic, "phx_join", &json!({"user_token": token})).await?;
    ensure!(reply["status"] == "ok", "{reply}");
    Ok(())
}

async fn beat(client: &mut Client) -> Result<Value> {
    client.ask("phoenix", "heartbeat", &json!({})).await
}

#[tokio::test]
async fn a_withdrawn_key_ends_the_channels_of_its_tokens() -> Result<()> {
    let (old, new) = (Signer::new("old")?, Signer::new("new")?);
    let keys = Arc::new(Mutex::new(vec![old.public()?]));
    let url = serve(Arc::clone(&keys)).await?;
    let world = World::start_with(&[("REACTOR_JWKS_URL", &url)]).await?;
    let gateway = *world.gateways.first().context("two")?;
    let (mut legacy, mut today) = (Client::connect(gateway, V1).await?, Client::connect(gateway, V2).await?);
    join_legacy(&mut legacy, "realtime:public:notes", &old.token()?).await?;
    join_legacy(&mut legacy, "realtime:public:todos", &token_of_the_connection()).await?;
    let joined = json!({"config": {}, "access_token": old.token()?});
    ensure!(today.ask("realtime:room", "phx_join", &joined).await?["status"] == "ok");
    // The gateway learns of the rotation from the first token with the new key.
    *keys.lock().await = vec![new.public()?];
    join_legacy(&mut legacy, "realtime:public:more", &new.token()?).await?;
    beat(&mut legacy).await?;
    legacy.has_nothing("realtime:public:notes", "phx_close").await?;

    pass(Duration::from_secs(11)).await;
    beat(&mut legacy).await?;
    beat(&mut today).await?;
    let text = "Failed to generate JWT signer for key ID (kid) \"old\", check your JWT secret or JWKS configuration";
    let ended = ("error".to_owned(), text.to_owned());
    assert_eq!(system_error(&mut legacy, "realtime:public:notes").await?, ended.1);
    legacy.next("realtime:public:notes", "phx_close").await?;
    for kept in ["realtime:public:todos", "realtime:public:more"] {
        legacy.has_nothing(kept, "phx_close").await?;
    }
    world.wait_for_metric(0, r#"reactor_gateway_ws_channels_ended_total{reason="token_key_unknown"} 1"#).await?;

    // Channels with a config are looked at every five minutes, whatever the client sends.
    today.has_nothing("realtime:room", "phx_close").await?;
    for _ in 0..10 {
        pass(Duration::from_secs(29)).await;
        beat(&mut today).await?;
    }
    assert_eq!(today.system("realtime:room").await?, ended);
    today.next("realtime:room", "phx_close").await?;
    // The connection itself lives on.
    assert_eq!(beat(&mut today).await?["status"], "ok");
    Ok(())
}

fn token_of_the_connection() -> String {
    crate::world::user()
}

/// The text of the first `system` error of a topic.
async fn system_error(client: &mut Client, topic: &str) -> Result<String> {
    loop {
        let (status, message) = client.system(topic).await?;
        if status == "error" {
            return Ok(message);
        }
    }
}
