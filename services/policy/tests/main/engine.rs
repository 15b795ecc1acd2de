//! What our own evaluation makes of a decision, as a gateway does: the compiled policy over row images, sets read once, and
//! rows that only Postgres can judge asked about.

use std::collections::HashMap;

use reactor_model::Relation;
use reactor_model::tuple::{Datum, Tuple};
use reactor_pg::{Client, PgTarget, catalog};
use reactor_policy_engine::{
    Authorizer, CheckRequest, CheckedRow, CheckedValue, Grant, Lookup, Members, MembersRequest, Principal, RowImage,
    Sets, Verdict,
};
use tokio_postgres::SimpleQueryMessage;

/// One row's values as Postgres prints them.
pub(crate) type Values = Vec<Option<String>>;

/// A table with all of its rows.
pub(crate) struct Table {
    pub(crate) relation: Relation,
    pub(crate) rows: Vec<Values>,
}

impl Table {
    /// As it is now, in the order of the first column.
    pub(crate) async fn read(client: &Client, schema: &str, table: &str) -> Self {
        let info = catalog::relation_by_name(client, "supabase_realtime", schema, table).await.unwrap().unwrap();
        let name = format!("\"{schema}\".\"{table}\"");
        let names: Vec<String> = info.relation.columns.iter().map(|column| format!("\"{}\"", column.name)).collect();
        let rows = texts(client, &format!("select {} from {name} order by 1", names.join(", "))).await;
        Self { relation: info.relation, rows }
    }
}

/// A session in which values have the text form that the log has.
pub(crate) async fn session(url: &str) -> Client {
    reactor_pg::connect(&PgTarget::parse(url).unwrap(), "policy-tests").await.unwrap()
}

/// The rows of a query as texts.
pub(crate) async fn texts(client: &Client, sql: &str) -> Vec<Values> {
    let messages = client.simple_query(sql).await.unwrap();
    let rows = messages.into_iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    rows.map(|row| (0..row.len()).map(|index| row.get(index).map(str::to_owned)).collect()).collect()
}

/// Rows of sets by their keys.
struct Loaded(Vec<HashMap<Vec<Option<String>>, usize>>);

impl Sets for Loaded {
    fn lookup(&self, set: usize, values: &[Option<&[u8]>]) -> Lookup {
        let Some(rows) = self.0.get(set) else { return Lookup::default() };
        let text = |value: &Option<&[u8]>| value.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        let key: Vec<Option<String>> = values.iter().map(text).collect();
        Lookup {
            found: key.iter().all(Option::is_some) && rows.contains_key(&key),
            any_row: !rows.is_empty(),
            any_null_key: rows.keys().any(|key| key.contains(&None)),
        }
    }
}

/// What became of each row.
#[derive(Debug)]
pub(crate) struct Judged {
    /// Whether it is seen.
    pub(crate) visible: Vec<bool>,
    /// What the compiled policy said of it, before anyone was asked.
    pub(crate) verdicts: Vec<Verdict>,
    /// Sets that were read.
    pub(crate) sets: usize,
    /// Whether some rows may have to be asked about.
    pub(crate) may_ask: bool,
}

impl Judged {
    /// How many rows were asked about.
    pub(crate) fn asked(&self) -> usize {
        self.verdicts.iter().filter(|verdict| **verdict == Verdict::Ask).count()
    }
}

/// Judges all rows under this grant.
pub(crate) async fn judge(authorizer: &dyn Authorizer, principal: &Principal, grant: &Grant, table: &Table) -> Judged {
    let images = Images { must_exist: true, is_held: &|_, _| true };
    judge_images(authorizer, principal, grant, table, &images).await
}

/// What is sent of rows.
pub(crate) struct Images<'a> {
    /// Whether they must still be there.
    pub(crate) must_exist: bool,
    /// Whether the value of this column is in this row's image.
    pub(crate) is_held: &'a (dyn Fn(usize, usize) -> bool + Sync),
}

/// Judges images of all rows under this grant.
pub(crate) async fn judge_images(
    authorizer: &dyn Authorizer,
    principal: &Principal,
    grant: &Grant,
    table: &Table,
    images: &Images<'_>,
) -> Judged {
    let Table { relation, rows } = table;
    let policy = &grant.policy;
    let compiled = policy.predicate.compile(relation).unwrap();
    let mut loaded = Vec::new();
    let mut too_many = false;
    for set in &policy.sets {
        let request = MembersRequest {
            tenant: "acme".parse().unwrap(),
            principal: principal.clone(),
            schema: relation.schema.clone(),
            table: relation.table.clone(),
            set: set.clone(),
        };
        let mut keys = HashMap::new();
        match authorizer.members(request).await.unwrap() {
            Members::Rows(rows) => rows.into_iter().for_each(|row| *keys.entry(row.keys).or_default() += 1),
            Members::TooMany => too_many = true,
            Members::Changed => panic!("the set is gone"),
        }
        loaded.push(keys);
    }
    let sets = Loaded(loaded);
    let verdict = |(index, values): (usize, &Values)| {
        if too_many {
            return Verdict::Ask;
        }
        let image = Tuple::from_values(values.iter().map(|value| match value {
            Some(text) => Datum::Text(text.as_bytes()),
            None => Datum::Null,
        }));
        let held: Vec<bool> = (0..values.len()).map(|column| (images.is_held)(index, column)).collect();
        compiled.evaluate(&RowImage { image: &image, fallback: None, held: Some(&held) }, &sets)
    };
    let verdicts: Vec<Verdict> = rows.iter().enumerate().map(verdict).collect();
    assert!(compiled.may_ask() <= grant.asks_postgres, "who may ask must be told so");
    let asked: Vec<usize> = (0..rows.len()).filter(|index| verdicts[*index] == Verdict::Ask).collect();
    let mut visible: Vec<bool> = verdicts.iter().map(|verdict| *verdict == Verdict::True).collect();
    if !asked.is_empty() {
        assert!(policy.check_key.is_some(), "a policy that asks has a key: {policy:?}");
        let checked = |index: &usize| {
            let mut row = row(&rows[*index], images.must_exist);
            let values = row.values.iter_mut().enumerate();
            values
                .filter(|(column, _)| !(images.is_held)(*index, *column))
                .for_each(|(_, value)| *value = CheckedValue::Missing);
            row
        };
        let checked = asked.iter().map(checked).collect();
        let answers = authorizer.check_rows(check(principal, relation, checked)).await.unwrap();
        for (index, answer) in asked.into_iter().zip(answers) {
            visible[index] = answer;
        }
    }
    Judged { visible, verdicts, sets: policy.sets.len(), may_ask: compiled.may_ask() }
}

/// A question about rows with all columns of the relation.
pub(crate) fn check(principal: &Principal, relation: &Relation, rows: Vec<CheckedRow>) -> CheckRequest {
    CheckRequest {
        tenant: "acme".parse().unwrap(),
        principal: principal.clone(),
        schema: relation.schema.clone(),
        table: relation.table.clone(),
        table_oid: relation.table_oid,
        columns: relation.columns.iter().map(|column| column.name.clone()).collect(),
        rows,
    }
}

pub(crate) fn row(values: &Values, must_exist: bool) -> CheckedRow {
    let value = |value: &Option<String>| value.clone().map_or(CheckedValue::Null, CheckedValue::Text);
    CheckedRow { values: values.iter().map(value).collect(), must_exist }
}
