//! Verdicts beside Postgres's own.

mod database;
mod generate;
mod kinds;
mod print;
mod random;

use anyhow::Result;
use proptest::test_runner::{Config, TestRunner};
use reactor_model::filter::Truth;
use reactor_model::tuple::Datum;
use reactor_policy_engine::{Comparator, CompiledPredicate, IndexKey, Lookup, Predicate, RowImage, Sets, Verdict};

use database::{Database, Said};
use generate::{Generator, kind_of};
use kinds::{Class, KINDS};
use random::Random;

/// Rows that each predicate is tried on.
const ROWS_OF_EACH: usize = 6;

/// How many predicates are tried: few enough for a test that is run often.
fn cases() -> usize {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(64) * 50
}

#[derive(Debug, Default)]
struct Counts {
    tried: usize,
    asked: usize,
    raised: usize,
    /// Not seen for another reason than Postgres has.
    passed_over: usize,
}

#[tokio::test]
async fn verdicts_are_those_of_postgres() -> Result<()> {
    let mut runner = TestRunner::new(Config::default());
    let database = Database::create(&mut runner).await?;
    check_native(&database, &mut runner)?;
    let mut counts = Counts::default();
    for _ in 0..cases().div_ceil(400) {
        let mut generator =
            Generator { random: Random(&mut runner), relation: &database.relation, rows: &database.rows };
        let predicates: Vec<_> = (0..400).map(|index| generator.predicate(index % 4)).collect();
        let mut questions = Vec::new();
        for predicate in &predicates {
            let sql = print::predicate(&database.relation, predicate);
            questions.extend((0..ROWS_OF_EACH).map(|_| (sql.clone(), generator.random.below(database.rows.len()))));
        }
        let said = database.judge(&questions).await?;
        for (index, predicate) in predicates.iter().enumerate() {
            let of_each = index * ROWS_OF_EACH..(index + 1) * ROWS_OF_EACH;
            for ((sql, row), said) in questions[of_each.clone()].iter().zip(&said[of_each]) {
                if *said != Said::Collation {
                    let check = Check { database: &database, sql, row: *row, said: *said };
                    check.verdicts(predicate, &mut counts)?;
                    check.with_values_missing(predicate, &mut generator.random)?;
                }
            }
        }
    }
    println!("{counts:?}");
    assert!(counts.asked * 3 < counts.tried, "most verdicts need no question: {counts:?}");
    Ok(())
}

/// Casts that are never left to Postgres.
const NATIVE_CASTS: &[(&str, &str)] = &[
    ("text", "uuid"),
    ("varchar", "bool"),
    ("uuid", "text"),
    ("bool", "text"),
    ("bpchar", "text"),
    ("mood", "text"),
    ("jsonb", "text"),
    ("int4", "int8"),
    ("int8", "int4"),
    ("int8", "numeric"),
    ("numeric", "int4"),
    ("float8", "int8"),
    ("timestamp", "date"),
    ("date", "timestamp"),
];

/// What most policies are made of must not be asked about.
fn check_native(database: &Database, runner: &mut TestRunner) -> Result<()> {
    let mut generator = Generator { random: Random(runner), relation: &database.relation, rows: &database.rows };
    for kind in KINDS {
        let equality = generator.with_literal(kind, Comparator::Eq).compile(&database.relation)?;
        assert!(!equality.may_ask(), "equality of {}", kind.sql);
        let order = generator.with_literal(kind, Comparator::Lt).compile(&database.relation)?;
        let is_left_to_postgres = matches!(kind.sql, "jsonb" | "mood") || kind.class == Class::Array;
        assert!(!order.may_ask() || is_left_to_postgres, "order of {}", kind.sql);
    }
    for (from, to) in NATIVE_CASTS {
        let cast = generator.with_cast(kind_of(from), kind_of(to)).compile(&database.relation)?;
        assert!(!cast.may_ask(), "{from} to {to}");
    }
    Ok(())
}

struct Check<'a> {
    database: &'a Database,
    sql: &'a str,
    row: usize,
    said: Said,
}

