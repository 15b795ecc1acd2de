//! Random tables, rows, policies, roles and claims: what our evaluation lets be seen is what Postgres shows.
//!
//! `PROPTEST_CASES` sets how many pairs of a policy and a row are tried, `REACTOR_TEST_SEED` what is drawn.

#![allow(clippy::unwrap_used, clippy::panic, reason = "this is a test as a whole")]

mod channels;
#[path = "../main/engine.rs"]
mod engine;
mod grammar;
mod world;

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use reactor_model::filter::Filter;
use reactor_pg::PgTarget;
use reactor_policy::{PolicySettings, PostgresAuthorizer};
use reactor_policy_engine::{AuthorizeRequest, Authorizer as _, Decision, Grant, Principal, Verdict};
use reactor_runtime::{PolicyRule, Registry};
use reactor_testkit::{Postgres, PostgresOptions};

use crate::engine::{Images, Judged};
use crate::grammar::Grammar;
use crate::world::{BROKEN, Table, WORLD, claims};

/// The number and some more, in less than a minute.
const CASES: usize = 3_000;

/// Rows of each table.
const ROWS: usize = 12;

/// Of images that lack values.
const IN_PART: &str = "in part";

/// Roles and claims that each policy is tried with.
const PRINCIPALS: usize = 3;

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

struct Run {
    rng: StdRng,
    prefix: String,
    client: tokio_postgres::Client,
    /// With our own settings, in which values print as in the log.
    session: reactor_pg::Client,
    settings: PolicySettings,
    authorizer: Arc<PostgresAuthorizer>,
    counts: BTreeMap<String, usize>,
    wrong: Vec<String>,
}

impl Run {
    async fn new(server: &Postgres, name: &str, seed: u64) -> Self {
        let url = server.create_database(name).await.unwrap();
        let client = server.connect_to(name).await.unwrap();
        client.batch_execute(&WORLD.replace("{r}", name)).await.unwrap();
        let target = PgTarget::parse(&url).unwrap();
        let mut settings = PolicySettings::new("acme".parse().unwrap(), target, "supabase_realtime");
        // Policies are changed faster than a catalog that is kept for longer would tell.
        settings.catalog_cache = Duration::from_nanos(1);
        Self {
            rng: StdRng::seed_from_u64(seed),
            prefix: name.to_owned(),
            client,
            session: engine::session(&url).await,
            authorizer: Arc::new(PostgresAuthorizer::new(settings.clone(), &Registry::new())),
            settings,
            counts: BTreeMap::new(),
            wrong: Vec::new(),
        }
    }

    fn count(&mut self, what: impl Into<String>, by: usize) {
        *self.counts.entry(what.into()).or_default() += by;
    }

    async fn table(&mut self, number: usize) -> Table {
        let mut table = Table::random(&mut self.rng, number);
        let mut sql = table.create(&self.prefix);
        for id in 0..ROWS {
            sql.push_str(&table.insert(&mut self.rng, id));
        }
        self.client.batch_execute(&sql).await.unwrap();
        let places = format!("select ctid from public.{} order by id", table.name);
        table.places = engine::texts(&self.session, &places).await.into_iter().flatten().flatten().collect();
        let condition = Grammar { rng: &mut self.rng, table: &table }.condition(1);
        let tried = format!("select from public.{} where {condition} limit 0", table.name);
        if self.client.batch_execute(&tried).await.is_ok() {
            let mut settings = self.settings.clone();
            let using = Some(condition.clone());
            settings.rules = vec![PolicyRule { role: None, schema: None, table: table.name.clone(), using }];
            table.rule = Some((condition, Arc::new(PostgresAuthorizer::new(settings, &Registry::new()))));
        }
        table
    }

    /// Some policies for the table; `None` when Postgres does not take one.
    async fn policies(&mut self, table: &Table) -> Option<String> {
        let name = &table.name;
        let mut sql = format!(
            "do $$ begin execute coalesce((select string_agg(format('drop policy %I on {name};', polname), '') from pg_policy where polrelid = '{name}'::regclass), 'select 1'); end $$;"
        );
        let mut shown = String::new();
        for number in 0..self.rng.random_range(1..4) {
            let depth = self.rng.random_range(0..3);
            let condition = Grammar { rng: &mut self.rng, table }.condition(depth);
            let kind = if number > 0 && self.rng.random_bool(0.3) { "restrictive" } else { "permissive" };
            let to = match self.rng.random_range(0..4) {
                0 => format!("{}_group", self.prefix),
                _ => "public".to_owned(),
            };
            let policy = format!("create policy p{number} on {name} as {kind} for select to {to} using ({condition});");
            sql.push_str(&policy);
            shown.push_str(&policy);
            shown.push('\n');
        }
        match self.client.batch_execute(&sql).await {
            Ok(()) => Some(shown),
            Err(error) => {
                self.count(format!("refused by Postgres: {}", error.as_db_error().unwrap().message()), 1);
                None
            }
        }
    }

