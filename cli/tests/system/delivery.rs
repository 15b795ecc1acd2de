//! What subscribers get of what commits.

use std::time::Duration;

use anyhow::{Result, ensure};
use reactor_testkit::SseRequest;
use reactor_testkit::sse::{data, http_client};
use serde_json::{Value, json};

use crate::deployment::{Deployment, Mode, PATIENCE, member_token, user_token};
use crate::in_both_modes;

/// How long to wait for something that must not come.
const QUIET: Duration = Duration::from_millis(700);

in_both_modes!(
    every_kind_of_change_arrives,
    values_look_as_to_jsonb_shows_them,
    filters_select_rows,
    filters_that_postgres_must_judge,
    organisations_are_kept_apart,
    several_subscriptions_share_a_connection,
    columns_are_selected,
    large_rows_are_cut_with_a_way_to_fetch_them,
    rows_beyond_the_bus_travel_without_their_large_values,
    heartbeats_carry_the_position,
    http2_without_tls,
    browsers_may_connect,
    tables_change_while_they_are_followed,
    partitions_appear_under_their_root,
);

async fn every_kind_of_change_arrives(mode: Mode) -> Result<()> {
    let deployment = Deployment::shared(mode).await?;
    deployment.create_table("kinds", "id int primary key, note text").await?;
    let mut client = deployment.subscribe(&deployment.table("kinds")).await?;
    deployment.postgres.execute("insert into kinds values (1, 'a'), (2, 'b')").await?;
    deployment
        .postgres
        .execute("update kinds set note = 'c' where id = 1; delete from kinds where id = 2; truncate kinds")
        .await?;
    let events = client.collect_until(PATIENCE, |event| event.event == "truncate").await?;
    let events: Vec<_> = events.iter().filter(|event| event.event != "heartbeat").collect();
    let names: Vec<&str> = events.iter().map(|event| event.event.as_str()).collect();
    assert_eq!(names, ["insert", "insert", "update", "delete", "truncate"]);
    let mut ids: Vec<&str> = events.iter().filter_map(|event| event.id.as_deref()).collect();
    assert_eq!(ids.len(), 5);
    let in_order = ids.clone();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids, in_order);
    let insert = data(events[0])?;
    assert_eq!(
        (&insert["table"], &insert["schema"], &insert["new"]),
        (&json!("kinds"), &json!("public"), &json!({"id":1,"note":"a"}))
    );
    ensure!(insert["commit_timestamp"].as_str().is_some_and(|text| text.ends_with('Z')), "{insert}");
    let update = data(events[2])?;
    assert_eq!((&update["old"], &update["new"]), (&json!({"id":1}), &json!({"id":1,"note":"c"})));
    assert_eq!(data(events[3])?["old"], json!({"id":2}));
    assert_eq!(data(events[4])?, json!({"table":"kinds","schema":"public"}));
    Ok(())
}

async fn values_look_as_to_jsonb_shows_them(mode: Mode) -> Result<()> {
    let deployment = Deployment::shared(mode).await?;
    deployment.postgres.execute("create type mood as enum ('sad', 'ok'); create type pair as (a int, b text); create domain small as int check (value < 100)").await?;
    let columns = "id int8 primary key, n numeric, f float8, b bool, t text, j json, jb jsonb, a int[], aa text[], ts timestamptz, d date,
        by bytea, e mood, c pair, dom small, r int4range, u uuid, nothing text";
    deployment.create_table("shapes", columns).await?;
    let mut client = deployment.subscribe(&deployment.table("shapes")).await?;
    let insert = r#"insert into shapes values (9007199254740993, 12345678901234567890.00100, 1.5e300, true, E'a"b\n\u00e4', '{"x": [1, {"y": null}]}', '{"k": 1.10}',
        '{{1,2},{3,null}}', '{"a b",NULL,""}', '2025-11-03 09:32:55+00', '2025-11-03', '\xdead', 'ok', (1, 'x, y'), 7, '[1,5)',
        'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', null)"#;
    deployment.postgres.execute(insert).await?;
    let event = client.expect("insert", PATIENCE).await?;
    let connection = deployment.postgres.connect().await?;
    let row = connection.query_one("select to_jsonb(s)::text from shapes s", &[]).await?;
    let expected: String = row.get(0);
    // Compared as texts of numbers too: no float may come between.
    for exact in ["9007199254740993", "12345678901234567890.00100"] {
        ensure!(event.data.contains(exact) && expected.contains(exact), "{exact} is not exact in {}", event.data);
    }
    assert_eq!(data(&event)?["new"], serde_json::from_str::<Value>(&expected)?);
    Ok(())
}

