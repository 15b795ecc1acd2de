//! A table with a column of every kind, sets to look rows up in, and a function that judges a row.

use anyhow::{Context, Result, ensure};
use proptest::test_runner::TestRunner;
use reactor_model::Relation;
use reactor_model::tuple::{Datum, Tuple};
use reactor_pg::{Client, PgTarget, catalog};
use reactor_policy_engine::{Lookup, Sets};
use reactor_testkit::Postgres;

use super::kinds::KINDS;
use super::random::Random;

const ROWS: usize = 80;

const SCHEMA: &str = r#"
    create type mood as enum ('sad', 'ok', 'a "b", c');
    create table set0 (k1 int4);
    insert into set0 values (1), (12), (-2147483648);
    create table set1 (k1 int4);
    insert into set1 values (1), (null);
    create table set2 (k1 int4);
    create table set3 (k1 text);
    insert into set3 values ('a'), ('é'), ('t');
    create table set4 (k1 int4, k2 text);
    insert into set4 values (1, 'a'), (12, null), (0, 'b');
    create function judge(expression text, row_id int4) returns text language plpgsql as $$
    declare
        result bool;
    begin
        execute 'select ' || expression || ' from every_kind where id = $1' into result using row_id;
        return coalesce(result::text, 'unknown');
    exception
        when indeterminate_collation then return 'collation';
        when syntax_error_or_access_rule_violation then return 'broken: ' || sqlerrm;
        when others then return 'raised';
    end $$;
"#;

/// What Postgres says of a predicate for a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    True,
    False,
    Unknown,
    Raised,
    /// Texts of different collations have met, of which a relation does not tell all.
    Collation,
}

/// A session of its own, the table's description, and its rows.
pub(crate) struct Database {
    client: Client,
    pub(crate) relation: Relation,
    pub(crate) rows: Vec<Vec<Option<String>>>,
    pub(crate) sets: Contents,
}

/// The rows of each set.
pub(crate) struct Contents(Vec<Vec<Vec<Option<String>>>>);

impl Sets for Contents {
    fn lookup(&self, set: usize, values: &[Option<&[u8]>]) -> Lookup {
        let rows = &self.0[set];
        let is_found = |row: &Vec<Option<String>>| {
            let equal = |(key, value): (&Option<String>, &Option<&[u8]>)| {
                key.as_ref().zip(*value).is_some_and(|(key, value)| key.as_bytes() == value)
            };
            row.len() == values.len() && row.iter().zip(values).all(equal)
        };
        Lookup {
            found: rows.iter().any(is_found),
            any_row: !rows.is_empty(),
            any_null_key: rows.iter().flatten().any(Option::is_none),
        }
    }
}

impl Database {
    pub(crate) async fn create(runner: &mut TestRunner) -> Result<Self> {
        let postgres = Postgres::shared().await?;
        let url = postgres.create_database("policy_engine").await?;
        let client = reactor_pg::connect(&PgTarget::parse(&url)?, "policy-engine-tests").await?;
        client.batch_execute("set search_path = public").await?;
        client.batch_execute(SCHEMA).await?;
        let columns = KINDS.iter().map(|kind| {
            let collation = kind.collation.map(|name| format!(" collate \"{name}\"")).unwrap_or_default();
            format!("\"{}_\" {}{collation}", kind.sql, kind.sql)
        });
        let columns = columns.collect::<Vec<_>>().join(", ");
        client.batch_execute(&format!("create table every_kind (id int4 primary key, {columns})")).await?;
        fill(&client, runner).await?;
        let info = catalog::relation_by_name(&client, "none", "public", "every_kind").await?;
        let relation = info.context("the table exists")?.relation;
        let (rows, sets) = (rows(&client).await?, contents(&client).await?);
        Ok(Self { client, relation, rows, sets: Contents(sets) })
    }

    /// What Postgres says of each expression for a row.
    pub(crate) async fn judge(&self, questions: &[(String, usize)]) -> Result<Vec<Said>> {
        let (expressions, ids): (Vec<_>, Vec<_>) =
            questions.iter().map(|(sql, row)| (sql.as_str(), i32::try_from(*row).expect("few rows"))).unzip();
        let sql = "select judge(expression, id) from unnest($1::text[], $2::int4[]) with ordinality as q(expression, id, place)
                    order by place";
        let rows = self.client.query(sql, &[&expressions, &ids]).await?;
        ensure!(rows.len() == questions.len(), "an answer for each question");
        let answers: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        let said = |(answer, (sql, _)): (&String, &(String, usize))| {
            Ok(match answer.as_str() {
                "true" => Said::True,
                "false" => Said::False,
                "unknown" => Said::Unknown,
                "raised" => Said::Raised,
                "collation" => Said::Collation,
                broken => anyhow::bail!("{broken}: {sql}"),
            })
        };
        answers.iter().zip(questions).map(said).collect()
    }

    pub(crate) fn image(&self, row: usize) -> Tuple {
        Tuple::from_values(self.rows[row].iter().map(|value| match value {
            Some(text) => Datum::Text(text.as_bytes()),
            None => Datum::Null,
        }))
    }
}

async fn fill(client: &Client, runner: &mut TestRunner) -> Result<()> {
    let mut random = Random(runner);
    for id in 0..ROWS {
        let mut sql = format!("insert into every_kind values ({id}");
        for kind in KINDS {
            let value = random.pick(kind.values).replace('\'', "''");
            let value = if random.one_in(10) { "null".to_owned() } else { format!("'{value}'") };
            sql.push_str(&format!(", {value}::{}", kind.sql));
        }
        client.batch_execute(&(sql + ")")).await.context("a row")?;
    }
    Ok(())
}

async fn rows(client: &Client) -> Result<Vec<Vec<Option<String>>>> {
    let columns =
        KINDS.iter().map(|kind| format!(r#"case when "{0}_" is not null then format('%s', "{0}_") end"#, kind.sql));
    let sql = format!(
        "select array[format('%s', id), {}] from every_kind order by id",
        columns.collect::<Vec<_>>().join(", ")
    );
    Ok(client.query(&sql, &[]).await?.iter().map(|row| row.get(0)).collect())
}

async fn contents(client: &Client) -> Result<Vec<Vec<Vec<Option<String>>>>> {
    let mut sets = Vec::new();
    for (set, keys) in super::generate::SETS.iter().enumerate() {
        let keys: Vec<_> = (1..=keys.len()).map(|key| format!("k{key}::text")).collect();
        let sql = format!("select array[{}] from set{set}", keys.join(", "));
        sets.push(client.query(&sql, &[]).await?.iter().map(|row| row.get(0)).collect());
    }
    Ok(sets)
}
