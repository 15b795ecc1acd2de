//! How values in text form compare outside Postgres, with exactly its results: for whoever evaluates something else than
//! a filter.

use std::cmp::Ordering;

pub use super::family::{Family, base_oid, labels};
pub use super::native::Against;
pub use super::native::jsonb::equal as jsonb_equal;
pub use super::native::like::Pattern;
use super::native::{self, datetime, jsonb, numeric};

impl Family {
    /// Whether the order of two values is known here, not only whether they are equal.
    #[must_use]
    pub const fn has_order(self) -> bool {
        match self {
            Self::Bytes
            | Self::Padded { ordered: true }
            | Self::Bool
            | Self::Int
            | Self::Date
            | Self::Time
            | Self::Timestamp
            | Self::Enum
            | Self::Float4
            | Self::Float8
            | Self::Numeric => true,
            Self::Padded { ordered: false } | Self::EqualBytes | Self::Inet | Self::Jsonb | Self::Foreign => false,
        }
    }

    /// How two values compare; of a family without order only whether they are equal counts. `labels` are those of an
    /// enum. `None` when a value is not of the family's form, or a label is not among them.
    #[must_use]
    pub fn compare(self, left: &[u8], right: &[u8], labels: &[String]) -> Option<Ordering> {
        let by_key = |parse: fn(&[u8]) -> Option<i64>| Some(parse(left)?.cmp(&parse(right)?));
        match self {
            Self::Bytes | Self::EqualBytes | Self::Bool => Some(left.cmp(right)),
            Self::Padded { .. } => Some(native::without_blanks(left).cmp(native::without_blanks(right))),
            Self::Inet => Some(native::without_full_mask(left).cmp(native::without_full_mask(right))),
            Self::Int => by_key(native::parsed),
            Self::Date => by_key(datetime::date),
            Self::Time => by_key(datetime::time),
            Self::Timestamp => by_key(datetime::timestamp),
            Self::Enum => {
                let place = |value: &[u8]| labels.iter().position(|label| label.as_bytes() == value);
                Some(place(left)?.cmp(&place(right)?))
            }
            Self::Float4 => Some(numeric::compare_floats(native::parsed::<f32>(left)?, native::parsed(right)?)),
            Self::Float8 => Some(numeric::compare_floats(native::parsed::<f64>(left)?, native::parsed(right)?)),
            Self::Numeric => numeric::compare(left, right),
            Self::Jsonb if jsonb::equal(left, right) => Some(Ordering::Equal),
            Self::Jsonb => Some(Ordering::Less),
            Self::Foreign => None,
        }
    }
}

/// A literal as values of the family print it, whether it was printed by the type or by a cast to text.
#[must_use]
pub fn printed(family: Family, literal: &str) -> Box<[u8]> {
    let bytes = match (family, literal) {
        (Family::Bool, "true") => b"t",
        (Family::Bool, "false") => b"f",
        (Family::Inet, _) => native::without_full_mask(literal.as_bytes()),
        _ => literal.as_bytes(),
    };
    bytes.into()
}
