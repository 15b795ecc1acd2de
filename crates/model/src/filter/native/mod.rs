//! Comparisons made outside Postgres.

pub(super) mod datetime;
pub(super) mod jsonb;
pub(super) mod like;
pub(super) mod numeric;
pub(super) mod regexp;

use std::cmp::Ordering;

use super::compare::{Family, printed};

/// An operand, ready to be compared with values of its family.
#[derive(Clone, Debug)]
pub enum Against {
    /// As bytes.
    Bytes(Box<[u8]>),
    /// As bytes without trailing blanks; the operand has none.
    Padded(Box<[u8]>),
    /// As an address with its mask; a full-length mask is left out in the operand.
    Inet(Box<[u8]>),
    /// By an order key.
    Key {
        /// The operand's key.
        key: i64,
        /// How a value's key is found.
        parse: fn(&[u8]) -> Option<i64>,
    },
    /// By place among the labels.
    Label {
        /// The operand's place.
        place: usize,
        /// All labels in their order.
        labels: Vec<String>,
    },
    /// As single precision.
    Float4(f32),
    /// As double precision.
    Float8(f64),
    /// As a number of any precision.
    Numeric(Box<[u8]>),
}

impl Against {
    /// An operand in the form in which its family compares; `None` when it has none. `labels` are those of an enum.
    #[must_use]
    pub fn new(family: Family, value: &str, labels: &[String]) -> Option<Self> {
        let bytes = value.as_bytes();
        let by_key = |parse: fn(&[u8]) -> Option<i64>| parse(bytes).map(|key| Self::Key { key, parse });
        match family {
            Family::Bytes | Family::EqualBytes | Family::Bool => Some(Self::Bytes(printed(family, value))),
            Family::Padded { .. } => Some(Self::Padded(without_blanks(bytes).into())),
            Family::Inet => Some(Self::Inet(without_full_mask(bytes).into())),
            Family::Int => by_key(parsed),
            Family::Date => by_key(datetime::date),
            Family::Time => by_key(datetime::time),
            Family::Timestamp => by_key(datetime::timestamp),
            Family::Enum => {
                labels.iter().position(|label| label == value).map(|place| Self::Label { place, labels: labels.into() })
            }
            Family::Float4 => parsed(bytes).map(Self::Float4),
            Family::Float8 => parsed(bytes).map(Self::Float8),
            Family::Numeric => numeric::compare(bytes, b"0").map(|_| Self::Numeric(bytes.into())),
            Family::Jsonb | Family::Foreign => None,
        }
    }

    /// How `value` compares with the operand; `None` when it is not of the family's form.
    #[must_use]
    pub fn compare(&self, value: &[u8]) -> Option<Ordering> {
        match self {
            Self::Bytes(operand) => Some(value.cmp(operand)),
            Self::Padded(operand) => Some(without_blanks(value).cmp(operand)),
            Self::Inet(operand) => Some(without_full_mask(value).cmp(operand)),
            Self::Key { key, parse } => parse(value).map(|value| value.cmp(key)),
            Self::Label { place, labels } => {
                labels.iter().position(|label| label.as_bytes() == value).map(|value| value.cmp(place))
            }
            Self::Float4(operand) => parsed(value).map(|value| numeric::compare_floats(value, *operand)),
            Self::Float8(operand) => parsed(value).map(|value| numeric::compare_floats(value, *operand)),
            Self::Numeric(operand) => numeric::compare(value, operand),
        }
    }
}

/// The value parsed by the standard library, whose forms include those that Postgres prints.
pub(super) fn parsed<T: std::str::FromStr>(value: &[u8]) -> Option<T> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// A `bpchar` without the blanks that do not count.
pub(super) fn without_blanks(mut value: &[u8]) -> &[u8] {
    while let Some(rest) = value.strip_suffix(b" ") {
        value = rest;
    }
    value
}

/// An address without a mask of its full length.
pub(super) fn without_full_mask(value: &[u8]) -> &[u8] {
    let suffix: &[u8] = if value.contains(&b':') { b"/128" } else { b"/32" };
    value.strip_suffix(suffix).unwrap_or(value)
}
