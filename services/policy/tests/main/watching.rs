//! The version follows every change that decisions depend on.

use std::time::Duration;

use futures::StreamExt;
use reactor_policy_engine::{Authorizer as _, PolicyVersion};
use reactor_testkit::{Postgres, wait};

use crate::support::{Db, request};

/// The version is read each second, which takes some milliseconds.
const WITHIN: Duration = Duration::from_secs(2);

const SQL: &str = "
create table todos (id int primary key, v text);
create table other (id int primary key);
alter table todos enable row level security;
create policy p on todos using (true);
create function f() returns int language sql as 'select 1';
create publication supabase_realtime for table todos;
create role {r}_user;
create role {r}_group;
";

async fn changes(db: &Db, within: Duration, statements: &[String]) {
    let mut readings = db.authorizer.watch("acme".parse().unwrap());
    let mut last: PolicyVersion = readings.next().await.unwrap();
    for statement in statements {
        db.client.batch_execute(statement).await.unwrap();
        let next = async {
            loop {
                let version = readings.next().await.unwrap();
                if version != last {
                    return version;
                }
            }
        };
        last = tokio::time::timeout(within, next).await.unwrap_or_else(|_| panic!("not noticed: {statement}"));
    }
}

#[tokio::test]
async fn every_kind_of_change_is_noticed() {
    let (db, roles) = Db::new(SQL).await;
    let (user, group) = (roles.name("user"), roles.name("group"));
    let statements = [
        "create policy q on todos using (false)".to_owned(),
        "alter policy q on todos using (id = 1)".to_owned(),
        format!("alter policy q on todos to {user}"),
        "drop policy q on todos".to_owned(),
        format!("grant select on todos to {user}"),
        format!("revoke select on todos from {user}"),
        format!("grant select (v) on todos to {user}"),
        format!("revoke select (v) on todos from {user}"),
        format!("grant usage on schema public to {user}"),
        "alter table todos disable row level security".to_owned(),
        "alter table todos enable row level security".to_owned(),
        "alter table todos force row level security".to_owned(),
        format!("grant {group} to {user}"),
        format!("revoke {group} from {user}"),
        format!("alter role {user} bypassrls"),
        format!("alter role {user} superuser"),
        format!("alter role {user} set search_path = app"),
        "create or replace function f() returns int language sql as 'select 2'".to_owned(),
        "alter publication supabase_realtime add table other".to_owned(),
        format!("alter table todos owner to {group}"),
        "alter table todos rename column v to w".to_owned(),
        "alter table todos replica identity full".to_owned(),
    ];
    changes(&db, WITHIN, &statements).await;
}

#[tokio::test]
async fn what_changes_nothing_for_decisions_is_no_new_version() {
    // Roles are the whole server's, and other tests make some.
    let server = Postgres::start().await.unwrap();
    let (db, _) = Db::on(&server, SQL).await;
    let mut readings = db.authorizer.watch("acme".parse().unwrap());
    let first = readings.next().await.unwrap();
    let statements = [
        "insert into todos select generate_series(1, 1000)",
        "analyze todos",
        "create index on todos (v)",
        "vacuum full todos",
    ];
    for statement in statements {
        db.client.batch_execute(statement).await.unwrap();
    }
    for _ in 0..2 {
        assert_eq!(readings.next().await.unwrap(), first);
    }
}

#[tokio::test]
async fn with_the_event_trigger_it_is_noticed_at_once() {
    let server = Postgres::shared().await.unwrap();
    let (db, roles) = Db::with(server, SQL, |settings| settings.event_trigger = true).await;
    db.settled().await;
    let count = "select count(*) from pg_event_trigger where evtname like 'reactor%'";
    let triggers: i64 = db.client.query_one(count, &[]).await.unwrap().get(0);
    assert_eq!(triggers, 2);
    let statements = [
        "alter policy p on todos using (id = 1)".to_owned(),
        format!("grant select on todos to {}", roles.name("user")),
        "drop policy p on todos".to_owned(),
    ];
    changes(&db, Duration::from_millis(600), &statements).await;
    // Those who change the schema are not held up by what we have put there.
    db.run("drop function reactor.notify_policy() cascade; drop schema reactor; create table another (id int)").await;
}

#[tokio::test]
async fn a_decision_carries_the_version_that_it_was_made_of() {
    let (db, _) = Db::new(SQL).await;
    let mut readings = db.authorizer.watch("acme".parse().unwrap());
    let version = readings.next().await.unwrap();
    assert_eq!(db.allowed(request("postgres", "todos")).await.policy_version, version);
    db.run("alter policy p on todos using (id = 7)").await;
    db.settled().await;
    let next = db.allowed(request("postgres", "todos")).await.policy_version;
    assert_ne!(next, version);
}

#[tokio::test]
async fn the_watch_ends_with_the_server_and_can_be_had_again() {
    let server = Postgres::start().await.unwrap();
    let (db, _) = Db::on(&server, SQL).await;
    let mut readings = db.authorizer.watch("acme".parse().unwrap());
    assert!(readings.next().await.is_some());
    server.stop_fast().await.unwrap();
    let ended = async { while readings.next().await.is_some() {} };
    tokio::time::timeout(Duration::from_secs(10), ended).await.unwrap();
    server.start_again().await.unwrap();
    let again = async || Ok(db.authorizer.watch("acme".parse().unwrap()).next().await.is_some());
    wait::until(Duration::from_secs(20), "it is watched again", again).await.unwrap();
    assert!(db.authorizer.watch("other".parse().unwrap()).next().await.is_none());
}
