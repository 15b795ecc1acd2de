//! Each subscriber gets exactly the rows that Postgres would let it read.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reactor_protocol::sse::SseEvent;
use reactor_testkit::sse::data;
use reactor_testkit::token::user;
use reactor_testkit::{PostgresOptions, SseClient, SseRequest, wait};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::deployment::{ALICE, BOB, Deployment, Mode, PATIENCE, sign, token_of};
use crate::in_both_modes;

/// Within this a changed policy counts for open subscriptions.
const NOTICED_WITHIN: Duration = Duration::from_secs(5);

in_both_modes!(
    own_rows_arrive_and_no_others,
    policies_combine_as_postgres_combines_them,
    claims_are_read_in_every_way,
    members_follow_the_stream,
    membership_may_be_a_function,
    a_transaction_is_judged_as_it_commits,
    what_only_postgres_knows_is_asked,
    a_row_that_raises_is_denied_alone,
    deletes_carry_keys_where_the_row_is_not_known,
    deletes_with_the_whole_row_are_judged,
    an_update_shows_no_old_row_that_was_hidden,
    rows_that_leave_are_told,
    hidden_columns_never_leave,
    a_resume_is_judged_too,
    changes_of_policies_reach_open_subscriptions,
    bypassing_and_absent_policies,
    rules_serve_without_row_security,
    withheld_deletes,
    many_subscribers_of_many_rows,
);

/// A table with row-level security that plain users may select from, and its policies.
async fn secured(deployment: &Deployment, table: &str, columns: &str, policies: &[&str]) -> Result<()> {
    deployment.create_table(table, columns).await?;
    deployment.postgres.execute(&format!("alter table {table} enable row level security")).await?;
    for (number, policy) in policies.iter().enumerate() {
        deployment.postgres.execute(&format!("create policy p{number} on {table} {policy}")).await?;
    }
    Ok(())
}

fn request(deployment: &Deployment, table: &str, token: &str) -> SseRequest {
    SseRequest::get(format!("{}/data/v1/{table}/subscribe", deployment.url())).token(token)
}

async fn open(deployment: &Deployment, table: &str, token: &str) -> Result<SseClient> {
    deployment.subscribe(&request(deployment, table, token)).await
}

/// Everything up to the truncation that ends a test, which every subscriber gets; heartbeats left out.
async fn until_end(client: &mut SseClient) -> Result<Vec<SseEvent>> {
    let mut events = client.collect_until(PATIENCE, |event| event.event == "truncate").await?;
    events.retain(|event| event.event != "heartbeat" && event.event != "truncate");
    Ok(events)
}

/// The ids of the rows of these events' `new`.
fn ids(events: &[SseEvent]) -> Result<Vec<i64>> {
    events.iter().map(|event| data(event)?["new"]["id"].as_i64().context("an id")).collect()
}

/// The `old` of the deletes among these events.
fn deleted(events: &[SseEvent]) -> Result<Vec<Value>> {
    events.iter().filter(|event| event.event == "delete").map(|event| Ok(data(event)?["old"].clone())).collect()
}

async fn end(deployment: &Deployment, table: &str) -> Result<()> {
    deployment.postgres.execute(&format!("truncate {table}")).await
}

async fn own_rows_arrive_and_no_others(mode: Mode) -> Result<()> {
    let deployment = Deployment::shared(mode).await?;
    let columns = "id int primary key, owner_id uuid, note text";
    secured(deployment, "own", columns, &["for select to authenticated using (owner_id = (select auth.uid()))"])
        .await?;
    let mut alice = open(deployment, "own", &token_of(ALICE)).await?;
    let mut bob = open(deployment, "own", &token_of(BOB)).await?;
    deployment
        .postgres
        .execute(&format!(
            "insert into own values (1, '{ALICE}', 'a'), (2, '{BOB}', 'b'), (3, null, 'nobody');
             update own set note = 'c' where id = 2; update own set owner_id = '{ALICE}' where id = 2;"
        ))
        .await?;
    end(deployment, "own").await?;
    let (alice, bob) = (until_end(&mut alice).await?, until_end(&mut bob).await?);
    assert_eq!(ids(&alice)?, [1, 2]);
    assert_eq!(ids(&bob)?, [2, 2]);
    let names: Vec<&str> = alice.iter().chain(&bob).map(|event| event.event.as_str()).collect();
    assert_eq!(names, ["insert", "update", "insert", "update"]);
    Ok(())
}

