//! Random writes, memberships and policies: no subscriber ever receives a row or a column that Postgres would deny at that
//! commit, and none misses one that it would show.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reactor_protocol::sse::SseEvent;
use reactor_testkit::sse::data;
use reactor_testkit::token::user;
use reactor_testkit::{Postgres, SseClient, SseRequest, wait};
use serde_json::{Map, Value, json};
use tokio::time::Instant;
use tokio_postgres::Client;

use crate::deployment::{Deployment, Mode, sign};
use crate::in_both_modes;

in_both_modes!(nobody_sees_what_postgres_would_hide, policies_change_under_load);

/// How long rows are written at random; `REACTOR_LEAK_SECS` says otherwise.
const WRITE_SECS: u64 = 30;
/// After a policy was changed, what open subscriptions get may follow the old one for so long.
const NOTICED_WITHIN: Duration = Duration::from_secs(5);

/// The table: judged by owner, by membership, by a claim, by a state, with a restrictive policy on top. What only Postgres
/// can judge has a table of its own, since there a row that changes again meanwhile is withheld.
const SCHEMA: &str = "
create role lk_member nologin; create role lk_guest nologin; create role lk_lead nologin in role lk_member;
create role lk_auditor nologin bypassrls; create role lk_partial nologin;
create table lk_rooms (room int, user_id uuid, level text, primary key (room, user_id));
alter table lk_rooms enable row level security;
grant select on lk_rooms to lk_member, lk_guest, lk_lead, lk_partial;
create policy mine on lk_rooms for select to public using (user_id = auth.uid() and level is distinct from 'banned');
create table lk_rows (id int primary key, rev int, org_id text, owner_id uuid, room int, state text, doc jsonb, secret text);
alter table lk_rows enable row level security;
alter table lk_rows replica identity full;
grant select on lk_rows to lk_member, lk_guest, lk_lead, lk_auditor;
grant select (id, rev, state) on lk_rows to lk_partial;
create policy own on lk_rows for select to lk_member using (owner_id = (select auth.uid()));
create policy rooms on lk_rows for select to lk_member, lk_partial using (
  exists (select 1 from lk_rooms m where m.room = lk_rows.room and m.user_id = auth.uid()));
create policy open on lk_rows for select to lk_guest using (state = 'open' and (doc ->> 'level')::int < 3);
create policy leads on lk_rows for select to lk_lead using (org_id = any (array(select jsonb_array_elements_text(auth.jwt() -> 'leads'))));
create policy never on lk_rows as restrictive for select to public using (state is distinct from 'void' and coalesce(doc ->> 'hide', 'no') <> 'yes');
";

const USERS: u64 = 4;

fn user_id(number: u64) -> String {
    format!("00000000-0000-4000-8000-{number:012}")
}

/// One subscriber: a role, a user, an active organisation.
struct Subject {
    role: &'static str,
    claims: Map<String, Value>,
    org: Option<&'static str>,
}

impl Subject {
    fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for number in 0..USERS {
            for role in ["lk_member", "lk_guest", "lk_lead", "lk_auditor", "lk_partial"] {
                let org = ["acme", "bolt"][usize::from(number % 2 == 1)];
                let mut claims = user(role, &user_id(number));
                claims.insert("leads".into(), json!([org, "other"]));
                // The partial role cannot read the org column; it and the auditor have tokens without organisations.
                let scoped = !matches!(role, "lk_partial" | "lk_auditor");
                if scoped {
                    claims.insert("orgs".into(), json!([org]));
                }
                all.push(Self { role, claims, org: scoped.then_some(org) });
            }
        }
        all
    }

    fn request(&self, deployment: &Deployment, number: usize, table: &str) -> SseRequest {
        let url = &deployment.urls[number % deployment.urls.len()];
        let request = SseRequest::get(format!("{url}/data/v1/{table}/subscribe")).token(&sign(&json!(self.claims)));
        match self.org {
            Some(org) => request.org(org),
            None => request,
        }
    }

    /// The rows that Postgres shows this subject right now: id and revision.
    async fn sees(&self, client: &Client, table: &str) -> Result<BTreeSet<Version>> {
        let claims = json!(self.claims).to_string().replace('\'', "''");
        let scope = self.org.map(|org| format!(" where org_id = '{org}'")).unwrap_or_default();
        let sql = format!(
            "begin; set local role {}; set local request.jwt.claims = '{claims}'; select id, rev from {table}{scope}; rollback",
            self.role
        );
        let mut seen = BTreeSet::new();
        for message in client.simple_query(&sql).await.with_context(|| self.role)? {
            if let tokio_postgres::SimpleQueryMessage::Row(row) = message {
                let number = |column| row.get(column).context("a number")?.parse::<i64>().context("a number");
                seen.insert((number(0)?, number(1)?));
            }
        }
        Ok(seen)
    }
}

