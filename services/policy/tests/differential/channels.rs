//! Random policies of `realtime.messages`, roles, claims and topics: the rights that we tell are those that a probe finds.

use std::io::Write;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use reactor_pg::PgTarget;
use reactor_policy::{PolicySettings, PostgresAuthorizer};
use reactor_policy_engine::{Authorizer as _, ChannelAccess, ChannelRequest, Principal};
use reactor_runtime::Registry;
use reactor_testkit::{Postgres, PostgresOptions};
use tokio_postgres::Client;

use crate::world::{BROKEN, UUIDS};
use crate::{cases, variable};

/// Questions, in some seconds.
const CASES: usize = 1_200;

/// Questions about one set of policies.
const AT_ONCE: usize = 12;

/// As the replicator installs it.
const MESSAGES: &str = include_str!("../../../replicator/src/realtime_schema/sql/messages.sql");
const TOPIC: &str = include_str!("../../../replicator/src/realtime_schema/sql/topic.sql");

const WORLD: &str = "
create schema auth;
grant usage on schema auth to public;
create function auth.uid() returns uuid language sql stable as $$
  select coalesce(nullif(current_setting('request.jwt.claim.sub', true), ''),
                  (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub'))::uuid
$$;
create function auth.jwt() returns jsonb language sql stable as $$
  select coalesce(nullif(current_setting('request.jwt.claim', true), ''),
                  nullif(current_setting('request.jwt.claims', true), ''))::jsonb
$$;
create function auth.role() returns text language sql stable as $$
  select coalesce(nullif(current_setting('request.jwt.claim.role', true), ''),
                  (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'role'))::text
$$;
create table realtime.messages_old partition of realtime.messages for values from ('2000-01-01') to ('2000-01-02');
create table realtime.messages_default partition of realtime.messages default;
create table members (topic text, who uuid);
insert into members values ('room:1', '00000000-0000-0000-0000-00000000000a'), ('room:2', '00000000-0000-0000-0000-00000000000b');
create function is_mine(t text) returns bool language sql stable as $$ select t = 'user:' || auth.uid()::text $$;
create function in_room(t text) returns bool language sql strict stable as $$ select t like 'room:%' $$;
create function guarded(t text) returns bool language sql stable security definer set search_path = '' as
  $$ select realtime.topic() = t and auth.uid() is not null $$;
create function foreign_body(t text) returns bool language plpgsql stable as $$ begin return t = realtime.topic(); end $$;
create function hidden() returns bool language sql stable as $$ select true $$;
revoke execute on function hidden() from public;
create publication supabase_realtime;
create role {r}_group;
create role {r}_user in role {r}_group;
create role {r}_reader;
create role {r}_columns;
create role {r}_lone;
create role {r}_schemaless;
create role {r}_bypass bypassrls;
create role {r}_owner;
grant usage on schema realtime to {r}_group, {r}_reader, {r}_columns, {r}_lone, {r}_bypass, {r}_owner;
grant select, insert on realtime.messages to {r}_group, {r}_schemaless, {r}_bypass;
grant select on realtime.messages to {r}_reader;
grant select (id, extension), insert (topic, extension) on realtime.messages to {r}_columns;
grant select on members to public;
alter table realtime.messages owner to {r}_owner;
";

const ROLES: &[&str] =
    &["user", "user", "user", "group", "reader", "columns", "lone", "schemaless", "bypass", "owner", "missing"];

/// What policies say. `{r}` is the prefix of roles.
const CONDITIONS: &[&str] = &[
    "true",
    "false",
    "extension = 'broadcast'",
    "extension in ('broadcast', 'presence')",
    "messages.extension <> 'presence'",
    "realtime.topic() = 'room:1'",
    "(select realtime.topic()) = 'room:1'",
    "realtime.topic() like 'room:%'",
    "realtime.topic() not like 'user:%'",
    "realtime.topic() ilike 'ROOM:_'",
    "realtime.topic() = topic",
    "realtime.topic() in ('room:1', 'room:2')",
    "realtime.topic() is not null and topic like 'user:%'",
    "realtime.topic() is distinct from 'room:1'",
    "lower(realtime.topic()) = 'room:1'",
    "upper(topic) = 'ROOM:1'",
    "topic = 'room:1'",
    "current_setting('Realtime.Topic', true) = 'room:1'",
    "current_setting('realtime.topic') = 'room:1'",
    "realtime.topic() = 'user:' || auth.uid()",
    "realtime.topic() = 'user:' || (select auth.uid())::text and extension = 'broadcast'",
    "auth.uid() is not null",
    "auth.uid() = '00000000-0000-0000-0000-00000000000a'",
    "realtime.topic()::uuid = auth.uid()",
    "topic::uuid = auth.uid()",
    "split_part(realtime.topic(), ':', 2) = auth.uid()::text",
    "is_mine(realtime.topic())",
    "is_mine(topic)",
    "in_room(realtime.topic())",
    "guarded(topic)",
    "foreign_body(topic)",
    "hidden()",
    "auth.jwt() ->> 'org' = 'a'",
    "coalesce(auth.jwt() ->> 'org', 'none') = 'none'",
    "(auth.jwt() -> 'app' ->> 'level')::int4 > 1",
    "auth.jwt() #>> '{app,level}' = '2'",
    "auth.jwt() -> 'app' = '{\"level\": 2}'::jsonb",
    "auth.jwt() -> 'teams' ? 'a'",
    "auth.jwt() ->> 'note' = E'\\u0001\"é'",
    "topic like (auth.jwt() ->> 'org') || '%'",
    "topic like realtime.topic()",
    "auth.role() = 'authenticated'",
    "auth.role() <> 'anon' or realtime.topic() = 'room:2'",
    "current_user = '{r}_user'",
    "nullif(current_setting('request.jwt.claim.org', true), '') = 'a'",
    "nullif(current_setting('app.never', true), '') is null",
    "current_setting('request.headers', true)::json ->> 'x-may' = extension",
    "(nullif(current_setting('request.headers', true), '')::jsonb ->> 'x-may') = extension",
    "exists (select from members m where m.topic = realtime.topic() and m.who = auth.uid())",
    "realtime.topic() in (select topic from members where who = auth.uid())",
    "event is null",
    "payload is null and binary_payload is null",
    "private",
    "not private",
    "skip_broadcast is not true",
    "inserted_at > now() - interval '1 hour'",
    "id is not null",
    "1 / (length(topic) - 6) = 1",
    "length(realtime.topic()) > 5",
    "nullif(realtime.topic(), 'room:1') is null",
    "coalesce(auth.uid()::text, topic) = topic",
    "case when realtime.topic() = 'room:1' then extension = 'broadcast' else false end",
    "random() < 2",
];

/// What is done to the table for some of the questions, and undone.
const SHAPES: &[(&str, &str)] = &[
    ("alter table realtime.messages disable row level security", "alter table realtime.messages enable row level security"),
    ("alter table realtime.messages force row level security", "alter table realtime.messages no force row level security"),
    (
        "create function public.skip() returns trigger language plpgsql as $$ begin return null; end $$;
         create trigger none before insert on realtime.messages for each row when (new.extension = 'presence') execute function public.skip()",
        "drop trigger none on realtime.messages; drop function public.skip()",
    ),
    (
        "alter table realtime.messages add constraint odd check (current_user <> '{r}_user' or topic <> 'room:1') not valid",
        "alter table realtime.messages drop constraint odd",
    ),
    (
        "create index odd on realtime.messages (length(topic))",
        "drop index realtime.odd",
    ),
    ("alter table realtime.messages add column other text default 'x'", "alter table realtime.messages drop column other"),
];

struct Run {
    rng: StdRng,
    prefix: String,
    client: Client,
    registry: Registry,
    authorizer: PostgresAuthorizer,
}

impl Run {
    async fn new(server: &Postgres, name: &str, seed: u64) -> Self {
        let url = server.create_database(name).await.unwrap();
        let client = server.connect_to(name).await.unwrap();
        let sql = format!("create schema realtime;{MESSAGES}{TOPIC}{WORLD}").replace("{r}", name);
        client.batch_execute(&sql).await.unwrap();
        let target = PgTarget::parse(&url).unwrap();
        let mut settings = PolicySettings::new("acme".parse().unwrap(), target, "supabase_realtime");
        settings.catalog_cache = Duration::from_nanos(1);
        let registry = Registry::new();
        let authorizer = PostgresAuthorizer::new(settings, &registry);
        Self { rng: StdRng::seed_from_u64(seed), prefix: name.to_owned(), client, registry, authorizer }
    }

    async fn execute(&self, sql: &str) {
        let sql = sql.replace("{r}", &self.prefix);
        self.client.batch_execute(&sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }

    fn condition(&mut self, depth: u32) -> String {
        if depth == 0 || self.rng.random_bool(0.4) {
            return (*CONDITIONS.choose(&mut self.rng).unwrap()).replace("{r}", &self.prefix);
        }
        let (left, right) = (self.condition(depth - 1), self.condition(depth - 1));
        match self.rng.random_range(0..5) {
            0 | 1 => format!("({left}) and ({right})"),
            2 => format!("({left}) or ({right})"),
            3 => format!("not ({left})"),
            _ => format!("({left}) is not false"),
        }
    }

    /// Some policies, as the only ones of the table.
    async fn policies(&mut self) -> String {
        let drop = "do $$ begin execute coalesce((select string_agg(format('drop policy %I on realtime.messages;', polname), '')
            from pg_policy where polrelid = 'realtime.messages'::regclass), 'select 1'); end $$;";
        let mut policies = String::new();
        for number in 0..self.rng.random_range(1..4) {
            let kind = if number > 0 && self.rng.random_bool(0.3) { "restrictive" } else { "permissive" };
            let to = match self.rng.random_range(0..4) {
                0 => format!("{}_group", self.prefix),
                _ => "public".to_owned(),
            };
            let (first, second) = (self.condition(2), self.condition(1));
            let clauses = match self.rng.random_range(0..5) {
                0 | 1 => format!("for select to {to} using ({first})"),
                2 => format!("for insert to {to} with check ({first})"),
                3 => format!("for all to {to} using ({first})"),
                _ => format!("for all to {to} using ({first}) with check ({second})"),
            };
            policies.push_str(&format!("create policy p{number} on realtime.messages as {kind} {clauses};\n"));
        }
        self.execute(&format!("{drop}{policies}")).await;
        policies
    }

    fn request(&mut self) -> ChannelRequest {
        let role = format!("{}_{}", self.prefix, ROLES.choose(&mut self.rng).unwrap());
        let mut claims = serde_json::json!({ "role": *["authenticated", "anon"].choose(&mut self.rng).unwrap() });
        match self.rng.random_range(0..8) {
            0 => {}
            1 => claims["sub"] = BROKEN.into(),
            _ => claims["sub"] = (*UUIDS[..2].choose(&mut self.rng).unwrap()).into(),
        }
        for (name, value) in [
            ("org", serde_json::json!(["a", "", "room\\"].choose(&mut self.rng).unwrap())),
            ("app", serde_json::json!({ "level": self.rng.random_range(0..4) })),
            ("teams", serde_json::json!(["a"])),
            ("note", serde_json::json!("\u{1}\"é")),
            ("iat", serde_json::json!(1_700_000_000.5)),
            ("huge", serde_json::json!(1e300)),
        ] {
            if self.rng.random_bool(if name == "huge" { 0.1 } else { 0.6 }) {
                claims[name] = value;
            }
        }
        let mine = format!("user:{}", UUIDS[0]);
        let topics = ["room:1", "room:1", "room:2", "ROOM:1", &mine, UUIDS[0], "a\\", "", "käse", "never"];
        ChannelRequest {
            tenant: "acme".parse().unwrap(),
            principal: Principal { role, permissions: Default::default(), claims_json: claims.to_string() },
            topic: (*topics.choose(&mut self.rng).unwrap()).to_owned(),
            headers_json: (*["{}", r#"{"x-may":"broadcast"}"#].choose(&mut self.rng).unwrap()).to_owned(),
        }
    }

    async fn told(&self, request: &ChannelRequest) -> [bool; 4] {
        let rights = self.authorizer.channel_rights(request.clone()).await.unwrap();
        let of = |access: ChannelAccess| [access.read, access.write];
        [of(rights.broadcast), of(rights.presence)].concat().try_into().unwrap()
    }

    /// What Postgres lets the principal do, one statement after the other.
    async fn found(&self, request: &ChannelRequest) -> [bool; 4] {
        self.client.batch_execute("begin").await.unwrap();
        let found = self.found_within(request).await;
        self.client.batch_execute("rollback").await.unwrap();
        found
    }

    async fn found_within(&self, request: &ChannelRequest) -> [bool; 4] {
        let (client, principal) = (&self.client, &request.principal);
        let claims: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&principal.claims_json).unwrap();
        let mut settings = vec![
            ("request.jwt.claims".to_owned(), principal.claims_json.clone()),
            ("realtime.topic".to_owned(), request.topic.clone()),
            ("request.headers".to_owned(), request.headers_json.clone()),
        ];
        for (name, value) in &claims {
            let text = value.as_str().map(str::to_owned).or_else(|| value.is_number().then(|| value.to_string()));
            settings.extend(text.map(|text| (format!("request.jwt.claim.{name}"), text)));
        }
        for (name, value) in settings {
            client.execute("select set_config($1, $2, true)", &[&name, &value]).await.unwrap();
        }
        let mut ids = Vec::new();
        for extension in ["broadcast", "presence"] {
            let insert =
                "insert into realtime.messages (topic, extension, private) values ($1, $2, true) returning id::text";
            let row = client.query_opt(insert, &[&request.topic, &extension]).await.unwrap();
            ids.extend(row.map(|row| row.get::<_, String>(0)));
        }
        if client.execute("select set_config('role', $1, true)", &[&principal.role]).await.is_err() {
            return [false; 4];
        }
        let mut found = [false; 4];
        client.batch_execute("savepoint s").await.unwrap();
        let sql = "select extension from realtime.messages where id = any ($1::text[]::uuid[])";
        let rows = client.query(sql, &[&ids]).await.unwrap_or_default();
        for row in rows {
            found[if row.get::<_, &str>(0) == "broadcast" { 0 } else { 2 }] = true;
        }
        for (place, extension) in [(1, "broadcast"), (3, "presence")] {
            client.batch_execute("rollback to savepoint s").await.unwrap();
            let insert = "insert into realtime.messages (topic, extension, private) values ($1, $2, true)";
            found[place] = client.execute(insert, &[&request.topic, &extension]).await.is_ok();
        }
        found
    }

    fn counted(&self, road: &str) -> usize {
        let name = format!("reactor_policy_channel_roads_total{{road=\"{road}\"}} ");
        let text = self.registry.render();
        text.lines().find_map(|line| line.strip_prefix(&name)).map_or(0, |value| value.trim().parse().unwrap())
    }
}

async fn run(server: &Postgres, name: &str, cases: usize) {
    let seed = variable("REACTOR_TEST_SEED").unwrap_or(1);
    let mut run = Run::new(server, name, seed).await;
    let (mut done, mut wrong, mut allowed) = (0, Vec::new(), 0);
    while done < cases && wrong.len() < 5 {
        let policies = run.policies().await;
        let shape = SHAPES.choose(&mut run.rng).filter(|_| done % 5 == 0);
        if let Some((change, _)) = shape {
            run.execute(change).await;
        }
        for _ in 0..AT_ONCE {
            let request = run.request();
            let (told, found) = (run.told(&request).await, run.found(&request).await);
            if told != found {
                let ChannelRequest { principal, topic, headers_json, .. } = &request;
                wrong.push(format!(
                    "{policies}{shape:?}\n{} {} {topic:?} {headers_json}\nwe say {told:?}, Postgres {found:?}",
                    principal.role, principal.claims_json
                ));
            }
            allowed += usize::from(told.contains(&true));
            done += 1;
        }
        if let Some((_, undo)) = shape {
            run.execute(undo).await;
        }
    }
    let (compiled, probed) = (run.counted("compiled"), run.counted("probed"));
    let told = format!(
        "{name}: {done} questions about channels, seed {seed}, {compiled} compiled, {probed} probed, {allowed} with a right\n"
    );
    // Not by a macro: what a test that passes prints is not shown.
    std::io::stderr().write_all(told.as_bytes()).unwrap();
    assert!(wrong.is_empty(), "seed {seed}: {}", wrong.join("\n\n"));
    assert_eq!(compiled + probed, done);
    assert!(compiled * 4 > done && probed * 4 > done, "both roads are tried: {compiled} and {probed}");
    assert!(allowed * 4 > done, "some have rights: {allowed} of {done}");
}

#[tokio::test]
async fn channel_rights_are_what_a_probe_finds() {
    run(Postgres::shared().await.unwrap(), "channels", cases(CASES)).await;
}

#[tokio::test]
async fn channel_rights_are_what_a_probe_finds_in_the_newest_postgres() {
    let server = Postgres::start_with(PostgresOptions::version(18)).await.unwrap();
    run(&server, "newest_channels", cases(CASES / 10)).await;
}