async fn policies_combine_as_postgres_combines_them(mode: Mode) -> Result<()> {
    let deployment = Deployment::shared(mode).await?;
    let policies = [
        "for select to authenticated using (owner_id = auth.uid())",
        "to public using (open)",
        "as restrictive for select to authenticated using (kind <> 'secret' and lower(kind) is not null)",
        "for update to authenticated using (true)",
        "for select to anon using (true)",
    ];
    secured(deployment, "mixed", "id int primary key, owner_id uuid, open bool, kind text", &policies).await?;
    let mut alice = open(deployment, "mixed", &token_of(ALICE)).await?;
    let filtered = request(deployment, "mixed", &token_of(ALICE)).query("kind", "eq.b");
    let mut filtered = deployment.subscribe(&filtered).await?;
    deployment
        .postgres
        .execute(&format!(
            "insert into mixed values (1, '{ALICE}', false, 'a'), (2, '{BOB}', true, 'b'), (3, '{BOB}', false, 'b'),
               (4, '{ALICE}', true, 'secret'), (5, null, null, 'b'), (6, '{ALICE}', null, null), (7, '{ALICE}', null, 'b')"
        ))
        .await?;
    end(deployment, "mixed").await?;
    assert_eq!(ids(&until_end(&mut alice).await?)?, [1, 2, 7]);
    assert_eq!(ids(&until_end(&mut filtered).await?)?, [2, 7]);
    Ok(())
}

async fn claims_are_read_in_every_way(mode: Mode) -> Result<()> {
    let deployment = Deployment::shared(mode).await?;
    let cases = [
        ("claims_a", "team = (auth.jwt() -> 'app_metadata' ->> 'team')"),
        ("claims_b", "team = any (array(select jsonb_array_elements_text(auth.jwt() -> 'teams')))"),
        ("claims_c", "team = current_setting('request.jwt.claims', true)::json ->> 'team'"),
        ("claims_d", "auth.role() = 'authenticated' and team = coalesce(auth.email(), 'nobody')"),
        ("claims_e", "team in ('x', (auth.jwt() ->> 'team'))"),
        ("claims_f", "current_user = 'authenticated' and (doc -> 'tags' ->> 0) = (select auth.jwt() ->> 'team')"),
        ("claims_g", "size between 1 and (auth.jwt() ->> 'limit')::int and team like '%e%'"),
    ];
    let mut claims = user("authenticated", ALICE);
    claims.insert("app_metadata".into(), json!({"team": "red"}));
    claims.insert("teams".into(), json!(["red", "it's"]));
    claims.insert("team".into(), json!("red"));
    claims.insert("email".into(), json!("red"));
    claims.insert("limit".into(), json!(5));
    let token = sign(&json!(claims));
    for (table, policy) in cases {
        let columns = "id int primary key, team text, doc jsonb, size int";
        secured(deployment, table, columns, &[&format!("for select to authenticated using ({policy})")]).await?;
        let mut client = open(deployment, table, &token).await?;
        let rows =
            r#"(1, 'red', '{"tags": ["red"]}', 3), (2, 'blue', '{"tags": ["blue", "red"]}', 9), (3, null, null, null)"#;
        deployment.postgres.execute(&format!("insert into {table} values {rows}")).await?;
        end(deployment, table).await?;
        assert_eq!(ids(&until_end(&mut client).await?)?, [1], "{policy}");
    }
    Ok(())
}

const ROOMS: &str = "id int primary key, room int, body text";
const MEMBERS: &str = "room int, user_id uuid, primary key (room, user_id)";