async fn filters_select_rows(mode: Mode) -> Result<()> {
    let deployment = Deployment::shared(mode).await?;
    deployment.create_table("rooms", "id int primary key, room text, size numeric, open bool").await?;
    type Case<'a> = (&'a [(&'a str, &'a str)], &'a [i64]);
    let cases: &[Case<'_>] = &[
        (&[("room", "eq.a")], &[1, 3]),
        (&[("room", "neq.a")], &[2]),
        (&[("size", "gte.2.0"), ("size", "lt.10")], &[2]),
        (&[("room", "in.(b,c)")], &[2]),
        (&[("open", "is.true")], &[1]),
        (&[("open", "not.is.null")], &[1, 2]),
        (&[("room", "like.%a%")], &[1, 3]),
        (&[("size", "isdistinct.1")], &[2, 3, 4]),
        (&[("or", "(id.eq.1,id.eq.4)")], &[1, 4]),
        (&[("filter", "room=eq.a,size=gt.5")], &[3]),
    ];
    let mut clients = Vec::new();
    for (filters, expected) in cases {
        let request =
            filters.iter().fold(deployment.table("rooms"), |request, (name, value)| request.query(name, value));
        clients.push((deployment.subscribe(&request).await?, filters, expected));
    }
    deployment.postgres.execute("insert into rooms values (1, 'a', 1.00, true), (2, 'b', 2, false), (3, 'a', 10, null), (4, null, null, null), (5, 'end', 5, null)").await?;
    deployment.postgres.execute("truncate rooms").await?;
    for (mut client, filters, expected) in clients {
        let events = client.collect_until(PATIENCE, |event| event.event == "truncate").await?;
        let ids: Vec<i64> = events
            .iter()
            .filter(|event| event.event == "insert")
            .map(|event| Ok(data(event)?["new"]["id"].as_i64().unwrap_or(0)))
            .collect::<Result<_>>()?;
        let ids: Vec<i64> = ids.into_iter().filter(|id| *id != 5).collect();
        assert_eq!(&ids, expected, "{filters:?}");
    }
    Ok(())
}

async fn filters_that_postgres_must_judge(mode: Mode) -> Result<()> {
    let deployment = Deployment::shared(mode).await?;
    deployment.create_table("judged", "id int primary key, name text collate \"en-x-icu\", span interval").await?;
    let collated = deployment.table("judged").query("name", "lt.b");
    let folded = deployment.table("judged").query("name", "ilike.ÄPF%");
    let regex = deployment.table("judged").query("name", r"match.^\w+\d$");
    let interval = deployment.table("judged").query("span", "eq.24:00:00");
    let mut clients = Vec::new();
    for (request, expected) in [(collated, vec![1, 2, 3, 4]), (folded, vec![2]), (regex, vec![4]), (interval, vec![3])]
    {
        clients.push((deployment.subscribe(&request).await?, expected));
    }
    deployment.postgres.execute("insert into judged values (1, 'A', null), (2, 'äpfel', '1 hour'), (3, 'a', '1 day'), (4, 'az9', null), (5, 'Z', null)").await?;
    deployment.postgres.execute("truncate judged").await?;
    for (mut client, expected) in clients {
        let events = client.collect_until(PATIENCE, |event| event.event == "truncate").await?;
        let ids: Vec<i64> = events
            .iter()
            .filter(|event| event.event == "insert")
            .map(|event| Ok(data(event)?["new"]["id"].as_i64().unwrap_or(0)))
            .collect::<Result<_>>()?;
        assert_eq!(ids, expected);
    }
    Ok(())
}

