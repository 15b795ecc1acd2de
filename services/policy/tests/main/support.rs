//! A database with tables and roles, an authorizer on it, and short ways to ask.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::StreamExt;
use reactor_model::filter::{BoundFilter, Filter, Operand, Operation, Operator, Truth};
use reactor_pg::PgTarget;
use reactor_policy::{PolicySettings, PostgresAuthorizer};
use reactor_policy_engine::{
    AuthorizeRequest, Authorizer, AuthorizerError, Comparison, Decision, Denial, Grant, Principal,
};
use reactor_runtime::Registry;
use reactor_testkit::{Postgres, wait};

use crate::engine::{self, Judged, Table};

/// Nothing is cached for longer, so that a test sees what it has just changed.
const CACHE: Duration = Duration::from_millis(1);

pub(crate) struct Db {
    pub(crate) url: String,
    pub(crate) client: tokio_postgres::Client,
    pub(crate) authorizer: PostgresAuthorizer,
    pub(crate) registry: Registry,
}

/// Roles belong to the whole server, so each database has its own: `{r}` in SQL is its prefix.
pub(crate) struct Roles(String);

impl Roles {
    pub(crate) fn name(&self, role: &str) -> String {
        format!("{}_{role}", self.0)
    }
}

impl Db {
    /// A database of its own on the shared server, with these tables.
    pub(crate) async fn new(sql: &str) -> (Self, Roles) {
        Self::on(Postgres::shared().await.unwrap(), sql).await
    }

    /// As [`Self::new`], on this server.
    pub(crate) async fn on(server: &Postgres, sql: &str) -> (Self, Roles) {
        Self::with(server, sql, |_| {}).await
    }