async fn members_follow_the_stream(mode: Mode) -> Result<()> {
    let deployment = Deployment::shared(mode).await?;
    deployment.create_table("chat_members", MEMBERS).await?;
    let exists = "for select to authenticated using (exists (
        select 1 from chat_members m where m.user_id = auth.uid() and m.room = chat.room))";
    secured(deployment, "chat", ROOMS, &[exists]).await?;
    let within = "for select to authenticated using (room in (
        select room from chat_members where user_id = (select auth.uid())))";
    secured(deployment, "chat_in", ROOMS, &[within]).await?;
    deployment.postgres.execute(&format!("insert into chat_members values (1, '{ALICE}')")).await?;
    let mut clients = Vec::new();
    for table in ["chat", "chat_in"] {
        clients.push((table, open(deployment, table, &token_of(ALICE)).await?));
    }
    for table in ["chat", "chat_in"] {
        let say = |id: i32, room: i32| format!("insert into {table} values ({id}, {room}, 'x');");
        let steps = [
            say(1, 1),
            say(2, 2),
            format!("insert into chat_members values (2, '{ALICE}') on conflict do nothing;"),
            say(3, 2),
            format!("update chat_members set room = 3 where room = 2 and user_id = '{ALICE}';"),
            say(4, 2),
            say(5, 3),
            format!("delete from chat_members where room = 1 and user_id = '{ALICE}';"),
            say(6, 1),
            say(7, 3),
            format!("insert into chat_members values (1, '{ALICE}'), (2, '{BOB}');"),
            say(8, 1),
            say(9, 2),
            "truncate chat_members;".to_owned(),
            say(10, 1),
            format!("insert into chat_members values (1, '{ALICE}');"),
            say(11, 1),
        ];
        for step in &steps {
            deployment.postgres.execute(step).await?;
        }
        end(deployment, table).await?;
    }
    for (table, mut client) in clients {
        assert_eq!(ids(&until_end(&mut client).await?)?, [1, 3, 5, 7, 8, 11], "{table}");
    }
    Ok(())
}

async fn membership_may_be_a_function(mode: Mode) -> Result<()> {
    let deployment = Deployment::shared(mode).await?;
    deployment.create_table("club_members", MEMBERS).await?;
    deployment
        .postgres
        .execute(
            "alter table club_members enable row level security;
             create function is_club_member(wanted int) returns boolean language sql stable security definer
               set search_path = '' as
               'select exists (select 1 from public.club_members where room = wanted and user_id = auth.uid())'",
        )
        .await?;
    secured(deployment, "club", ROOMS, &["for select to authenticated using (is_club_member(room))"]).await?;
    let mut client = open(deployment, "club", &token_of(ALICE)).await?;
    let steps = [
        "insert into club values (1, 1, 'x')".to_owned(),
        format!("insert into club_members values (1, '{ALICE}')"),
        "insert into club values (2, 1, 'x')".to_owned(),
        "insert into club values (3, 2, 'x')".to_owned(),
    ];
    for step in &steps {
        deployment.postgres.execute(step).await?;
    }
    end(deployment, "club").await?;
    assert_eq!(ids(&until_end(&mut client).await?)?, [2]);
    Ok(())
}

/// Postgres shows a transaction whole: the order of its statements does not matter to who may see its rows.
async fn a_transaction_is_judged_as_it_commits(mode: Mode) -> Result<()> {
    let deployment = Deployment::shared(mode).await?;
    deployment.create_table("team_members", MEMBERS).await?;
    let policy = "for select to authenticated using (exists (
        select 1 from team_members m where m.room = teams.room and m.user_id = auth.uid()))";
    secured(deployment, "teams", ROOMS, &[policy]).await?;
    let mut client = open(deployment, "teams", &token_of(ALICE)).await?;
    let transactions = [
        format!("begin; insert into teams values (1, 1, 'x'); insert into team_members values (1, '{ALICE}'); commit"),
        "begin; insert into teams values (2, 1, 'x'); delete from team_members; commit".to_owned(),
        format!(
            "begin; insert into teams values (3, 2, 'x'); insert into team_members values (2, '{ALICE}');
               insert into teams values (4, 2, 'x'); delete from team_members;
               insert into team_members values (2, '{ALICE}'); insert into teams values (5, 2, 'x'); commit"
        ),
    ];
    for transaction in &transactions {
        deployment.postgres.execute(transaction).await?;
    }
    end(deployment, "teams").await?;
    assert_eq!(ids(&until_end(&mut client).await?)?, [1, 3, 4, 5]);
    Ok(())
}