async fn organisations_are_kept_apart(mode: Mode) -> Result<()> {
    let deployment = Deployment::shared(mode).await?;
    let todos = |token: &str| {
        SseRequest::get(format!("{}/data/v1/todos/subscribe", deployment.url()))
            .token(token)
            .query("title", "like.orgs%")
    };
    let mut acme = deployment.subscribe(&todos(&member_token(&["acme", "other"])).org("acme")).await?;
    let mut only = deployment.subscribe(&todos(&member_token(&["other"]))).await?;
    let mut plain = deployment.subscribe(&todos(&user_token())).await?;
    deployment
        .postgres
        .execute(
            "insert into todos (org_id, title) values ('acme', 'orgs 1'), ('other', 'orgs 2'), ('third', 'orgs 3')",
        )
        .await?;
    assert_eq!(data(&acme.expect("insert", PATIENCE).await?)?["new"]["title"], json!("orgs 1"));
    assert_eq!(data(&only.expect("insert", PATIENCE).await?)?["new"]["title"], json!("orgs 2"));
    for title in ["orgs 1", "orgs 2", "orgs 3"] {
        assert_eq!(data(&plain.expect("insert", PATIENCE).await?)?["new"]["title"], json!(title));
    }
    acme.expect_silence(QUIET).await?;
    only.expect_silence(QUIET).await?;
    deployment.postgres.execute("delete from todos where title like 'orgs%'").await?;
    assert_eq!(data(&acme.expect("delete", PATIENCE).await?)?["old"]["org_id"], json!("acme"));
    acme.expect_silence(QUIET).await
}

async fn several_subscriptions_share_a_connection(mode: Mode) -> Result<()> {
    let deployment = Deployment::shared(mode).await?;
    deployment.create_table("many_a", "id int primary key").await?;
    deployment.create_table("many_b", "id int primary key").await?;
    let body = json!({"subscriptions": [
        {"id": "a", "table": "many_a"},
        {"id": "a1", "table": "many_a", "filter": "id=eq.1", "events": ["insert"]},
        {"id": "b", "table": "many_b", "schema": "public", "events": ["delete"]},
    ]});
    let request = SseRequest::post(format!("{}/realtime/v1/subscribe", deployment.url()), body).token(&user_token());
    let mut client = deployment.subscribe(&request).await?;
    deployment
        .postgres
        .execute("insert into many_a values (1), (2); insert into many_b values (1); delete from many_b")
        .await?;
    let first = data(&client.expect("insert", PATIENCE).await?)?;
    assert_eq!((&first["subscriptions"], &first["new"]), (&json!(["a", "a1"]), &json!({"id":1})));
    let second = data(&client.expect("insert", PATIENCE).await?)?;
    assert_eq!((&second["subscriptions"], &second["new"]), (&json!(["a"]), &json!({"id":2})));
    let third = data(&client.expect("delete", PATIENCE).await?)?;
    assert_eq!((&third["subscriptions"], &third["table"]), (&json!(["b"]), &json!("many_b")));
    Ok(())
}

async fn columns_are_selected(mode: Mode) -> Result<()> {
    let deployment = Deployment::shared(mode).await?;
    deployment.create_table("wide", "id int primary key, a text, b text, c text").await?;
    deployment
        .postgres
        .execute("revoke select on wide from authenticated; grant select (id, a, b) on wide to authenticated")
        .await?;
    let mut selected = deployment.subscribe(&deployment.table("wide").query("select", "a")).await?;
    let mut granted = deployment.subscribe(&deployment.table("wide")).await?;
    deployment.postgres.execute("insert into wide values (1, 'a', 'b', 'secret')").await?;
    assert_eq!(data(&selected.expect("insert", PATIENCE).await?)?["new"], json!({"id":1,"a":"a"}));
    assert_eq!(data(&granted.expect("insert", PATIENCE).await?)?["new"], json!({"id":1,"a":"a","b":"b"}));
    let (status, body) = deployment.table("wide").query("select", "c").refused().await?;
    assert_eq!((status, &body["code"]), (403, &json!("permission_denied")));
    let (status, body) = deployment.table("wide").query("c", "eq.secret").refused().await?;
    assert_eq!(
        (status, &body["code"]),
        (403, &json!("permission_denied")),
        "a filter on a hidden column would tell its values"
    );
    Ok(())
}

