//! Comparisons of values, beside Postgres's own.

use anyhow::{Context, Result};
use proptest::prelude::Rng;
use proptest::test_runner::{Config, TestRunner};
use reactor_model::filter::{
    BoundFilter, Condition, Filter, IsKeyword, Operand, Operation, Operator, Outcome, Truth, operator_is_applicable,
};
use reactor_model::tuple::{Datum, Tuple};

use crate::database::{Database, cases};
use crate::kinds::{Kind, kinds};
use crate::rendering::sample;

/// Operators with the SQL that asks Postgres the same: the value is `v`, the operands are `a` and `b`.
const COMPARISONS: &[(Operator, &str)] = &[
    (Operator::Eq, "v = a"),
    (Operator::Neq, "v <> a"),
    (Operator::Lt, "v < a"),
    (Operator::Lte, "v <= a"),
    (Operator::Gt, "v > a"),
    (Operator::Gte, "v >= a"),
    (Operator::In, "v in (a, b)"),
    (Operator::IsDistinct, "v is distinct from a"),
    (Operator::Is, "v is null"),
];

/// Kinds whose every equality and, marked so, every order must be decided without Postgres.
const NATIVE: &[(&str, bool)] = &[
    ("int2_", true),
    ("int4_", true),
    ("int8_", true),
    ("oid_", true),
    ("numeric_", true),
    ("scaled", true),
    ("float4_", true),
    ("float8_", true),
    ("bool_", true),
    ("uuid_", true),
    ("bytea_", true),
    ("text_", true),
    ("text_c", true),
    ("text_icu", false),
    ("varchar_", true),
    ("bpchar_", true),
    ("bpchar_icu", false),
    ("name_", true),
    ("date_", true),
    ("time_", true),
    ("timetz_", false),
    ("timestamp_", true),
    ("timestamp_ms", true),
    ("timestamptz_", true),
    ("jsonb_", false),
    ("inet_", false),
    ("cidr_", false),
    ("macaddr_", true),
    ("bit_", true),
    ("varbit_", true),
    ("mood_", true),
    ("score_", true),
    ("label_", true),
    ("ints", false),
    ("texts", false),
    ("uuids", false),
    ("moods", false),
    ("scores_", false),
    ("int4range_", false),
    ("tstzrange_", false),
];

struct Row {
    value: Option<String>,
    operands: [String; 2],
    expected: Vec<Option<bool>>,
}

#[tokio::test]
async fn values_compare_as_in_postgres() -> Result<()> {
    let database = Database::open().await?;
    let mut runner = TestRunner::new(Config::default());
    for kind in kinds() {
        let comparisons = applicable(&database, &kind)?;
        let rows = rows(&database, &mut runner, &kind, &comparisons).await?;
        for row in &rows {
            for ((operator, sql), expected) in comparisons.iter().zip(&row.expected) {
                check(&database, &kind, row, *operator, truth(*expected)).context(*sql)?;
            }
        }
    }
    Ok(())
}

/// The comparisons that the type has.
fn applicable(database: &Database, kind: &Kind) -> Result<Vec<(Operator, &'static str)>> {
    let relation = &database.relation;
    let column = &relation.columns[column_index(database, kind)?];
    let applies = |operator: Operator| {
        if kind.column == "hstore_" && is_order(operator) {
            // The operators of an extension are not known to us.
            return false;
        }
        let operation = Operation { operator, operand: Operand::Keyword(IsKeyword::Null) };
        operator_is_applicable(&operation, relation, column).is_ok()
    };
    Ok(COMPARISONS.iter().copied().filter(|(operator, _)| applies(*operator)).collect())
}

