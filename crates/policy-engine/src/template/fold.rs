//! Replaces constants by what they come to, without losing an error that Postgres would raise.

use reactor_model::filter::Truth;

use super::compiler::constant;
use super::raising::{never_raises, type_of, value_never_raises};
use super::types::BOOL;
use crate::program::{Comparator, Predicate, Scalar};

/// When a constant is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// To Postgres's planner as well, which leaves out what stands beside it: before it or after it, and whether or not it
    /// raises.
    Plan,
    /// When rows are evaluated: what stands before it is evaluated too.
    Row,
}

/// Folds what is constant at one stage.
#[derive(Clone, Copy, Debug)]
pub(super) struct Folder {
    pub(super) stage: Stage,
}

impl Folder {
    /// The predicate without what is constant.
    pub(super) fn fold(self, predicate: Predicate) -> Predicate {
        map(predicate, &mut |part| self.fold_one(part))
    }

    /// Folds a predicate whose parts are folded.
    pub(super) fn fold_one(self, predicate: Predicate) -> Predicate {
        match predicate {
            Predicate::And(parts) => self.connective(parts, Truth::False),
            Predicate::Or(parts) => self.connective(parts, Truth::True),
            Predicate::Not(operand) => match *operand {
                Predicate::Const(value) => Predicate::Const(value.negate()),
                Predicate::Not(inner) => *inner,
                known @ (Predicate::Raise | Predicate::Ask) => known,
                operand => Predicate::Not(Box::new(operand)),
            },
            Predicate::Is { operand, value, negated } => match *operand {
                Predicate::Const(found) => constant((found == value) != negated),
                known @ (Predicate::Raise | Predicate::Ask) => known,
                operand => Predicate::Is { operand: Box::new(operand), value, negated },
            },
            Predicate::IsNull(operand) => match self.value(operand) {
                Scalar::Literal { text, .. } => constant(text.is_none()),
                operand => Predicate::IsNull(operand),
            },
            Predicate::Bool(operand) => match self.value(operand) {
                Scalar::Literal { type_oid: BOOL, text } => Predicate::Const(match text.as_deref() {
                    None => Truth::Unknown,
                    Some("t") => Truth::True,
                    Some(_) => Truth::False,
                }),
                Scalar::Truth(predicate) => *predicate,
                operand => Predicate::Bool(operand),
            },
            Predicate::Compare { operator, left, right } => {
                self.comparison(operator, self.value(left), self.value(right))
            }
            Predicate::Quantified { operator, left, array, all } => match &array {
                // Not even the planner knows it when the other side is not constant.
                Scalar::Literal { text: None, .. } if value_never_raises(&left) => Predicate::Const(Truth::Unknown),
                Scalar::Literal { text: Some(text), .. } if text == "{}" && value_never_raises(&left) => constant(all),
                _ => Predicate::Quantified { operator, left, array, all },
            },
            Predicate::Like { text, pattern, insensitive } => {
                let (text, pattern) = (self.value(text), self.value(pattern));
                if self.is_null_with(&text, &pattern) {
                    return Predicate::Const(Truth::Unknown);
                }
                Predicate::Like { text, pattern, insensitive }
            }
            other => other,
        }
    }

    fn comparison(self, operator: Comparator, left: Scalar, right: Scalar) -> Predicate {
        match operator {
            Comparator::Distinct | Comparator::NotDistinct => {
                let is_distinct = operator == Comparator::Distinct;
                let value = match (is_null(&left), is_null(&right)) {
                    (true, true) => return constant(!is_distinct),
                    (true, false) => right,
                    (false, true) => left,
                    (false, false) => return Predicate::Compare { operator, left, right },
                };
                let is_null = self.fold_one(Predicate::IsNull(value));
                if is_distinct { self.fold_one(Predicate::Not(Box::new(is_null))) } else { is_null }
            }
            _ if self.is_null_with(&left, &right) => Predicate::Const(Truth::Unknown),
            _ => Predicate::Compare { operator, left, right },
        }
    }

    /// Whether what is NULL when an operand is NULL is known to be so.
    fn is_null_with(self, left: &Scalar, right: &Scalar) -> bool {
        (is_null(left) && self.may_leave_out(right)) || (is_null(right) && self.may_leave_out(left))
    }

    /// Whether a value need not be evaluated beside one that decides.
    fn may_leave_out(self, value: &Scalar) -> bool {
        self.stage == Stage::Plan || value_never_raises(value)
    }

    /// A value that is NULL because an operand is.
    fn value(self, value: Scalar) -> Scalar {
        let null = match &value {
            Scalar::Cast { operand, .. } | Scalar::Lower(operand) | Scalar::Upper(operand) => {
                matches!(self.value((**operand).clone()), Scalar::Literal { text: None, .. })
            }
            Scalar::Concat(left, right)
            | Scalar::JsonGet { json: left, key: right, .. }
            | Scalar::JsonPath { json: left, path: right, .. } => {
                let (left, right) = (self.value((**left).clone()), self.value((**right).clone()));
                self.is_null_with(&left, &right)
            }
            _ => false,
        };
        match type_of(&value).filter(|_| null) {
            Some(type_oid) => Scalar::Literal { type_oid, text: None },
            None => value,
        }
    }

