//! The plain Phoenix client, the Python client, and the releases before channels.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::client::{Clients, NEWEST, places};
use crate::deployment::{ALICE, BOB, Deployment, Mode, token_of, user_token};
use crate::in_both_modes;

in_both_modes!(
    phoenix_joins_pushes_and_counts,
    python_sees_changes_messages_and_presence,
    legacy_topics_say_what_is_meant,
    legacy_tables_are_followed,
    legacy_rows_are_the_users_own,
);

async fn phoenix_joins_pushes_and_counts(mode: Mode) -> Result<()> {
    let deployment = Deployment::shared(mode).await?;
    deployment.create_table("ws_phoenix", "id int primary key").await?;
    let mut clients = Clients::node("phoenix.mjs", None).await?;
    let topic = "realtime:phoenix";
    for ((name, path), place) in [("a", "/socket"), ("b", "/realtime/v1")].into_iter().zip(places(deployment)) {
        clients.ask(json!({"do": "client", "client": name, "url": place, "token": user_token(), "path": path})).await?;
        let config = json!({
            "broadcast": {"ack": true}, "presence": {"enabled": true, "key": name},
            "postgres_changes": [{"event": "INSERT", "schema": "public", "table": "ws_phoenix"}]
        });
        let listen = json!(["broadcast", "postgres_changes", "system"]);
        let open =
            json!({"do": "open", "client": name, "channel": topic, "payload": {"config": config}, "listen": listen});
        let joined = clients.ask(open).await?;
        ensure!(joined["status"] == "ok", "{joined}");
        let binding = &joined["response"]["postgres_changes"][0];
        ensure!(binding["id"].as_i64().is_some_and(|id| id > 0) && binding["table"] == "ws_phoenix", "{joined}");
        let said = clients.next(name, "system").await?;
        assert_eq!(said["payload"]["message"], "Subscribed to PostgreSQL");
    }
    let push = |client: &str, event: &str, payload: Value| json!({"do": "push", "client": client, "channel": topic, "event": event, "payload": payload});
    let ok = json!({"status": "ok", "response": {}});
    let message = json!({"type": "broadcast", "event": "e", "payload": {"n": 1}, "more": [true]});
    assert_eq!(clients.ask(push("a", "broadcast", message.clone())).await?, ok);
    assert_eq!(clients.next("b", "broadcast").await?["payload"], message, "what is pushed as text arrives as it was");
    let track = json!({"type": "presence", "event": "track", "payload": {"name": "A"}});
    assert_eq!(clients.ask(push("a", "presence", track)).await?, ok);
    let here =
        |seen: &Value| seen["client"] == "b" && seen["saw"] == "sync" && seen["state"]["a"]["metas"][0]["name"] == "A";
    clients.expect("b counts a", here).await?;
    deployment.postgres.execute("insert into ws_phoenix values (1)").await?;
    for name in ["a", "b"] {
        let seen = clients.next(name, "postgres_changes").await?;
        assert_eq!(seen["payload"]["data"]["record"], json!({"id": 1}), "{name}");
    }
    assert_eq!(clients.ask(json!({"do": "leave", "client": "a", "channel": topic})).await?, ok);
    let gone = |seen: &Value| seen["client"] == "b" && seen["saw"] == "sync" && seen["state"] == json!({});
    clients.expect("b counts nobody", gone).await?;
    Ok(())
}

