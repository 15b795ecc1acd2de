//! Tokens that end, are renewed, or become somebody else's.

use anyhow::Result;
use reactor_testkit::token::{now, user};
use serde_json::{Value, json};

use crate::client::{Clients, NEWEST, NEWEST_V1, RELEASES, Release, places};
use crate::deployment::{ALICE, BOB, Deployment, Mode, sign, token_of, user_token};
use crate::in_both_modes;

in_both_modes!(
    a_channel_ends_with_its_token,
    a_renewed_token_keeps_the_channel,
    another_user_sees_other_rows,
    a_broken_token_ends_the_channel,
);

/// A user's token that ends soon.
fn short_token(seconds: u64) -> String {
    let mut claims = user("authenticated", ALICE);
    claims.insert("exp".into(), json!(now() + seconds));
    sign(&json!(claims))
}

const BOTH: [Release; 2] = [NEWEST, NEWEST_V1];

async fn a_channel_ends_with_its_token(mode: Mode) -> Result<()> {
    let deployment = Deployment::shared(mode).await?;
    let mut clients = Clients::supabase().await?;
    for (release, place) in BOTH.into_iter().zip(places(deployment)) {
        let name = release.name();
        clients.client(&name, release, place, &short_token(3)).await?;
        clients.open(&name, "short", json!({}), json!({"broadcast": ["*"]})).await?;
    }
    for release in BOTH {
        let name = release.name();
        let said = clients.next(&name, "system").await?;
        let message = said["payload"]["message"].as_str().unwrap_or_default();
        assert!(message.starts_with("Token has expired") && message.ends_with("seconds ago"), "{said}");
        assert_eq!(clients.next(&name, "status").await?["status"], "CLOSED", "{name}");
    }
    Ok(())
}

async fn a_renewed_token_keeps_the_channel(mode: Mode) -> Result<()> {
    let deployment = Deployment::shared(mode).await?;
    deployment.create_table("ws_renewed", "id int primary key").await?;
    let mut clients = Clients::supabase().await?;
    let bindings = json!([{"event": "*", "schema": "public", "table": "ws_renewed"}]);
    let start = now();
    for (number, release) in RELEASES.iter().enumerate() {
        let name = release.name();
        clients.client(&name, *release, places(deployment)[number % 2], &short_token(12)).await?;
        clients.follow_changes(&name, "renewed", bindings.clone()).await?;
        clients.ask(json!({"do": "auth", "client": name, "token": user_token()})).await?;
    }
    reactor_testkit::wait::until(crate::deployment::PATIENCE, "the first tokens have ended", async || {
        Ok(now() > start + 13)
    })
    .await?;
    deployment.postgres.execute("insert into ws_renewed values (1)").await?;
    for release in &RELEASES {
        let name = release.name();
        assert_eq!(clients.next(&name, "change").await?["payload"]["new"], json!({"id": 1}));
        clients.nothing_left(&name, "status")?;
    }
    Ok(())
}

async fn another_user_sees_other_rows(mode: Mode) -> Result<()> {
    let deployment = Deployment::shared(mode).await?;
    deployment.create_table("ws_switch", "id int primary key, owner_id uuid").await?;
    deployment
        .postgres
        .execute(
            "alter table ws_switch enable row level security;
             create policy own on ws_switch for select to authenticated using (owner_id = auth.uid())",
        )
        .await?;
    let mut clients = Clients::supabase().await?;
    for (release, place) in BOTH.into_iter().zip(places(deployment)) {
        let name = release.name();
        clients.client(&name, release, place, &token_of(ALICE)).await?;
        let bindings = json!([{"event": "*", "schema": "public", "table": "ws_switch"}]);
        clients.follow_changes(&name, "switch", bindings).await?;
    }
    deployment.postgres.execute(&format!("insert into ws_switch values (1, '{ALICE}'), (2, '{BOB}')")).await?;
    for release in BOTH {
        clients.next(&release.name(), "change").await?;
        clients.ask(json!({"do": "auth", "client": release.name(), "token": token_of(BOB)})).await?;
        let again = clients.next(&release.name(), "system").await?;
        assert_eq!(again["payload"]["message"], "Subscribed to PostgreSQL");
    }
    deployment.postgres.execute(&format!("insert into ws_switch values (3, '{ALICE}'), (4, '{BOB}')")).await?;
    for release in BOTH {
        let name = release.name();
        let seen = clients.next(&name, "change").await?;
        assert_eq!(seen["payload"]["new"], json!({"id": 4, "owner_id": BOB}), "{name}");
        clients.nothing_left(&name, "change")?;
    }
    Ok(())
}

async fn a_broken_token_ends_the_channel(mode: Mode) -> Result<()> {
    let deployment = Deployment::shared(mode).await?;
    let mut bare = Clients::node("bare.mjs", None).await?;
    let forged = reactor_testkit::token::token(
        "another secret, of the right length 0123456789",
        &json!(user("authenticated", ALICE)),
    )?;
    let expired = short_token(0);
    let cases = [
        ("not.a.token", "The token provided is not a valid JWT"),
        (forged.as_str(), "Failed to validate JWT signature"),
        (expired.as_str(), "Token has expired"),
    ];
    for (number, (token, text)) in cases.iter().enumerate() {
        let (client, topic) = (format!("client {number}"), "realtime:broken");
        let url = format!("{}/realtime/v1/websocket?apikey={}&vsn=2.0.0", places(deployment)[number % 2], user_token());
        bare.ask(json!({"do": "connect", "client": client, "url": url})).await?;
        let frame = |frame: Value| json!({"do": "frame", "client": client, "frame": frame});
        bare.ask(frame(json!(["1", "1", topic, "phx_join", {"config": {}}]))).await?;
        let reply = bare.next(&client, "frame").await?;
        assert_eq!(reply["frame"][4], json!({"status": "ok", "response": {"postgres_changes": []}}));
        for ignored in [json!(null), json!("sb_publishable_x"), json!(user_token())] {
            bare.ask(frame(json!(["1", "2", topic, "access_token", {"access_token": ignored}]))).await?;
        }
        bare.ask(frame(json!(["1", "3", topic, "access_token", {"access_token": token}]))).await?;
        let said = bare.next(&client, "frame").await?["frame"].take();
        assert_eq!(
            (&said[0], &said[1], &said[2], &said[3]),
            (&json!("1"), &Value::Null, &json!(topic), &json!("system")),
            "{said}"
        );
        assert_eq!(
            (&said[4]["extension"], &said[4]["status"], &said[4]["channel"]),
            (&json!("system"), &json!("error"), &json!("broken"))
        );
        assert!(said[4]["message"].as_str().is_some_and(|message| message.starts_with(text)), "{said}");
        assert_eq!(bare.next(&client, "frame").await?["frame"], json!(["1", "1", topic, "phx_close", {}]));
        // The connection itself lives on.
        bare.ask(frame(json!([null, "4", "phoenix", "heartbeat", {}]))).await?;
        let beat = json!([null, "4", "phoenix", "phx_reply", {"status": "ok", "response": {}}]);
        assert_eq!(bare.next(&client, "frame").await?["frame"], beat);
    }
    Ok(())
}
