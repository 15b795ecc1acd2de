//! How the rights in private channels are found: by the policies alone where that is known to be the same, or by a probe.

use std::time::Duration;

use futures::FutureExt as _;
use reactor_policy_engine::{
    Authorizer as _, AuthorizerError, ChannelAccess, ChannelRequest, ChannelRights, Principal,
};
use reactor_testkit::Postgres;

use crate::support::{ANN, AUTH, Db, Roles};

const SQL: &str = "
create schema realtime;
create function realtime.topic() returns text language sql stable as $$ select nullif(current_setting('realtime.topic', true), '')::text $$;
create table realtime.messages (
    topic text not null, extension text not null, payload jsonb, event text, private boolean default false,
    updated_at timestamp not null default now(), inserted_at timestamp not null default now(),
    id uuid not null default gen_random_uuid(), primary key (id, inserted_at)) partition by range (inserted_at);
create table realtime.messages_all partition of realtime.messages default;
alter table realtime.messages enable row level security;
create table public.members (topic text, who uuid);
insert into public.members values ('room', '00000000-0000-0000-0000-00000000000a');
create publication supabase_realtime for table public.members;
create function public.slow() returns bool language plpgsql as $$ begin perform pg_sleep(30); return true; end $$;
create role {r}_user;
create role {r}_bypass bypassrls;
create role {r}_reader;
create role {r}_writer;
create role {r}_nobody;
create role {r}_owner;
grant usage on schema realtime to {r}_user, {r}_bypass, {r}_reader, {r}_writer, {r}_owner;
grant select, insert on realtime.messages to {r}_user, {r}_bypass, {r}_nobody;
grant select (id, extension) on realtime.messages to {r}_reader;
grant insert (topic, extension, private) on realtime.messages to {r}_writer;
grant select on public.members to {r}_user;
";

const NONE: [bool; 4] = [false; 4];
const ALL: [bool; 4] = [true; 4];
const READ: [bool; 4] = [true, false, true, false];
const WRITE: [bool; 4] = [false, true, false, true];
const HEARD: [bool; 4] = [true, false, false, false];

fn question(roles: &Roles, role: &str, topic: &str) -> ChannelRequest {
    let claims = format!(r#"{{"sub":"{ANN}","org":"a","iat":1700000000.25}}"#);
    ChannelRequest {
        tenant: "acme".parse().unwrap(),
        principal: Principal { role: roles.name(role), permissions: [].into(), claims_json: claims },
        topic: topic.to_owned(),
        headers_json: "{}".to_owned(),
    }
}

fn all(rights: &ChannelRights) -> [bool; 4] {
    let of = |access: ChannelAccess| [access.read, access.write];
    [of(rights.broadcast), of(rights.presence)].concat().try_into().unwrap()
}

struct World {
    db: Db,
    roles: Roles,
}

impl World {
    async fn new() -> Self {
        let (db, roles) = Db::new(&format!("{AUTH}{SQL}")).await;
        Self { db, roles }
    }

    async fn run(&self, sql: &str) {
        let prefix = self.roles.name("user").trim_end_matches("_user").to_owned();
        self.db.run(&sql.replace("{r}", &prefix)).await;
    }

    /// The table's only policies are these.
    async fn policies(&self, policies: &str) {
        self.run(&format!(
            "do $$ begin execute coalesce((select string_agg(format('drop policy %I on realtime.messages;', polname), '')
               from pg_policy), 'select 1'); end $$; {policies}"
        ))
        .await;
    }

    fn counted(&self, road: &str) -> u64 {
        self.db.counted(&format!("reactor_policy_channel_roads_total{{road=\"{road}\"}}"))
    }

    #[track_caller]
    fn rights(&self, road: &'static str, role: &str, topic: &str, expected: [bool; 4]) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        let asked = question(&self.roles, role, topic);
        async move {
            let before = self.counted(road);
            let rights = self.db.authorizer.channel_rights(asked.clone()).await.unwrap();
            assert_eq!(all(&rights), expected, "{:?} in {} at {caller}", asked.principal, asked.topic);
            assert_eq!(self.counted(road), before + 1, "{road} at {caller}");
        }
    }
}

/// Policies for reading, what those who ask about `room` may, and how it is found.
const READS: &[(&str, [bool; 4], &str)] = &[
    ("true", READ, "compiled"),
    ("extension = 'broadcast'", HEARD, "compiled"),
    ("extension in ('broadcast', 'presence') and private", READ, "compiled"),
    ("realtime.topic() = 'room'", READ, "compiled"),
    ("(select realtime.topic()) = 'other'", NONE, "compiled"),
    ("realtime.topic() like 'ro%' and extension = 'broadcast'", HEARD, "compiled"),
    ("realtime.topic() = topic", READ, "compiled"),
    ("realtime.topic() = 'user:' || auth.uid()", NONE, "compiled"),
    ("auth.uid() = '00000000-0000-0000-0000-00000000000a'", READ, "compiled"),
    ("auth.jwt() ->> 'org' = 'a'", READ, "compiled"),
    ("nullif(current_setting('request.jwt.claim.other', true), '') is null", READ, "compiled"),
    ("current_user like '%_user'", READ, "compiled"),
    ("exists (select from members m where m.topic = realtime.topic() and m.who = auth.uid())", READ, "probed"),
    ("split_part(realtime.topic(), 'o', 1) = 'r'", READ, "probed"),
    ("current_setting('request.jwt.claim.other', true) = 'x'", NONE, "probed"),
    ("realtime.topic()::uuid = auth.uid()", NONE, "probed"),
    ("1 / (length(topic) - 4) = 1", NONE, "probed"),
    ("extension = 'broadcast' or 1 / (length(topic) - 4) = 1", NONE, "probed"),
    ("inserted_at <= now()", READ, "probed"),
    ("inserted_at is not null", READ, "probed"),
];