    /// As [`Self::on`], with other settings.
    pub(crate) async fn with(server: &Postgres, sql: &str, change: impl FnOnce(&mut PolicySettings)) -> (Self, Roles) {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("policy{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let url = server.create_database(&name).await.unwrap();
        let client = server.connect_to(&name).await.unwrap();
        client.batch_execute(&sql.replace("{r}", &name)).await.unwrap();
        let mut settings = settings(&url);
        change(&mut settings);
        let registry = Registry::new();
        let authorizer = PostgresAuthorizer::new(settings, &registry);
        (Self { url, client, authorizer, registry }, Roles(name))
    }

    /// Until the catalog has been looked at after what was done.
    pub(crate) async fn settled(&self) {
        let mut readings = self.authorizer.watch("acme".parse().unwrap());
        for _ in 0..3 {
            readings.next().await.unwrap();
        }
    }

    /// The names of the rows that are seen.
    pub(crate) async fn seen(&self, request: AuthorizeRequest) -> (Vec<String>, Judged) {
        let principal = request.principal.clone();
        let (schema, table) = (request.schema.clone(), request.table.clone());
        let grant = self.allowed(request).await;
        let session = engine::session(&self.url).await;
        let table = Table::read(&session, &schema, &table).await;
        let judged = engine::judge(&self.authorizer, &principal, &grant, &table).await;
        let seen = table.rows.iter().zip(&judged.visible).filter(|(_, seen)| **seen);
        (seen.map(|(row, _)| row[0].clone().unwrap()).collect(), judged)
    }

    /// As [`Self::seen`], and it must be what Postgres shows.
    pub(crate) async fn seen_as_in_postgres(&self, request: AuthorizeRequest) -> (Vec<String>, Judged) {
        let shown = self.shown(&request).await;
        let (seen, judged) = self.seen(request).await;
        assert_eq!(shown, Some(seen.clone()), "what Postgres shows (left) is what is seen: {judged:?}");
        (seen, judged)
    }

    /// The names of the rows that Postgres shows; `None` when it raises.
    pub(crate) async fn shown(&self, request: &AuthorizeRequest) -> Option<Vec<String>> {
        let AuthorizeRequest { principal, schema, table, .. } = request;
        let claims: serde_json::Value = serde_json::from_str(&principal.claims_json).unwrap();
        let sub = claims["sub"].as_str().unwrap_or_default().to_owned();
        self.client.batch_execute("begin").await.unwrap();
        let set = "select set_config('request.jwt.claims', $1, true), set_config('request.jwt.claim.sub', $2, true), set_config('role', $3, true)";
        self.client.execute(set, &[&principal.claims_json, &sub, &principal.role]).await.unwrap();
        let sql = format!("select format('%s', t.id) from \"{schema}\".\"{table}\" t order by t.id");
        let shown = self.client.query(&sql, &[]).await;
        self.client.batch_execute("rollback").await.unwrap();
        Some(shown.ok()?.iter().map(|row| row.get(0)).collect())
    }

    /// The value of a counter with these labels.
    pub(crate) fn counted(&self, name_and_labels: &str) -> u64 {
        let text = self.registry.render();
        let line = text.lines().find_map(|line| line.strip_prefix(name_and_labels)?.strip_prefix(' '));
        line.map_or(0, |value| value.trim().parse().unwrap())
    }

    pub(crate) async fn run(&self, sql: &str) {
        self.client.batch_execute(sql).await.unwrap();
        wait::elapse(CACHE * 20, "longer than the cache keeps anything").await;
    }

    pub(crate) async fn ask(&self, request: AuthorizeRequest) -> Decision {
        self.authorizer.authorize(request).await.unwrap()
    }

    pub(crate) async fn allowed(&self, request: AuthorizeRequest) -> Grant {
        match self.ask(request).await {
            Decision::Allow(grant) => grant,
            Decision::Deny(denial) => panic!("denied: {denial:?}"),
        }
    }

    pub(crate) async fn denied(&self, request: AuthorizeRequest) -> Denial {
        match self.ask(request).await {
            Decision::Deny(denial) => denial,
            Decision::Allow(grant) => panic!("allowed: {grant:?}"),
        }
    }

    /// Compares a text of each value with the operand in the column.
    pub(crate) async fn compare(&self, table: &str, condition: &str, values: &[&str]) -> Vec<Truth> {
        self.try_compare(comparisons(table, condition, values)).await.unwrap()
    }

    pub(crate) async fn try_compare(&self, comparisons: Vec<Comparison>) -> Result<Vec<Truth>, AuthorizerError> {
        self.authorizer.compare("acme".parse().unwrap(), comparisons).await
    }
}

pub(crate) fn settings(url: &str) -> PolicySettings {
    let mut settings = PolicySettings::new("acme".parse().unwrap(), PgTarget::parse(url).unwrap(), "supabase_realtime");
    settings.catalog_cache = CACHE;
    settings
}

pub(crate) fn comparisons(table: &str, condition: &str, values: &[&str]) -> Vec<Comparison> {
    let Filter::Condition(condition) = one(condition) else { panic!("{condition} is not one condition") };
    let comparison = |value: &&str| Comparison {
        schema: "public".into(),
        table: table.into(),
        column: condition.column.clone(),
        operation: condition.operation.clone(),
        value: (*value).to_owned(),
    };
    values.iter().map(comparison).collect()
}

/// `column.operator.value` or `column.in.a|b`, put together without the grammar.
pub(crate) fn one(text: &str) -> Filter {
    let (column, rest) = text.split_once('.').unwrap();
    let (operator, value) = rest.split_once('.').unwrap();
    let operator = Operator::from_name(operator).unwrap();
    let operand = match operator {
        Operator::In => Operand::List(value.split('|').map(String::from).collect()),
        _ => Operand::Text(value.to_owned()),
    };
    let operation = Operation { operator, operand };
    Filter::Condition(reactor_model::filter::Condition { column: column.into(), negated: false, operation })
}

pub(crate) fn request(role: &str, table: &str) -> AuthorizeRequest {
    AuthorizeRequest {
        tenant: "acme".parse().unwrap(),
        principal: Principal { role: role.into(), permissions: Default::default(), claims_json: "{}".into() },
        schema: "public".into(),
        table: table.into(),
        select: Vec::new(),
        filter: Filter::And(Vec::new()),
    }
}

pub(crate) trait With {
    fn with_permission(self, permission: &str) -> Self;
    fn with_select(self, columns: &[&str]) -> Self;
    fn with_filter(self, condition: &str) -> Self;
    fn in_schema(self, schema: &str) -> Self;
    fn with_claims(self, claims: serde_json::Value) -> Self;
}

impl With for AuthorizeRequest {
    fn with_permission(mut self, permission: &str) -> Self {
        self.principal.permissions.insert(permission.into());
        self
    }

    fn with_select(mut self, columns: &[&str]) -> Self {
        self.select = columns.iter().map(|column| (*column).to_owned()).collect();
        self
    }

    fn with_filter(mut self, condition: &str) -> Self {
        self.filter = one(condition);
        self
    }

    fn with_claims(mut self, claims: serde_json::Value) -> Self {
        self.principal.claims_json = claims.to_string();
        self
    }

    fn in_schema(mut self, schema: &str) -> Self {
        self.schema = schema.into();
        self
    }
}

/// `auth.uid()` and `auth.jwt()` as applications of the field have them.
pub(crate) const AUTH: &str = "
create schema auth;
create function auth.uid() returns uuid language sql stable as $$
  select coalesce(nullif(current_setting('request.jwt.claim.sub', true), ''),
                  (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub'))::uuid
$$;
create function auth.jwt() returns jsonb language sql stable as $$
  select nullif(current_setting('request.jwt.claims', true), '')::jsonb
$$;
grant usage on schema auth to public;
";

/// Two users.
pub(crate) const ANN: &str = "00000000-0000-0000-0000-00000000000a";
pub(crate) const BOB: &str = "00000000-0000-0000-0000-00000000000b";

/// The operand of a filter of one condition.
pub(crate) fn operand(filter: &BoundFilter) -> &Operand {
    match filter {
        BoundFilter::Condition(bound) => &bound.condition.operation.operand,
        BoundFilter::And(parts) | BoundFilter::Or(parts) => operand(&parts[0]),
    }
}
