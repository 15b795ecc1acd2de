//! Private channels: rights by the policies of `realtime.messages`, what was sent there, and which tables are published.

use reactor_policy_engine::{
    Authorizer, ChannelAccess, ChannelRequest, PersistRequest, Principal, PublishedTable, ReplayRequest, StoredMessage,
    StoredPayload, TablesRequest,
};

use crate::support::{Db, Roles};

const SQL: &str = "
create role {r}_user; create role {r}_nobody; create schema realtime; create schema auth;
create function realtime.topic() returns text language sql stable as $$ select nullif(current_setting('realtime.topic', true), '') $$;
create function auth.uid() returns text language sql stable as $$ select current_setting('request.jwt.claim.sub', true) $$;
create table realtime.messages (
    topic text not null, extension text not null, payload jsonb, event text, private boolean default false,
    inserted_at timestamp not null default (clock_timestamp() at time zone 'utc'),
    id uuid not null default gen_random_uuid(), binary_payload bytea, skip_broadcast boolean not null default false);
alter table realtime.messages enable row level security;
create table public.members (topic text, who text);
grant usage on schema realtime, auth to {r}_user;
grant select, insert on realtime.messages to {r}_user;
grant select on public.members to {r}_user;
create policy readers on realtime.messages for select to {r}_user using (
    exists (select from public.members m where m.topic = realtime.topic() and m.who = auth.uid()) and extension = 'broadcast');
create policy writers on realtime.messages for insert to {r}_user with check (
    realtime.topic() = 'open' and (current_setting('request.headers', true)::json ->> 'x-may') = extension);
create policy raises on realtime.messages for select to {r}_user using (realtime.topic() <> 'broken' or 1 / (length(topic) - 6) = 1);
insert into public.members values ('room', 'u'), ('broken', 'u');
create publication supabase_realtime for table public.members;
";