    /// `AND` (decided by false) or `OR` (decided by true).
    fn connective(self, parts: Vec<Predicate>, decides: Truth) -> Predicate {
        let neutral = decides.negate();
        let is_and = decides == Truth::False;
        let nested = parts.into_iter().flat_map(|part| match part {
            Predicate::And(inner) if is_and => inner,
            Predicate::Or(inner) if !is_and => inner,
            part => vec![part],
        });
        let mut kept: Vec<Predicate> = Vec::new();
        let mut is_ended = false;
        for part in nested {
            match part {
                Predicate::Const(value) if value == neutral => {}
                Predicate::Const(value)
                    if value == decides
                        && (self.stage == Stage::Plan || (!is_ended && kept.iter().all(never_raises))) =>
                {
                    return Predicate::Const(decides);
                }
                _ if is_ended => {}
                part => {
                    is_ended = part == Predicate::Raise || part == Predicate::Const(decides);
                    kept.push(part);
                }
            }
        }
        if kept.is_empty() {
            return Predicate::Const(neutral);
        }
        one_or(kept, is_and)
    }
}

fn one_or(mut parts: Vec<Predicate>, is_and: bool) -> Predicate {
    let all_unknown = parts.iter().all(|part| *part == Predicate::Const(Truth::Unknown));
    match (parts.pop(), parts.is_empty(), all_unknown) {
        (Some(_), _, true) => Predicate::Const(Truth::Unknown),
        (Some(part), true, _) => part,
        (Some(part), false, _) => {
            parts.push(part);
            if is_and { Predicate::And(parts) } else { Predicate::Or(parts) }
        }
        (None, ..) => constant(is_and),
    }
}

pub(super) const fn is_null(value: &Scalar) -> bool {
    matches!(value, Scalar::Literal { text: None, .. })
}

/// Replaces every predicate in it, the innermost first.
pub(super) fn map(predicate: Predicate, change: &mut impl FnMut(Predicate) -> Predicate) -> Predicate {
    let inner = match predicate {
        Predicate::And(parts) => Predicate::And(parts.into_iter().map(|part| map(part, change)).collect()),
        Predicate::Or(parts) => Predicate::Or(parts.into_iter().map(|part| map(part, change)).collect()),
        Predicate::Not(operand) => Predicate::Not(Box::new(map(*operand, change))),
        Predicate::Is { operand, value, negated } => {
            Predicate::Is { operand: Box::new(map(*operand, change)), value, negated }
        }
        Predicate::Compare { operator, left, right } => {
            Predicate::Compare { operator, left: map_value(left, change), right: map_value(right, change) }
        }
        Predicate::IsNull(value) => Predicate::IsNull(map_value(value, change)),
        Predicate::Bool(value) => Predicate::Bool(map_value(value, change)),
        Predicate::Quantified { operator, left, array, all } => {
            Predicate::Quantified { operator, left: map_value(left, change), array: map_value(array, change), all }
        }
        Predicate::Like { text, pattern, insensitive } => {
            Predicate::Like { text: map_value(text, change), pattern: map_value(pattern, change), insensitive }
        }
        Predicate::Member { set, values, mode } => {
            let values = values.into_iter().map(|value| map_value(value, change)).collect();
            Predicate::Member { set, values, mode }
        }
        constant @ (Predicate::Const(_) | Predicate::Raise | Predicate::Ask) => constant,
    };
    change(inner)
}

fn map_value(value: Scalar, change: &mut impl FnMut(Predicate) -> Predicate) -> Scalar {
    let mut boxed = |value: Box<Scalar>| Box::new(map_value(*value, change));
    match value {
        Scalar::Column { .. } | Scalar::Literal { .. } | Scalar::Bound { .. } => value,
        Scalar::Cast { operand, type_oid } => Scalar::Cast { operand: boxed(operand), type_oid },
        Scalar::Concat(left, right) => Scalar::Concat(boxed(left), boxed(right)),
        Scalar::Lower(text) => Scalar::Lower(boxed(text)),
        Scalar::Upper(text) => Scalar::Upper(boxed(text)),
        Scalar::JsonGet { json, key, as_text } => Scalar::JsonGet { json: boxed(json), key: boxed(key), as_text },
        Scalar::JsonPath { json, path, as_text } => Scalar::JsonPath { json: boxed(json), path: boxed(path), as_text },
        Scalar::Coalesce(parts) => Scalar::Coalesce(parts.into_iter().map(|part| map_value(part, change)).collect()),
        Scalar::Truth(predicate) => Scalar::Truth(Box::new(map(*predicate, change))),
    }
}

/// Visits every predicate in it but those within values.
pub(super) fn visit(predicate: &Predicate, see: &mut impl FnMut(&Predicate)) {
    see(predicate);
    match predicate {
        Predicate::And(parts) | Predicate::Or(parts) => parts.iter().for_each(|part| visit(part, see)),
        Predicate::Not(operand) | Predicate::Is { operand, .. } => visit(operand, see),
        _ => {}
    }
}