    fn principal(&mut self) -> Principal {
        let role = format!("{}_{}", self.prefix, ["user", "group", "lone"].choose(&mut self.rng).unwrap());
        let claims = claims(&mut self.rng, &role);
        Principal { role, permissions: Default::default(), claims_json: claims.to_string() }
    }

    /// For each row whether Postgres shows it, and whether a condition beside its policies is true; `None` where it raises.
    async fn shown(&self, principal: &Principal, table: &Table, condition: &str) -> Vec<Option<bool>> {
        let sub: serde_json::Value = serde_json::from_str(&principal.claims_json).unwrap();
        let sub = sub["sub"].as_str().unwrap_or_default().to_owned();
        self.client.batch_execute("begin; set local timezone = 'UTC'").await.unwrap();
        let set = "select set_config('request.jwt.claims', $1, true), set_config('request.jwt.claim.sub', $2, true), set_config('role', $3, true)";
        self.client.execute(set, &[&principal.claims_json, &sub, &principal.role]).await.unwrap();
        let mut shown = Vec::new();
        for place in &table.places {
            self.client.batch_execute("savepoint row").await.unwrap();
            // By its place: by its key Postgres would leave out what follows from the key.
            let sql = format!("select id from {} where ctid = '{place}' and ({condition})", table.name);
            let found = self.client.simple_query(&sql).await;
            let found = found.map(|messages| {
                messages.iter().any(|message| matches!(message, tokio_postgres::SimpleQueryMessage::Row(_)))
            });
            shown.push(found.ok());
            self.client.batch_execute("rollback to savepoint row").await.unwrap();
        }
        self.client.batch_execute("rollback").await.unwrap();
        shown
    }

    async fn compare(&mut self, table: &Table, policies: &str) -> usize {
        let rows = engine::Table::read(&self.session, "public", &table.name).await;
        let ruled = self.rng.random_bool(0.2);
        for _ in 0..PRINCIPALS {
            let principal = self.principal();
            let request = AuthorizeRequest {
                tenant: "acme".parse().unwrap(),
                principal: principal.clone(),
                schema: "public".into(),
                table: table.name.clone(),
                select: Vec::new(),
                filter: Filter::And(Vec::new()),
            };
            let rule = table.rule.as_ref().filter(|_| ruled);
            let authorizer = rule.map_or_else(|| Arc::clone(&self.authorizer), |(_, ruling)| Arc::clone(ruling));
            let condition = rule.map_or("true", |(condition, _)| condition);
            let shown = self.shown(&principal, table, condition).await;
            let Decision::Allow(grant) = authorizer.authorize(request).await.unwrap() else {
                panic!("denied: {policies} and {condition}");
            };
            let case =
                Case { policies: &format!("{policies}rule {condition}\n"), principal, grant, rows: &rows, shown };
            let judged = engine::judge(&*authorizer, &case.principal, &case.grant, &rows).await;
            self.tally(&judged, &case.shown);
            self.check(&case, &judged, "as it is");
            // An old image of a row that is gone, judged by its values alone.
            let images = Images { must_exist: false, is_held: &|_, _| true };
            let judged = engine::judge_images(&*authorizer, &case.principal, &case.grant, &rows, &images).await;
            self.check(&case, &judged, "as it was");
            // One that lacks values: whatever is said must be true for all that they may be. The key is always there.
            let masks: Vec<u64> = rows.rows.iter().map(|_| self.rng.random::<u64>() | 1).collect();
            let images = Images { must_exist: true, is_held: &|row, column| masks[row] >> column & 1 == 1 };
            let judged = engine::judge_images(&*authorizer, &case.principal, &case.grant, &rows, &images).await;
            let missing = judged.verdicts.iter().filter(|verdict| **verdict == Verdict::Missing).count();
            self.count("rows that lack what decides", missing);
            self.check(&case, &judged, IN_PART);
        }
        PRINCIPALS * ROWS
    }