#[tokio::test]
async fn reading() {
    let world = World::new().await;
    for (using, expected, road) in READS {
        world.policies(&format!("create policy p on realtime.messages for select using ({using})")).await;
        world.rights(road, "user", "room", *expected).await;
    }
}

#[tokio::test]
async fn policies_of_every_kind() {
    let world = World::new().await;
    world.rights("compiled", "user", "room", NONE).await;
    for (policies, expected) in [
        ("create policy p on realtime.messages for insert with check (true)", WRITE),
        ("create policy p on realtime.messages using (true)", ALL),
        ("create policy p on realtime.messages using (true) with check (false)", READ),
        ("create policy p on realtime.messages for update using (true)", NONE),
        ("create policy p on realtime.messages to {r}_reader using (true)", NONE),
        ("create policy p on realtime.messages as restrictive using (true)", NONE),
        (
            "create policy p on realtime.messages using (true);
             create policy q on realtime.messages as restrictive for select using (extension = 'broadcast')",
            [true, true, false, true],
        ),
        (
            "create policy p on realtime.messages using (realtime.topic() = 'room');
             create policy q on realtime.messages as restrictive for insert with check (realtime.topic() = 'other')",
            READ,
        ),
    ] {
        world.policies(policies).await;
        world.rights("compiled", "user", "room", expected).await;
    }
    let mixed = "create policy p on realtime.messages for select using (true);
        create policy q on realtime.messages for insert with check (exists (select from members m where m.topic = realtime.topic()))";
    world.policies(mixed).await;
    world.rights("probed", "user", "room", ALL).await;
    world.rights("probed", "user", "other", READ).await;
}

#[tokio::test]
async fn grants_and_roles_that_are_above_policies() {
    let world = World::new().await;
    world.policies("create policy p on realtime.messages using (realtime.topic() = 'room')").await;
    for (role, room, other) in [
        ("user", ALL, NONE),
        ("bypass", ALL, ALL),
        ("reader", READ, NONE),
        ("writer", WRITE, NONE),
        ("nobody", NONE, NONE),
        ("owner", NONE, NONE),
        ("missing", NONE, NONE),
    ] {
        world.rights("compiled", role, "room", room).await;
        world.rights("compiled", role, "other", other).await;
    }
    world.run("alter table realtime.messages owner to {r}_owner").await;
    world.rights("compiled", "owner", "other", ALL).await;
    world.run("alter table realtime.messages force row level security").await;
    world.rights("compiled", "owner", "other", NONE).await;
    world.run("alter table realtime.messages disable row level security").await;
    world.rights("compiled", "user", "other", ALL).await;
    world.rights("compiled", "nobody", "other", NONE).await;
    world.run("revoke insert on realtime.messages from {r}_user").await;
    world.rights("compiled", "user", "other", READ).await;
}

#[tokio::test]
async fn a_table_of_which_it_is_not_known_what_an_insert_does_is_probed() {
    let world = World::new().await;
    world.policies("create policy p on realtime.messages using (true)").await;
    for (change, undo, expected) in [
        (
            "create function skip() returns trigger language plpgsql as $$ begin return null; end $$;
             create trigger none before insert on realtime.messages_all for each row execute function skip()",
            "drop trigger none on realtime.messages_all",
            WRITE,
        ),
        (
            "alter table realtime.messages add check (current_user not like '%_user')",
            "alter table realtime.messages drop constraint messages_check",
            READ,
        ),
        ("create unique index one on realtime.messages_all (topic, extension)", "drop index realtime.one", READ),
        ("create index shape on realtime.messages ((length(topic)))", "drop index realtime.shape", ALL),
        (
            "alter table realtime.messages alter extension type varchar(9)",
            "alter table realtime.messages alter extension type text",
            ALL,
        ),
        (
            "alter table realtime.messages add by text default current_user",
            "alter table realtime.messages drop by",
            ALL,
        ),
    ] {
        world.rights("compiled", "user", "room", ALL).await;
        world.run(change).await;
        world.db.settled().await;
        world.rights("probed", "user", "room", expected).await;
        world.run(undo).await;
        world.db.settled().await;
    }
    let known = "alter table realtime.messages add check (topic is not null or private);
        create index few on realtime.messages (topic) where extension = 'broadcast' and private is true";
    world.run(known).await;
    world.rights("compiled", "user", "room", ALL).await;
    world.rights("probed", "user", &"long".repeat(500), ALL).await;
}

