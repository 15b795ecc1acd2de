//! Channels whose readers and writers policies on `realtime.messages` choose.

use std::time::Duration;

use anyhow::{Context, Result};
use reactor_testkit::token::user;
use serde_json::{Value, json};

use crate::client::{Clients, NEWEST, NEWEST_V1, RELEASES, places};
use crate::deployment::{ALICE, BOB, Deployment, Mode, PATIENCE, sign, token_of};
use crate::in_both_modes;

in_both_modes!(
    members_read_and_others_are_refused,
    who_may_not_write_is_not_heard,
    a_private_channel_is_not_the_public_one_of_its_name,
    who_is_a_member_no_longer_is_shown_out,
    presence_has_gates_of_its_own,
    a_policy_that_goes_shows_its_members_out,
);

/// How long one try is looked at before the next.
const MOMENT: Duration = Duration::from_millis(500);

/// A table of members of its own for each test, and what they may do in channels whose names begin with its name.
async fn members(deployment: &Deployment, table: &str) -> Result<()> {
    deployment
        .create_table(table, "topic text, user_id uuid, writes bool, primary key (topic, user_id, writes)")
        .await?;
    let member = format!("exists (select 1 from {table} m where m.user_id = auth.uid() and m.topic = realtime.topic()");
    deployment
        .postgres
        .execute(&format!(
            "create policy {table}_read on realtime.messages for select to authenticated using ({member}));
             create policy {table}_write on realtime.messages for insert to authenticated with check ({member} and m.writes))"
        ))
        .await
}

async fn join_table(deployment: &Deployment, table: &str, topic: &str, user: &str, writes: bool) -> Result<()> {
    let row = format!("insert into {table} values ('{topic}', '{user}', {writes})");
    deployment.postgres.execute(&row).await
}

/// A token that differs from every other of the user's: one that is not new is ignored.
fn another_token(of: &str, number: i64) -> String {
    let mut claims = user("authenticated", of);
    claims.insert("number".into(), json!(number));
    sign(&json!(claims))
}

fn private() -> Value {
    json!({"private": true, "broadcast": {"ack": true}})
}

fn send(client: &str, channel: &str, n: i64) -> Value {
    json!({"do": "send", "client": client, "channel": channel, "event": "e", "payload": {"n": n}})
}

async fn members_read_and_others_are_refused(mode: Mode) -> Result<()> {
    let deployment = Deployment::shared(mode).await?;
    members(deployment, "ws_club").await?;
    join_table(deployment, "ws_club", "club", ALICE, true).await?;
    let mut clients = Clients::supabase().await?;
    let [here, there] = places(deployment);
    // The first releases did not know private channels.
    let knowing = || RELEASES.iter().filter(|release| !release.package.ends_with("-2.4"));
    for release in knowing() {
        let (alice, bob) = (format!("alice {}", release.name()), format!("bob {}", release.name()));
        clients.client(&alice, *release, here, &token_of(ALICE)).await?;
        clients.open(&alice, "club", private(), json!({"broadcast": ["*"]})).await?;
        clients.client(&bob, *release, there, &token_of(BOB)).await?;
        let refused = clients.try_open(&bob, "club", private(), json!({"broadcast": ["*"]})).await?;
        assert_eq!(refused["status"], "CHANNEL_ERROR", "{bob}");
        let reason = "Unauthorized: You do not have permissions to read from this Channel topic: club";
        assert!(refused["error"].as_str().is_some_and(|error| error.contains(reason)), "{refused}");
    }
    let sender = format!("alice {}", NEWEST.name());
    assert_eq!(clients.ask(send(&sender, "club", 1)).await?, "ok");
    for release in knowing().filter(|release| release.name() != NEWEST.name()) {
        let seen = clients.next(&format!("alice {}", release.name()), "broadcast").await?;
        assert_eq!(seen["payload"]["payload"], json!({"n": 1}));
        clients.nothing_left(&format!("bob {}", release.name()), "broadcast")?;
    }
    Ok(())
}

async fn who_may_not_write_is_not_heard(mode: Mode) -> Result<()> {
    let deployment = Deployment::shared(mode).await?;
    members(deployment, "ws_stage").await?;
    join_table(deployment, "ws_stage", "stage", ALICE, true).await?;
    join_table(deployment, "ws_stage", "stage", BOB, false).await?;
    let mut clients = Clients::supabase().await?;
    let [here, there] = places(deployment);
    clients.client("alice", NEWEST, here, &token_of(ALICE)).await?;
    clients.client("bob", NEWEST_V1, there, &token_of(BOB)).await?;
    let config = json!({"private": true});
    for name in ["alice", "bob"] {
        clients.open(name, "stage", config.clone(), json!({"broadcast": ["*"]})).await?;
    }
    clients.ask(send("bob", "stage", 1)).await?;
    let track = clients.ask(json!({"do": "track", "client": "bob", "channel": "stage", "payload": {}})).await?;
    assert_eq!(track, "error", "track without the right to write");
    clients.ask(send("alice", "stage", 2)).await?;
    assert_eq!(clients.next("bob", "broadcast").await?["payload"]["payload"], json!({"n": 2}));
    join_table(deployment, "ws_stage", "stage", BOB, true).await?;
    // The right to write is asked for again with a new token.
    clients.ask(json!({"do": "auth", "client": "bob", "token": another_token(BOB, 1)})).await?;
    let heard = async {
        loop {
            clients.tell(&send("bob", "stage", 3)).await?;
            let heard = |seen: &Value| seen["client"] == "alice" && seen["saw"] == "broadcast";
            if let Ok(seen) = clients.expect_within(MOMENT, "alice hears bob", heard).await {
                return anyhow::Ok(seen);
            }
        }
    };
    let heard = tokio::time::timeout(PATIENCE, heard).await.context("alice hears bob")??;
    assert_eq!(heard["payload"]["payload"], json!({"n": 3}));
    Ok(())
}