/// A small generator, so that a failure can be repeated from its seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[usize::try_from(self.below(of.len() as u64)).unwrap_or(0)]
    }
}

/// Statements of one transaction; `rev` numbers the row versions so that an event names the version that it shows.
fn transaction(random: &mut Random, rev: &mut i64) -> String {
    let mut statements = Vec::new();
    let mut touched = BTreeSet::new();
    for _ in 0..=random.below(4) {
        let id = random.below(30);
        // Versions that are overwritten within their transaction are never seen by a query, so there are none.
        if !touched.insert(id) {
            continue;
        }
        let owner = user_id(random.below(USERS));
        let org = random.one(&["acme", "bolt"]);
        let state = random.one(&["'open'", "'done'", "'void'", "null"]);
        let room = random.below(4);
        let doc = random.one(&[
            r#"'{"level": 1}'"#,
            r#"'{"level": 5, "hide": "no"}'"#,
            r#"'{"hide": "yes"}'"#,
            "null",
            "'{}'",
        ]);
        *rev += 1;
        statements.push(match random.below(12) {
            0 | 1 => format!("delete from lk_rows where id = {id}"),
            2 => format!("insert into lk_rooms values ({room}, '{owner}', {}) on conflict do nothing", random.one(&["'plain'", "'banned'", "null"])),
            3 => format!("delete from lk_rooms where room = {room} and user_id = '{owner}'"),
            4 => format!("update lk_rooms set level = {} where room = {room} and user_id = '{owner}'", random.one(&["'plain'", "'banned'"])),
            5 => format!("update lk_rooms set room = room + 10 where room = {room} and user_id = '{owner}' and not exists (select from lk_rooms r where r.room = {} and r.user_id = '{owner}')", room + 10),
            6 | 7 => format!("update lk_rows set rev = {rev}, state = {state} where id = {id}"),
            8 => format!("update lk_rows set rev = {rev}, owner_id = '{owner}', org_id = '{org}' where id = {id}"),
            _ => format!(
                "insert into lk_rows values ({id}, {rev}, '{org}', '{owner}', {room}, {state}, {doc}, 'secret {rev}')
                   on conflict (id) do update set rev = excluded.rev, room = excluded.room, doc = excluded.doc"
            ),
        });
    }
    format!("begin; {}; commit", statements.join("; "))
}

/// Everything that a subscriber got up to the truncation at the end.
async fn all_events(client: &mut SseClient) -> Result<Vec<SseEvent>> {
    client.collect_until(Duration::from_secs(120), |event| event.event == "truncate").await
}

async fn nobody_sees_what_postgres_would_hide(mode: Mode) -> Result<()> {
    let deployment = Deployment::shared(mode).await?;
    deployment.postgres.execute(SCHEMA).await?;
    let subjects = Subject::all();
    let mut clients = Vec::new();
    for (number, subject) in subjects.iter().enumerate() {
        clients
            .push(deployment.subscribe(&subject.request(deployment, number, "lk_rows")).await.context(subject.role)?);
    }
    let readers: Vec<_> =
        clients.into_iter().map(|mut client| tokio::spawn(async move { all_events(&mut client).await })).collect();
    let (visible, transactions) = write_at_random(&deployment.postgres, &subjects).await?;
    let told = |versions: &[&(i64, i64)]| {
        let of = |version: &(i64, i64)| transactions.get(version).map_or("", String::as_str);
        versions.iter().map(|version| format!("{version:?} by `{}`", of(version))).collect::<Vec<_>>().join("; ")
    };
    deployment.postgres.execute("truncate lk_rows").await?;
    let mut delivered = 0;
    for ((subject, reader), visible) in subjects.iter().zip(readers).zip(&visible) {
        let seen = versions(subject, &reader.await??)?;
        delivered += seen.len();
        let who = format!("{} {}", subject.role, subject.claims["sub"]);
        let leaked: Vec<_> = seen.difference(visible).collect();
        ensure!(leaked.is_empty(), "{who} got what Postgres hides: {}", told(&leaked));
        let missed: Vec<_> = visible.difference(&seen).collect();
        ensure!(missed.is_empty(), "{who} misses {}", told(&missed));
    }
    ensure!(delivered > 1_000, "only {delivered} events: the test tests nothing");
    Ok(())
}

/// A row's id and the number of its version.
type Version = (i64, i64);

