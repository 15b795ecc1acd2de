//! What takes too long while a policy is compiled: there is no answer, and nothing of it is kept.

use std::time::Duration;

use reactor_policy_engine::{Authorizer as _, AuthorizerError};
use reactor_runtime::PolicyRule;
use reactor_testkit::Postgres;

use crate::support::{Db, Roles, request};

const SQL: &str = "
create type mood as enum ('sad', 'happy');
create schema app;
create table todos (id int primary key, mood mood, v text);
insert into todos values (1, 'sad', 'x'), (2, 'happy', 'y');
alter table todos enable row level security;
create publication supabase_realtime for table todos;
create role {r}_first;
create role {r}_user;
grant select on todos to {r}_first, {r}_user;
alter role {r}_user set search_path = app, public;
create function slow() returns bool language plpgsql immutable as $$ begin perform pg_sleep(30); return true; end $$;
";

async fn db(sql: &str, rule: Option<&str>) -> (Db, Roles) {
    let server = Postgres::shared().await.unwrap();
    Db::with(server, &format!("{SQL}{sql}"), |settings| {
        settings.query_deadline = Duration::from_millis(400);
        // What both roles need of the table is read for the first one.
        settings.catalog_cache = Duration::from_secs(60);
        let of =
            |using: &str| PolicyRule { role: None, schema: None, table: "todos".into(), using: Some(using.into()) };
        settings.rules = rule.map(of).into_iter().collect();
    })
    .await
}

async fn is_timeout(db: &Db, roles: &Roles) -> bool {
    matches!(db.authorizer.authorize(request(&roles.name("user"), "todos")).await, Err(AuthorizerError::Timeout))
}

#[tokio::test]
async fn what_the_catalog_did_not_say_in_time_is_asked_again() {
    for (policy, locked) in [
        ("mood = 'sad'::mood", "pg_type"),
        ("v = pg_catalog.reverse('x'::text)", "pg_type"),
        ("v = 'x'", "pg_namespace"),
    ] {
        let (db, roles) = db(&format!("create policy p on todos using ({policy});"), None).await;
        db.settled().await;
        db.allowed(request(&roles.name("first"), "todos")).await;
        let lock = format!("begin; lock table pg_catalog.{locked} in access exclusive mode");
        db.client.batch_execute(&lock).await.unwrap();
        assert!(is_timeout(&db, &roles).await, "{policy}");
        db.client.batch_execute("rollback").await.unwrap();
        let (seen, judged) = db.seen_as_in_postgres(request(&roles.name("user"), "todos")).await;
        assert_eq!((seen, judged.asked()), (vec!["1".to_owned()], 0), "{policy}");
    }
}

#[tokio::test]
async fn a_rule_that_was_not_tried_in_time_is_not_taken_for_a_good_one() {
    let (db, roles) = db("alter table todos disable row level security;", Some("slow() and v = 'x'")).await;
    assert!(is_timeout(&db, &roles).await);
    db.run("create or replace function slow() returns bool language plpgsql immutable as $$ begin return true; end $$")
        .await;
    db.settled().await;
    assert_eq!(db.seen(request(&roles.name("user"), "todos")).await.0, ["1"]);
}
