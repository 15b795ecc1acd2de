//! Policies that are judged without Postgres, with an outcome that is provably the same.
//!
//! Of `AND`, `OR` and `coalesce` Postgres evaluates what it likes, and some of it when it makes the plan. So nothing in them
//! may raise: what could for some row does not qualify, and what depends on no row is tried first.

use reactor_model::Relation;

use super::bind::bound;
use super::raising::{has_every_value, type_of};
use super::types::TEXT;
use super::{Binding, BoundValue, Template};
use crate::eval::{Lookup, RowImage, Sets, Verdict};
use crate::program::{Predicate, Scalar};

/// A template of which no part is left to Postgres.
#[derive(Clone, Debug)]
pub struct Standalone {
    template: Template,
    /// Values without columns that may raise.
    tried: Vec<Scalar>,
    /// Bindings that are part of a pattern.
    patterns: Vec<usize>,
}

impl Standalone {
    /// The template, if it is one.
    #[must_use]
    pub fn new(template: Template) -> Option<Self> {
        let mut found = Found::default();
        let is_one = template.sets.is_empty() && found.predicate(&template.predicate);
        is_one.then_some(Self { template, tried: found.tried, patterns: found.patterns })
    }

    /// What must be known to judge rows.
    #[must_use]
    pub fn bindings(&self) -> &[Binding] {
        &self.template.bindings
    }

    /// Whether the policies are true for each of the rows; `None`: only Postgres can tell. `values` are those of the bindings,
    /// in their order.
    #[must_use]
    pub fn judge(&self, values: &[BoundValue], relation: &Relation, rows: &[RowImage<'_>]) -> Option<Vec<bool>> {
        let is_plain = |index: &usize| match values.get(*index) {
            Some(BoundValue::Value(text)) => text.as_ref().is_none_or(|text| !text.contains('\\')),
            Some(BoundValue::Raised) | None => false,
        };
        if values.contains(&BoundValue::Raised) || !self.patterns.iter().all(is_plain) {
            return None;
        }
        let no_row = RowImage { image: &reactor_model::tuple::Tuple::from_values([]), fallback: None, held: Some(&[]) };
        for value in &self.tried {
            let tried = Predicate::IsNull(bound(value, values)?).compile(relation).ok()?;
            if !matches!(tried.evaluate(&no_row, &NoSets), Verdict::True | Verdict::False) {
                return None;
            }
        }
        let policy = self.template.bind(values, String::new).predicate.compile(relation).ok()?;
        let judge = |row: &RowImage<'_>| match policy.evaluate(row, &NoSets) {
            Verdict::True => Some(true),
            Verdict::False | Verdict::Unknown => Some(false),
            Verdict::Ask | Verdict::Missing | Verdict::Raised => None,
        };
        rows.iter().map(judge).collect()
    }
}

struct NoSets;

impl Sets for NoSets {
    fn lookup(&self, _: usize, _: &[Option<&[u8]>]) -> Lookup {
        Lookup::default()
    }
}

/// What is found in a predicate on the way; each visit says whether it qualifies.
#[derive(Default)]
struct Found {
    tried: Vec<Scalar>,
    patterns: Vec<usize>,
}

impl Found {
    fn predicate(&mut self, predicate: &Predicate) -> bool {
        match predicate {
            Predicate::Const(_) => true,
            Predicate::And(parts) | Predicate::Or(parts) => parts.iter().all(|part| self.predicate(part)),
            Predicate::Not(operand) | Predicate::Is { operand, .. } => self.predicate(operand),
            Predicate::Compare { left, right, .. } | Predicate::Quantified { left, array: right, .. } => {
                self.value(left) && self.value(right)
            }
            Predicate::Like { text, pattern, .. } => self.value(text) && self.value(pattern) && self.pattern(pattern),
            Predicate::IsNull(value) | Predicate::Bool(value) => self.value(value),
            Predicate::Member { .. } | Predicate::Raise | Predicate::Ask => false,
        }
    }

    fn value(&mut self, value: &Scalar) -> bool {
        match value {
            Scalar::Column { .. } | Scalar::Literal { .. } | Scalar::Bound { .. } => true,
            Scalar::Cast { operand, type_oid } => {
                let is_total = type_of(operand).is_some_and(|from| has_every_value(from, *type_oid));
                if !is_total && has_column(operand) {
                    return false;
                }
                if !is_total && !self.tried.contains(value) {
                    self.tried.push(value.clone());
                }
                self.value(operand)
            }
            Scalar::Lower(operand) | Scalar::Upper(operand) => self.value(operand),
            Scalar::Concat(left, right)
            | Scalar::JsonGet { json: left, key: right, .. }
            | Scalar::JsonPath { json: left, path: right, .. } => self.value(left) && self.value(right),
            Scalar::Coalesce(parts) => parts.iter().all(|part| self.value(part)),
            Scalar::Truth(predicate) => self.predicate(predicate),
        }
    }

    /// Whether a pattern is put together from texts; one that ends within an escape raises for some texts.
    fn pattern(&mut self, value: &Scalar) -> bool {
        match value {
            Scalar::Literal { text, .. } => text.as_ref().is_none_or(|text| !text.contains('\\')),
            Scalar::Bound { index, .. } => {
                self.patterns.push(*index);
                true
            }
            Scalar::Cast { operand, type_oid: TEXT } | Scalar::Lower(operand) | Scalar::Upper(operand) => {
                self.pattern(operand)
            }
            Scalar::Concat(left, right) => self.pattern(left) && self.pattern(right),
            Scalar::Coalesce(parts) => parts.iter().all(|part| self.pattern(part)),
            Scalar::Column { .. }
            | Scalar::Cast { .. }
            | Scalar::JsonGet { .. }
            | Scalar::JsonPath { .. }
            | Scalar::Truth(_) => false,
        }
    }
}

fn has_column(value: &Scalar) -> bool {
    let mut found = std::collections::BTreeSet::new();
    super::settled::value_columns(value, &mut found);
    !found.is_empty()
}
