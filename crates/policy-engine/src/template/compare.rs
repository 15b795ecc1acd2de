//! Which operands Postgres compares as they are.

use super::types::{self, JSONB, NUMERIC, TEXT, Texts, VARCHAR};
use crate::program::{Comparator, Scalar};

/// An expression with what is known of it.
#[derive(Clone, Debug)]
pub(super) struct Typed {
    pub(super) scalar: Scalar,
    /// Its type, domains looked through.
    pub(super) oid: u32,
    /// How its texts collate.
    pub(super) texts: Texts,
    /// Whether the type is an enum.
    pub(super) is_enum: bool,
}

impl Typed {
    pub(super) const fn new(scalar: Scalar, oid: u32) -> Self {
        Self { scalar, oid, texts: Texts::Default, is_enum: false }
    }

    /// The same value as another type.
    pub(super) fn cast(self, oid: u32) -> Self {
        let texts = if types::is_text(oid) && types::is_text(self.oid) { self.texts } else { Texts::Default };
        let scalar = match self.scalar {
            Scalar::Literal { text, .. } if is_relabelled(self.oid, oid) => Scalar::Literal { type_oid: oid, text },
            scalar => Scalar::Cast { operand: Box::new(scalar), type_oid: oid },
        };
        Self { scalar, oid, texts, is_enum: false }
    }
}

/// Whether a value's text stays the same.
const fn is_relabelled(from: u32, to: u32) -> bool {
    matches!((from, to), (VARCHAR, TEXT)) || (types::is_int(from) && to == NUMERIC)
}

/// The operands as Postgres compares them; `None` when that needs a conversion that is not followed here.
pub(super) fn unify(left: Typed, right: Typed) -> Option<(Typed, Typed)> {
    let pair = match (left.oid, right.oid) {
        (a, b) if a == b => (left, right),
        (a, b) if types::is_int(a) && types::is_int(b) => (left, right),
        (VARCHAR, TEXT) => (left.cast(TEXT), right),
        (TEXT, VARCHAR) => (left, right.cast(TEXT)),
        (a, NUMERIC) if types::is_int(a) => (left.cast(NUMERIC), right),
        (NUMERIC, b) if types::is_int(b) => (left, right.cast(NUMERIC)),
        _ => return None,
    };
    Some(pair)
}

/// Whether the comparison of two values of the type has a result that can be told outside Postgres.
pub(super) fn is_decidable(operator: Comparator, left: &Typed, right: &Typed) -> bool {
    let texts = left.texts.max(right.texts);
    // Of one type, both are enums when one is known to be.
    let comparable = types::is_comparable(left.oid) || left.is_enum || right.is_enum;
    if !comparable || texts == Texts::Foreign {
        return false;
    }
    !is_ordering(operator) || (left.oid != JSONB && (!types::is_text(left.oid) || texts == Texts::Bytes))
}

pub(super) const fn is_ordering(operator: Comparator) -> bool {
    matches!(operator, Comparator::Lt | Comparator::Le | Comparator::Gt | Comparator::Ge)
}

/// The comparison that an operator makes.
pub(super) fn comparator(operator: &str) -> Option<Comparator> {
    Some(match operator {
        "=" => Comparator::Eq,
        "<>" => Comparator::Ne,
        "<" => Comparator::Lt,
        "<=" => Comparator::Le,
        ">" => Comparator::Gt,
        ">=" => Comparator::Ge,
        _ => return None,
    })
}

/// Whether `LIKE` of the type is that of texts.
pub(super) const fn has_patterns(oid: u32) -> bool {
    matches!(oid, TEXT | VARCHAR)
}