async fn large_rows_are_cut_with_a_way_to_fetch_them(mode: Mode) -> Result<()> {
    let deployment = Deployment::shared(mode).await?;
    deployment.create_table("large", "id int primary key, body text").await?;
    let mut client = deployment.subscribe(&deployment.table("large")).await?;
    let mut narrow = deployment.subscribe(&deployment.table("large").query("select", "id")).await?;
    deployment.postgres.execute("insert into large values (1, repeat('x', 70000)), (2, 'small')").await?;
    let cut = data(&client.expect("insert", PATIENCE).await?)?;
    assert_eq!(
        (&cut["new"], &cut["truncated"], &cut["fetch"]),
        (&json!({"id":1}), &json!(true), &json!("/data/v1/large?id=eq.1"))
    );
    let whole = data(&client.expect("insert", PATIENCE).await?)?;
    assert_eq!((&whole["new"]["body"], whole.get("truncated")), (&json!("small"), None));
    let narrow = data(&narrow.expect("insert", PATIENCE).await?)?;
    assert_eq!((&narrow["new"], narrow.get("truncated")), (&json!({"id":1}), None));
    Ok(())
}

async fn rows_beyond_the_bus_travel_without_their_large_values(mode: Mode) -> Result<()> {
    let deployment = Deployment::shared(mode).await?;
    deployment.create_table("huge", "id int primary key, kind text, body text").await?;
    let mut by_kind = deployment.subscribe(&deployment.table("huge").query("kind", "eq.a")).await?;
    let mut by_body = deployment.subscribe(&deployment.table("huge").query("body", "like.x%")).await?;
    deployment.postgres.execute("insert into huge values (1, 'a', repeat('x', 3000000)), (2, 'a', 'xy')").await?;
    let cut = data(&by_kind.expect("insert", PATIENCE).await?)?;
    assert_eq!((&cut["new"], &cut["truncated"]), (&json!({"id":1}), &json!(true)));
    assert_eq!(data(&by_kind.expect("insert", PATIENCE).await?)?["new"]["id"], json!(2));
    // In one process nothing is left out on the way, so the filter can be judged there.
    let first = data(&by_body.expect("insert", PATIENCE).await?)?;
    assert!(first["new"]["id"] == json!(2) || mode == Mode::Single, "{first}");
    Ok(())
}

async fn heartbeats_carry_the_position(mode: Mode) -> Result<()> {
    let deployment = Deployment::shared(mode).await?;
    deployment.create_table("quiet", "id int primary key").await?;
    let mut client = deployment.subscribe(&deployment.table("quiet").query("id", "eq.0")).await?;
    let ready = client.last_id().map(str::to_owned);
    deployment.postgres.execute("insert into quiet select generate_series(1, 100)").await?;
    let moved = client.collect_until(PATIENCE, |event| event.event == "heartbeat" && event.id > ready).await?;
    let heartbeat = moved.last().and_then(|event| event.id.clone()).unwrap_or_default();
    let mut resumed = deployment.subscribe(&deployment.table("quiet").last_event_id(&heartbeat)).await?;
    deployment.postgres.execute("insert into quiet values (101)").await?;
    assert_eq!(
        data(&resumed.expect("insert", PATIENCE).await?)?["new"]["id"],
        json!(101),
        "nothing before the heartbeat is sent again"
    );
    Ok(())
}

async fn http2_without_tls(mode: Mode) -> Result<()> {
    let deployment = Deployment::shared(mode).await?;
    deployment.create_table("h2", "id int primary key").await?;
    let mut client = deployment.subscribe(&deployment.table("h2").h2c()).await?;
    deployment.postgres.execute("insert into h2 values (1)").await?;
    client.expect("insert", PATIENCE).await?;
    Ok(())
}

