//! Changes of rows, as every release shows them to applications.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::client::{Clients, NEWEST, NEWEST_V1, RELEASES, places};
use crate::deployment::{ALICE, BOB, Deployment, Mode, token_of, user_token};
use crate::in_both_modes;

in_both_modes!(
    every_release_sees_the_changes_that_it_asked_for,
    everybody_sees_own_rows_only,
    rows_that_leave_are_deleted_to_who_asked,
    columns_are_chosen,
    what_is_wrong_is_said,
    nothing_is_missed_after_subscribed,
    whole_schemas_are_followed,
);

fn change(seen: &Value) -> (&Value, &Value, &Value) {
    (&seen["payload"]["eventType"], &seen["payload"]["new"], &seen["payload"]["old"])
}

async fn every_release_sees_the_changes_that_it_asked_for(mode: Mode) -> Result<()> {
    let deployment = Deployment::shared(mode).await?;
    let columns = "id int primary key, name text, size bigint, tags text[], doc jsonb, done bool";
    deployment.create_table("ws_items", columns).await?;
    deployment.postgres.execute("alter table ws_items replica identity full").await?;
    let mut clients = Clients::supabase().await?;
    for (number, release) in RELEASES.iter().enumerate() {
        let name = release.name();
        clients.client(&name, *release, places(deployment)[number % 2], &user_token()).await?;
        let bindings = json!([
            {"event": "*", "schema": "public", "table": "ws_items", "filter": "size=gt.10"},
            {"event": "INSERT", "schema": "public", "table": "ws_items"},
        ]);
        clients.follow_changes(&name, "items", bindings).await?;
    }
    deployment
        .postgres
        .execute(
            r#"insert into ws_items values (1, 'small', 5, null, null, null);
               insert into ws_items values (2, 'large', 50, '{a,"b c"}', '{"deep": [1, "x"]}', false);
               update ws_items set size = 60 where id = 2;
               delete from ws_items where id = 2"#,
        )
        .await?;
    let small = json!({"id": 1, "name": "small", "size": 5, "tags": null, "doc": null, "done": null});
    let large = |size: i64| json!({"id": 2, "name": "large", "size": size, "tags": ["a", "b c"], "doc": {"deep": [1, "x"]}, "done": false});
    for release in &RELEASES {
        let name = release.name();
        let mut seen = Vec::new();
        for _ in 0..5 {
            seen.push(clients.next(&name, "change").await?);
        }
        let of = |binding: &str| seen.iter().filter(|seen| seen["binding"] == binding).map(change).collect::<Vec<_>>();
        let none = json!({});
        let (all, inserts) = (of("*"), of("INSERT"));
        assert_eq!(inserts, [(&json!("INSERT"), &small, &none), (&json!("INSERT"), &large(50), &none)], "{name}");
        let expected = [
            (&json!("INSERT"), &large(50), &none),
            (&json!("UPDATE"), &large(60), &large(50)),
            (&json!("DELETE"), &none, &large(60)),
        ];
        assert_eq!(all, expected, "{name}");
        let payload = &seen[0]["payload"];
        ensure!(payload["schema"] == "public" && payload["table"] == "ws_items", "{name}: {payload}");
        ensure!(payload["errors"].is_null() && payload["commit_timestamp"].is_string(), "{name}: {payload}");
        clients.nothing_left(&name, "change")?;
    }
    Ok(())
}

async fn everybody_sees_own_rows_only(mode: Mode) -> Result<()> {
    let deployment = Deployment::shared(mode).await?;
    deployment.create_table("ws_own", "id int primary key, owner_id uuid").await?;
    deployment
        .postgres
        .execute(
            "alter table ws_own enable row level security;
             create policy own on ws_own for select to authenticated using (owner_id = auth.uid())",
        )
        .await?;
    let mut clients = Clients::supabase().await?;
    let mut names = Vec::new();
    for release in &RELEASES {
        for (user, place) in [ALICE, BOB].into_iter().zip(places(deployment)) {
            let name = format!("{} {user}", release.name());
            clients.client(&name, *release, place, &token_of(user)).await?;
            let bindings = json!([{"event": "*", "schema": "public", "table": "ws_own"}]);
            clients.follow_changes(&name, "own", bindings).await?;
            names.push((name, user));
        }
    }
    deployment
        .postgres
        .execute(&format!(
            "insert into ws_own values (1, '{ALICE}'), (2, '{BOB}'), (3, null);
             update ws_own set owner_id = '{BOB}' where id = 1; insert into ws_own values (4, '{ALICE}')"
        ))
        .await?;
    for (name, user) in names {
        let expected: &[i64] = if user == ALICE { &[1, 4] } else { &[2, 1] };
        for id in expected {
            let seen = clients.next(&name, "change").await?;
            assert_eq!(seen["payload"]["new"], json!({"id": id, "owner_id": user}), "{name}");
        }
        clients.nothing_left(&name, "change")?;
    }
    Ok(())
}