async fn a_private_channel_is_not_the_public_one_of_its_name(mode: Mode) -> Result<()> {
    let deployment = Deployment::shared(mode).await?;
    members(deployment, "ws_twin").await?;
    join_table(deployment, "ws_twin", "twin", ALICE, true).await?;
    let mut clients = Clients::supabase().await?;
    let [here, there] = places(deployment);
    for (name, place, config) in
        [("in", here, private()), ("in too", there, private()), ("out", here, json!({})), ("out too", there, json!({}))]
    {
        clients.client(name, NEWEST, place, &token_of(ALICE)).await?;
        clients.open(name, "twin", config, json!({"broadcast": ["*"]})).await?;
    }
    clients.ask(send("in", "twin", 1)).await?;
    clients.ask(send("out", "twin", 2)).await?;
    for (name, n) in [("in too", 1), ("out too", 2)] {
        assert_eq!(clients.next(name, "broadcast").await?["payload"]["payload"], json!({"n": n}));
    }
    for name in ["in", "in too", "out", "out too"] {
        clients.nothing_left(name, "broadcast")?;
    }
    Ok(())
}

async fn who_is_a_member_no_longer_is_shown_out(mode: Mode) -> Result<()> {
    let deployment = Deployment::shared(mode).await?;
    members(deployment, "ws_left").await?;
    let mut clients = Clients::supabase().await?;
    for (release, place) in [NEWEST, NEWEST_V1].into_iter().zip(places(deployment)) {
        let name = release.name();
        join_table(deployment, "ws_left", "left", ALICE, true).await?;
        clients.client(&name, release, place, &token_of(ALICE)).await?;
        clients.open(&name, "left", private(), json!({})).await?;
        deployment.postgres.execute("delete from ws_left").await?;
        let closed = |seen: &Value| seen["client"] == *name && seen["saw"] == "status" && seen["status"] == "CLOSED";
        let shown_out = async {
            for round in 0.. {
                clients.ask(json!({"do": "auth", "client": name, "token": another_token(ALICE, round)})).await?;
                if clients.expect_within(MOMENT, "the channel is closed", closed).await.is_ok() {
                    break;
                }
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(PATIENCE, shown_out).await.context("the member is shown out")??;
        let said = clients.next(&name, "system").await?;
        let text = "You no longer have permission to read from this Channel topic: left";
        assert_eq!((&said["payload"]["status"], &said["payload"]["message"]), (&json!("error"), &json!(text)));
    }
    Ok(())
}

async fn presence_has_gates_of_its_own(mode: Mode) -> Result<()> {
    let deployment = Deployment::shared(mode).await?;
    deployment
        .postgres
        .execute(&format!(
            "create policy ws_gate_b on realtime.messages for select to authenticated
               using (realtime.topic() = 'gated' and extension = 'broadcast');
             create policy ws_gate_p on realtime.messages for select to authenticated
               using (realtime.topic() = 'gated' and extension = 'presence' and auth.uid() = '{ALICE}');
             create policy ws_gate_w on realtime.messages for insert to authenticated
               with check (realtime.topic() = 'gated')"
        ))
        .await?;
    let mut clients = Clients::supabase().await?;
    for ((name, user), place) in [("alice", ALICE), ("bob", BOB)].into_iter().zip(places(deployment)) {
        clients.client(name, NEWEST, place, &token_of(user)).await?;
        let config = json!({"private": true, "presence": {"key": name}});
        clients.open(name, "gated", config, json!({"presence": true, "broadcast": ["*"]})).await?;
    }
    for name in ["alice", "bob"] {
        let track = json!({"do": "track", "client": name, "channel": "gated", "payload": {"name": name}});
        assert_eq!(clients.ask(track).await?, "ok", "{name}");
    }
    let both = |seen: &Value| {
        seen["client"] == "alice"
            && seen["saw"] == "sync"
            && seen["state"].as_object().is_some_and(|state| state.len() == 2)
    };
    clients.expect("alice counts both", both).await?;
    clients.ask(send("alice", "gated", 1)).await?;
    clients.next("bob", "broadcast").await?;
    for saw in ["sync", "join", "leave"] {
        clients.nothing_left("bob", saw)?;
    }
    Ok(())
}

async fn a_policy_that_goes_shows_its_members_out(mode: Mode) -> Result<()> {
    let deployment = Deployment::shared(mode).await?;
    let read =
        "create policy ws_gone on realtime.messages for select to authenticated using (realtime.topic() = 'gone')";
    deployment.postgres.execute(read).await?;
    let mut clients = Clients::supabase().await?;
    for (release, place) in [NEWEST, NEWEST_V1].into_iter().zip(places(deployment)) {
        clients.client(&release.name(), release, place, &token_of(ALICE)).await?;
        clients.open(&release.name(), "gone", private(), json!({})).await?;
    }
    deployment.postgres.execute("drop policy ws_gone on realtime.messages").await?;
    for release in [NEWEST, NEWEST_V1] {
        let name = release.name();
        let said = clients.next(&name, "system").await?;
        let text = "You no longer have permission to read from this Channel topic: gone";
        assert_eq!(said["payload"]["message"], text);
        assert_eq!(clients.next(&name, "status").await?["status"], "CLOSED", "{name}");
    }
    Ok(())
}
