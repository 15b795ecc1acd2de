//! Messages that are sent from SQL, and those of before.

use anyhow::{Context, Result, ensure};
use reactor_testkit::token::now;
use serde_json::{Value, json};

use crate::client::{Clients, NEWEST, NEWEST_V1, places};
use crate::deployment::{Deployment, Mode, user_token};
use crate::in_both_modes;

in_both_modes!(
    messages_of_the_database_are_heard,
    a_trigger_tells_of_changes,
    what_was_said_before_is_replayed,
    what_is_to_be_kept_is_replayed,
);

/// Lets every user read and write private channels whose names begin so.
async fn everybody_may(deployment: &Deployment, name: &str) -> Result<()> {
    deployment
        .postgres
        .execute(&format!(
            "create policy {name}_read on realtime.messages for select to authenticated using (realtime.topic() like '{name}%');
             create policy {name}_write on realtime.messages for insert to authenticated with check (realtime.topic() like '{name}%')"
        ))
        .await
}

async fn two(deployment: &Deployment, clients: &mut Clients, channel: &str, config: Value) -> Result<()> {
    for (release, place) in [NEWEST, NEWEST_V1].into_iter().zip(places(deployment)) {
        clients.client(&release.name(), release, place, &user_token()).await?;
        clients.open(&release.name(), channel, config.clone(), json!({"broadcast": ["*"]})).await?;
    }
    Ok(())
}

async fn messages_of_the_database_are_heard(mode: Mode) -> Result<()> {
    let deployment = Deployment::shared(mode).await?;
    everybody_may(deployment, "dbsend").await?;
    let mut private = Clients::supabase().await?;
    two(deployment, &mut private, "dbsend", json!({"private": true})).await?;
    let mut public = Clients::supabase().await?;
    two(deployment, &mut public, "dbsend", json!({})).await?;
    let transactions = [
        r#"select realtime.send('{"n": 1}', 'told', 'dbsend'); select realtime.send('{"n": 2}', 'told', 'dbsend', false)"#,
        r"select realtime.send_binary('\x00ff80', 'raw', 'dbsend')",
        r#"begin; select realtime.send('{"n": 9}', 'undone', 'dbsend'); rollback"#,
        r#"select realtime.send('{"n": 3, "id": "mine"}', 'told', 'dbsend')"#,
    ];
    for transaction in transactions {
        deployment.postgres.execute(transaction).await?;
    }
    for release in [NEWEST, NEWEST_V1] {
        let name = release.name();
        let seen = private.next(&name, "broadcast").await?["payload"].take();
        assert_eq!(
            (&seen["event"], &seen["type"], &seen["payload"]["n"]),
            (&json!("told"), &json!("broadcast"), &json!(1))
        );
        let id = seen["meta"]["id"].as_str().context("an id")?;
        ensure!(id.len() == 36 && seen["payload"]["id"] == id, "{seen}");
        if release.binary {
            let seen = private.next(&name, "broadcast").await?;
            assert_eq!(
                (&seen["payload"]["event"], &seen["payload"]["payload"]),
                (&json!("raw"), &json!({"binary": "AP+A"}))
            );
        }
        let seen = private.next(&name, "broadcast").await?;
        assert_eq!(seen["payload"]["payload"], json!({"n": 3, "id": "mine"}));
        let seen = public.next(&name, "broadcast").await?;
        assert_eq!(seen["payload"]["payload"]["n"], 2);
        public.nothing_left(&name, "broadcast")?;
    }
    Ok(())
}

async fn a_trigger_tells_of_changes(mode: Mode) -> Result<()> {
    let deployment = Deployment::shared(mode).await?;
    everybody_may(deployment, "dbtrigger").await?;
    deployment.create_table("ws_told", "id int primary key, note text").await?;
    deployment
        .postgres
        .execute(
            "create function ws_tell() returns trigger language plpgsql security definer as $$
             begin
               perform realtime.broadcast_changes(
                 'dbtrigger:' || coalesce(new.id, old.id), tg_op, tg_op, tg_table_name, tg_table_schema, new, old);
               return null;
             end $$;
             create trigger tell after insert or update or delete on ws_told for each row execute function ws_tell()",
        )
        .await?;
    let mut clients = Clients::supabase().await?;
    two(deployment, &mut clients, "dbtrigger:1", json!({"private": true})).await?;
    deployment
        .postgres
        .execute("insert into ws_told values (1, 'a'), (2, 'b'); update ws_told set note = 'c'; delete from ws_told")
        .await?;
    let row = |note: &str| json!({"id": 1, "note": note});
    for release in [NEWEST, NEWEST_V1] {
        for (operation, record, old) in
            [("INSERT", row("a"), Value::Null), ("UPDATE", row("c"), row("a")), ("DELETE", Value::Null, row("c"))]
        {
            let seen = clients.next(&release.name(), "broadcast").await?["payload"].take();
            assert_eq!(seen["event"], operation);
            let payload = &seen["payload"];
            assert_eq!(
                (&payload["operation"], &payload["table"], &payload["schema"]),
                (&json!(operation), &json!("ws_told"), &json!("public"))
            );
            assert_eq!((&payload["record"], &payload["old_record"]), (&record, &old), "{operation}");
        }
        clients.nothing_left(&release.name(), "broadcast")?;
    }
    Ok(())
}

