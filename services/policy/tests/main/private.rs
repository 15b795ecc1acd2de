//! Functions in schemas that the role may not use: a policy was read when it was made, so they need only be executable.

use reactor_policy_engine::{Authorizer as _, CheckedRow, CheckedValue};
use serde_json::json;

use crate::engine;
use crate::support::{ANN, AUTH, BOB, Db, Roles, With, request};

const SQL: &str = "
create schema private;
create type private.letter as enum ('x', 'y');
create table messages (id int primary key, room_id int, owner uuid, v text, letter private.letter);
create table members (id int primary key, room_id int, user_id uuid);
insert into messages values (1, 1, '00000000-0000-0000-0000-00000000000a', 'x', 'x'), (2, 2, null, 'y', 'y'),
                            (3, 3, '00000000-0000-0000-0000-00000000000b', 'x', null), (4, null, null, null, null);
insert into members values (1, 1, '00000000-0000-0000-0000-00000000000a'), (2, 2, '00000000-0000-0000-0000-00000000000b');
alter table messages enable row level security;
alter table members enable row level security;
create publication supabase_realtime for table messages, members;
create function private.me() returns uuid language sql stable as $$ select auth.uid() $$;
create function private.is_member(r int) returns bool language sql stable security definer set search_path = '' as
  $$ select exists (select 1 from public.members m where m.room_id = r and m.user_id = (select auth.uid())) $$;
create function private.my_rooms() returns setof int language sql stable security definer set search_path = '' as
  $$ select room_id from public.members where user_id = auth.uid() $$;
create function private.is_member_too(r int) returns bool language plpgsql stable security definer set search_path = '' as
  $$ begin return exists (select 1 from public.members m where m.room_id = r and m.user_id = auth.uid()); end $$;
create function private.is_letter(v text) returns bool language sql stable as $$ select v = 'x' $$;
create function private.nested(v text) returns bool language sql stable as $$ select private.is_letter(v) $$;
create function private.parsed(v text) returns bool language sql stable return private.is_letter(v);
create role {r}_user;
grant select on all tables in schema public to {r}_user;
";

async fn db(sql: &str) -> (Db, Roles) {
    Db::new(&format!("{AUTH}{SQL}{sql}")).await
}

/// What both see with this policy is what Postgres shows; whether a set was read and how many rows were asked about.
async fn seen(db: &Db, roles: &Roles, using: &str) -> (Vec<Vec<String>>, usize, usize) {
    db.run(&format!("drop policy if exists p on messages; create policy p on messages using ({using})")).await;
    let (mut all, mut sets, mut asked) = (Vec::new(), 0, 0);
    for sub in [ANN, BOB] {
        let ask = request(&roles.name("user"), "messages").with_claims(json!({"sub": sub}));
        let (seen, judged) = db.seen_as_in_postgres(ask).await;
        all.push(seen);
        sets += judged.sets;
        asked += judged.asked();
    }
    (all, sets, asked)
}

#[tokio::test]
async fn they_are_compiled() {
    let (db, roles) = db("").await;
    for (using, ann, bob) in [
        ("owner = private.me()", &["1"][..], &["3"][..]),
        ("owner = (select private.me())", &["1"], &["3"]),
        ("private.is_letter(v)", &["1", "3"], &["1", "3"]),
        ("private.parsed(v)", &["1", "3"], &["1", "3"]),
        ("letter = 'y'", &["2"], &["2"]),
    ] {
        let (all, sets, asked) = seen(&db, &roles, using).await;
        assert_eq!(all, [ann, bob], "{using}");
        assert_eq!((sets, asked), (0, 0), "{using}");
    }
}

#[tokio::test]
async fn they_look_rows_up() {
    let (db, roles) = db("").await;
    for using in ["private.is_member(room_id)", "room_id in (select private.my_rooms())"] {
        let (all, sets, asked) = seen(&db, &roles, using).await;
        assert_eq!(all, [["1"], ["2"]], "{using}");
        assert_eq!((sets, asked), (2, 0), "{using}");
    }
}