async fn what_only_postgres_knows_is_asked(mode: Mode) -> Result<()> {
    let deployment = Deployment::shared(mode).await?;
    deployment
        .postgres
        .execute(
            "create table judges (user_id uuid primary key);
             create function judged_by(who uuid, note text) returns boolean language plpgsql stable security definer as
               'begin return exists (select from judges where user_id = who) and length(note) > 2; end'",
        )
        .await?;
    deployment.postgres.execute(&format!("insert into judges values ('{ALICE}')")).await?;
    let policy = "for select to authenticated using (judged_by(auth.uid(), note) or until > now() or id = 99)";
    secured(deployment, "judged_rows", "id int primary key, note text, until timestamptz", &[policy]).await?;
    let mut alice = open(deployment, "judged_rows", &token_of(ALICE)).await?;
    let mut bob = open(deployment, "judged_rows", &token_of(BOB)).await?;
    let rows = "(1, 'long', null), (2, 'x', null), (3, null, now() + interval '1 day'), (4, 'x', now() - interval '1 s'), (99, null, null)";
    deployment.postgres.execute(&format!("insert into judged_rows values {rows}")).await?;
    // The rows must still be there when Postgres is asked.
    let last =
        async |client: &mut SseClient| client.collect_until(PATIENCE, |event| event.data.contains("\"id\":99")).await;
    let (mut alice, mut bob) = (last(&mut alice).await?, last(&mut bob).await?);
    alice.retain(|event| event.event == "insert");
    bob.retain(|event| event.event == "insert");
    assert_eq!(ids(&alice)?, [1, 3, 99]);
    assert_eq!(ids(&bob)?, [3, 99]);
    Ok(())
}

async fn a_row_that_raises_is_denied_alone(mode: Mode) -> Result<()> {
    let deployment = Deployment::shared(mode).await?;
    let policy = "for select to authenticated using (note::int > 1)";
    secured(deployment, "raising", "id int primary key, note text", &[policy]).await?;
    let mut client = open(deployment, "raising", &token_of(ALICE)).await?;
    let before = deployment.metric("reactor_gateway_withheld_total{reason=\"raised\"}").await?;
    deployment.postgres.execute("insert into raising values (1, '5'), (2, 'five'), (3, '1'), (4, ' 7 ')").await?;
    end(deployment, "raising").await?;
    assert_eq!(ids(&until_end(&mut client).await?)?, [1, 4]);
    let counted = async || Ok(deployment.metric("reactor_gateway_withheld_total{reason=\"raised\"}").await? > before);
    wait::until(PATIENCE, "the denied row is counted", counted).await
}

async fn deletes_carry_keys_where_the_row_is_not_known(mode: Mode) -> Result<()> {
    let deployment = Deployment::shared(mode).await?;
    let policy = "for select to authenticated using (owner_id = auth.uid())";
    secured(deployment, "gone", "id int primary key, owner_id uuid, note text", &[policy]).await?;
    let mut client = open(deployment, "gone", &token_of(ALICE)).await?;
    deployment
        .postgres
        .execute(&format!("insert into gone values (1, '{ALICE}', 'a'), (2, '{BOB}', 'b'); delete from gone"))
        .await?;
    end(deployment, "gone").await?;
    assert_eq!(deleted(&until_end(&mut client).await?)?, [json!({"id": 1}), json!({"id": 2})]);
    Ok(())
}

async fn deletes_with_the_whole_row_are_judged(mode: Mode) -> Result<()> {
    let deployment = Deployment::shared(mode).await?;
    let policy = "for select to authenticated using (owner_id = auth.uid())";
    secured(deployment, "gone_full", "id int primary key, owner_id uuid, note text", &[policy]).await?;
    deployment.postgres.execute("alter table gone_full replica identity full").await?;
    let mut client = open(deployment, "gone_full", &token_of(ALICE)).await?;
    deployment
        .postgres
        .execute(&format!("insert into gone_full values (1, '{ALICE}', 'a'), (2, '{BOB}', 'b'); delete from gone_full"))
        .await?;
    end(deployment, "gone_full").await?;
    assert_eq!(deleted(&until_end(&mut client).await?)?, [json!({"id": 1, "owner_id": ALICE, "note": "a"})]);
    Ok(())
}

