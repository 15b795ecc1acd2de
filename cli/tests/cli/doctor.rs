//! `reactor realtime doctor` on real servers.

use anyhow::{Context, Result};
use reactor_testkit::fixtures::SAMPLE_SQL;
use reactor_testkit::{Postgres, PostgresOptions};
use serde_json::Value;

use crate::command::{Ran, reactor, run};

const GOOD: &str = "
create publication supabase_realtime for table public.todos, public.messages;
create role service_role nologin;
grant usage on schema public to service_role; grant select on all tables in schema public to service_role, anon";

async fn examine(url: &str, args: &[&str]) -> Result<Ran> {
    run(reactor(&[&["realtime", "doctor", "--database-url", url], args].concat())).await
}

/// The checks with this name, as `status message remedy…`.
async fn checks(url: &str, name: &str) -> Result<(Option<i32>, Vec<String>)> {
    let ran = examine(url, &["--json"]).await?;
    let report: Value = serde_json::from_str(&ran.stdout).with_context(|| format!("{ran:?}"))?;
    let checks = report["checks"].as_array().context("checks")?;
    let told = checks.iter().filter(|check| check["name"] == name).map(|check| {
        let remedy: Vec<&str> = check["remedy"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let text = |name: &str| check[name].as_str().unwrap_or_default().to_owned();
        format!("{} {} {}", text("status"), text("message"), remedy.join(" "))
    });
    Ok((ran.code, told.collect()))
}

#[track_caller]
fn says(told: &[String], parts: &[&str]) {
    let fits = told.iter().any(|line| parts.iter().all(|part| line.contains(part)));
    assert!(fits, "{parts:?} is not in {told:#?}");
}

#[tokio::test]
async fn a_good_database_is_well() -> Result<()> {
    let postgres = Postgres::start_with(PostgresOptions::default().set("max_slot_wal_keep_size", "10GB")).await?;
    postgres.execute(SAMPLE_SQL).await?;
    postgres.execute(GOOD).await?;
    let ran = examine(&postgres.url(), &[]).await?;
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{}", ran.stdout);
    assert!(ran.stdout.ends_with("all is well\n"), "{}", ran.stdout);
    for part in [
        "ok    wal_level: logical",
        "ok    replication: a replication connection",
        "full in public.todos",
        "authenticated may select from public.messages, public.todos",
    ] {
        assert!(ran.stdout.contains(part), "{part} is not in {}", ran.stdout);
    }

    // A slot of ours is seen, another tenant's is not.
    postgres.execute("select pg_create_logical_replication_slot(name, 'pgoutput') from unnest(array['reactor_default_0000abcd', 'reactor_other_0000abcd']) name").await?;
    let (code, slots) = checks(&postgres.url(), "slot").await?;
    assert_eq!((code, slots.len()), (Some(0), 1), "{slots:?}");
    says(&slots, &["ok", "reactor_default_0000abcd: not active, holds back"]);
    Ok(())
}

#[tokio::test]
async fn newer_servers_are_read_too() -> Result<()> {
    let options = PostgresOptions::version(18).set("idle_replication_slot_timeout", "1d");
    let postgres = Postgres::start_with(options).await?;
    postgres.execute(SAMPLE_SQL).await?;
    postgres.execute(GOOD).await?;
    postgres.execute("select pg_create_logical_replication_slot('reactor_default_0000abcd', 'pgoutput')").await?;
    let (code, told) = checks(&postgres.url(), "idle_replication_slot_timeout").await?;
    assert_eq!(code, Some(0));
    says(&told, &["warn", "1d", "ALTER SYSTEM SET idle_replication_slot_timeout = 0"]);
    says(&checks(&postgres.url(), "slot").await?.1, &["ok", "reactor_default_0000abcd"]);
    says(&checks(&postgres.url(), "publication").await?.1, &["ok", "public.messages, public.todos"]);
    Ok(())
}

#[tokio::test]
async fn servers_that_cannot_replicate_are_told_how() -> Result<()> {
    let options = PostgresOptions::default()
        .set("wal_level", "replica")
        .set("max_replication_slots", "0")
        .set("max_wal_senders", "0");
    let postgres = Postgres::start_with(options).await?;
    let url = postgres.url();
    let (code, told) = checks(&url, "wal_level").await?;
    assert_eq!(code, Some(1));
    says(&told, &["fail", "replica", "ALTER SYSTEM SET wal_level = 'logical';"]);
    says(&checks(&url, "max_replication_slots").await?.1, &["fail", "0 of 0", "max_replication_slots = 4"]);
    says(&checks(&url, "max_wal_senders").await?.1, &["fail", "max_wal_senders = 4"]);
    says(&checks(&url, "max_slot_wal_keep_size").await?.1, &["warn", "not bounded"]);
    says(&checks(&url, "publication").await?.1, &["fail", "supabase_realtime does not exist", "CREATE PUBLICATION"]);
    says(&checks(&url, "roles").await?.1, &["warn", "CREATE ROLE authenticated NOLOGIN;"]);
    says(&checks(&url, "replication").await?.1, &["fail", "refused"]);
    Ok(())
}

#[tokio::test]
async fn tables_are_looked_at_one_by_one() -> Result<()> {
    let postgres = Postgres::start().await?;
    postgres.execute(SAMPLE_SQL).await?;
    postgres
        .execute(
            r#"create publication "My Pub" for all tables;
            create schema app;
            create table app.log (line text);
            create table app."Mixed" (id int primary key, org_id text);
            create table app.nothing (id int primary key); alter table app.nothing replica identity nothing;
            create table app.deferred (id int primary key deferrable);
            create table app.indexed (id int, code text not null);
            create unique index codes on app.indexed (code) include (id);
            alter table app.indexed replica identity using index codes;
            create table app.parts (id int, at date not null) partition by range (at);
            create table app.part_1 partition of app.parts for values from ('2026-01-01') to ('2027-01-01');
            alter table public.messages enable row level security"#,
        )
        .await?;
    let url = postgres.url();
    let mut args = reactor(&["realtime", "doctor", "--json", "--database-url", &url]);
    args.env("REACTOR_PUBLICATION", "My Pub");
    let ran = run(args).await?;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    let report: Value = serde_json::from_str(&ran.stdout)?;
    let told: Vec<String> = report["checks"].as_array().context("checks")?.iter().map(Value::to_string).collect();
    says(
        &told,
        &[
            "fail",
            "refuses UPDATE and DELETE on app.deferred, app.log, app.nothing, app.part_1\"",
            "ALTER TABLE app.log REPLICA IDENTITY FULL;",
        ],
    );
    says(&told, &["warn", "deletes in app.\\\"Mixed\\\" reach no member", "org_id"]);
    says(&told, &["ok", "key columns only in app.indexed, public.messages\""]);
    says(&told, &["ok", "full in public.todos"]);
    says(&told, &["ok", "published one by one", "app.parts", "publish_via_partition_root"]);
    says(&told, &["ok", "row-level security is enabled on public.messages", "its policies decide"]);
    says(
        &told,
        &[
            "warn",
            "may select from app.\\\"Mixed\\\"",
            "GRANT USAGE ON SCHEMA app TO authenticated; GRANT SELECT ON app.log TO authenticated;",
        ],
    );
    Ok(())
}

#[tokio::test]
async fn roles_without_the_right_are_told_how() -> Result<()> {
    let postgres = Postgres::start().await?;
    postgres.execute("create role app login").await?;
    let url = postgres.url_as("app", "postgres");
    let (code, told) = checks(&url, "role").await?;
    assert_eq!(code, Some(1));
    says(&told, &["fail", "app may not replicate", "ALTER ROLE app REPLICATION;"]);
    let (_, told) = checks(&url, "replication").await?;
    assert!(told.is_empty(), "one failure is enough: {told:?}");

    postgres.execute("alter role app replication").await?;
    says(&checks(&url, "role").await?.1, &["ok", "REPLICATION"]);
    says(&checks(&url, "replication").await?.1, &["ok", "accepted"]);
    Ok(())
}

#[tokio::test]
async fn a_database_that_cannot_be_reached_is_one_failure() -> Result<()> {
    let postgres = Postgres::shared().await?;
    for (url, parts) in [
        ("postgres://u:hush@127.0.0.1:9/d".to_owned(), ["connection", "check that Postgres runs"]),
        (postgres.url_for("no_such_database"), ["connection", "create the database"]),
    ] {
        let ran = examine(&url, &[]).await?;
        assert_eq!(ran.code, Some(1), "{ran:?}");
        for part in parts {
            assert!(ran.stdout.contains(part), "{part} is not in {}", ran.stdout);
        }
        assert!(!ran.stdout.contains("hush"), "{}", ran.stdout);
    }
    let ran = examine("not a url", &[]).await?;
    assert_eq!(ran.code, Some(64), "{ran:?}");
    Ok(())
}
