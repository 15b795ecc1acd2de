//! Which policies apply to whom, and what they are bound to, against what Postgres itself shows.

use reactor_model::filter::Truth;
use reactor_policy_engine::{Predicate, RowPolicy};
use serde_json::json;

use crate::support::{ANN, AUTH, BOB, Db, With, request};

const SQL: &str = "
create table todos (id int primary key, owner uuid, org text, done bool not null default false, v text);
insert into todos values (1, '00000000-0000-0000-0000-00000000000a', 'x', false, 'one'),
                         (2, '00000000-0000-0000-0000-00000000000b', 'x', true, 'two'),
                         (3, '00000000-0000-0000-0000-00000000000a', 'y', true, 'three'),
                         (4, null, null, false, null);
alter table todos enable row level security;
create publication supabase_realtime for table todos;
create role {r}_user;
create role {r}_group;
create role {r}_member in role {r}_group;
create role {r}_apart noinherit in role {r}_group;
create role {r}_above bypassrls;
create role {r}_owner;
alter table todos owner to {r}_owner;
grant usage on schema public to {r}_user, {r}_group, {r}_apart, {r}_above, {r}_owner;
grant select on todos to {r}_user, {r}_group, {r}_apart, {r}_above;
";

async fn db(sql: &str) -> (Db, crate::support::Roles) {
    Db::new(&format!("{AUTH}{SQL}{sql}")).await
}

#[tokio::test]
async fn a_table_without_policies_shows_nothing() {
    let (db, roles) = db("").await;
    let grant = db.allowed(request(&roles.name("user"), "todos")).await;
    assert_eq!(grant.policy.predicate, Predicate::Const(Truth::False));
    assert!(grant.row_security && !grant.asks_postgres);
    db.seen_as_in_postgres(request(&roles.name("user"), "todos")).await;
}

#[tokio::test]
async fn those_above_row_security_see_everything() {
    let (db, roles) = db("create policy none on todos using (false);").await;
    for role in [roles.name("above"), roles.name("owner"), "postgres".to_owned()] {
        let grant = db.allowed(request(&role, "todos")).await;
        assert_eq!(grant.policy, RowPolicy::everything(), "{role}");
        assert!(!grant.asks_postgres);
    }
    db.run("alter table todos force row level security").await;
    assert_eq!(db.seen_as_in_postgres(request(&roles.name("owner"), "todos")).await.0, [""; 0]);
    assert_eq!(db.seen_as_in_postgres(request(&roles.name("above"), "todos")).await.0.len(), 4);
    db.run("alter table todos disable row level security").await;
    let grant = db.allowed(request(&roles.name("user"), "todos")).await;
    assert_eq!((grant.policy, grant.row_security), (RowPolicy::everything(), false));
}

