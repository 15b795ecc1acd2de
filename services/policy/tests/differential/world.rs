//! The database that policies are tried in: types, functions, tables to look rows up in, and roles with claims.

use std::sync::Arc;

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use reactor_policy::PostgresAuthorizer;

/// A kind of column: how it is declared, the type to cast to, and texts of values.
#[derive(Debug)]
pub(crate) struct Kind {
    pub(crate) declared: &'static str,
    pub(crate) cast: &'static str,
    pub(crate) values: &'static [&'static str],
}

const fn kind(declared: &'static str, values: &'static [&'static str]) -> Kind {
    Kind { declared, cast: declared, values }
}

pub(crate) const UUIDS: &[&str] = &[
    "00000000-0000-0000-0000-00000000000a",
    "00000000-0000-0000-0000-00000000000b",
    "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
];

/// A claim that raises where it is taken for a UUID.
pub(crate) const BROKEN: &str = "no uuid";

pub(crate) const KINDS: &[Kind] = &[
    kind("int4", &["0", "1", "2", "7", "-3", "2147483647"]),
    kind("int2", &["0", "1", "-32768", "7"]),
    kind("int8", &["0", "1", "9223372036854775807", "-7"]),
    kind("numeric", &["0", "1", "1.0", "-2.50", "NaN", "123456789012345678901234567890.5"]),
    Kind { declared: "numeric(8,2)", cast: "numeric", values: &["0", "1", "2.50", "-3.1"] },
    kind("float8", &["0", "1", "-0", "1.5", "NaN", "Infinity", "1e300"]),
    kind("float4", &["0", "1", "1.5", "0.1"]),
    kind("text", &["", "a", "A", "ab", "a%b", "ä", "Straße", "x_y", "7", "1"]),
    Kind { declared: "varchar(12)", cast: "varchar", values: &["", "a", "A ", "ab", "b", "1"] },
    Kind { declared: "char(4)", cast: "bpchar", values: &["", "a", "ab", "abcd"] },
    kind("uuid", UUIDS),
    kind("bool", &["true", "false"]),
    kind("date", &["2024-01-01", "2024-02-29", "infinity", "0044-03-15 BC"]),
    kind("timestamp", &["2024-01-01 00:00:00", "2024-01-01 12:00:00.5", "-infinity"]),
    kind("timestamptz", &["2024-01-01 00:00:00+00", "2024-01-01 02:00:00+02", "infinity"]),
    kind("time", &["00:00:00", "12:30:00", "24:00:00"]),
    kind("interval", &["1 day", "24 hours", "1 mon", "-00:00:01"]),
    kind(
        "jsonb",
        &[
            "{}",
            "null",
            "[1, \"a\"]",
            "{\"a\": 1}",
            "{\"a\": \"x\", \"n\": 7}",
            "{\"a\": {\"b\": \"x\"}}",
            "\"a\"",
            "7",
        ],
    ),
    kind("json", &["{}", "{\"a\": 1}", "{\"a\": \"x\"}", "[1, 2]"]),
    kind("bytea", &["\\x", "\\x00ff", "\\x61"]),
    kind("inet", &["10.0.0.1", "10.0.0.0/8", "::1"]),
    kind("text[]", &["{}", "{a,b}", "{NULL,a}", "{\"x y\",ab}"]),
    kind("int4[]", &["{}", "{1,2}", "{7}", "{NULL}"]),
    kind("uuid[]", &["{}", "{00000000-0000-0000-0000-00000000000a}"]),
    kind("mood", &["sad", "ok", "very happy"]),
    Kind { declared: "score", cast: "int4", values: &["0", "1", "7"] },
    Kind { declared: "label", cast: "text", values: &["a", "ab", "ä"] },
    Kind { declared: "text collate lingual", cast: "text", values: &["a", "B", "b", "ä"] },
    Kind { declared: "text collate \"C\"", cast: "text", values: &["a", "B", "b", "ab"] },
];

/// What all tables share. `{r}` is the prefix of roles.
pub(crate) const WORLD: &str = "
create type mood as enum ('sad', 'ok', 'very happy');
create domain score as int4 check (value > -100);
create domain label as text;
-- Not every Postgres is built with ICU.
do $$ begin create collation lingual (provider = icu, locale = 'und');
exception when others then create collation lingual (locale = 'C.UTF-8'); end $$;
create schema auth;
grant usage on schema auth to public;
create function auth.uid() returns uuid language sql stable as $$
  select coalesce(nullif(current_setting('request.jwt.claim.sub', true), ''),
                  (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub'))::uuid
$$;
create function auth.jwt() returns jsonb language sql stable as $$
  select nullif(current_setting('request.jwt.claims', true), '')::jsonb
$$;
create function auth.role() returns text language sql stable as $$
  select (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'role')::text
$$;
create table members (id int4 primary key, room int4, owner uuid, tag text, muted bool not null);
create table secrets (id int4 primary key, room int4, owner uuid, tag text);
insert into members values
  (1, 1, '00000000-0000-0000-0000-00000000000a', 'a', false), (2, 2, '00000000-0000-0000-0000-00000000000a', 'ab', true),
  (3, 7, '00000000-0000-0000-0000-00000000000b', null, false), (4, null, '00000000-0000-0000-0000-00000000000b', 'A', false),
  (5, 0, 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 'ä', true);
insert into secrets select id, room, owner, tag from members where id < 4;
create table guarded as select * from members;
alter table guarded add primary key (id);
alter table guarded enable row level security;
create policy own on guarded using (owner = auth.uid() or not muted);
create function same(a text, b text) returns bool language sql immutable as 'select a = b';
create function is_mine(u uuid) returns bool language sql stable as 'select u = auth.uid()';
create function half(n int4) returns int4 language plpgsql immutable as $$ begin return n / 2; end $$;
create function in_room(r int4) returns bool language sql stable security definer set search_path = public as
  'select exists (select 1 from secrets s where s.room = r and s.owner = auth.uid())';
create function in_guarded(r int4) returns bool language sql stable security definer set search_path = public as
  'select exists (select 1 from guarded g where g.room = r and g.owner = auth.uid())';
create publication supabase_realtime for table members, guarded;
create role {r}_group;
create role {r}_user in role {r}_group;
create role {r}_lone;
grant select on members, secrets, guarded to {r}_group, {r}_lone;
";

/// A table of random columns: `id` and one for each kind that was drawn, under plain and odd names.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) name: String,
    pub(crate) columns: Vec<(String, &'static Kind)>,
    /// Where its rows are.
    pub(crate) places: Vec<String>,
    /// The condition of a configured rule, and an authorizer that has the rule.
    pub(crate) rule: Option<(String, Arc<PostgresAuthorizer>)>,
}

impl Table {
    pub(crate) fn random(rng: &mut StdRng, number: usize) -> Self {
        let mut columns = vec![("id".to_owned(), &KINDS[0])];
        for (index, kind) in KINDS.iter().enumerate() {
            if rng.random_bool(0.6) {
                let odd = rng.random_bool(0.1);
                columns.push((if odd { format!("\"Odd {index}\"") } else { format!("c{index}") }, kind));
            }
        }
        Self { name: format!("t{number}"), columns, places: Vec::new(), rule: None }
    }

    pub(crate) fn create(&self, prefix: &str) -> String {
        let column = |(name, kind): &(String, &Kind)| {
            format!("{name} {}{}", kind.declared, if name == "id" { " primary key" } else { "" })
        };
        let columns: Vec<String> = self.columns.iter().map(column).collect();
        let Self { name, .. } = self;
        format!(
            "create table {name} ({});
             alter table {name} enable row level security;
             alter publication supabase_realtime add table {name};
             grant select on {name} to {prefix}_group, {prefix}_lone;",
            columns.join(", ")
        )
    }

    pub(crate) fn insert(&self, rng: &mut StdRng, id: usize) -> String {
        let value = |(name, kind): &(String, &Kind), rng: &mut StdRng| match name.as_str() {
            "id" => id.to_string(),
            _ if rng.random_bool(0.15) => "null".to_owned(),
            _ => literal(rng, kind, kind.declared.split(" collate").next().unwrap()),
        };
        let values: Vec<String> = self.columns.iter().map(|column| value(column, rng)).collect();
        format!("insert into {} values ({});", self.name, values.join(", "))
    }
}

/// A value of the kind as a literal of this type.
pub(crate) fn literal(rng: &mut StdRng, kind: &Kind, cast: &str) -> String {
    format!("'{}'::{cast}", kind.values.choose(rng).unwrap().replace('\'', "''"))
}

/// Random claims for a role.
pub(crate) fn claims(rng: &mut StdRng, role: &str) -> serde_json::Value {
    let mut claims = serde_json::json!({ "role": role });
    match rng.random_range(0..10) {
        0 => {}
        1 => claims["sub"] = BROKEN.into(),
        _ => claims["sub"] = (*UUIDS.choose(rng).unwrap()).into(),
    }
    if rng.random_bool(0.7) {
        claims["org"] = (*["a", "ab", "A", ""].choose(rng).unwrap()).into();
    }
    if rng.random_bool(0.7) {
        claims["level"] = rng.random_range(-1..8).into();
    }
    if rng.random_bool(0.7) {
        claims["rooms"] = serde_json::json!([rng.random_range(0..3), 7]);
        let team = *["ab", "x"].choose(rng).unwrap();
        claims["teams"] = serde_json::json!(["a", team]);
    }
    if rng.random_bool(0.5) {
        claims["app"] = serde_json::json!({ "tag": "a", "ids": UUIDS[..2] });
    }
    claims
}
