//! Sets that policies look rows up in.

use reactor_policy_engine::{Authorizer as _, Grant, MemberRow, Members, MembersRequest};
use serde_json::json;

use crate::support::{ANN, AUTH, BOB, Db, Roles, With, request};

const SQL: &str = "
create table rooms (id int primary key, name text);
create table members (room_id int, user_id uuid, muted bool not null default false, primary key (room_id, user_id));
create table messages (id int primary key, room_id int, v text);
insert into rooms values (1, 'a'), (2, 'b');
insert into members values (1, '00000000-0000-0000-0000-00000000000a', false),
                           (2, '00000000-0000-0000-0000-00000000000a', true),
                           (2, '00000000-0000-0000-0000-00000000000b', false);
insert into messages values (1, 1, 'x'), (2, 2, 'y'), (3, 3, 'z'), (4, null, 'n');
alter table messages enable row level security;
create publication supabase_realtime for table rooms, members, messages;
create role {r}_user;
grant select on all tables in schema public to {r}_user;
";

async fn db(sql: &str) -> (Db, Roles) {
    Db::new(&format!("{AUTH}{SQL}{sql}")).await
}

const EXISTS: &str = "create policy member on messages using (exists (
    select 1 from members m where m.room_id = messages.room_id and m.user_id = auth.uid()));";

fn members_request(grant: &Grant, ask: &reactor_policy_engine::AuthorizeRequest) -> MembersRequest {
    MembersRequest {
        tenant: ask.tenant.clone(),
        principal: ask.principal.clone(),
        schema: ask.schema.clone(),
        table: ask.table.clone(),
        set: grant.policy.sets[0].clone(),
    }
}

#[tokio::test]
async fn memberships_are_read_as_the_role_with_its_claims() {
    let (db, roles) = db(EXISTS).await;
    for (sub, expected) in [(ANN, &["1", "2"][..]), (BOB, &["2"])] {
        let ask = request(&roles.name("user"), "messages").with_claims(json!({"sub": sub}));
        let (seen, judged) = db.seen_as_in_postgres(ask.clone()).await;
        assert_eq!(seen, expected);
        assert_eq!((judged.sets, judged.asked()), (1, 0), "{judged:?}");
        let grant = db.allowed(ask.clone()).await;
        let Members::Rows(rows) = db.authorizer.members(members_request(&grant, &ask)).await.unwrap() else {
            panic!("the set is there");
        };
        let rooms: Vec<_> = rows.iter().map(|row: &MemberRow| (row.keys.clone(), row.identity[1].clone())).collect();
        assert_eq!(rooms.len(), expected.len());
        assert!(rooms.iter().all(|(keys, user)| keys.len() == 1 && user.as_deref() == Some(sub)), "{rooms:?}");
    }
}

#[tokio::test]
async fn other_forms_of_membership() {
    let forms = [
        "room_id in (select room_id from members where user_id = (select auth.uid()) and not muted)",
        "room_id not in (select room_id from members where user_id = auth.uid())",
        "exists (select from members m where m.user_id = auth.uid() and m.muted)",
        "room_id = any (select room_id from members where user_id = auth.uid())",
        "room_id in (select room_id from members where user_id = auth.uid()) or v = 'n'",
    ];
    let (db, roles) = db("").await;
    for form in forms {
        db.run(&format!("drop policy if exists p on messages; create policy p on messages using ({form})")).await;
        for sub in [ANN, BOB] {
            let ask = request(&roles.name("user"), "messages").with_claims(json!({"sub": sub}));
            db.seen_as_in_postgres(ask).await;
        }
    }
}

#[tokio::test]
async fn the_sets_own_policies_count_and_what_is_not_published_is_asked() {
    let (db, roles) = db(EXISTS).await;
    let ask = || request(&roles.name("user"), "messages").with_claims(json!({"sub": ANN}));
    db.run("alter table members enable row level security").await;
    db.settled().await;
    assert_eq!(db.seen_as_in_postgres(ask()).await.0, [""; 0]);
    db.run("create policy own on members using (user_id = auth.uid() and not muted)").await;
    db.settled().await;
    assert_eq!(db.seen_as_in_postgres(ask()).await.0, ["1"]);
    db.run("alter publication supabase_realtime drop table members").await;
    db.settled().await;
    let (seen, judged) = db.seen_as_in_postgres(ask()).await;
    assert_eq!((seen, judged.sets, judged.asked()), (vec!["1".to_owned()], 0, 4));
    db.run(&format!("revoke select on members from {}", roles.name("user"))).await;
    db.settled().await;
    assert_eq!(db.shown(&ask()).await, None, "Postgres raises");
    assert_eq!(db.seen(ask()).await.0, [""; 0]);
}

#[tokio::test]
async fn functions_of_another_owner_read_as_the_owner() {
    let (db, roles) = db("
        create function is_member(room int) returns bool language sql stable security definer set search_path = public as
            $$ select exists (select 1 from members m where m.room_id = room and m.user_id = auth.uid()) $$;
        create policy member on messages using (is_member(room_id));
        revoke select on members from {r}_user;
        alter table members enable row level security;")
    .await;
    let ask = request(&roles.name("user"), "messages").with_claims(json!({"sub": ANN}));
    let (seen, judged) = db.seen_as_in_postgres(ask).await;
    assert_eq!(seen, ["1", "2"], "{judged:?}");
}

#[tokio::test]
async fn a_set_that_is_gone_or_too_large() {
    let (db, roles) = db(EXISTS).await;
    let ask = request(&roles.name("user"), "messages").with_claims(json!({"sub": ANN}));
    let grant = db.allowed(ask.clone()).await;
    let asked = members_request(&grant, &ask);
    let mut other = asked.clone();
    other.set.id = "other".into();
    assert_eq!(db.authorizer.members(other).await.unwrap(), Members::Changed);
    db.run(&format!("insert into members select generate_series(10, 50020), '{ANN}'")).await;
    assert_eq!(db.authorizer.members(asked.clone()).await.unwrap(), Members::TooMany);
    db.run("drop policy member on messages").await;
    assert_eq!(db.authorizer.members(asked).await.unwrap(), Members::Changed);
}

#[tokio::test]
async fn a_set_of_few_rows_that_are_long() {
    let (db, roles) = db("
        create table names (id int primary key, name text);
        insert into names select i, repeat('x', 1000000) || i from generate_series(1, 32) i;
        alter publication supabase_realtime add table names;
        grant select on names to {r}_user;
        create policy named on messages using (exists (select from names n where n.name = v));")
    .await;
    let ask = request(&roles.name("user"), "messages");
    let asked = members_request(&db.allowed(ask.clone()).await, &ask);
    let Members::Rows(rows) = db.authorizer.members(asked.clone()).await.unwrap() else { panic!("they can be kept") };
    assert_eq!(rows.len(), 32);
    assert!(rows.iter().all(|row| row.keys[0].as_ref().is_some_and(|name| name.len() > 1_000_000)));
    db.run("insert into names select i, repeat('x', 1000000) || i from generate_series(33, 34) i").await;
    assert_eq!(db.authorizer.members(asked).await.unwrap(), Members::TooMany);
    db.run("insert into messages values (5, 5, repeat('x', 1000000) || 7)").await;
    assert_eq!(db.seen_as_in_postgres(ask).await.0, ["5"]);
}