/// Writes, and asks Postgres after each commit which of its row versions each subject may read; also the transaction of each.
async fn write_at_random(
    postgres: &Postgres,
    subjects: &[Subject],
) -> Result<(Vec<BTreeSet<Version>>, BTreeMap<Version, String>)> {
    let client = postgres.connect().await?;
    let seed = reactor_testkit::token::now() | 1;
    tracing::info!(seed, "writing at random");
    let mut random = Random(seed);
    let mut visible = vec![BTreeSet::new(); subjects.len()];
    let mut committed = BTreeMap::new();
    let mut rev = 0;
    let seconds = std::env::var("REACTOR_LEAK_SECS").ok().and_then(|text| text.parse().ok()).unwrap_or(WRITE_SECS);
    let end = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < end {
        let transaction = transaction(&mut random, &mut rev);
        client.batch_execute(&transaction).await?;
        let rows = client.query("select id, rev from lk_rows", &[]).await?;
        let versions = rows.iter().map(|row| (row.get::<_, i32>(0).into(), row.get::<_, i32>(1).into()));
        let new: BTreeSet<Version> = versions.filter(|version| !committed.contains_key(version)).collect();
        committed.extend(new.iter().map(|version| (*version, transaction.clone())));
        if new.is_empty() {
            continue;
        }
        for (subject, visible) in subjects.iter().zip(&mut visible) {
            visible.extend(subject.sees(&client, "lk_rows").await?.intersection(&new));
        }
    }
    Ok((visible, committed))
}

/// The row versions that a subject got; each once, and without columns that it may not read.
fn versions(subject: &Subject, events: &[SseEvent]) -> Result<BTreeSet<Version>> {
    let mut seen = BTreeSet::new();
    for event in events {
        let partial = subject.role == "lk_partial";
        ensure!(!(partial && (event.data.contains("secret") || event.data.contains("owner_id"))), "{}", event.data);
        let row = match event.event.as_str() {
            "insert" | "update" => data(event)?["new"].clone(),
            "heartbeat" | "truncate" | "delete" => continue,
            other => anyhow::bail!("{} got {other}: {}", subject.role, event.data),
        };
        let version = (row["id"].as_i64().context("id")?, row["rev"].as_i64().context("rev")?);
        ensure!(seen.insert(version), "{} got {version:?} twice", subject.role);
    }
    Ok(seen)
}

/// The policy of a table flips under load: outside the time that a change may take, every event fits the policy of its moment.
async fn policies_change_under_load(mode: Mode) -> Result<()> {
    let deployment = Deployment::shared(mode).await?;
    deployment
        .postgres
        .execute(
            "create role fl_reader nologin; create table flips (id int primary key, side text);
             alter table flips enable row level security; grant select on flips to fl_reader;
             create policy side on flips for select to fl_reader using (side = 'left')",
        )
        .await?;
    let token = sign(&json!(user("fl_reader", &user_id(1))));
    let request = SseRequest::get(format!("{}/data/v1/flips/subscribe", deployment.url())).token(&token);
    let mut client = deployment.subscribe(&request).await?;
    let reader = tokio::spawn(async move { all_events(&mut client).await });
    let writer = deployment.postgres.connect().await?;
    let mut sides = BTreeMap::new();
    let mut id = 0;
    for round in 0..3 {
        let side = ["left", "right"][round % 2];
        writer.batch_execute(&format!("alter policy side on flips using (side = '{side}')")).await?;
        let changed = Instant::now();
        while changed.elapsed() < NOTICED_WITHIN + Duration::from_secs(2) {
            // A pace that every machine keeps: what is still on its way is judged by the policy that has come meanwhile.
            wait::elapse(Duration::from_millis(10), "the pace of the rows").await;
            for row in ["left", "right"] {
                id += 1;
                writer.batch_execute(&format!("insert into flips values ({id}, '{row}')")).await?;
                let settled = changed.elapsed() > NOTICED_WITHIN;
                sides.insert(id, (row == side, settled));
            }
        }
    }
    writer.batch_execute("truncate flips").await?;
    let events = reader.await??;
    let got: BTreeSet<i64> = events
        .iter()
        .filter(|event| event.event == "insert")
        .map(|event| data(event)?["new"]["id"].as_i64().context("id"))
        .collect::<Result<_>>()?;
    let settled: Vec<_> = sides.iter().filter(|(_, (_, settled))| *settled).collect();
    ensure!(settled.len() > 100, "only {} settled rows", settled.len());
    for (id, (wanted, _)) in settled {
        ensure!(got.contains(id) == *wanted, "row {id} should be seen: {wanted}");
    }
    Ok(())
}
