//! Patterns, beside Postgres's `LIKE`, `ILIKE`, `~` and `~*`.

use anyhow::{Context, Result};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};
use reactor_model::filter::{BoundFilter, Condition, Filter, Operand, Operation, Operator, Outcome, Truth};

use crate::comparing::{truth, tuple};
use crate::database::{Database, cases};
use crate::values::Texts;

/// Columns of the test table that patterns are matched with natively, with their types.
const COLUMNS: &[(&str, &str)] =
    &[("text_", "text"), ("text_icu", "text"), ("varchar_", "varchar(5)"), ("bpchar_", "char(5)"), ("label_", "text")];

#[tokio::test]
async fn like_matches_as_in_postgres() -> Result<()> {
    let database = Database::open().await?;
    let patterns = prop_oneof!["[ab_%A]{0,6}", "([ab_%]|\\\\[ab_%]|é|😀|ß){0,6}"].boxed();
    for (operator, sql) in [(Operator::Like, "like"), (Operator::Ilike, "ilike")] {
        for (column, sql_type) in COLUMNS {
            let collation = if column.ends_with("icu") { " collate \"en-x-icu\"" } else { "" };
            let sql = format!("(value::{sql_type}{collation} {sql} pattern)::text");
            let pairs = pairs(patterns.clone(), "[abAB]{0,5}|[aéß😀 ]{0,4}".boxed())?;
            let decided = check(&database, column, sql_type, operator, &sql, &pairs).await?;
            let least = if operator == Operator::Like { pairs.len() } else { pairs.len() / 4 };
            assert!(decided >= least, "{operator} on {column}: {decided} of {}", pairs.len());
        }
    }
    Ok(())
}

#[tokio::test]
async fn regular_expressions_match_as_in_postgres() -> Result<()> {
    let database = Database::open().await?;
    for operator in [Operator::Match, Operator::Imatch] {
        for (column, sql_type) in COLUMNS {
            // The function's own collation would be that of its arguments.
            let collation = if column.ends_with("icu") { " collate \"en-x-icu\"" } else { "" };
            let sql = format!("matches(value::{sql_type}::text{collation}, '{operator}', pattern)");
            let pairs = pairs(expressions(), "[abAB\n]{0,5}|[a-c.é]{0,4}".boxed())?;
            let pairs: Vec<_> =
                pairs.into_iter().filter(|(value, _)| *column != "bpchar_" || value.len() == 5).collect();
            let decided = check(&database, column, sql_type, operator, &sql, &pairs).await?;
            assert!(decided > pairs.len() / 5, "{operator} on {column}: {decided} of {}", pairs.len());
        }
    }
    Ok(())
}

/// Expressions of the common part, and anything.
fn expressions() -> Texts {
    let leaf = prop_oneof![
        4 => "[abcAB]",
        1 => proptest::sample::select(vec![".", "^", "$", "[ab]", "[^b]", "[a-cX]", "[^A-B-]", "\\.", "\\$", "é", "<", "#"])
            .prop_map(str::to_owned),
    ];
    let common = leaf.prop_recursive(4, 24, 4, |inner| {
        let quantifier = proptest::sample::select(vec!["*", "+", "?", "{2}", "{0,1}", "{1,}"]);
        prop_oneof![
            proptest::collection::vec(inner.clone(), 1..4).prop_map(|parts| parts.concat()),
            (inner.clone(), inner.clone()).prop_map(|(left, right)| format!("({left}|{right})")),
            (inner, quantifier).prop_map(|(inner, quantifier)| format!("({inner}){quantifier}")),
        ]
    });
    prop_oneof![3 => common, 1 => "[ab.*+?(){}|^$\\[\\]\\\\0-9,<>wdm:=!-]{0,7}"].boxed()
}

fn pairs(patterns: Texts, values: Texts) -> Result<Vec<(String, String)>> {
    let mut runner = TestRunner::new(Config::default());
    let strategy = (values, patterns);
    let one = |_| strategy.new_tree(&mut runner).map(|tree| tree.current());
    (0..cases()).map(one).collect::<Result<_, _>>().map_err(|reason| anyhow::anyhow!("{reason}"))
}

/// Compares what is decided without Postgres with what it says; how many were.
async fn check(
    database: &Database,
    column: &str,
    sql_type: &str,
    operator: Operator,
    sql: &str,
    pairs: &[(String, String)],
) -> Result<usize> {
    let index = database.relation.column_index(column).context("a column of the table")?;
    let (values, patterns): (Vec<_>, Vec<_>) = pairs.iter().cloned().unzip();
    let sql = format!(
        "select format('%s', value::{sql_type}), {sql}
           from unnest($1::text[], $2::text[]) with ordinality as input(value, pattern, place) order by place"
    );
    let rows = database.client.query(&sql, &[&values, &patterns]).await.context(column.to_owned())?;
    let mut decided = 0;
    for (row, pattern) in rows.iter().zip(&patterns) {
        let (value, expected): (String, Option<String>) = (row.get(0), row.get(1));
        let operand = Operand::Text(pattern.clone());
        let operation = Operation { operator, operand: operand.clone() };
        let filter = Filter::Condition(Condition { column: column.to_owned(), negated: false, operation });
        let bound = BoundFilter::bind(&filter, &database.relation, &[operand])?;
        let compiled = bound.compile(&database.relation)?;
        if let Outcome::Known(known) = compiled.evaluate(&tuple(database, index, Some(&value)), None, None) {
            decided += 1;
            let expected = expected.as_deref();
            assert_ne!(expected, Some("refused"), "{operator} {pattern:?} is not refused");
            let expected: Truth = truth(expected.map(|text| text == "true"));
            assert_eq!(known, expected, "{operator} {pattern:?} on {value:?} in {column}");
        }
    }
    Ok(decided)
}
