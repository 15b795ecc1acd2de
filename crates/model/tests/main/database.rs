//! A database with a table that has a column of every kind.

use anyhow::{Context, Result};
use reactor_model::Relation;
use reactor_pg::{Client, PgTarget, catalog};
use reactor_testkit::Postgres;
use tokio::sync::OnceCell;

use crate::kinds::{Kind, kinds};

const TYPES: &str = r#"
    create extension hstore;
    create extension citext;
    create collation caseless (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
    create type mood as enum ('sad', 'ok', 'a "b", c');
    create type pair as (longer int4, a text, "t z" timestamptz);
    create type nested as (p pair, moods mood[], j json, pairs pair[]);
    create domain score as int4 check (value > -1000000);
    create domain label as text;
    create domain scores as score[];
    create domain person as pair;
    create function matches(value text, operator text, pattern text) returns text language plpgsql as $$
    begin
        return case operator when 'match' then value ~ pattern else value ~* pattern end;
    exception when invalid_regular_expression then
        return 'refused';
    end $$;
"#;

/// How many values of each type are tried, each in several ways: few enough for a test that is run often.
pub(crate) fn cases() -> usize {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(64)
}

/// A session of its own and the table's description.
pub(crate) struct Database {
    pub(crate) client: Client,
    pub(crate) relation: Relation,
    /// The types to which operands are cast.
    pub(crate) cast_types: Vec<String>,
}

impl Database {
    pub(crate) async fn open() -> Result<Self> {
        static URL: OnceCell<String> = OnceCell::const_new();
        let url = URL.get_or_try_init(create).await?;
        let client = reactor_pg::connect(&PgTarget::parse(url)?, "model-tests").await?;
        let info = catalog::relation_by_name(&client, "none", "public", "every_kind").await?;
        client.batch_execute("set search_path = public").await?;
        let info = info.context("the table exists")?;
        Ok(Self { client, relation: info.relation, cast_types: info.cast_types })
    }
}

async fn create() -> Result<String> {
    let postgres = Postgres::shared().await?;
    let url = postgres.create_database("model").await?;
    let columns: Vec<_> = kinds().iter().map(Kind::column_sql).collect();
    postgres.execute_in("model", TYPES).await?;
    postgres.execute_in("model", &format!("create table every_kind ({})", columns.join(", "))).await?;
    Ok(url)
}