async fn browsers_may_connect(mode: Mode) -> Result<()> {
    let deployment = Deployment::shared(mode).await?;
    let client = SseRequest::get(format!("{}/data/v1/todos/subscribe", deployment.url()))
        .query("access_token", &user_token())
        .header("origin", "https://app.example")
        .open()
        .await?;
    let header =
        |name: &str| client.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    assert_eq!(header("content-type"), "text/event-stream");
    assert_eq!(header("cache-control"), "no-cache, no-transform");
    assert_eq!(header("x-accel-buffering"), "no");
    assert_eq!(header("access-control-allow-origin"), "*");
    let preflight = http_client()?
        .request(reqwest::Method::OPTIONS, format!("{}/realtime/v1/subscribe", deployment.url()))
        .header("origin", "https://app.example")
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "authorization,x-reactor-org,last-event-id")
        .send()
        .await?;
    ensure!(preflight.status().is_success(), "{}", preflight.status());
    let allowed = preflight
        .headers()
        .get("access-control-allow-headers")
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    ensure!(allowed.contains("authorization") && allowed.contains("x-reactor-org"), "{allowed}");
    Ok(())
}

async fn tables_change_while_they_are_followed(mode: Mode) -> Result<()> {
    let deployment = Deployment::shared(mode).await?;
    deployment.create_table("shifty", "id int primary key, a text, b text").await?;
    let mut client = deployment.subscribe(&deployment.table("shifty")).await?;
    let mut filtered = deployment.subscribe(&deployment.table("shifty").query("b", "eq.x")).await?;
    for step in [
        "insert into shifty values (1, 'a', 'x')",
        "alter table shifty add column c int default 7; insert into shifty values (2, 'a', 'y')",
        "alter table shifty rename column a to z; insert into shifty values (3, 'a', 'y')",
        "alter table shifty alter column c type text; insert into shifty values (4, 'a', 'y', 'eight')",
        "alter table shifty drop column b; insert into shifty values (5, 'a')",
    ] {
        deployment.postgres.execute(step).await?;
    }
    let mut rows = Vec::new();
    for _ in 0..5 {
        rows.push(data(&client.expect("insert", PATIENCE).await?)?["new"].clone());
    }
    assert_eq!(
        rows,
        [
            json!({"id":1,"a":"a","b":"x"}),
            json!({"id":2,"a":"a","b":"y","c":7}),
            json!({"id":3,"z":"a","b":"y","c":7}),
            json!({"id":4,"z":"a","b":"y","c":"eight"}),
            json!({"id":5,"z":"a","c":"7"}),
        ]
    );
    filtered.expect("insert", PATIENCE).await?;
    let error = filtered.expect("error", PATIENCE).await?;
    let code = data(&error)?["code"].clone();
    ensure!(code == json!("schema_changed") || code == json!("bad_filter"), "the filter's column is gone: {code}");
    Ok(())
}

async fn partitions_appear_under_their_root(mode: Mode) -> Result<()> {
    let deployment = Deployment::shared(mode).await?;
    let sql = "create table readings (at date, value int, primary key (at, value)) partition by range (at);
        create table readings_1 partition of readings for values from ('2025-01-01') to ('2026-01-01');
        create table readings_2 (value int not null, at date not null, primary key (at, value));
        alter table readings attach partition readings_2 for values from ('2026-01-01') to ('2027-01-01');
        grant select on readings to authenticated";
    deployment.postgres.execute(sql).await?;
    let mut client = deployment.subscribe(&deployment.table("readings").query("value", "gt.0")).await?;
    deployment.postgres.execute("insert into readings values ('2025-05-05', 1), ('2026-05-05', 2)").await?;
    for (at, value) in [("2025-05-05", 1), ("2026-05-05", 2)] {
        let event = data(&client.expect("insert", PATIENCE).await?)?;
        assert_eq!((&event["table"], &event["new"]), (&json!("readings"), &json!({"at": at, "value": value})));
    }
    Ok(())
}