async fn rows(
    database: &Database,
    runner: &mut TestRunner,
    kind: &Kind,
    comparisons: &[(Operator, &str)],
) -> Result<Vec<Row>> {
    let cases = cases();
    let pool = sample(runner, kind, cases)?;
    // Half of the operands are values of the pool again, so that equal ones meet.
    let mut other = sample(runner, kind, 2 * cases)?;
    for (index, operand) in other.iter_mut().enumerate() {
        if runner.rng().next_u32().is_multiple_of(2) {
            operand.clone_from(&pool[index % cases]);
        }
    }
    let values: Vec<_> =
        pool.iter().map(|value| (!runner.rng().next_u32().is_multiple_of(10)).then_some(value)).collect();
    let column = column_index(database, kind)?;
    let sql = format!(
        "select case when v_text is not null then format('%s', v) end, a::text, b::text, array[{}]::boolean[]
           from unnest($1::text[], $2::text[], $3::text[]) with ordinality as input(v_text, a_text, b_text, place),
                lateral (select v_text::{}{co} as v, a_text::{ty}{co} as a, b_text::{ty}{co} as b) as cast_input
          order by place",
        comparisons.iter().map(|(_, sql)| *sql).collect::<Vec<_>>().join(", "),
        kind.sql_type,
        ty = database.cast_types[column],
        co = kind.collate_sql(),
    );
    let (first, second) = other.split_at(cases);
    let rows = database.client.query(&sql, &[&values, &first, &second]).await.context(kind.column)?;
    let read =
        rows.iter().map(|row| Row { value: row.get(0), operands: [row.get(1), row.get(2)], expected: row.get(3) });
    Ok(read.collect())
}

/// Evaluates one comparison, with and without `not.`, against what Postgres says.
fn check(database: &Database, kind: &Kind, row: &Row, operator: Operator, expected: Truth) -> Result<()> {
    let column = column_index(database, kind)?;
    let tuple = tuple(database, column, row.value.as_deref());
    let operand = match operator {
        Operator::In => Operand::List(row.operands.to_vec()),
        Operator::Is => Operand::Keyword(IsKeyword::Null),
        _ => Operand::Text(row.operands[0].clone()),
    };
    for negated in [false, true] {
        let operation = Operation { operator, operand: operand.clone() };
        let filter = Filter::Condition(Condition { column: kind.column.to_owned(), negated, operation });
        let bound = BoundFilter::bind(&filter, &database.relation, std::slice::from_ref(&operand))?;
        let compiled = bound.compile(&database.relation)?;
        let result = compiled.evaluate_with(&tuple, None, None, &mut |_, _| Some(expected));
        let wanted = if negated { expected.negate() } else { expected };
        assert_eq!(result, wanted, "{filter} on {:?} of type {}", row.value, kind.sql_type);
        if is_native(kind, operator) {
            assert_eq!(compiled.evaluate(&tuple, None, None), Outcome::Known(wanted), "{filter} on {:?}", row.value);
            // A label may be newer than the description of its type.
            assert_eq!(compiled.may_ask(), kind.column == "mood_" && is_order(operator), "{filter}");
        }
    }
    Ok(())
}

fn is_native(kind: &Kind, operator: Operator) -> bool {
    NATIVE.iter().any(|(column, ordered)| *column == kind.column && (*ordered || !is_order(operator)))
}

fn is_order(operator: Operator) -> bool {
    matches!(operator, Operator::Lt | Operator::Lte | Operator::Gt | Operator::Gte)
}

/// A row in which only this column is not NULL.
pub(crate) fn tuple(database: &Database, column: usize, value: Option<&str>) -> Tuple {
    let datum = |index| match value {
        Some(text) if index == column => Datum::Text(text.as_bytes()),
        _ => Datum::Null,
    };
    Tuple::from_values((0..database.relation.columns.len()).map(datum))
}

fn column_index(database: &Database, kind: &Kind) -> Result<usize> {
    database.relation.column_index(kind.column).context("a column of the table")
}

pub(crate) fn truth(value: Option<bool>) -> Truth {
    value.map_or(Truth::Unknown, Truth::from)
}