async fn what_was_said_before_is_replayed(mode: Mode) -> Result<()> {
    let deployment = Deployment::shared(mode).await?;
    everybody_may(deployment, "dbreplay").await?;
    let since = (now() - 60) * 1000;
    // One transaction, whose messages have their order, and one before it.
    deployment.postgres.execute(r#"select realtime.send('{"n": 0}', 'e', 'dbreplay')"#).await?;
    let told = "select realtime.send(jsonb_build_object('n', n), 'e', 'dbreplay') from generate_series(1, 5) n";
    deployment.postgres.execute(told).await?;
    let mut clients = Clients::supabase().await?;
    let config = json!({"private": true, "broadcast": {"replay": {"since": since, "limit": 4}}});
    two(deployment, &mut clients, "dbreplay", config).await?;
    deployment.postgres.execute(r#"select realtime.send('{"n": 6}', 'e', 'dbreplay')"#).await?;
    for release in [NEWEST, NEWEST_V1] {
        for n in 2..=6 {
            let seen = clients.next(&release.name(), "broadcast").await?["payload"].take();
            assert_eq!(seen["payload"]["n"], n, "{}: {seen}", release.name());
            assert_eq!(seen["meta"]["replayed"] == true, n < 6, "{}: {seen}", release.name());
        }
        clients.nothing_left(&release.name(), "broadcast")?;
    }
    // realtime-js itself refuses to ask for it on a public channel; others hear it from the server.
    let mut bare = Clients::node("bare.mjs", None).await?;
    let url = format!("{}/socket/websocket?apikey={}", deployment.url(), user_token());
    bare.ask(json!({"do": "connect", "client": "b", "url": url})).await?;
    for (private, replay, reason) in [
        (false, json!({"since": since}), "UnableToReplayMessages: Replay is not allowed for public channels"),
        (true, json!({"limit": 3}), "UnableToReplayMessages: Replay params are not valid"),
    ] {
        let config = json!({"config": {"private": private, "broadcast": {"replay": replay}}});
        let join =
            json!({"topic": "realtime:dbreplay", "event": "phx_join", "payload": config, "ref": "1", "join_ref": "1"});
        bare.ask(json!({"do": "frame", "client": "b", "frame": join})).await?;
        let reply = bare.next("b", "frame").await?;
        assert_eq!(reply["frame"]["payload"], json!({"status": "error", "response": {"reason": reason}}));
    }
    Ok(())
}

/// `persist` stores what is broadcast, for later.
async fn what_is_to_be_kept_is_replayed(mode: Mode) -> Result<()> {
    let deployment = Deployment::shared(mode).await?;
    everybody_may(deployment, "dbkept").await?;
    let mut clients = Clients::supabase().await?;
    let since = (now() - 60) * 1000;
    two(deployment, &mut clients, "dbkept", json!({"private": true, "broadcast": {"ack": true}})).await?;
    for (n, persist) in [(1, false), (2, true)] {
        let send = json!({"do": "send", "client": NEWEST.name(), "channel": "dbkept", "event": "e", "payload": {"n": n}, "persist": persist});
        assert_eq!(clients.ask(send).await?, "ok", "message {n}");
    }
    for n in [1, 2] {
        assert_eq!(clients.next(&NEWEST_V1.name(), "broadcast").await?["payload"]["payload"]["n"], n);
    }
    let config = json!({"private": true, "broadcast": {"replay": {"since": since}}});
    clients.client("later", NEWEST, deployment.url(), &user_token()).await?;
    clients.open("later", "dbkept", config, json!({"broadcast": ["*"]})).await?;
    let seen = clients.next("later", "broadcast").await?["payload"].take();
    assert_eq!((&seen["payload"]["n"], &seen["meta"]["replayed"]), (&json!(2), &json!(true)));
    Ok(())
}
