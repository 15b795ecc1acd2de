//! Policies as a real Postgres prints them, and what they are compiled to.

// All of this is test code, also outside of `#[test]` functions.
#![allow(clippy::unwrap_used, clippy::panic)]

mod catalog;

use catalog::Catalog;
use reactor_policy_engine::{BoundValue, Comparator, MemberMode, Predicate, Scalar, Template};

const SCHEMA: &str = r#"
create type mood as enum ('sad', 'happy');
create table rooms (id bigint primary key, owner uuid);
create table members (id bigint primary key, room_id bigint, user_id uuid, level int, kind varchar(20));
create table docs (
    id bigint primary key, user_id uuid, room_id bigint, title text, kind varchar(20), m mood, public boolean, meta jsonb,
    at timestamptz, amount numeric(10,2), tags text[], readers uuid[], "Odd" int,
    word text collate "en-x-icu");
create publication supabase_realtime for table rooms, members, docs;
create schema private;
create function private.is_member(room bigint) returns boolean language sql stable security definer set search_path = public as
    $$ select exists (select 1 from members m where m.room_id = room and m.user_id = (select auth.uid())) $$;
create function private.my_rooms() returns setof bigint language sql stable security definer set search_path = '' as
    $$ select room_id from public.members where user_id = auth.uid() $$;
create function private.owns(who uuid) returns boolean language sql stable return who = auth.uid();
create function private.is_kind(doc_kind text) returns boolean language sql immutable
    begin atomic select doc_kind = any (array['a', 'b']); end;
create function private.by_hand(a int) returns boolean language plpgsql as $$ begin return a = 1; end $$;
grant usage on schema private to authenticated;
grant select on all tables in schema public to authenticated;
alter table members enable row level security;
create policy own on members to authenticated using (user_id = auth.uid());
"#;

struct Db(Catalog);

impl Db {
    async fn new() -> Self {
        Self(Catalog::new(SCHEMA).await)
    }

    async fn compile(&self, using: &str) -> Template {
        self.0.compile("docs", using).await
    }

    /// The whole predicate is judged outside Postgres, with these bindings and sets (as `table(keys)`).
    async fn check(&self, using: &str, bindings: &[&str], sets: &[&str]) -> Predicate {
        let template = self.compile(using).await;
        assert!(!asks(&template.predicate), "{using}: {:?}", template.predicate);
        let found: Vec<&str> = template.bindings.iter().map(|binding| binding.sql.as_str()).collect();
        assert_eq!(found, bindings, "{using}");
        let found: Vec<String> =
            template.sets.iter().map(|set| format!("{}({})", set.set.table, set.set.keys.join(","))).collect();
        assert_eq!(found, sets, "{using}");
        self.0.try_bindings_and_sets(&template).await;
        template.predicate
    }

    async fn asks(&self, using: &str) {
        let template = self.compile(using).await;
        assert!(asks(&template.predicate), "{using}: {:?}", template.predicate);
    }
}

fn asks(predicate: &Predicate) -> bool {
    match predicate {
        Predicate::Ask => true,
        Predicate::And(parts) | Predicate::Or(parts) => parts.iter().any(asks),
        Predicate::Not(operand) | Predicate::Is { operand, .. } => asks(operand),
        _ => false,
    }
}

const UID: &str = "(SELECT auth.uid() AS uid)";

/// In one database, since roles are those of the whole server.
#[tokio::test]
async fn policies_as_postgres_prints_them() {
    let db = Db::new().await;
    comparisons_as_postgres_prints_them(&db).await;
    claims_are_bound_as_a_whole(&db).await;
    subqueries_are_sets(&db).await;
    the_rest_is_left_to_postgres(&db).await;
}

async fn comparisons_as_postgres_prints_them(db: &Db) {
    let column = |name: &str, type_oid| Scalar::Column { name: name.to_owned(), type_oid };
    let owned = db.check("(select auth.uid()) = user_id", &[UID], &[]).await;
    let uuid = 2950;
    let (left, right) = (Scalar::Bound { index: 0, type_oid: uuid }, column("user_id", uuid));
    assert_eq!(owned, Predicate::Compare { operator: Comparator::Eq, left, right });
    for using in [
        "title = 'a' and \"Odd\" = 5 and id > 5000000000 and id <> -1",
        "kind = 'a' or kind in ('b', 'c') or public",
        "title like 'a%' or title not ilike '%b' or kind like 'c'",
        "coalesce(public, false) is not true",
        "lower(title) = upper(kind) or title || '-' || kind = 'a-b'",
        "meta ->> 'a' = 'b' or meta -> 'a' ->> 0 = 'c' or (meta -> 'n') is null",
        "(meta ->> 'n')::int between 1 and 5",
        "title is distinct from 'x' and not (user_id is null) and (public and public) is not unknown",
        "case when public then true when kind = 'a' then \"Odd\" = 1 else user_id is not null end",
        "\"Odd\" = id and \"Odd\"::bigint < id",
    ] {
        let template = db.compile(using).await;
        assert!(!asks(&template.predicate), "{using}: {:?}", template.predicate);
        db.0.try_bindings_and_sets(&template).await;
    }
    db.check("m = 'happy'", &["'happy'::public.mood"], &[]).await;
    db.check("m in ('happy', 'sad')", &["ARRAY[('happy'::public.mood), ('sad'::public.mood)]"], &[]).await;
    db.check("amount > 1.5 and amount <> 3", &["1.5"], &[]).await;
    db.check("meta #>> '{a,b}' = 'x'", &["'{a,b}'::text[]"], &[]).await;
    db.check("at < '2030-01-01'", &["'2030-01-01 00:00:00+00'::timestamp with time zone"], &[]).await;
    db.check("auth.uid() = any (readers)", &["auth.uid()"], &[]).await;
}