async fn python_sees_changes_messages_and_presence(mode: Mode) -> Result<()> {
    let deployment = Deployment::shared(mode).await?;
    let [here, there] = places(deployment);
    for release in ["newest", "older"] {
        let table = format!("ws_python_{release}");
        deployment.create_table(&table, "id int primary key, note text").await?;
        let mut python = Clients::python(release).await?;
        let mut script = Clients::supabase().await?;
        python.ask(json!({"do": "client", "client": "py", "url": here, "token": user_token()})).await?;
        script.client("js", NEWEST, there, &user_token()).await?;
        let changes = json!([{"event": "*", "schema": "public", "table": table, "filter": "id=gt.1"}]);
        let listen = json!({"changes": changes, "broadcast": ["e"], "presence": true});
        let config = json!({"presence": {"key": "py", "enabled": true}});
        let open = json!({"do": "open", "client": "py", "channel": table, "config": config, "listen": listen});
        python.tell(&open).await?;
        let status = python.next("py", "status").await?;
        ensure!(status["status"].as_str().is_some_and(|status| status.ends_with("SUBSCRIBED")), "{status}");
        // The binary broadcasts of the other's protocol have to reach this one as text, and it tells who it is.
        let listen = json!({"broadcast": ["e"], "presence": true});
        script.open("js", &table, json!({"presence": {"key": "js"}}), listen).await?;
        let send = |client: &str, n: i64| json!({"do": "send", "client": client, "channel": table, "event": "e", "payload": {"n": n}});
        script.ask(send("js", 1)).await?;
        let seen = python.next("py", "broadcast").await?;
        assert_eq!(seen["payload"]["payload"], json!({"n": 1}), "{release}: {seen}");
        python.ask(send("py", 2)).await?;
        assert_eq!(script.next("js", "broadcast").await?["payload"]["payload"], json!({"n": 2}));
        let track =
            |client: &str| json!({"do": "track", "client": client, "channel": table, "payload": {"name": client}});
        script.ask(track("js")).await?;
        python.ask(track("py")).await?;
        let both = |state: &Value| state["js"][0]["name"] == "js" && state["py"][0]["name"] == "py";
        python.expect("py counts both", |seen| seen["saw"] == "sync" && both(&seen["state"])).await?;
        script.expect("js counts both", |seen| seen["saw"] == "sync" && both(&seen["state"])).await?;
        script.ask(json!({"do": "leave", "client": "js", "channel": table})).await?;
        python.expect("py sees js leave", |seen| seen["saw"] == "leave" && seen["key"] == "js").await?;
        let said =
            |seen: &Value| seen["saw"] == "system" && seen["payload"].to_string().contains("Subscribed to PostgreSQL");
        python.expect("changes are live", said).await?;
        deployment
            .postgres
            .execute(&format!(
                "insert into {table} values (1, 'no'), (2, 'yes'); update {table} set note = 'x'; delete from {table}"
            ))
            .await?;
        for kind in ["INSERT", "UPDATE", "DELETE"] {
            let seen = python.next("py", "change").await?;
            let data = &seen["payload"]["data"];
            let kind_of = data["type"].as_str().context("a type")?;
            ensure!(kind_of.ends_with(kind), "{release}: {seen}");
            let row = if kind == "DELETE" { &data["old_record"] } else { &data["record"] };
            assert_eq!(row["id"], 2, "{release}: {seen}");
        }
    }
    Ok(())
}

/// Joins by topic, and waits until changes are live.
async fn open_legacy(clients: &mut Clients, client: &str, topic: &str, token: Option<&str>) -> Result<()> {
    clients.tell(&json!({"do": "open", "client": client, "channel": topic, "token": token})).await?;
    let of = |saw: &'static str| {
        move |seen: &Value| seen["client"] == client && seen["channel"] == topic && seen["saw"] == saw
    };
    clients.expect(&format!("{topic} is joined"), of("joined")).await?;
    let said = clients.expect(&format!("{topic} is live"), of("system")).await?;
    ensure!(said["payload"]["message"] == "Subscribed to PostgreSQL", "{topic}: {said}");
    Ok(())
}

async fn legacy_topics_say_what_is_meant(mode: Mode) -> Result<()> {
    let deployment = Deployment::shared(mode).await?;
    deployment
        .postgres
        .execute(
            "create schema ws_legacy; grant usage on schema ws_legacy to authenticated;
             create table ws_legacy.a (id int primary key, kind text); create table ws_legacy.b (id int primary key);
             alter table ws_legacy.a replica identity full;
             grant select on all tables in schema ws_legacy to authenticated",
        )
        .await?;
    let mut clients = Clients::node("legacy.mjs", None).await?;
    let topics = [
        "realtime:*",
        "realtime:ws_legacy",
        "realtime:ws_legacy:a",
        "realtime:ws_legacy:a:kind=eq.x",
        "realtime:ws_legacy:b",
    ];
    for (client, place) in ["one", "two"].into_iter().zip(places(deployment)) {
        let make =
            json!({"do": "client", "client": client, "release": "realtime-js-1", "url": place, "token": user_token()});
        clients.ask(make).await?;
        for topic in topics {
            open_legacy(&mut clients, client, topic, None).await?;
        }
    }
    deployment
        .postgres
        .execute(
            "insert into ws_legacy.a values (1, 'x'), (2, 'y'); insert into ws_legacy.b values (3);
             update ws_legacy.a set kind = 'z' where id = 2; delete from ws_legacy.a where id = 1",
        )
        .await?;
    let all = [("INSERT", 1), ("INSERT", 2), ("INSERT", 3), ("UPDATE", 2), ("DELETE", 1)];
    let expected: [Vec<(&str, i64)>; 5] = [
        all.to_vec(),
        all.to_vec(),
        vec![("INSERT", 1), ("INSERT", 2), ("UPDATE", 2), ("DELETE", 1)],
        vec![("INSERT", 1), ("DELETE", 1)],
        vec![("INSERT", 3)],
    ];
    for client in ["one", "two"] {
        for (topic, expected) in topics.iter().zip(&expected) {
            for (kind, id) in expected {
                // The listeners for "*" and for the one kind.
                for listening in ["*", kind] {
                    let what = format!("{client} sees {kind} {id} on {topic} listening for {listening}");
                    let wanted = |seen: &Value| {
                        let row =
                            if *kind == "DELETE" { &seen["payload"]["old_record"] } else { &seen["payload"]["record"] };
                        seen["client"] == client
                            && seen["channel"] == *topic
                            && seen["listening"] == listening
                            && seen["payload"]["schema"] == "ws_legacy"
                            && seen["payload"]["type"] == *kind
                            && row["id"] == *id
                    };
                    clients.expect(&what, wanted).await?;
                }
            }
        }
        // Only the first topic sees the tables of the other tests.
        let more = clients.count(|seen| {
            seen["client"] == client && seen["saw"] == "change" && seen["payload"]["schema"] == "ws_legacy"
        });
        assert_eq!(more, 0, "{client} sees nothing twice");
    }
    Ok(())
}