async fn rows_that_leave_are_deleted_to_who_asked(mode: Mode) -> Result<()> {
    let deployment = Deployment::shared(mode).await?;
    deployment.create_table("ws_leaving", "id int primary key, owner_id uuid, state text").await?;
    deployment
        .postgres
        .execute(
            "alter table ws_leaving enable row level security; alter table ws_leaving replica identity full;
             create policy own on ws_leaving for select to authenticated using (owner_id = auth.uid())",
        )
        .await?;
    let mut clients = Clients::supabase().await?;
    let releases = [NEWEST, NEWEST_V1];
    for (release, place) in releases.into_iter().zip(places(deployment)) {
        let name = release.name();
        clients.client(&name, release, place, &token_of(ALICE)).await?;
        for (channel, event) in [("any", "*"), ("deleted", "DELETE")] {
            let table = json!({"event": event, "schema": "public", "table": "ws_leaving", "filter": "state=eq.open", "leave": true});
            clients.follow_changes(&name, channel, json!([table])).await?;
        }
    }
    deployment
        .postgres
        .execute(&format!(
            "insert into ws_leaving values (1, '{ALICE}', 'open'), (2, '{ALICE}', 'open'), (3, '{BOB}', 'open');
             update ws_leaving set state = 'shut' where id = 1; update ws_leaving set owner_id = '{BOB}' where id = 2;
             update ws_leaving set state = 'shut' where id = 3; delete from ws_leaving where id = 1"
        ))
        .await?;
    for release in releases {
        let name = release.name();
        let mut seen = Vec::new();
        for _ in 0..6 {
            seen.push(clients.next(&name, "change").await?);
        }
        let of = |channel: &str| seen.iter().filter(|seen| seen["channel"] == channel).map(change).collect::<Vec<_>>();
        let (none, open) = (json!({}), |id: i64| json!({"id": id, "owner_id": ALICE, "state": "open"}));
        let gone = [(&json!("DELETE"), &none, &json!({"id": 1})), (&json!("DELETE"), &none, &json!({"id": 2}))];
        assert_eq!(of("deleted"), gone, "{name}");
        let come = [(&json!("INSERT"), &open(1), &none), (&json!("INSERT"), &open(2), &none)];
        assert_eq!(of("any"), [come, gone].concat(), "{name}");
        clients.nothing_left(&name, "change")?;
    }
    Ok(())
}

async fn columns_are_chosen(mode: Mode) -> Result<()> {
    let deployment = Deployment::shared(mode).await?;
    deployment.create_table("ws_wide", "id int primary key, name text, secret text, size int").await?;
    deployment
        .postgres
        .execute(
            "revoke select on ws_wide from authenticated; grant select (id, name, size) on ws_wide to authenticated",
        )
        .await?;
    let mut clients = Clients::supabase().await?;
    for (release, place) in [NEWEST, NEWEST_V1].into_iter().zip(places(deployment)) {
        let name = release.name();
        clients.client(&name, release, place, &user_token()).await?;
        let all = json!([{"event": "*", "schema": "public", "table": "ws_wide"}]);
        clients.follow_changes(&name, "all", all).await?;
        let some = json!([{"event": "*", "schema": "public", "table": "ws_wide", "select": ["name"]}]);
        clients.follow_changes(&name, "some", some).await?;
    }
    deployment.postgres.execute("insert into ws_wide values (1, 'n', 's', 7)").await?;
    for release in [NEWEST, NEWEST_V1] {
        let name = release.name();
        for _ in 0..2 {
            let seen = clients.next(&name, "change").await?;
            let expected = match seen["channel"].as_str() {
                Some("all") => json!({"id": 1, "name": "n", "size": 7}),
                _ => json!({"id": 1, "name": "n"}),
            };
            assert_eq!(seen["payload"]["new"], expected, "{name}");
        }
    }
    Ok(())
}