    /// Whether what is seen of rows is what Postgres shows.
    fn check(&mut self, case: &Case<'_>, judged: &Judged, how: &str) {
        for (index, (seen, shown)) in judged.visible.iter().zip(&case.shown).enumerate() {
            let verdict = judged.verdicts[index];
            if how == IN_PART && verdict == Verdict::Missing {
                continue;
            }
            assert_ne!(verdict, Verdict::Missing, "no value is missing");
            let cannot_plan = case.principal.claims_json.contains(BROKEN);
            if *seen && shown.is_none() && cannot_plan {
                // Postgres evaluates stable functions when it makes a plan, whatever the row.
                self.count("rows seen for which no plan can be made", 1);
            } else if !*seen && *shown == Some(true) && matches!(verdict, Verdict::Ask | Verdict::Raised) && cannot_plan
            {
                // From 18 on it keeps the plans of functions in SQL, made with other claims.
                self.count("rows not seen for which no plan can be made", 1);
            } else if *seen != shown.unwrap_or(false) {
                let columns = case.rows.relation.columns.iter().map(|column| &column.name);
                let row: Vec<_> = columns.zip(&case.rows.rows[index]).collect();
                self.wrong.push(format!(
                    "{}{} {}\n{row:?} {how}\nwe say {verdict:?}, Postgres {shown:?}\n{:#?}",
                    case.policies, case.principal.role, case.principal.claims_json, case.grant.policy
                ));
            }
        }
    }

    fn tally(&mut self, judged: &Judged, shown: &[Option<bool>]) {
        let asked = judged.asked();
        self.count("rows asked of Postgres", asked);
        self.count("rows judged by ourselves", judged.verdicts.len() - asked);
        self.count("rows whose policy raises for Postgres", shown.iter().filter(|shown| shown.is_none()).count());
        self.count("rows seen", judged.visible.iter().filter(|seen| **seen).count());
        self.count("sets read", judged.sets);
        self.count("policies that ask nothing", usize::from(!judged.may_ask));
        let raised = judged.verdicts.iter().filter(|verdict| **verdict == Verdict::Raised).count();
        self.count("rows whose policy raises for us", raised);
    }
}

/// One principal's view of a table.
struct Case<'a> {
    policies: &'a str,
    principal: Principal,
    grant: Grant,
    rows: &'a engine::Table,
    /// What Postgres says of each row.
    shown: Vec<Option<bool>>,
}

async fn run(server: &Postgres, name: &str, cases: usize) {
    let seed = variable("REACTOR_TEST_SEED").unwrap_or(1);
    let mut run = Run::new(server, name, seed).await;
    let (mut done, mut number, mut refused, mut policies) = (0, 0, 0, 0);
    while done < cases && run.wrong.len() < 5 {
        let table = run.table(number).await;
        number += 1;
        for _ in 0..10 {
            policies += 1;
            match run.policies(&table).await {
                Some(policies) => done += run.compare(&table, &policies).await,
                None => refused += 1,
            }
        }
    }
    let mut told = format!("{name}: {done} cases, seed {seed}, {policies} sets of policies on {number} tables:\n");
    run.counts.iter().for_each(|(what, count)| told.push_str(&format!("  {count:>7} {what}\n")));
    // Not by a macro: what a test that passes prints is not shown.
    std::io::stderr().write_all(told.as_bytes()).unwrap();
    assert!(run.wrong.is_empty(), "seed {seed}: {}", run.wrong.join("\n\n"));
    assert!(refused * 5 < policies, "the grammar makes policies that Postgres takes: {refused} of {policies} refused");
}

fn cases(usual: usize) -> usize {
    variable("PROPTEST_CASES").map_or(usual, |cases| usize::try_from(cases).unwrap())
}

#[tokio::test]
async fn what_is_seen_is_what_postgres_shows() {
    run(Postgres::shared().await.unwrap(), "differential", cases(CASES)).await;
}

#[tokio::test]
async fn what_is_seen_is_what_the_newest_postgres_shows() {
    let server = Postgres::start_with(PostgresOptions::version(18)).await.unwrap();
    run(&server, "newest", cases(CASES / 10)).await;
}
