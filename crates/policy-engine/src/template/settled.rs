//! Conditions whose truth can always be told, whatever values a row has: those of sets.

use std::collections::BTreeSet;

use super::compare::is_ordering;
use super::raising::type_of;
use super::types::{self, FLOAT4, FLOAT8, JSONB, NUMERIC, TEXT, VARCHAR};
use crate::program::{Comparator, Predicate, Scalar};

/// Whether the predicate is true, false or unknown for every row that is known: nothing has to be asked, nothing raises but
/// bindings.
pub(super) fn is_settled(predicate: &Predicate) -> bool {
    match predicate {
        Predicate::Const(_) => true,
        Predicate::And(parts) | Predicate::Or(parts) => parts.iter().all(is_settled),
        Predicate::Not(operand) | Predicate::Is { operand, .. } => is_settled(operand),
        Predicate::Compare { operator, left, right } => {
            is_settled_value(left) && is_settled_value(right) && is_told(*operator, left) && is_told(*operator, right)
        }
        Predicate::IsNull(value) | Predicate::Bool(value) => is_settled_value(value),
        Predicate::Quantified { operator, left, array, .. } => {
            is_settled_value(left) && is_told(*operator, left) && matches!(array, Scalar::Bound { .. })
        }
        // A pattern may raise.
        Predicate::Like { .. } | Predicate::Member { .. } | Predicate::Raise | Predicate::Ask => false,
    }
}

fn is_settled_value(value: &Scalar) -> bool {
    match value {
        Scalar::Column { .. } | Scalar::Literal { .. } | Scalar::Bound { .. } => true,
        Scalar::Cast { operand, type_oid } => {
            *type_oid == TEXT && type_of(operand) == Some(VARCHAR) && is_settled_value(operand)
        }
        Scalar::Concat(left, right) => is_settled_value(left) && is_settled_value(right),
        Scalar::Coalesce(parts) => parts.iter().all(is_settled_value),
        Scalar::JsonGet { json, key, .. } => is_settled_value(json) && is_settled_value(key),
        Scalar::JsonPath { json, path, .. } => is_settled_value(json) && is_settled_value(path),
        Scalar::Truth(predicate) => is_settled(predicate),
        Scalar::Lower(_) | Scalar::Upper(_) => false,
    }
}

/// Whether the comparison needs nothing but the texts, or numbers that are whole.
fn is_told(operator: Comparator, value: &Scalar) -> bool {
    match type_of(value) {
        Some(JSONB | NUMERIC | FLOAT4 | FLOAT8) | None => false,
        Some(oid) => !is_ordering(operator) || types::is_int(oid) || types::is_text(oid),
    }
}

/// The columns that a predicate mentions.
pub(super) fn columns<'p>(predicate: &'p Predicate, found: &mut BTreeSet<&'p str>) {
    match predicate {
        Predicate::Const(_) | Predicate::Raise | Predicate::Ask => {}
        Predicate::And(parts) | Predicate::Or(parts) => parts.iter().for_each(|part| columns(part, found)),
        Predicate::Not(operand) | Predicate::Is { operand, .. } => columns(operand, found),
        Predicate::Compare { left, right, .. }
        | Predicate::Quantified { left, array: right, .. }
        | Predicate::Like { text: left, pattern: right, .. } => {
            value_columns(left, found);
            value_columns(right, found);
        }
        Predicate::IsNull(value) | Predicate::Bool(value) => value_columns(value, found),
        Predicate::Member { values, .. } => values.iter().for_each(|value| value_columns(value, found)),
    }
}

pub(super) fn value_columns<'p>(value: &'p Scalar, found: &mut BTreeSet<&'p str>) {
    match value {
        Scalar::Column { name, .. } => {
            found.insert(name);
        }
        Scalar::Literal { .. } | Scalar::Bound { .. } => {}
        Scalar::Cast { operand, .. } | Scalar::Lower(operand) | Scalar::Upper(operand) => value_columns(operand, found),
        Scalar::Concat(left, right)
        | Scalar::JsonGet { json: left, key: right, .. }
        | Scalar::JsonPath { json: left, path: right, .. } => {
            value_columns(left, found);
            value_columns(right, found);
        }
        Scalar::Coalesce(parts) => parts.iter().for_each(|part| value_columns(part, found)),
        Scalar::Truth(predicate) => columns(predicate, found),
    }
}