async fn what_is_wrong_is_said(mode: Mode) -> Result<()> {
    let deployment = Deployment::shared(mode).await?;
    deployment.create_table("ws_wrong", "id int primary key").await?;
    let cases = [
        (json!({"filter": "wrong"}), "Error parsing `filter` params: [\"wrong\"]"),
        (
            json!({"filter": "nope=eq.1"}),
            "Unable to subscribe to changes with given parameters. An exception happened so please check your connect parameters: [event: *, schema: public, table: ws_wrong, filters: [{\"nope\", \"eq\", \"1\"}], select: nil]. Exception: ERROR P0001 (raise_exception) invalid column for filter nope",
        ),
        (
            json!({"table": "ws_not_there"}),
            "Unable to subscribe to changes with given parameters. Please check Realtime is enabled for the given connect parameters: [event: *, schema: public, table: ws_not_there, filters: [], select: nil]",
        ),
    ];
    let mut clients = Clients::supabase().await?;
    clients.client("c", NEWEST, deployment.url(), &user_token()).await?;
    for (number, (more, expected)) in cases.iter().enumerate() {
        let mut binding = json!({"event": "*", "schema": "public", "table": "ws_wrong"});
        for (key, value) in more.as_object().into_iter().flatten() {
            binding[key] = value.clone();
        }
        let channel = format!("wrong-{number}");
        clients.open("c", &channel, Value::Null, json!({"changes": [binding]})).await?;
        let said = clients.next("c", "system").await?;
        assert_eq!(said["payload"]["status"], "error", "{said}");
        assert_eq!(said["payload"]["message"], **expected);
        assert_eq!(said["payload"]["channel"], *channel);
    }
    Ok(())
}

/// "Subscribed to PostgreSQL" is true when it is said, and with `wait` so is the reply to the join.
async fn nothing_is_missed_after_subscribed(mode: Mode) -> Result<()> {
    let deployment = Deployment::shared(mode).await?;
    deployment.create_table("ws_at_once", "id int primary key").await?;
    let mut clients = Clients::supabase().await?;
    let bindings = json!([{"event": "INSERT", "schema": "public", "table": "ws_at_once"}]);
    for round in 0..6 {
        let name = format!("client {round}");
        clients.client(&name, NEWEST, places(deployment)[round % 2], &user_token()).await?;
        if round < 3 {
            clients.follow_changes(&name, "at-once", bindings.clone()).await?;
        } else {
            let config = json!({"postgres_changes_options": {"wait": true}});
            clients.open(&name, "at-once", config, json!({"changes": bindings})).await?;
        }
        deployment.postgres.execute(&format!("insert into ws_at_once values ({round})")).await?;
        let seen = clients.next(&name, "change").await?;
        assert_eq!(seen["payload"]["new"], json!({"id": round}));
    }
    Ok(())
}

async fn whole_schemas_are_followed(mode: Mode) -> Result<()> {
    let deployment = Deployment::shared(mode).await?;
    deployment
        .postgres
        .execute(
            "create schema ws_shop; grant usage on schema ws_shop to authenticated;
             create table ws_shop.a (id int primary key); create table ws_shop.b (id int primary key, n int);
             grant select on all tables in schema ws_shop to authenticated",
        )
        .await?;
    let mut clients = Clients::supabase().await?;
    for (release, place) in [NEWEST, NEWEST_V1].into_iter().zip(places(deployment)) {
        let name = release.name();
        clients.client(&name, release, place, &user_token()).await?;
        clients.follow_changes(&name, "shop", json!([{"event": "*", "schema": "ws_shop"}])).await?;
    }
    deployment.postgres.execute("insert into ws_shop.a values (1); insert into ws_shop.b values (2, 3)").await?;
    for release in [NEWEST, NEWEST_V1] {
        let name = release.name();
        for (table, row) in [("a", json!({"id": 1})), ("b", json!({"id": 2, "n": 3}))] {
            let seen = clients.next(&name, "change").await?;
            assert_eq!((&seen["payload"]["table"], &seen["payload"]["new"]), (&json!(table), &row), "{name}");
        }
    }
    Ok(())
}