async fn an_update_shows_no_old_row_that_was_hidden(mode: Mode) -> Result<()> {
    let deployment = Deployment::shared(mode).await?;
    let policy = "for select to authenticated using (shared)";
    secured(deployment, "drafts", "id int primary key, shared bool, note text", &[policy]).await?;
    deployment.postgres.execute("alter table drafts replica identity full").await?;
    let mut client = open(deployment, "drafts", &token_of(ALICE)).await?;
    deployment
        .postgres
        .execute("insert into drafts values (1, false, 'secret'); update drafts set shared = true, note = 'public'; update drafts set note = 'more'")
        .await?;
    end(deployment, "drafts").await?;
    let events = until_end(&mut client).await?;
    assert_eq!(events.len(), 2);
    assert_eq!(data(&events[0])?["old"], json!({"id": 1}));
    assert_eq!(data(&events[1])?["old"], json!({"id": 1, "shared": true, "note": "public"}));
    Ok(())
}

async fn rows_that_leave_are_told(mode: Mode) -> Result<()> {
    let deployment = Deployment::shared(mode).await?;
    let policy = "for select to authenticated using (owner_id = auth.uid())";
    secured(deployment, "moving", "id int primary key, owner_id uuid, state text", &[policy]).await?;
    deployment.postgres.execute("alter table moving replica identity full").await?;
    let leaving = request(deployment, "moving", &token_of(ALICE)).query("state", "eq.open").query("leave", "true");
    let mut client = deployment.subscribe(&leaving).await?;
    let plain = request(deployment, "moving", &token_of(ALICE)).query("state", "eq.open");
    let mut plain = deployment.subscribe(&plain).await?;
    deployment
        .postgres
        .execute(&format!(
            "insert into moving values (1, '{ALICE}', 'open'), (2, '{ALICE}', 'closed'), (3, '{BOB}', 'open');
             update moving set state = 'closed' where id = 1; update moving set state = 'shut' where id = 2;
             update moving set owner_id = '{ALICE}' where id = 3; update moving set owner_id = '{BOB}' where id = 3;
             update moving set state = 'gone' where id = 3"
        ))
        .await?;
    end(deployment, "moving").await?;
    let events = until_end(&mut client).await?;
    let names: Vec<&str> = events.iter().map(|event| event.event.as_str()).collect();
    assert_eq!(names, ["insert", "leave", "update", "leave"]);
    let leave = data(&events[1])?;
    assert_eq!((&leave["old"], &leave["table"], leave.get("new")), (&json!({"id": 1}), &json!("moving"), None));
    assert_eq!(data(&events[3])?["old"], json!({"id": 3}));
    let names: Vec<String> = until_end(&mut plain).await?.into_iter().map(|event| event.event).collect();
    assert_eq!(names, ["insert", "update"]);
    Ok(())
}

async fn hidden_columns_never_leave(mode: Mode) -> Result<()> {
    let deployment = Deployment::shared(mode).await?;
    deployment
        .postgres
        .execute(
            "create table masked (id int primary key, owner_id uuid, secret text, note text);
             alter table masked replica identity full; alter table masked enable row level security;
             grant select (id, note) on masked to authenticated;
             create policy p on masked for select to authenticated using (note is not null)",
        )
        .await?;
    let mut client = open(deployment, "masked", &token_of(ALICE)).await?;
    deployment
        .postgres
        .execute(&format!(
            "insert into masked values (1, '{ALICE}', 'hidden', 'a'); update masked set secret = 'hidden too', note = 'b'; delete from masked"
        ))
        .await?;
    end(deployment, "masked").await?;
    let events = until_end(&mut client).await?;
    assert_eq!(events.len(), 3);
    for event in &events {
        ensure!(!event.data.contains("hidden") && !event.data.contains("owner_id"), "{}", event.data);
    }
    let refused = request(deployment, "masked", &token_of(ALICE)).query("secret", "eq.x").refused().await?;
    assert_eq!((refused.0, &refused.1["code"]), (403, &json!("permission_denied")));
    Ok(())
}