async fn claims_are_bound_as_a_whole(db: &Db) {
    db.check("auth.role() = 'authenticated'", &["auth.role() = ('authenticated'::text)"], &[]).await;
    db.check(
        "user_id = ((auth.jwt() -> 'app_metadata' ->> 'org')::uuid)",
        &["((auth.jwt() -> ('app_metadata'::text)) ->> ('org'::text))::uuid"],
        &[],
    )
    .await;
    db.check(
        "user_id::text = current_setting('request.jwt.claims', true)::json ->> 'sub'",
        &["(pg_catalog.current_setting(('request.jwt.claims'::text), true)::json) ->> ('sub'::text)"],
        &[],
    )
    .await;
    db.check("current_user = 'authenticated' and public", &["current_user = ('authenticated'::name)"], &[]).await;
    for using in [
        "room_id = any (array(select jsonb_array_elements_text(auth.jwt() -> 'rooms')::bigint))",
        "room_id in (select jsonb_array_elements_text(auth.jwt() -> 'rooms')::bigint)",
        "room_id in (select value::bigint from jsonb_array_elements_text(auth.jwt() -> 'rooms'))",
        "title = any (string_to_array(auth.jwt() ->> 'titles', ','))",
        "title = (auth.jwt() ->> 'a') || '-' || coalesce(auth.email(), 'nobody')",
    ] {
        let template = db.compile(using).await;
        assert_eq!((template.bindings.len(), asks(&template.predicate)), (1, false), "{using}: {template:?}");
        db.0.try_bindings_and_sets(&template).await;
    }
}

async fn subqueries_are_sets(db: &Db) {
    let exists = "exists (select 1 from members m where m.room_id = docs.room_id and m.user_id = auth.uid())";
    let member = |mode, column: &str| Predicate::Member {
        set: 0,
        values: vec![Scalar::Column { name: column.to_owned(), type_oid: 20 }],
        mode,
    };
    // The table has a policy of its own, which reads the same binding.
    assert_eq!(db.check(exists, &["auth.uid()"], &["members(room_id)"]).await, member(MemberMode::Exists, "room_id"));
    let found =
        db.check("room_id in (select room_id from members where level > 2)", &["auth.uid()"], &["members(room_id)"]);
    assert_eq!(found.await, member(MemberMode::Exists, "room_id"));
    let found = db.check("id not in (select id from rooms)", &[], &["rooms(id)"]).await;
    assert_eq!(found, Predicate::Not(Box::new(member(MemberMode::In, "id"))));
    db.check("auth.uid() in (select owner from rooms where rooms.id = room_id)", &["auth.uid()"], &["rooms(id)"]).await;
    db.check("exists (select from members where kind = docs.kind limit 1)", &["auth.uid()"], &["members(kind)"]).await;
    db.check("private.is_member(room_id)", &["(SELECT auth.uid())"], &["members(room_id)"]).await;
    db.check("room_id in (select private.my_rooms())", &["auth.uid()"], &["members(room_id)"]).await;
    db.check("room_id = any (select private.my_rooms())", &["auth.uid()"], &["members(room_id)"]).await;
    db.check(
        "private.owns(user_id) and private.is_kind(kind)",
        &["auth.uid()", "ARRAY[('a'::text), ('b'::text)]"],
        &[],
    )
    .await;
    let template = db.compile("private.is_member(room_id)").await;
    let bound = template.bind(&[BoundValue::Value(None)], String::new);
    assert_eq!(bound.predicate, Predicate::Const(reactor_model::filter::Truth::False));
}

async fn the_rest_is_left_to_postgres(db: &Db) {
    for using in [
        "word < 'b'",
        "at > now()",
        "at > now() at time zone 'utc'",
        "title ~ '^a'",
        "title = 'a' collate \"C\" and length(title) = 1",
        "private.by_hand(\"Odd\")",
        "tags && array['a']",
        "tags @> array['a']",
        "extract(year from at) = 2020",
        "docs is not null",
        "(select level from members where user_id = auth.uid()) > 2",
        "exists (select 1 from members m join rooms r on r.id = m.room_id where r.id = docs.room_id)",
        "exists (select 1 from docs d where d.id = docs.room_id)",
        "exists (select 1 from members m where m.level > docs.\"Odd\")",
        "room_id in (select room_id from members union select id from rooms)",
        "title = any (select kind from members order by 1)",
        "(user_id, room_id) in (select user_id, room_id from members)",
        "amount + 1 > 2",
    ] {
        db.asks(using).await;
    }
}