async fn legacy_tables_are_followed(mode: Mode) -> Result<()> {
    let deployment = Deployment::shared(mode).await?;
    deployment.create_table("ws_v1", "id int primary key, size bigint, tags text[]").await?;
    let mut clients = Clients::node("legacy.mjs", None).await?;
    for (client, place) in ["one", "two"].into_iter().zip(places(deployment)) {
        let make =
            json!({"do": "client", "client": client, "release": "supabase-js-1", "url": place, "token": user_token()});
        clients.ask(make).await?;
        for (from, event) in [("ws_v1", "*"), ("ws_v1:size=gt.5", "INSERT")] {
            clients.ask(json!({"do": "from", "client": client, "channel": from, "event": event})).await?;
            let status = |seen: &Value| seen["client"] == client && seen["channel"] == from && seen["saw"] == "status";
            let status = clients.expect(&format!("{from} is joined"), status).await?;
            assert_eq!(status["status"], "SUBSCRIBED", "{status}");
        }
    }
    // This client does not pass on what says that changes are live; who waits for a change waits for that too.
    let mut probe = Clients::node("legacy.mjs", None).await?;
    for (client, place) in ["one", "two"].into_iter().zip(places(deployment)) {
        let make =
            json!({"do": "client", "client": client, "release": "realtime-js-1", "url": place, "token": user_token()});
        probe.ask(make).await?;
        open_legacy(&mut probe, client, "realtime:public:ws_v1", None).await?;
    }
    deployment
        .postgres
        .execute(
            "insert into ws_v1 values (1, 5, null), (2, 6, '{a,b}'); update ws_v1 set size = 7 where id = 1;
             delete from ws_v1 where id = 2",
        )
        .await?;
    for client in ["one", "two"] {
        let of = |from: &'static str| {
            move |seen: &Value| seen["client"] == client && seen["saw"] == "change" && seen["channel"] == from
        };
        let expected = [
            ("INSERT", json!({"id": 1, "size": 5, "tags": null}), json!({})),
            ("INSERT", json!({"id": 2, "size": 6, "tags": ["a", "b"]}), json!({})),
            ("UPDATE", json!({"id": 1, "size": 7, "tags": null}), json!({"id": 1})),
            ("DELETE", json!({}), json!({"id": 2})),
        ];
        for (kind, new, old) in expected {
            let seen = clients.expect(kind, of("ws_v1")).await?;
            let payload = &seen["payload"];
            assert_eq!((&payload["eventType"], &payload["new"], &payload["old"]), (&json!(kind), &new, &old), "{seen}");
        }
        let seen = clients.expect("the larger one", of("ws_v1:size=gt.5")).await?;
        assert_eq!(seen["payload"]["new"]["id"], 2);
        clients.nothing_left(client, "change")?;
    }
    Ok(())
}

/// `user_token` of the join says who it is, over the connection's own token.
async fn legacy_rows_are_the_users_own(mode: Mode) -> Result<()> {
    let deployment = Deployment::shared(mode).await?;
    deployment.create_table("ws_v1_own", "id int primary key, owner_id uuid").await?;
    deployment
        .postgres
        .execute(
            "alter table ws_v1_own enable row level security;
             create policy own on ws_v1_own for select to authenticated using (owner_id = auth.uid())",
        )
        .await?;
    let mut clients = Clients::node("legacy.mjs", None).await?;
    let topic = "realtime:public:ws_v1_own";
    for ((client, user), place) in [("alice", ALICE), ("bob", BOB)].into_iter().zip(places(deployment)) {
        let make =
            json!({"do": "client", "client": client, "release": "realtime-js-1", "url": place, "token": token_of(BOB)});
        clients.ask(make).await?;
        open_legacy(&mut clients, client, topic, Some(&token_of(user))).await?;
    }
    deployment.postgres.execute(&format!("insert into ws_v1_own values (1, '{ALICE}'), (2, '{BOB}')")).await?;
    for (client, id) in [("alice", 1), ("bob", 2)] {
        for _ in ["*", "INSERT"] {
            assert_eq!(clients.next(client, "change").await?["payload"]["record"]["id"], id, "{client}");
        }
        clients.nothing_left(client, "change")?;
    }
    Ok(())
}