async fn a_resume_is_judged_too(mode: Mode) -> Result<()> {
    let deployment = Deployment::shared(mode).await?;
    deployment.create_table("past_members", MEMBERS).await?;
    let policy = "for select to authenticated using (exists (
        select 1 from past_members m where m.room = past.room and m.user_id = auth.uid()))";
    secured(deployment, "past", ROOMS, &[policy]).await?;
    deployment.postgres.execute(&format!("insert into past_members values (1, '{ALICE}')")).await?;
    let client = open(deployment, "past", &token_of(ALICE)).await?;
    let at = client.last_id().context("an id")?.to_owned();
    drop(client);
    deployment.postgres.execute("insert into past values (1, 1, 'x'), (2, 2, 'x'), (3, 1, 'x')").await?;
    let resuming = request(deployment, "past", &token_of(ALICE)).last_event_id(&at);
    let mut client = deployment.subscribe(&resuming).await?;
    end(deployment, "past").await?;
    assert_eq!(ids(&until_end(&mut client).await?)?, [1, 3]);
    let mut bob = deployment.subscribe(&request(deployment, "past", &token_of(BOB)).last_event_id(&at)).await?;
    assert_eq!(until_end(&mut bob).await?, []);
    Ok(())
}

/// Runs a statement and inserts rows until one has the wanted effect on the client; how long that took.
async fn noticed(
    deployment: &Deployment,
    client: &mut SseClient,
    statement: &str,
    wanted: bool,
    id: &mut i64,
) -> Result<Duration> {
    deployment.postgres.execute(statement).await?;
    let begun = Instant::now();
    loop {
        *id += 1;
        deployment.postgres.execute(&format!("insert into shifting values ({id}, '{ALICE}')")).await?;
        let mark = *id;
        let seen = tokio::time::timeout(Duration::from_millis(300), async {
            loop {
                let event = client.expect("insert", PATIENCE).await?;
                if data(&event)?["new"]["id"] == json!(mark) {
                    return anyhow::Ok(());
                }
            }
        })
        .await;
        match seen {
            Ok(result) => {
                result?;
                if wanted {
                    return Ok(begun.elapsed());
                }
            }
            Err(_) if !wanted => return Ok(begun.elapsed()),
            Err(_) => {}
        }
        ensure!(begun.elapsed() < PATIENCE, "`{statement}` is not noticed; logs:\n{}", deployment.logs());
    }
}

async fn changes_of_policies_reach_open_subscriptions(mode: Mode) -> Result<()> {
    let deployment = Deployment::shared(mode).await?;
    deployment.create_table("shifting", "id int primary key, owner_id uuid").await?;
    deployment.postgres.execute("create role shifters nologin").await?;
    let mut client = open(deployment, "shifting", &token_of(ALICE)).await?;
    let steps = [
        ("alter table shifting enable row level security", false),
        ("create policy own on shifting for select to authenticated using (owner_id = auth.uid())", true),
        ("alter policy own on shifting using (owner_id <> auth.uid())", false),
        ("create policy more on shifting for select to shifters using (true)", false),
        ("grant shifters to authenticated", true),
        ("revoke shifters from authenticated", false),
        ("alter policy own on shifting using (true)", true),
        ("drop policy own on shifting", false),
        ("alter table shifting disable row level security", true),
    ];
    let mut id = 0;
    for (statement, wanted) in steps {
        let took = noticed(deployment, &mut client, statement, wanted, &mut id).await?;
        ensure!(took < NOTICED_WITHIN, "`{statement}` took {took:?}");
    }
    deployment.postgres.execute("revoke select on shifting from authenticated").await?;
    let begun = Instant::now();
    let error = client.collect_until(PATIENCE, |event| event.event == "error").await?;
    ensure!(begun.elapsed() < NOTICED_WITHIN, "the revoked grant took {:?}", begun.elapsed());
    let error = error.last().context("an error")?;
    assert_eq!(data(error)?["code"], json!("permission_denied"));
    Ok(())
}

async fn bypassing_and_absent_policies(mode: Mode) -> Result<()> {
    let deployment = Deployment::shared(mode).await?;
    secured(deployment, "sealed", "id int primary key", &[]).await?;
    deployment.postgres.execute("grant select on sealed to service_role").await?;
    let mut nobody = open(deployment, "sealed", &token_of(ALICE)).await?;
    let mut service = open(deployment, "sealed", &sign(&json!(user("service_role", ALICE)))).await?;
    deployment.postgres.execute("insert into sealed values (1)").await?;
    end(deployment, "sealed").await?;
    assert_eq!(ids(&until_end(&mut service).await?)?, [1]);
    assert_eq!(until_end(&mut nobody).await?, []);
    Ok(())
}