async fn rights(db: &Db, roles: &Roles, role: &str, topic: &str, headers: &str) -> [bool; 4] {
    let principal =
        Principal { role: roles.name(role), permissions: [].into(), claims_json: r#"{"sub":"u"}"#.to_owned() };
    let tenant = "acme".parse().unwrap();
    let request = ChannelRequest { tenant, principal, topic: topic.to_owned(), headers_json: headers.to_owned() };
    let rights = db.authorizer.channel_rights(request).await.unwrap();
    let of = |access: ChannelAccess| [access.read, access.write];
    [of(rights.broadcast), of(rights.presence)].concat().try_into().unwrap()
}

#[tokio::test]
async fn rights_are_those_of_the_policies_and_nothing_is_left_behind() {
    let (db, roles) = Db::new(SQL).await;
    db.client.batch_execute("drop policy raises on realtime.messages").await.unwrap();
    let none = [false; 4];
    assert_eq!(rights(&db, &roles, "user", "room", "{}").await, [true, false, false, false]);
    assert_eq!(rights(&db, &roles, "user", "other", "{}").await, none);
    assert_eq!(rights(&db, &roles, "user", "open", r#"{"x-may":"presence"}"#).await, [false, false, false, true]);
    assert_eq!(rights(&db, &roles, "nobody", "room", "{}").await, none, "it may not read the table");
    assert_eq!(rights(&db, &roles, "missing", "room", "{}").await, none, "there is no such role");
    assert_eq!(rights(&db, &roles, "user", "a\0b", "{}").await, none);
    let rows = db.client.query_one("select count(*) from realtime.messages", &[]).await.unwrap();
    assert_eq!(rows.get::<_, i64>(0), 0);
    // Whoever becomes a member may read at once.
    db.client.batch_execute("insert into public.members values ('other', 'u')").await.unwrap();
    assert_eq!(rights(&db, &roles, "user", "other", "{}").await, [true, false, false, false]);
}

#[tokio::test]
async fn a_policy_that_raises_gives_nothing_and_holds_up_nobody() {
    let (db, roles) = Db::new(SQL).await;
    assert_eq!(rights(&db, &roles, "user", "broken", "{}").await, [false; 4]);
    assert_eq!(rights(&db, &roles, "user", "open", r#"{"x-may":"broadcast"}"#).await, [true, true, true, false]);
}

#[tokio::test]
async fn names_without_a_schema_are_found_as_in_a_session_of_the_role() {
    let (db, roles) = Db::new(SQL).await;
    let database = roles.name("user").trim_end_matches("_user").to_owned();
    let sql = "drop policy raises on realtime.messages;
        create schema app;
        create table app.members (topic text, who text);
        insert into app.members values ('app', 'u');
        create function public.is_member() returns bool language sql stable as
            $$ select exists (select from members where topic = realtime.topic()) $$;
        alter policy readers on realtime.messages using (public.is_member() and extension = 'broadcast');
        grant usage on schema app to {user};
        grant select on app.members to {user}";
    db.client.batch_execute(&sql.replace("{user}", &roles.name("user"))).await.unwrap();
    let (none, read) = ([false; 4], [true, false, false, false]);
    assert_eq!(rights(&db, &roles, "user", "app", "{}").await, none);
    for (set, reset) in [
        (format!("alter database {database} set search_path = app"), format!("alter database {database} reset all")),
        (
            format!("alter role {} in database {database} set search_path = app", roles.name("user")),
            format!("alter role {} in database {database} reset all", roles.name("user")),
        ),
        (
            format!("alter role {} set search_path = app", roles.name("user")),
            format!("alter role {} reset all", roles.name("user")),
        ),
    ] {
        db.run(&set).await;
        assert_eq!(rights(&db, &roles, "user", "app", "{}").await, read, "{set}");
        db.run(&reset).await;
        assert_eq!(rights(&db, &roles, "user", "app", "{}").await, none, "{reset}");
    }
}

#[tokio::test]
async fn the_newest_messages_are_read_oldest_first() {
    let (db, _) = Db::new(SQL).await;
    let sql = "begin;
        insert into realtime.messages (topic, extension, event, private, payload) select 'room', 'broadcast', 'e' || i, true, '{}' from generate_series(1, 5) i;
        insert into realtime.messages (topic, extension, event, private, binary_payload) values ('room', 'broadcast', 'bytes', true, '\\x0102');
        insert into realtime.messages (topic, extension, event, private, payload) values ('room', 'broadcast', 'public', false, '{}'), ('other', 'broadcast', 'o', true, '{}');
        commit";
    db.client.batch_execute(sql).await.unwrap();
    let now = reactor_runtime::clock::unix_micros() / 1000;
    let read = async |since_ms, limit| {
        let request = ReplayRequest { tenant: "acme".parse().unwrap(), topic: "room".to_owned(), since_ms, limit };
        db.authorizer.replay(request).await.unwrap()
    };
    let messages = read(now - 60_000, 3).await;
    let events: Vec<&str> = messages.iter().map(|message| message.event.as_str()).collect();
    assert_eq!(events, ["e4", "e5", "bytes"]);
    assert_eq!(messages[2].payload, StoredPayload::Binary(vec![1, 2]));
    assert_eq!(messages[0].payload, StoredPayload::Json("{}".to_owned()));
    assert_eq!(read(now + 60_000, 25).await, []);
    assert_eq!(read(0, 25).await.len(), 6);
}

#[tokio::test]
async fn published_tables_are_listed() {
    let (db, _) = Db::new(SQL).await;
    let list = async |schema: Option<&str>, table: Option<&str>| {
        let (schema, table) = (schema.map(str::to_owned), table.map(str::to_owned));
        db.authorizer.tables(TablesRequest { tenant: "acme".parse().unwrap(), schema, table }).await.unwrap()
    };
    let members = PublishedTable { schema: "public".into(), table: "members".into() };
    assert_eq!(list(None, None).await, std::slice::from_ref(&members));
    assert_eq!(list(Some("public"), Some("members")).await, [members]);
    assert_eq!(list(Some("realtime"), None).await, []);
    assert_eq!(list(None, Some("other")).await, []);
}

#[tokio::test]
async fn messages_are_stored_where_policies_allow_it() {
    let (db, roles) = Db::new(SQL).await;
    let store = async |headers: &str, payload: &str, id: u8| {
        let principal =
            Principal { role: roles.name("user"), permissions: [].into(), claims_json: r#"{"sub":"u"}"#.to_owned() };
        let (tenant, topic) = ("acme".parse().unwrap(), "open".to_owned());
        let channel = ChannelRequest { tenant, principal, topic, headers_json: headers.to_owned() };
        let id = format!("00000000-0000-4000-8000-0000000000{id:02x}");
        let message = StoredMessage { id, event: "e".to_owned(), payload: StoredPayload::Json(payload.to_owned()) };
        db.authorizer.persist(PersistRequest { channel, message }).await.unwrap()
    };
    assert!(!store("{}", "{}", 1).await);
    assert!(!store(r#"{"x-may":"persistence"}"#, "no JSON", 2).await);
    assert!(store(r#"{"x-may":"persistence"}"#, r#"{"n":1}"#, 3).await);
    assert!(!store(r#"{"x-may":"broadcast"}"#, "{}", 4).await);
    let rows =
        db.client.query("select id::text, payload ->> 'n', skip_broadcast from realtime.messages", &[]).await.unwrap();
    let rows: Vec<(String, String, bool)> = rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect();
    assert_eq!(rows, [("00000000-0000-4000-8000-000000000003".to_owned(), "1".to_owned(), true)]);
}
