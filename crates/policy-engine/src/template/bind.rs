//! Puts the values of bindings into a template, and folds what is then constant.

use std::collections::BTreeMap;

use reactor_model::filter::Truth;

use super::fold::{Folder, Stage, is_null, map, visit};
use super::raising::value_never_raises;
use super::{BoundValue, Template};
use crate::program::{MemberMode, MemberSet, Predicate, RowPolicy, Scalar};

/// What is constant only now is evaluated for each row by Postgres, in its place.
const FOLDER: Folder = Folder { stage: Stage::Row };

/// A binding that raised: whatever uses it raises.
struct Raised;

impl Template {
    /// The policy for a principal whose bindings came to `values`, in their order. `check_key` is called when rows may have
    /// to be asked about.
    #[must_use]
    pub fn bind(&self, values: &[BoundValue], check_key: impl FnOnce() -> String) -> RowPolicy {
        let binder = Binder { values };
        let sets: Vec<MemberSet> = self
            .sets
            .iter()
            .map(|template| MemberSet { condition: binder.predicate(&template.set.condition), ..template.set.clone() })
            .collect();
        let predicate = resolve_sets(binder.predicate(&self.predicate), &sets);
        let predicate = seen(FOLDER.fold(predicate));
        let mut used = BTreeMap::new();
        let predicate = renumber(predicate, &mut used);
        let mut kept: Vec<(usize, usize)> = used.into_iter().map(|(old, new)| (new, old)).collect();
        kept.sort_unstable();
        let sets = kept.into_iter().filter_map(|(_, old)| sets.get(old).cloned()).collect();
        let check_key = (!matches!(predicate, Predicate::Const(_))).then(check_key);
        RowPolicy { predicate, sets, check_key }
    }
}

/// A value with those of the bindings in it; `None` when one of them is not there.
pub(super) fn bound(value: &Scalar, values: &[BoundValue]) -> Option<Scalar> {
    Binder { values }.scalar(value).ok()
}

struct Binder<'a> {
    values: &'a [BoundValue],
}

impl Binder<'_> {
    fn predicate(&self, predicate: &Predicate) -> Predicate {
        FOLDER.fold_one(self.bound(predicate).unwrap_or(Predicate::Raise))
    }

    fn bound(&self, predicate: &Predicate) -> Result<Predicate, Raised> {
        Ok(match predicate {
            Predicate::Const(_) | Predicate::Raise | Predicate::Ask => predicate.clone(),
            Predicate::And(parts) => Predicate::And(parts.iter().map(|part| self.predicate(part)).collect()),
            Predicate::Or(parts) => Predicate::Or(parts.iter().map(|part| self.predicate(part)).collect()),
            Predicate::Not(operand) => Predicate::Not(Box::new(self.predicate(operand))),
            Predicate::Is { operand, value, negated } => {
                Predicate::Is { operand: Box::new(self.predicate(operand)), value: *value, negated: *negated }
            }
            Predicate::Compare { operator, left, right } => {
                Predicate::Compare { operator: *operator, left: self.scalar(left)?, right: self.scalar(right)? }
            }
            Predicate::IsNull(value) => Predicate::IsNull(self.scalar(value)?),
            Predicate::Quantified { operator, left, array, all } => Predicate::Quantified {
                operator: *operator,
                left: self.scalar(left)?,
                array: self.scalar(array)?,
                all: *all,
            },
            Predicate::Like { text, pattern, insensitive } => {
                Predicate::Like { text: self.scalar(text)?, pattern: self.scalar(pattern)?, insensitive: *insensitive }
            }
            Predicate::Bool(value) => Predicate::Bool(self.scalar(value)?),
            Predicate::Member { set, values, mode } => {
                Predicate::Member { set: *set, values: self.scalars(values)?, mode: *mode }
            }
        })
    }

    fn scalars(&self, values: &[Scalar]) -> Result<Vec<Scalar>, Raised> {
        values.iter().map(|value| self.scalar(value)).collect()
    }

    fn boxed(&self, value: &Scalar) -> Result<Box<Scalar>, Raised> {
        self.scalar(value).map(Box::new)
    }

    fn scalar(&self, value: &Scalar) -> Result<Scalar, Raised> {
        Ok(match value {
            Scalar::Column { .. } | Scalar::Literal { .. } => value.clone(),
            Scalar::Bound { index, type_oid } => match self.values.get(*index) {
                Some(BoundValue::Value(text)) => Scalar::Literal { type_oid: *type_oid, text: text.clone() },
                Some(BoundValue::Raised) | None => return Err(Raised),
            },
            Scalar::Cast { operand, type_oid } => Scalar::Cast { operand: self.boxed(operand)?, type_oid: *type_oid },
            Scalar::Concat(left, right) => Scalar::Concat(self.boxed(left)?, self.boxed(right)?),
            Scalar::Coalesce(parts) => Scalar::Coalesce(self.scalars(parts)?),
            Scalar::Lower(text) => Scalar::Lower(self.boxed(text)?),
            Scalar::Upper(text) => Scalar::Upper(self.boxed(text)?),
            Scalar::JsonGet { json, key, as_text } => {
                Scalar::JsonGet { json: self.boxed(json)?, key: self.boxed(key)?, as_text: *as_text }
            }
            Scalar::JsonPath { json, path, as_text } => {
                Scalar::JsonPath { json: self.boxed(json)?, path: self.boxed(path)?, as_text: *as_text }
            }
            Scalar::Truth(predicate) => Scalar::Truth(Box::new(self.predicate(predicate))),
        })
    }
}

/// Of a whole policy only counts whether it is true: nothing is, when a part that must be is false.
fn seen(predicate: Predicate) -> Predicate {
    match predicate {
        Predicate::And(parts) if parts.contains(&Predicate::Const(Truth::False)) => Predicate::Const(Truth::False),
        predicate => predicate,
    }
}

/// Decides what can be told of sets without their rows.
fn resolve_sets(predicate: Predicate, sets: &[MemberSet]) -> Predicate {
    map(predicate, &mut |part| match part {
        Predicate::Member { set, values, mode } => {
            let found_by_null = mode == MemberMode::Exists && values.iter().any(is_null);
            match sets.get(set).map(|set| &set.condition) {
                Some(Predicate::Const(Truth::False | Truth::Unknown)) => Predicate::Const(Truth::False),
                Some(condition) if raises(condition) => Predicate::Raise,
                Some(_) if found_by_null && values.iter().all(value_never_raises) => Predicate::Const(Truth::False),
                Some(_) => Predicate::Member { set, values, mode },
                None => Predicate::Ask,
            }
        }
        part => part,
    })
}

fn raises(predicate: &Predicate) -> bool {
    let mut found = false;
    visit(predicate, &mut |part| found |= *part == Predicate::Raise);
    found
}

/// Numbers the sets that are used anew.
fn renumber(predicate: Predicate, used: &mut BTreeMap<usize, usize>) -> Predicate {
    map(predicate, &mut |part| match part {
        Predicate::Member { set, values, mode } => {
            let next = used.len();
            Predicate::Member { set: *used.entry(set).or_insert(next), values, mode }
        }
        part => part,
    })
}