impl Check<'_> {
    fn verdicts(&self, predicate: &Predicate, counts: &mut Counts) -> Result<()> {
        let compiled = predicate.compile(&self.database.relation)?;
        let verdict = self.judge(&compiled, &|_| false);
        counts.tried += 1;
        match (verdict, self.said) {
            (Verdict::Ask, _) if compiled.may_ask() => counts.asked += 1,
            (Verdict::True, Said::True)
            | (Verdict::False, Said::False)
            // A whole predicate need not tell these apart.
            | (Verdict::Unknown, Said::Unknown | Said::False) => {}
            (Verdict::Raised, Said::Raised) => counts.raised += 1,
            // Nor these: a part that is left open may raise before one that is not true, but the row is not seen.
            (Verdict::False | Verdict::Unknown, Said::Raised) | (Verdict::Raised, Said::False | Said::Unknown)
                if self.asks(predicate)? =>
            {
                counts.passed_over += 1;
            }
            _ => self.fail(verdict),
        }
        for (value, same) in [(Truth::True, Said::True), (Truth::False, Said::False), (Truth::Unknown, Said::Unknown)] {
            let is = Predicate::Is { operand: Box::new(predicate.clone()), value, negated: false };
            let is = is.compile(&self.database.relation)?;
            match (self.judge(&is, &|_| false), self.said) {
                (Verdict::Ask, _) if is.may_ask() => {}
                (Verdict::True, said) if said == same => {}
                (Verdict::False, Said::True | Said::False | Said::Unknown) if self.said != same => {}
                (Verdict::Raised, Said::Raised) => {}
                (Verdict::False, Said::Raised) if value == Truth::True && self.asks(predicate)? => {}
                (Verdict::Raised, Said::False | Said::Unknown) if value == Truth::True && self.asks(predicate)? => {}
                (verdict, _) => self.fail(verdict),
            }
        }
        if self.said == Said::True {
            self.has_key(&compiled);
        }
        let columns = compiled.columns();
        assert_eq!(self.judge(&compiled, &|column| !columns.contains(&column)), verdict, "{}", self.sql);
        Ok(())
    }

    /// Whether a part may ask, even if another decides before any row.
    fn asks(&self, predicate: &Predicate) -> Result<bool> {
        let mut asks = false;
        generate::for_each_part(predicate, &mut |part| {
            let compiled = part.compile(&self.database.relation)?;
            asks |= compiled.may_ask();
            Ok(())
        })?;
        Ok(asks)
    }

    /// Whatever the missing values are, a verdict is not the contrary of Postgres's.
    fn with_values_missing(&self, predicate: &Predicate, random: &mut Random<'_>) -> Result<()> {
        let compiled = predicate.compile(&self.database.relation)?;
        let left_out: Vec<_> = compiled.columns().into_iter().filter(|_| random.one_in(2)).collect();
        let verdict = self.judge(&compiled, &|column| left_out.contains(&column));
        match (verdict, self.said) {
            (Verdict::True, Said::True | Said::Raised)
            | (Verdict::False, Said::False | Said::Raised)
            | (Verdict::Unknown | Verdict::Raised, Said::False | Said::Unknown | Said::Raised)
            | (Verdict::Ask | Verdict::Missing, _) => {}
            _ => self.fail(verdict),
        }
        Ok(())
    }

    fn judge(&self, compiled: &CompiledPredicate, is_left_out: &dyn Fn(usize) -> bool) -> Verdict {
        let image = self.database.image(self.row);
        let held: Vec<_> = (0..image.len()).map(|column| !is_left_out(column)).collect();
        compiled.evaluate(&RowImage { image: &image, fallback: None, held: Some(&held) }, &self.database.sets)
    }

    /// A row that is seen is found by the index.
    fn has_key(&self, compiled: &CompiledPredicate) {
        let image = self.database.image(self.row);
        let has = |key: &IndexKey| match key {
            IndexKey::Value { column, text } => image.get(*column) == Some(Datum::Text(text)),
            IndexKey::Set { column, set } => match image.get(*column) {
                Some(Datum::Text(text)) => {
                    let Lookup { found, .. } = self.database.sets.lookup(*set, &[Some(text)]);
                    found
                }
                _ => false,
            },
        };
        if let Some(keys) = compiled.index_keys() {
            assert!(keys.iter().any(has), "no key of {} fits row {}", self.sql, self.row);
        }
    }

    fn fail(&self, verdict: Verdict) {
        panic!("{verdict:?}, but Postgres says {:?} of {} for row {}", self.said, self.sql, self.row);
    }
}