#[tokio::test]
async fn policies_are_for_roles_that_one_has_the_rights_of() {
    let (db, roles) = db("
        create policy a on todos for select to {r}_group using (org = 'x');
        create policy b on todos for all using (id = 4);
        create policy c on todos for update using (true);
        create policy d on todos for insert with check (true);
        create policy e on todos for all to {r}_user with check (true);")
    .await;
    for (role, expected) in
        [("user", &["4"][..]), ("group", &["1", "2", "4"]), ("member", &["1", "2", "4"]), ("apart", &["4"])]
    {
        let (seen, judged) = db.seen_as_in_postgres(request(&roles.name(role), "todos")).await;
        assert_eq!(seen, expected, "{role}");
        assert!(!judged.may_ask);
    }
    // A role that the database does not have: by permission alone, with the policies for everyone.
    let nobody = request("nobody_at_all", "todos").with_permission("data:todos:read");
    assert_eq!(db.seen(nobody).await.0, ["4"]);
}

#[tokio::test]
async fn permissive_ones_are_alternatives_and_restrictive_ones_all_hold() {
    let (db, roles) = db("
        create policy mine on todos using ((select auth.uid()) = owner);
        create policy shared on todos using (org = auth.jwt() -> 'app' ->> 'org');
        create policy narrow on todos as restrictive using (done);
        create policy narrower on todos as restrictive to {r}_group using (id < 3);")
    .await;
    let ask = async |role: &str, sub: &str, org: &str| {
        let claims = json!({"sub": sub, "role": role, "app": {"org": org}});
        db.seen_as_in_postgres(request(&roles.name(role), "todos").with_claims(claims)).await.0
    };
    assert_eq!(ask("user", ANN, "x").await, ["2", "3"]);
    assert_eq!(ask("user", BOB, "none").await, ["2"]);
    assert_eq!(ask("member", ANN, "x").await, ["2"]);
    assert_eq!(ask("member", ANN, "y").await, [""; 0]);
}

#[tokio::test]
async fn what_raises_for_some_claims_denies_only_what_it_is_in() {
    let (db, roles) = db("
        create policy later on todos using (owner = auth.uid());
        create policy open on todos using (id = 4);")
    .await;
    let bad = request(&roles.name("user"), "todos").with_claims(json!({"sub": "not a uuid"}));
    assert_eq!(db.shown(&bad).await, None, "Postgres itself cannot even make a plan");
    let (seen, judged) = db.seen(bad).await;
    assert_eq!((seen, judged.asked()), (vec!["4".to_owned()], 0), "{judged:?}");
    let good = request(&roles.name("user"), "todos").with_claims(json!({"sub": ANN}));
    assert_eq!(db.seen_as_in_postgres(good).await.0, ["1", "3", "4"]);
}

#[tokio::test]
async fn a_function_is_followed_as_the_database_has_it() {
    let (db, roles) = db("create policy mine on todos using (owner = auth.uid());").await;
    let ask = async || {
        let claims = json!({"sub": ANN, "other": BOB});
        db.seen_as_in_postgres(request(&roles.name("user"), "todos").with_claims(claims)).await.0
    };
    assert_eq!(ask().await, ["1", "3"]);
    db.run(
        "create or replace function auth.uid() returns uuid language sql stable as
            $$ select (auth.jwt() ->> 'other')::uuid $$",
    )
    .await;
    db.settled().await;
    assert_eq!(ask().await, ["2"]);
    db.run(
        "create or replace function auth.uid() returns uuid language plpgsql stable as
            $$ begin return (auth.jwt() ->> 'sub')::uuid; end $$",
    )
    .await;
    db.settled().await;
    assert_eq!(ask().await, ["1", "3"], "what cannot be followed is asked of Postgres");
}

#[tokio::test]
async fn functions_of_a_schema_that_the_role_may_not_use() {
    let (db, roles) = db("
        create schema hidden;
        create function hidden.is_open(todos) returns bool language sql stable security definer as $$ select not $1.done $$;
        create policy open on todos using (hidden.is_open(todos));")
    .await;
    let (seen, judged) = db.seen_as_in_postgres(request(&roles.name("user"), "todos")).await;
    assert_eq!(seen, ["1", "4"], "as a policy, which was read when it was made: {judged:?}");
}

#[tokio::test]
async fn partitions_are_judged_by_the_policies_of_their_root() {
    let (db, roles) = db("
        create table parts (id int primary key, v text) partition by range (id);
        create table low partition of parts for values from (0) to (10);
        create table high partition of parts for values from (10) to (20);
        insert into parts values (1, 'a'), (2, 'b'), (11, 'a');
        alter publication supabase_realtime add table parts;
        alter table parts enable row level security;
        create policy p on parts using (v = 'a');
        grant select on parts to {r}_user;")
    .await;
    assert_eq!(db.seen_as_in_postgres(request(&roles.name("user"), "parts")).await.0, ["1", "11"]);
}

#[tokio::test]
async fn names_without_a_schema_are_found_as_in_a_session_of_the_role() {
    let (db, roles) = db("
        create schema app;
        create function app.least_id() returns int language sql stable as $$ select 2 $$;
        create function public.least_id() returns int language sql stable as $$ select 4 $$;
        create function public.enough(int) returns bool language sql stable as $$ select $1 >= least_id() $$;
        create policy p on todos using (enough(id));
        grant usage on schema app to {r}_user, {r}_group;
        alter role {r}_group set search_path = app, public;")
    .await;
    assert_eq!(db.seen_as_in_postgres(request(&roles.name("user"), "todos")).await.0, ["4"]);
    let (seen, _) = db.seen(request(&roles.name("group"), "todos")).await;
    assert_eq!(seen, ["2", "3", "4"]);
}

#[tokio::test]
async fn a_role_that_may_not_be_acted_as_is_said() {
    let (db, roles) = db("
        create policy mine on todos using (owner = auth.uid());
        create role {r}_service login;
        grant {r}_user to {r}_service;")
    .await;
    let service = roles.name("service");
    let mut settings = crate::support::settings(&db.url);
    let url = db.url.replace("postgres@", &format!("{service}@"));
    settings.target = reactor_pg::PgTarget::parse(&url).unwrap();
    assert_eq!(settings.target.user(), service);
    let authorizer = reactor_policy::PostgresAuthorizer::new(settings, &reactor_runtime::Registry::new());
    let limited = Db { url: db.url.clone(), client: db.client, authorizer, registry: reactor_runtime::Registry::new() };
    let denial = limited.denied(request(&roles.name("group"), "todos")).await;
    assert_eq!(denial.code, reactor_model::Code::RoleUnusable);
    assert_eq!(denial.hint, format!("GRANT {} TO {service}", roles.name("group")));
    let claims = json!({"sub": BOB});
    assert_eq!(limited.seen(request(&roles.name("user"), "todos").with_claims(claims)).await.0, ["2"]);
}

#[tokio::test]
async fn values_beside_texts_are_texts() {
    let (db, roles) = db("").await;
    for (using, ids) in [("'n:' || id = 'n:2'", &["2"][..]), ("v || ':' || owner = 'one:' || auth.uid()", &["1"])] {
        db.run(&format!("drop policy if exists p on todos; create policy p on todos using ({using})")).await;
        let ask = request(&roles.name("user"), "todos").with_claims(json!({"sub": ANN}));
        let (seen, judged) = db.seen_as_in_postgres(ask).await;
        assert_eq!((seen, judged.asked()), (ids.iter().map(|id| (*id).to_owned()).collect(), 0), "{using}");
    }
}