#[tokio::test]
async fn what_changes_counts_from_then_on() {
    let world = World::new().await;
    let policy =
        "create function public.may() returns bool language sql stable as $$ select realtime.topic() = 'room' $$;
        create policy p on realtime.messages for select using (public.may())";
    world.policies(policy).await;
    world.db.settled().await;
    world.rights("compiled", "user", "room", READ).await;
    world.run("create or replace function public.may() returns bool language sql stable as $$ select realtime.topic() = 'other' $$").await;
    world.db.settled().await;
    world.rights("compiled", "user", "room", NONE).await;
    world.rights("compiled", "user", "other", READ).await;
    world.run("alter database {r} set app.who = 'x'").await;
    world.run("alter policy p on realtime.messages using (nullif(current_setting('app.who', true), '') is null)").await;
    world.rights("probed", "user", "other", READ).await;
    world.run("alter policy p on realtime.messages using (false)").await;
    world.rights("compiled", "user", "other", NONE).await;
}

#[tokio::test]
async fn a_right_that_was_given_a_moment_ago_is_there() {
    let server = Postgres::shared().await.unwrap();
    let longer = |settings: &mut reactor_policy::PolicySettings| settings.catalog_cache = Duration::from_secs(60);
    let (db, roles) = Db::with(server, &format!("{AUTH}{SQL}"), longer).await;
    let world = World { db, roles };
    for (change, role, expected) in [
        ("select 1", "user", NONE),
        ("create policy p on realtime.messages for select using (true)", "user", READ),
        ("create policy q on realtime.messages for insert with check (true)", "user", ALL),
        ("select 1", "late", NONE),
        ("create role {r}_late in role {r}_user", "late", ALL),
        ("grant select on realtime.messages to {r}_writer", "writer", ALL),
    ] {
        let prefix = world.roles.name("user").trim_end_matches("_user").to_owned();
        world.db.client.batch_execute(&change.replace("{r}", &prefix)).await.unwrap();
        world.rights("compiled", role, "room", expected).await;
    }
    let body = |topic: &str| {
        format!(
            "create or replace function public.may() returns bool language sql stable as $$ select realtime.topic() = '{topic}' $$"
        )
    };
    world.db.client.batch_execute(&format!("{}; drop policy q on realtime.messages", body("other"))).await.unwrap();
    world.policies("create policy p on realtime.messages using (public.may())").await;
    world.db.settled().await;
    world.rights("compiled", "user", "room", NONE).await;
    world.db.client.batch_execute(&body("room")).await.unwrap();
    world.rights("compiled", "user", "room", ALL).await;
}

/// Probes of topic `slow` take too long.
const SLOW: &str =
    "create policy p on realtime.messages for select using (realtime.topic() <> 'slow' or public.slow());";

async fn slow(deadline: Duration) -> (Db, Roles) {
    let server = Postgres::shared().await.unwrap();
    let change = |settings: &mut reactor_policy::PolicySettings| {
        settings.query_deadline = deadline;
        settings.catalog_cache = Duration::from_secs(60);
    };
    Db::with(server, &format!("{AUTH}{SQL}{SLOW}"), change).await
}

#[tokio::test]
async fn slow_policies_hold_up_no_others_while_a_connection_is_free() {
    let (db, roles) = slow(Duration::from_secs(10)).await;
    let ask = |topic| db.authorizer.channel_rights(question(&roles, "user", topic));
    assert_eq!(all(&ask("room").await.unwrap()), READ);
    let mut slow = futures::future::join_all([ask("slow"), ask("slow"), ask("slow")]);
    assert!((&mut slow).now_or_never().is_none());
    tokio::select! {
        answer = ask("room") => assert_eq!(all(&answer.unwrap()), READ),
        _ = slow => panic!("they take longer"),
    }
}

#[tokio::test]
async fn those_who_cannot_be_asked_about_in_time_are_refused_by_name() {
    let (db, roles) = slow(Duration::from_millis(300)).await;
    let ask = || db.authorizer.channel_rights(question(&roles, "user", "slow"));
    // The table's policies are read once, for all of them.
    assert_eq!(all(&ask().await.unwrap()), NONE);
    let answers = futures::future::join_all((0..5_000).map(|_| ask())).await;
    let is_full = |answer: &&Result<ChannelRights, AuthorizerError>| matches!(answer, Err(AuthorizerError::Unavailable(reason)) if reason.contains("too many questions"));
    let full = answers.iter().filter(is_full).count();
    assert_eq!(full, 5_000 - 4_096 - 4);
    assert!(answers.iter().flatten().all(|rights| all(rights) == NONE));
    assert!(answers.iter().any(|answer| matches!(answer, Err(AuthorizerError::Timeout))));
    assert_eq!(db.counted("reactor_policy_channel_roads_total{road=\"full\"}"), full as u64);
}