const RULES: &str = r#"
[[policy.rules]]
role = "editor"
table = "pages"
using = "owner_id = auth.uid() or state = 'published'"

[[policy.rules]]
role = "reader"
table = "public.pages"
permission = "read"
using = "state = 'published'"
"#;

async fn rules_serve_without_row_security(mode: Mode) -> Result<()> {
    let file = std::env::temp_dir().join(format!("reactor-rules-{mode:?}-{}.toml", std::process::id()));
    std::fs::write(&file, RULES)?;
    let path = file.display().to_string();
    let started = Deployment::start_with(mode, PostgresOptions::default(), &[("REACTOR_CONFIG", &path)]).await;
    std::fs::remove_file(&file)?;
    let deployment = started?;
    deployment.postgres.execute("create table pages (id int primary key, owner_id uuid, state text)").await?;
    let mut editor = open(&deployment, "pages", &sign(&json!(user("editor", ALICE)))).await?;
    let mut reader = open(&deployment, "pages", &sign(&json!(user("reader", ALICE)))).await?;
    let refused = request(&deployment, "pages", &sign(&json!(user("stranger", ALICE)))).refused().await?;
    assert_eq!(refused.0, 403);
    deployment
        .postgres
        .execute(&format!(
            "insert into pages values (1, '{ALICE}', 'draft'), (2, '{BOB}', 'published'), (3, '{BOB}', 'draft')"
        ))
        .await?;
    end(&deployment, "pages").await?;
    assert_eq!(ids(&until_end(&mut editor).await?)?, [1, 2]);
    assert_eq!(ids(&until_end(&mut reader).await?)?, [2]);
    Ok(())
}

async fn withheld_deletes(mode: Mode) -> Result<()> {
    let settings = [("REACTOR_POLICY_DELETE_EVENTS", "strict")];
    let deployment = Deployment::start_with(mode, PostgresOptions::default(), &settings).await?;
    let policy = "for select to authenticated using (owner_id = auth.uid())";
    secured(&deployment, "strict", "id int primary key, owner_id uuid", &[policy]).await?;
    let mut client = open(&deployment, "strict", &token_of(ALICE)).await?;
    deployment.postgres.execute(&format!("insert into strict values (1, '{ALICE}'); delete from strict")).await?;
    end(&deployment, "strict").await?;
    let names: Vec<String> = until_end(&mut client).await?.into_iter().map(|event| event.event).collect();
    assert_eq!(names, ["insert"]);
    Ok(())
}

async fn many_subscribers_of_many_rows(mode: Mode) -> Result<()> {
    let deployment = Deployment::shared(mode).await?;
    let policy = "for select to authenticated using (owner_id = auth.uid() or org in (
        select org from many_orgs where user_id = auth.uid()))";
    deployment.create_table("many_orgs", "org int, user_id uuid, primary key (org, user_id)").await?;
    secured(deployment, "many", "id int primary key, owner_id uuid, org int", &[policy]).await?;
    let who = |number: usize| format!("00000000-0000-4000-8000-{number:012}");
    let mut clients = Vec::new();
    for number in 0..40 {
        let orgs = format!("insert into many_orgs values ({}, '{}')", number % 4, who(number));
        deployment.postgres.execute(&orgs).await?;
    }
    for number in 0..40 {
        clients.push(open(deployment, "many", &token_of(&who(number))).await?);
    }
    let rows: Vec<String> = (0..200)
        .map(|id| {
            format!("({id}, '{}', {})", who(id % 50), if id % 3 == 0 { "null".into() } else { (id % 5).to_string() })
        })
        .collect();
    for part in rows.chunks(7) {
        deployment.postgres.execute(&format!("insert into many values {}", part.join(", "))).await?;
    }
    end(deployment, "many").await?;
    for (number, mut client) in clients.into_iter().enumerate() {
        let expected: Vec<i64> = (0..200_i64)
            .filter(|id| {
                let own = usize::try_from(id % 50) == Ok(number);
                own || (id % 3 != 0 && id % 5 == i64::try_from(number % 4).unwrap_or(9))
            })
            .collect();
        assert_eq!(ids(&until_end(&mut client).await?)?, expected, "{number}");
    }
    Ok(())
}