#[tokio::test]
async fn they_are_asked_about() {
    let (db, roles) = db("create policy own on members using (user_id = auth.uid());").await;
    for using in [
        "private.is_member_too(room_id)",
        "private.is_member_too(room_id) or private.is_member(room_id)",
        // What reads a table with policies of its own is read by Postgres again as the role.
        "private.is_member_too(room_id) and room_id in (select m.room_id from members m where length(m.user_id::text) > 1)",
    ] {
        let (all, _, asked) = seen(&db, &roles, using).await;
        assert_eq!((all, asked > 0), (vec![vec!["1".to_owned()], vec!["2".to_owned()]], true), "{using}");
    }
}

#[tokio::test]
async fn with_a_schema_of_its_own_in_the_search_path() {
    let (db, roles) = db("create schema {r}_user authorization {r}_user;").await;
    for using in
        ["private.is_member_too(room_id)", "private.is_member(room_id)", "room_id in (select private.my_rooms())"]
    {
        assert_eq!(seen(&db, &roles, using).await.0, [["1"], ["2"]], "{using}");
    }
    assert_eq!(seen(&db, &roles, "owner = private.me()").await.0, [["1"], ["3"]]);
}

#[tokio::test]
async fn what_their_texts_name_does_need_the_schema() {
    let (db, roles) = db("create policy p on messages using (private.nested(v));").await;
    let ask = || request(&roles.name("user"), "messages").with_claims(json!({"sub": ANN}));
    assert_eq!(db.shown(&ask()).await, None);
    assert_eq!(db.seen(ask()).await.0, [""; 0]);
    db.run(&format!("grant usage on schema private to {}", roles.name("user"))).await;
    db.settled().await;
    assert_eq!(db.seen_as_in_postgres(ask()).await.0, ["1", "3"]);
}

#[tokio::test]
async fn they_must_be_executable() {
    for (using, function) in [
        ("private.is_member(room_id)", "is_member(int)"),
        ("private.is_letter(v)", "is_letter(text)"),
        ("owner = private.me()", "me()"),
        ("private.is_member_too(room_id)", "is_member_too(int)"),
        ("room_id in (select private.my_rooms())", "my_rooms()"),
    ] {
        let sql = format!(
            "create policy p on messages using ({using}); revoke execute on function private.{function} from public;"
        );
        let (db, roles) = db(&sql).await;
        let ask = request(&roles.name("user"), "messages").with_claims(json!({"sub": ANN}));
        assert_eq!(db.shown(&ask).await, None, "{using}");
        assert_eq!(db.seen(ask).await.0, [""; 0], "{using}");
    }
}

#[tokio::test]
async fn what_is_asked_with_tables_that_have_policies_is_about_the_rows_values() {
    let (db, roles) = db("
        create policy own on members using (user_id = auth.uid());
        create policy p on messages using (private.is_member_too(room_id) and v = 'x'
            and room_id in (select m.room_id from members m where length(m.user_id::text) > 1));")
    .await;
    let principal = request(&roles.name("user"), "messages").with_claims(json!({"sub": ANN})).principal;
    let table = engine::Table::read(&engine::session(&db.url).await, "public", "messages").await;
    let check = async |change: &dyn Fn(&mut CheckedRow)| {
        let mut row = engine::row(&table.rows[0], true);
        change(&mut row);
        db.authorizer.check_rows(engine::check(&principal, &table.relation, vec![row])).await.unwrap()
    };
    let column = |name: &str| table.relation.column_index(name).unwrap();
    assert_eq!(check(&|_| {}).await, [true]);
    assert_eq!(
        check(&|row| row.values[column("owner")] = CheckedValue::Null).await,
        [true],
        "the policy does not read it"
    );
    assert_eq!(
        check(&|row| row.values[column("v")] = CheckedValue::Missing).await,
        [true],
        "what is there now decides"
    );
    assert_eq!(check(&|row| row.values[column("v")] = CheckedValue::Text("y".to_owned())).await, [false]);
    assert_eq!(check(&|row| row.values[column("room_id")] = CheckedValue::Null).await, [false]);
    assert_eq!(check(&|row| row.must_exist = false).await, [false], "nobody can tell");
}
