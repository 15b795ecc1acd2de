//! What never raises, whatever values a row has and whatever Postgres would be asked.

use super::types::{BOOL, DATE, INT2, INT4, INT8, JSONB, NUMERIC, TEXT, TIMESTAMP, VARCHAR};
use crate::program::{Predicate, Scalar};

/// Whether the predicate has a truth value for every row. A binding's value is taken to be there: one that raises is
/// [`Predicate::Raise`] once it is bound.
pub(super) fn never_raises(predicate: &Predicate) -> bool {
    match predicate {
        Predicate::Const(_) => true,
        Predicate::Raise | Predicate::Ask => false,
        Predicate::And(parts) | Predicate::Or(parts) => parts.iter().all(never_raises),
        Predicate::Not(operand) | Predicate::Is { operand, .. } => never_raises(operand),
        Predicate::Compare { left, right, .. } | Predicate::Quantified { left, array: right, .. } => {
            value_never_raises(left) && value_never_raises(right)
        }
        Predicate::Like { text, pattern, .. } => value_never_raises(text) && is_whole_pattern(pattern),
        Predicate::IsNull(value) | Predicate::Bool(value) => value_never_raises(value),
        Predicate::Member { values, .. } => values.iter().all(value_never_raises),
    }
}

/// Whether the pattern does not end within an escape.
fn is_whole_pattern(pattern: &Scalar) -> bool {
    match pattern {
        Scalar::Literal { text, .. } => text.as_ref().is_none_or(|text| !text.contains('\\')),
        Scalar::Cast { operand, type_oid: TEXT } => is_whole_pattern(operand),
        _ => false,
    }
}

pub(super) fn value_never_raises(value: &Scalar) -> bool {
    match value {
        Scalar::Column { .. } | Scalar::Literal { .. } | Scalar::Bound { .. } => true,
        Scalar::Cast { operand, type_oid } => {
            type_of(operand).is_some_and(|from| has_every_value(from, *type_oid)) && value_never_raises(operand)
        }
        Scalar::Lower(operand) | Scalar::Upper(operand) => value_never_raises(operand),
        Scalar::Concat(left, right)
        | Scalar::JsonGet { json: left, key: right, .. }
        | Scalar::JsonPath { json: left, path: right, .. } => value_never_raises(left) && value_never_raises(right),
        Scalar::Coalesce(parts) => parts.iter().all(value_never_raises),
        Scalar::Truth(predicate) => never_raises(predicate),
    }
}

/// Whether the cast has a result for every value.
pub(super) const fn has_every_value(from: u32, to: u32) -> bool {
    from == to
        || matches!(to, TEXT | VARCHAR)
        || matches!((from, to), (INT2, INT4 | INT8 | NUMERIC) | (INT4, INT8 | NUMERIC | BOOL) | (INT8, NUMERIC))
        || matches!((from, to), (BOOL, INT4) | (TIMESTAMP, DATE))
}

/// The type of a value, where it is told.
pub(super) fn type_of(value: &Scalar) -> Option<u32> {
    match value {
        Scalar::Column { type_oid, .. }
        | Scalar::Literal { type_oid, .. }
        | Scalar::Bound { type_oid, .. }
        | Scalar::Cast { type_oid, .. } => Some(*type_oid),
        Scalar::Coalesce(parts) => parts.first().and_then(type_of),
        Scalar::Concat(..) | Scalar::Lower(_) | Scalar::Upper(_) => Some(TEXT),
        Scalar::JsonGet { as_text, .. } | Scalar::JsonPath { as_text, .. } => Some(if *as_text { TEXT } else { JSONB }),
        Scalar::Truth(_) => Some(BOOL),
    }
}
